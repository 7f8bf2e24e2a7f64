"""From a configuration and what listens, to what the packet filter lets in."""

from __future__ import annotations

from proxy.daemon.admitting import rules
from proxy.daemon.listeners import Listen
from proxy.daemon.serving import Bound
from usernet.config import Config, parse
from usernet.filter import FilterRule
from usernet.wire.ip import ICMP, TCP, UDP

HEAD = """[Interface]
PrivateKey = 6Pz0x0y9ZpDbMVtqEr1bgNrdZq9e3fEOtzNTGq0cGlw=
Address = 10.0.0.2/32
"""
PING = FilterRule(ICMP)


def parsed(text: str) -> Config:
    return parse(HEAD + text, "wg0.conf")


def test_nothing_but_pings_by_itself() -> None:
    outside = Bound(Listen("127.0.0.1", 1080, socks5=True, http=True), "127.0.0.1", 1080)
    assert list(rules(parsed(""), [outside])) == [PING]


def test_what_answers_and_what_is_said() -> None:
    config = parsed(
        "Inbound = 22, 5000-5010/udp from 10.0.0.0/8\nInbound = * to 192.168.7.0/24\n"
        "[TCPServerTunnel]\nListenPort = 80\nTarget = 127.0.0.1:8080\n"
        "[UDPServerTunnel]\nListenPort = 53\nTarget = 127.0.0.1:5353\n"
    )
    inside = Listen("", 0, socks5=True, http=True, inside=True)
    ten = ((bytes((10, 0, 0, 0)), 8),)
    assert list(rules(config, [Bound(inside, "10.0.0.2", 4711)])) == [
        PING,
        FilterRule(TCP, 80, 80),
        FilterRule(UDP, 53, 53),
        FilterRule(TCP, 4711, 4711),
        FilterRule(None, 22, 22, ten),
        FilterRule(UDP, 5000, 5010, ten),
        FilterRule(None, 0, 65535, (), ((bytes((192, 168, 7, 0)), 24),)),
    ]
