"""onetun's notation: its README's and its tests' examples, and what is no forward."""

from __future__ import annotations

import pytest

from proxy.daemon.notation import BadForward, parse_forward, parse_remote
from usernet.config import ClientTunnel, ServerTunnel

TARGET = ("192.168.4.1", 8081)


@pytest.mark.parametrize(
    ("text", "kinds", "host", "target"),
    [
        ("192.168.0.1:8080:192.168.4.1:8081:TCP,UDP", "tcp udp", "192.168.0.1", TARGET),
        ("192.168.0.1:8080:192.168.4.1:8081:TCP", "tcp", "192.168.0.1", TARGET),
        ("0.0.0.0:8080:192.168.4.1:8081", "tcp", "0.0.0.0", TARGET),
        ("[::1]:8080:192.168.4.1:8081", "tcp", "::1", TARGET),
        ("8080:192.168.4.1:8081", "tcp", "127.0.0.1", TARGET),
        ("8080:192.168.4.1:8081:udp", "udp", "127.0.0.1", TARGET),
        ("localhost:8080:peer.intranet:8081:TCP", "tcp", "localhost", ("peer.intranet", 8081)),
        ("[::1]:8080:[fd00::1]:8081:UDP,UDP", "udp", "::1", ("fd00::1", 8081)),
        ("8080:[fd00::1]:8081", "tcp", "127.0.0.1", ("fd00::1", 8081)),
    ],
)
def test_forward(text: str, kinds: str, host: str, target: tuple[str, int]) -> None:
    assert parse_forward(text) == [ClientTunnel(kind, host, 8080, target) for kind in kinds.split()]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "8080", "8080:host", "a:b:c:d", "1:h:2:SCTP", "1:h:2:", "70000:h:1", "1:h:0", "1::2", "::1:80:h:1", "1:[h]:2",
     "h:1:[::1:2", "127.0.0.300:1:h:2"],
)  # fmt: skip
def test_no_forward(text: str) -> None:
    with pytest.raises(BadForward, match=r"^--forward .*; "):
        parse_forward(text)


def test_remote() -> None:
    assert parse_remote("8080:localhost:80:TCP,UDP") == [
        ServerTunnel("tcp", 8080, ("localhost", 80)),
        ServerTunnel("udp", 8080, ("localhost", 80)),
    ]
    for text in ("10.0.0.2:8080:localhost:80", "0:localhost:80", "80:localhost:0", "x"):
        with pytest.raises(BadForward, match=r"^--remote "):
            parse_remote(text)
    with pytest.raises(BadForward, match=r"no forward; write PORT:HOST:PORT"):
        parse_remote("x")
