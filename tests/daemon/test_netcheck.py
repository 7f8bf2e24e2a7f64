"""What is found on this machine with a peer in this process, and what is said of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proxy.daemon import netcheck
from proxy.status.netcheck import lines
from tests.support.networks import Pair, udp_pair
from usernet.burst.packets import Address
from usernet.config import Config
from usernet.monitor import source_of


def with_endpoint(config: Config, host: str, port: int) -> Config:
    return replace(config, peers=(replace(config.peers[0], endpoint=(host, port)),))


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name is these."""

    async def look_up(host: str, port: int) -> list[Address]:
        return [(address, port) for address in ([host] if host[0].isdigit() else addresses)]

    monkeypatch.setattr(netcheck, "host_look_up", look_up)
    monkeypatch.setattr("usernet.aio.endpoints.host_look_up", look_up)
    monkeypatch.setattr(netcheck, "SECONDS", 2.0)


async def check_of_left(pair: Pair) -> dict[str, Any]:
    return await netcheck.check(pair.left, pair.left.config)


async def test_a_peer_that_answers() -> None:
    async with udp_pair() as pair:
        found = await check_of_left(pair)
    (peer,) = found["peers"]
    assert peer["handshake_ms"] > 0
    assert (peer["addresses"], peer["from"], peer["trouble"]) == (["127.0.0.1"], "127.0.0.1", "")
    assert peer["mtu"] == 65535 or peer["mtu"] > 1400
    assert peer["largest_inner"] == peer["mtu"] - 60
    text = "\n".join(lines(found))
    assert f"{peer['endpoint']}: answers in " in text
    assert f"packets up to {peer['mtu']} B" in text


async def test_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netcheck, "SECONDS", 0.5)
    async with udp_pair() as pair:
        await pair.right.close()
        found = await check_of_left(pair)
    assert found["peers"][0]["trouble"] == netcheck.SILENT
    assert ": does not answer" in "\n".join(lines(found))
    assert any("is UDP let out to that port?" in finding for finding in found["findings"])


async def test_each_address_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer is at the second; at the first there is nobody, and it is the one that a tunnel tries first."""
    async with udp_pair() as pair:
        resolving(monkeypatch, "192.0.2.77", "127.0.0.1")
        config = with_endpoint(pair.left.config, "vpn.example", pair.right.listen_port)
        await pair.left.close()
        found = await netcheck.check_alone(config)
    (peer,) = found["peers"]
    assert peer["answers"]["192.0.2.77"] is None
    assert peer["answers"]["127.0.0.1"] > 0
    (finding,) = [finding for finding in found["findings"] if "answers at" in finding]
    assert "answers at 127.0.0.1, but not at 192.0.2.77, which may be tried first" in finding
    text = list(lines(found))
    assert "  192.0.2.77: does not answer" in text
    assert any(line.startswith("  127.0.0.1: answers in ") for line in text)


def test_interfaces_by_their_addresses() -> None:
    assert netcheck.interface_of("127.0.0.1") == "lo"
    assert netcheck.interface_of("203.0.113.99") == ""
    if source_of(("::1", 9, 0, 0)) is not None:
        assert netcheck.interface_of("::1") == "lo"


def found_of(**changes: Any) -> dict[str, Any]:
    peer = {"peer": "abc...", "endpoint": "vpn.example:1", "addresses": ["192.0.2.1"], "trouble": "",
            "handshake_ms": 3.0, "mtu": 1500, "largest_inner": 1440}  # fmt: skip
    one = {"family": "IPv4", "gso": True, "gro": True, "receive_buffer": 1 << 22, "send_buffer": 1 << 22}
    found = {
        "families": {"ipv4": {"source": "192.0.2.9", "interface": "eth0"}, "ipv6": None},
        "udp": {"port": 5, "sockets": [{**one, **changes.pop("socket", {})}]}, "tun": "yes",
        "peers": [{**peer, **changes.pop("peer", {})}],
    }  # fmt: skip
    return {**found, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"families": {"ipv4": None, "ipv6": None}}, "no way out at all"),
        ({"peer": {"mtu": 1400, "largest_inner": 1340}}, "write MTU = 1336 into [Interface]"),
        ({"socket": {"receive_buffer": 212_992}}, "sysctl net.core.rmem_max=7500000"),
        ({"socket": {"gro": False}}, "goes without GRO"),
        ({"peer": {"trouble": "the name x does not resolve: why"}}, "write an address instead of the name"),
        ({"peer": {"answers": {"a": None, "b": 1.0}}}, "write b instead of the name"),
    ],
)
def test_findings_have_a_remedy(changes: dict[str, Any], said: str) -> None:
    (finding,) = netcheck.findings(found_of(**changes), 1420)
    assert said in finding


def test_nothing_is_in_the_way() -> None:
    found = found_of()
    found["findings"] = list(netcheck.findings(found, 1420))
    assert list(lines(found)) == [
        "IPv4: from 192.0.2.9 by eth0",
        "IPv6: no way out",
        "UDP port 5, IPv4: GSO and GRO, receive buffer 4194304 B",
        "TUN: yes",
        "peer abc... at vpn.example:1: answers in 3.0 ms, packets up to 1500 B",
        "nothing is in the way",
    ]


async def test_a_name_that_nobody_answers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int) -> list[Address]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(netcheck, "host_look_up", look_up)
    monkeypatch.setattr(netcheck, "SECONDS", 0.2)
    async with udp_pair() as pair:
        found = await netcheck.check(pair.left, with_endpoint(pair.left.config, "vpn.example", 5))
    assert found["peers"][0]["trouble"] == "the name vpn.example is not answered for by this machine's resolver"
