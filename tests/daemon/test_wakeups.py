"""Two real networks: a handshake, and who is pinged then, for how long."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.daemon.wakeups import MOST_ADDRESSES, MOST_PEERS, Wakeups, hosts
from tests.support.networks import LEFT, LEFT6, RIGHT, RIGHT6, Pair, memory_pair
from usernet.config import Config, Interface, Peer
from usernet.filter import FilterRule, PacketFilter
from usernet.wire.ip import ICMP, pack_address
from usernet.wireguard.events import HandshakeCompleted, PathReturned

KEY = bytes(range(32))


def opened(*rules: FilterRule) -> PacketFilter:
    made = PacketFilter()
    made.set_rules(rules)
    return made


async def shaken(pair: Pair) -> HandshakeCompleted:
    """The event of it."""
    found: asyncio.Future[HandshakeCompleted] = asyncio.get_running_loop().create_future()
    pair.left.on_event(
        lambda event: found.set_result(event) if isinstance(event, HandshakeCompleted) and not found.done() else None
    )
    pair.left.request_handshakes()
    return await found


async def over(wakeups: Wakeups) -> None:
    while wakeups._waking:
        await asyncio.sleep(0.005)


async def test_a_peer_that_answers_is_pinged_once() -> None:
    made = opened(FilterRule(ICMP))
    async with memory_pair(right_filter=made) as pair:
        wakeups = Wakeups(pair.left)
        wakeups.event(await shaken(pair))
        await over(wakeups)
        assert 1 <= made.statistics().accepted_by_rule <= 2  # at both of its addresses


async def test_a_peer_that_does_not_is_pinged_for_a_while() -> None:
    made = opened()
    async with memory_pair(right_filter=made) as pair:
        wakeups = Wakeups(pair.left, interval=0.05, duration=0.5)
        event = await shaken(pair)
        for _ in range(3):  # more of them meanwhile make no more pings
            wakeups.event(event)
        await over(wakeups)
        pings = made.statistics().drops["filter-no-rule"]
        assert 4 <= pings <= 2 * 10
        assert pings % 2 == 0
        wakeups.event(event)  # and again after the next handshake
        await over(wakeups)
        assert made.statistics().drops["filter-no-rule"] > pings


async def test_close_ends_them() -> None:
    async with memory_pair(right_filter=opened()) as pair:
        wakeups = Wakeups(pair.left, duration=1000.0)
        wakeups.event(await shaken(pair))
        assert len(wakeups._waking) == 1
        await wakeups.close()
        await wakeups.close()
        assert not wakeups._waking
        assert not [task for task in asyncio.all_tasks() if "ping" in task.get_name()]


async def test_what_is_no_handshake_and_who_is_no_peer() -> None:
    async with memory_pair() as pair:
        wakeups = Wakeups(pair.left)
        key = pair.left.config.peers[0].public_key
        wakeups.event(PathReturned(key))
        wakeups.event(HandshakeCompleted(KEY, ("192.0.2.1", 1), True))
        assert not wakeups._waking


async def test_not_more_peers_than_that_at_once() -> None:
    async with memory_pair() as pair:
        peers = [replace(pair.left.config.peers[0], public_key=bytes([n]) * 32) for n in range(MOST_PEERS + 5)]
        pair.left.config = replace(pair.left.config, peers=tuple(peers))
        wakeups = Wakeups(pair.left, duration=1000.0)
        for peer in peers:
            wakeups.event(HandshakeCompleted(peer.public_key, ("192.0.2.1", 1), True))
        assert len(wakeups._waking) == MOST_PEERS
        await wakeups.close()


@pytest.mark.parametrize(
    ("allowed", "own", "pinged"),
    [
        ([f"{RIGHT}/32", f"{RIGHT6}/128"], [LEFT, LEFT6], [RIGHT, RIGHT6]),
        ([f"{RIGHT}/32", f"{RIGHT6}/128"], [LEFT], [RIGHT]),
        (["10.0.0.0/8", "0.0.0.0/0", "::/0", f"{RIGHT}/32", "10.1.2.3/31"], [LEFT, LEFT6], [RIGHT]),
        ([f"{LEFT}/32", f"{RIGHT}/32"], [LEFT], [RIGHT]),
        ([f"10.9.{n // 256}.{n % 256}/32" for n in range(600)], [LEFT], [f"10.9.0.{n}" for n in range(MOST_ADDRESSES)]),
        ([], [LEFT], []),
    ],
)
def test_who_is_pinged(allowed: list[str], own: list[str], pinged: list[str]) -> None:
    nets = tuple((pack_address(host), int(length)) for host, _, length in (text.partition("/") for text in allowed))
    interface = Interface(bytes(32), tuple((pack_address(one), 8) for one in own))
    config = Config(interface, (Peer(bytes(32)), Peer(KEY, allowed_ips=nets)))
    assert hosts(config, KEY, own) == pinged
