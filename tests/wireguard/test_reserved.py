"""Bytes 1 to 3 of every datagram, both ways and in every kind of message."""

from __future__ import annotations

import pytest

from tests.support.wireguard import COOKIE_REPLY, Node, World, burst_of, craft_initiation, inner_packet
from usernet.burst.packets import PacketBurst
from usernet.wireguard.handshake import Identity

AB = inner_packet("10.0.0.1", "10.0.0.2")
BA = inner_packet("10.0.0.2", "10.0.0.1")
OURS = b"\x0a\x0b\x0c"


def reserved_pair(mine: bytes = OURS, theirs: bytes = OURS) -> tuple[World, Node, Node]:
    world = World()
    a, b = world.node(1, ("192.0.2.1", 1)), world.node(2, ("192.0.2.2", 2))
    a.add(b, "10.0.0.2/32", reserved=mine)
    b.add(a, "10.0.0.1/32", reserved=theirs)
    return world, a, b


def test_every_datagram_has_them() -> None:
    world, a, b = reserved_pair()
    a.send(*[AB] * 10)
    world.roundtrip()
    b.send(BA)
    world.run(30)
    assert b.packets == [AB] * 10
    assert a.packets == [BA]
    assert len(world.log) > 12
    assert {datagram[1:4] for *_, datagram in world.log} == {OURS}


@pytest.mark.parametrize("mine", [bytes(3), b"xyz"])
def test_other_bytes_than_the_peers_are_an_unknown_type(mine: bytes) -> None:
    world, a, b = reserved_pair(mine=OURS, theirs=mine)
    a.send(AB)
    world.roundtrip()
    assert b.packets == []
    assert b.drops == {"unknown-type": 1}


def test_zeros_are_taken_too() -> None:
    world = World()
    a, b = world.node(1, ("192.0.2.1", 1)), world.node(2, ("192.0.2.2", 2))
    a.add(b, "10.0.0.2/32")
    b.add(a, "10.0.0.1/32", reserved=OURS)
    world.fate = lambda source, destination, datagram: (0.0,) if source == a.address else ()
    a.send(AB)
    world.roundtrip()
    assert b.drops == {}
    assert len(world.log) == 2
    a.receive([world.log[1][3]], b.address)
    assert a.drops == {"unknown-type": 1}  # who has none there takes none


def test_a_peer_may_not_use_anothers() -> None:
    world, a, b = reserved_pair()
    c = world.node(3, ("192.0.2.3", 3))
    b.add(c, "10.0.0.3/32", reserved=b"\1\2\3")
    a.send(AB)
    world.roundtrip()
    a.send(AB)
    datagram = world.log[-1][3]
    b.receive([datagram[:1] + b"\1\2\3" + datagram[4:]], a.address)
    assert b.packets == [AB]
    b.receive([datagram], a.address)
    assert b.packets == [AB, AB]


def test_a_buffer_that_is_not_ours_to_write_is_copied() -> None:
    world, a, b = reserved_pair()
    a.send(AB)
    world.roundtrip()
    a.send(AB)
    burst = burst_of([world.log[-1][3]], a.address)
    out = PacketBurst(1 << 16)
    b.tunnel.receive_datagrams(burst._replace(buf=memoryview(bytes(burst.buf))), out, world.now)
    assert len(out.rows) == 1


def test_short_datagrams_are_left_alone() -> None:
    world, a, b = reserved_pair()
    for length in range(12):
        b.receive([(b"\4" + OURS + bytes(8))[:length]], a.address)
    assert sum(b.drops.values()) == 12
    assert world.log == []


def test_a_cookie_for_a_peers_response_has_them() -> None:
    """Who sent an initiation is not known yet, but a response is an answer."""
    world, a, b = reserved_pair()
    a.send(AB)
    a.receive([craft_initiation(world, 99, a.key)] * 128, ("203.0.113.1", 1))
    world.roundtrip()
    replies = [(to, datagram[1:4]) for _, _, to, datagram in world.log if datagram[0] == COOKIE_REPLY]
    assert replies[-1] == (b.address, OURS)
    assert {head for to, head in replies if to != b.address} == {bytes(3)}
    assert b.drops == {}


def test_cookies_work_with_them() -> None:
    world, a, b = reserved_pair()
    b.receive([craft_initiation(world, 99, Identity(bytes(32)).public_key)] * 3, ("203.0.113.1", 1))
    b.receive([craft_initiation(world, 99, b.key)] * 128, ("203.0.113.1", 1))
    b.work()
    a.send(AB)
    world.roundtrip()
    assert len(world.sent(COOKIE_REPLY, b)) == 129
    for _ in range(10):
        b.receive([craft_initiation(world, 99, b.key)] * 128, ("203.0.113.1", 1))
        world.run(0.7)
    assert b.packets == [AB]
