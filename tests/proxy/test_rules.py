"""Which rule a destination falls to, and that the dialer goes that way and no other."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.client import Client, Terms
from proxy.dialer import Dialer
from proxy.policy import Forbidden, Policy
from proxy.routes import DIRECT, TUNNEL, Route
from proxy.rules import UNDECIDED, Rules, Undecided, exempts
from tests.proxy.test_dialer import Net
from usernet.config import AccessRule, access


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def rules(*lines: str) -> Rules:
    return Rules([access.rule(line) for line in lines])


def decide(made: Rules, name: str | None, address: str | None, port: int = 443, user: str | None = None) -> str:
    found = made.decide(name, packed(address) if address else None, port, user)
    if isinstance(found, AccessRule):
        return found.route
    return "undecided" if isinstance(found, Undecided) else "none"


RULES = rules(
    "refuse * port 25",
    "direct www.example.org",
    "refuse .example.org",
    "office 192.0.2.0/24, 2001:db8::/32 port 443,8000-8999 user alice",
    "direct 192.0.2.0/25",
)


@pytest.mark.parametrize(
    ("name", "address", "port", "user", "route"),
    [
        ("a.test", None, 25, None, "refuse"), (None, "192.0.2.1", 25, "alice", "refuse"),
        ("www.example.org", None, 443, None, "direct"), ("www.example.org.", None, 443, None, "direct"),
        ("example.org", None, 443, None, "refuse"), ("a.b.example.org", None, 80, None, "refuse"),
        ("notexample.org", None, 80, None, "undecided"), ("wwwexample.org", "203.0.113.1", 80, None, "none"),
        (None, "192.0.2.1", 443, "alice", "office"), (None, "192.0.2.1", 8999, "alice", "office"),
        (None, "192.0.2.1", 9000, "alice", "direct"), (None, "192.0.2.1", 443, "bob", "direct"),
        (None, "192.0.2.1", 443, None, "direct"), (None, "192.0.2.129", 443, None, "none"),
        (None, "2001:db8:1::1", 443, "alice", "office"), (None, "2001:db8:1::1", 443, None, "none"),
        (None, "203.0.113.1", 443, "alice", "none"),
    ],
)  # fmt: skip
def test_the_first_that_fits(name: str | None, address: str | None, port: int, user: str | None, route: str) -> None:
    assert decide(RULES, name, address, port, user) == route


def test_a_mapped_network_means_ipv4() -> None:
    made = rules("refuse ::ffff:10.0.0.0/104")
    assert decide(made, None, "10.1.2.3") == "refuse"
    assert decide(made, None, "11.0.0.1") == "none"


def test_a_rule_about_addresses_waits_for_one_only_where_it_comes_first() -> None:
    made = rules("refuse 10.0.0.0/8", "direct .example.org")
    assert made.decide("www.example.org", None, 80, None) is UNDECIDED
    assert decide(made, "www.example.org", "10.0.0.1") == "refuse"
    assert decide(made, "www.example.org", "192.0.2.1") == "direct"
    assert decide(rules("direct .example.org", "refuse 10.0.0.0/8"), "www.example.org", None) == "direct"


@pytest.mark.parametrize(
    ("line", "address", "meant"),
    [("direct 127.0.0.0/8", "127.0.0.1", True), ("direct 127.0.0.1", "127.0.0.1", True), ("direct ::1", "::1", True),
     ("direct 0.0.0.0/0", "127.0.0.1", False), ("direct *", "127.0.0.1", False), ("direct ::/0", "::1", False),
     ("direct 126.0.0.0/7", "127.0.0.1", False), ("direct fe80::/10", "fe80::1", True),
     ("direct 169.254.0.0/16", "169.254.169.254", True), ("direct 224.0.0.0/4", "224.0.0.1", True),
     ("direct 64:ff9b::/96", "64:ff9b::169.254.169.254", False), ("direct ::/96", "::1", False),
     ("direct 64:ff9b::127.0.0.0/104", "64:ff9b::127.0.0.1", True), ("direct 2002::/16", "2002:7f00:1::", False),
     ("direct 2002:7f00::/24", "2002:7f00:1::", True), ("direct 64:ff9b:1::/48", "64:ff9b:1::127.0.0.1", False),
     ("direct 64:ff9b:1:7f00::/56", "64:ff9b:1:7f00:0:100::", True), ("direct 0.0.0.0/0 ::/0 ::1", "::1", True)],
)  # fmt: skip
def test_special_addresses_must_be_named(line: str, address: str, meant: bool) -> None:
    assert exempts(access.rule(line), packed(address)) is meant


@given(st.binary(min_size=4, max_size=4), st.integers(0, 32), st.binary(min_size=4, max_size=4))
def test_networks_are_cut_at_every_bit(network: bytes, length: int, address: bytes) -> None:
    bits = [f"{int.from_bytes(value):032b}"[:length] for value in (network, address)]
    made = rules(f"direct {socket.inet_ntop(socket.AF_INET, network)}/{length}")
    assert (decide(made, None, socket.inet_ntop(socket.AF_INET, address)) == "direct") == (bits[0] == bits[1])


def dialer(tunnel: Net, direct: Net, office: Net, *lines: str) -> Dialer:
    routes: dict[str, Any] = {
        TUNNEL: Route(TUNNEL, tunnel),
        DIRECT: Route(DIRECT, direct),
        "office": Route("office", office, takes_names=True),
    }
    return Dialer(routes, rules(*lines), Policy(), 10.0)


@pytest.mark.parametrize(
    ("lines", "host", "dialled", "resolved"),
    [
        ((), "a.test", ("tunnel", "192.0.2.1"), "tunnel"),
        (("direct a.test",), "a.test", ("direct", "198.51.100.1"), "direct"),
        (("office .test",), "a.test", ("office", "a.test"), None),
        (("direct 192.0.2.0/24",), "a.test", ("direct", "192.0.2.1"), "tunnel"),
        (("direct 192.0.2.0/24",), "192.0.2.7", ("direct", "192.0.2.7"), None),
        (("office 192.0.2.0/24",), "a.test", ("office", "192.0.2.1"), "tunnel"),
        (("direct ::/0",), "::ffff:192.0.2.7", ("tunnel", "192.0.2.7"), None),
        (("direct localhost",), "localhost", ("direct", "127.0.0.1"), "direct"),
    ],
)  # fmt: skip
async def test_the_way_of_a_dial(
    lines: tuple[str, ...], host: str, dialled: tuple[str, str], resolved: str | None
) -> None:
    nets = {
        "tunnel": Net({"a.test": ["192.0.2.1"]}),
        "direct": Net({"a.test": ["198.51.100.1"], "localhost": ["127.0.0.1"]}),
        "office": Net({}),
    }
    who = Client(Terms(), "127.0.0.1", 40000, None)
    await dialer(nets["tunnel"], nets["direct"], nets["office"], *lines).dial(who, host, 80)
    assert [(name, net.dialled) for name, net in nets.items() if net.dialled] == [(dialled[0], [dialled[1]])]
    assert [name for name, net in nets.items() if net.resolved] == ([resolved] if resolved else [])
    assert who.route == dialled[0]


@pytest.mark.parametrize(
    ("lines", "host"),
    [(("refuse a.test",), "a.test"), (("refuse 192.0.2.0/24",), "a.test"), (("refuse *",), "192.0.2.1"),
     (("direct .test",), "b.test"), (("office *",), "localhost"), (("direct *",), "127.0.0.1"),
     (("refuse ::ffff:0:0/96", "refuse 192.0.2.0/24"), "::ffff:192.0.2.1"),
     (("refuse 10.0.0.0/8",), "64:ff9b::10.0.0.1"),
     (("direct ::/0", "refuse 10.0.0.0/8"), "2002:a00:1::1")],
)  # fmt: skip
async def test_refused(lines: tuple[str, ...], host: str) -> None:
    tunnel, direct, office = Net({"a.test": ["192.0.2.1"]}), Net({"b.test": ["127.0.0.1"]}), Net({})
    who = Client(Terms(), "127.0.0.1", 40000, None)
    with pytest.raises(Forbidden):
        await dialer(tunnel, direct, office, *lines).dial(who, host, 80)
    assert not any(net.dialled for net in (tunnel, direct, office))


async def test_some_addresses_of_a_name_are_refused() -> None:
    tunnel, direct = Net({"a.test": ["10.0.0.1", "192.0.2.1"]}), Net({})
    who = Client(Terms(), "127.0.0.1", 40000, None)
    await dialer(tunnel, direct, Net({}), "refuse 10.0.0.0/8", "direct 192.0.2.0/24").dial(who, "a.test", 80)
    assert (tunnel.dialled, direct.dialled) == ([], ["192.0.2.1"])


async def test_a_users_own_route() -> None:
    tunnel, direct = Net({}), Net({})
    made = dialer(tunnel, direct, Net({}), "direct 192.0.2.0/24 user alice")
    for user in ("alice", "bob", None):
        who = Client(Terms(), "127.0.0.1", 40000, None)
        who.user = user
        await made.dial(who, "192.0.2.1", 80)
    assert (len(direct.dialled), len(tunnel.dialled)) == (1, 2)
