"""What the daemon says at its start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest

from proxy.daemon.hello import hello
from proxy.daemon.hints import pac_url, shell_lines
from proxy.daemon.listeners import Listen
from proxy.daemon.narrator import SILENCE
from proxy.daemon.serving import Bound
from proxy.daemon.teller import Teller
from usernet.config import Config, Interface, Peer
from usernet.wireguard.events import HandshakeCompleted, HandshakeStarted

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
        "to use it from a browser, automatic proxy configuration (PAC): http://127.0.0.1:1080/proxy.pac",
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
    assert said(Peer(bytes(32), allowed_ips=(net,) if net else ()))[-2].endswith(" " + url)


def test_hints_for_one_protocol_and_for_credentials() -> None:
    http = Listen("", 3128, socks5=False, http=True, username="me", password="secret")
    assert shell_lines([Bound(http, "::", 3128)], "http://x/") == [
        "export http_proxy=http://USER:PASSWORD@[::1]:3128 https_proxy=http://USER:PASSWORD@[::1]:3128",
        "curl -x http://USER:PASSWORD@[::1]:3128 http://x/",
    ]
    assert shell_lines([], "http://x/") == []
    assert pac_url([Bound(http, "::", 3128)]) == "http://[::1]:3128/proxy.pac"
    assert pac_url([Bound(Listen("", 1, socks5=True, http=False), "::", 1)]) is None


class Handle:
    """What FakeLoop.call_later gives."""

    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.delay = delay
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    def __init__(self) -> None:
        self.handles: list[Handle] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.handles.append(Handle(delay, callback))
        return self.handles[-1]


def test_teller_arms_one_timer_and_tells_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "usernet")
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    loop = FakeLoop()
    teller = Teller(loop)  # type: ignore[arg-type]
    started = HandshakeStarted(bytes(32), ("192.0.2.1", 5), 1)
    teller.event(started)
    (timer,) = loop.handles
    assert timer.delay == SILENCE
    now += SILENCE
    timer.callback()
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert len(loop.handles) == 1  # nothing more to wait for
    teller.event(HandshakeCompleted(bytes(32), ("192.0.2.1", 5), True))
    teller.event(started)
    assert [handle.cancelled for handle in loop.handles] == [True, False]
    teller.close()
    assert loop.handles[-1].cancelled
