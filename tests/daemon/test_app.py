"""What the daemon says at its start."""

from __future__ import annotations

import pytest

from proxy.daemon.app import hello
from proxy.daemon.hints import shell_lines
from proxy.daemon.listeners import Listen
from proxy.daemon.serving import Bound
from usernet.config import Config, Interface, Peer

V4, V6 = (bytes([10, 0, 0, 0]), 24), (bytes.fromhex("fd00") + bytes(14), 64)
BOTH = Listen("127.0.0.1", 1080, socks5=True, http=True)


class Network:
    """What hello() reads of a network."""

    addresses = ("10.0.0.2", "fd00::2")
    mtu = 1420
    listen_port = 51820


def said(*peers: Peer) -> list[str]:
    config = Config(Interface(bytes(32), (V4,)), peers)
    return list(hello(config, Network(), [Bound(BOTH, "127.0.0.1", 1080)]))  # type: ignore[arg-type]


def test_hello() -> None:
    peers = (
        Peer(bytes(32), endpoint=("2001:db8::1", 5), allowed_ips=(V4, V6)),
        Peer(bytes(31) + b"\1", allowed_ips=tuple((bytes([10, 1, n, 0]), 24) for n in range(9))),
    )
    assert said(*peers) == [
        "tunnel: 10.0.0.2, fd00::2, MTU 1420, UDP port 51820",
        "peer AAAAAAAA...: endpoint [2001:db8::1]:5, allowed IPs 10.0.0.0/24, fd00::/64",
        "peer AAAAAAAA...: no endpoint: it has to speak first, "
        "allowed IPs 10.1.0.0/24, 10.1.1.0/24, 10.1.2.0/24, 10.1.3.0/24 and 5 more",
        "proxy: SOCKS5 and HTTP on 127.0.0.1:1080",
        "to use it from a shell, paste:",
        "  export ALL_PROXY=socks5h://127.0.0.1:1080",
        "  export http_proxy=http://127.0.0.1:1080 https_proxy=http://127.0.0.1:1080",
        "  curl -x socks5h://127.0.0.1:1080 http://10.0.0.1/",
    ]


@pytest.mark.parametrize(
    ("net", "url"),
    [
        (V6, "http://[fd00::1]/"),
        ((bytes([10, 0, 0, 9]), 32), "http://10.0.0.9/"),
        ((bytes(4), 0), "https://example.org/"),
        (None, "https://example.org/"),
    ],
)
def test_an_example_that_can_work(net: tuple[bytes, int] | None, url: str) -> None:
    assert said(Peer(bytes(32), allowed_ips=(net,) if net else ()))[-1].endswith(" " + url)


def test_hints_for_one_protocol_and_for_credentials() -> None:
    http = Listen("", 3128, socks5=False, http=True, username="me", password="secret")
    assert shell_lines([Bound(http, "::", 3128)], "http://x/") == [
        "export http_proxy=http://USER:PASSWORD@[::1]:3128 https_proxy=http://USER:PASSWORD@[::1]:3128",
        "curl -x http://USER:PASSWORD@[::1]:3128 http://x/",
    ]
    assert shell_lines([], "http://x/") == []
