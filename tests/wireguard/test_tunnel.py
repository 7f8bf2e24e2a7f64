"""Two tunnels and their data: sessions, cryptokey routing, staging, roaming, statistics."""

from __future__ import annotations

from tests.support.wireguard import connected, inner_packet, pair

AB = inner_packet("10.0.0.1", "10.0.0.2")
BA = inner_packet("10.0.0.2", "10.0.0.1")


def test_a_packet_makes_the_session_it_needs() -> None:
    world, a, b = pair()
    a.send(AB)
    world.roundtrip()
    assert b.packets == [AB]
    assert a.connected_to(b)
    assert b.connected_to(a)
    b.send(BA)
    world.roundtrip()
    assert a.packets == [BA]
