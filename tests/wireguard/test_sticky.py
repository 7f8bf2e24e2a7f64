"""Answers leave from the address that the peer's last authentic datagram came to."""

from __future__ import annotations

import pytest

from tests.support.wireguard import COOKIE_REPLY, Node, World, craft_initiation, inner_packet, pair
from usernet.burst.packets import Address
from usernet.wireguard.events import PathReturned
from usernet.wireguard.timers import Timing

AB = inner_packet("10.0.0.1", "10.0.0.2")
BA = inner_packet("10.0.0.2", "10.0.0.1")
HERE, THERE = bytes([192, 0, 2, 2]), bytes([192, 0, 2, 3])


def hand_over(world: World, source: Node, node: Node, local: bytes, address: Address | None = None) -> list[bytes]:
    """All that `source` has ready arrives at one of the other's addresses; what the answers leave from."""
    for burst in source.tunnel.datagrams_to_send(world.now):
        size = burst.segment_size
        datagrams = [bytes(burst.buf[at : at + size]) for at in range(0, len(burst.buf), size)]
        node.receive(datagrams, address or source.address, local=local)
    node.work()
    return answers(world, node, source)


def answers(world: World, node: Node, to: Node) -> list[bytes]:
    locals_ = []
    for burst in node.tunnel.datagrams_to_send(world.now):
        to.receive([bytes(burst.buf)], node.address)
        to.work()
        locals_.append(burst.local)
    return locals_


def sealed(world: World, node: Node, packet: bytes) -> list[bytes]:
    """What a packet of the node's leaves from."""
    node.send_only(packet)
    return [burst.local for burst in node.tunnel.datagrams_to_send(world.now)]


@pytest.fixture
def joined() -> tuple[World, Node, Node]:
    """b answered a at THERE and has seen the session used."""
    world, a, b = pair()
    a.send_only(AB)
    assert hand_over(world, a, b, THERE) == [THERE]  # the response
    hand_over(world, a, b, THERE)
    assert b.packets == [AB]
    return world, a, b


def test_answers_leave_from_where_it_was_asked(joined: tuple[World, Node, Node]) -> None:
    world, a, b = joined
    assert sealed(world, b, BA) == [THERE]
    a.send_only(AB)
    hand_over(world, a, b, HERE)
    assert sealed(world, b, BA) == [HERE]


def test_what_was_staged_and_keepalives_too() -> None:
    world, a, b = pair()
    a.send_only(AB)
    assert hand_over(world, a, b, THERE) == [THERE]
    b.send_only(BA)  # waits for the first data
    assert hand_over(world, a, b, HERE) == [HERE]
    a.send_only(AB)
    assert hand_over(world, a, b, THERE) == []
    world.now += 11
    b.tunnel.handle_timeout(world.now)
    assert answers(world, b, a) == [THERE]  # the passive keepalive


def test_only_what_is_authentic_counts(joined: tuple[World, Node, Node]) -> None:
    world, a, b = joined
    a.send_only(AB)
    [burst] = a.tunnel.datagrams_to_send(world.now)
    b.receive([bytes(burst.buf[:-1]) + bytes([burst.buf[-1] ^ 1])], a.address, local=HERE)
    b.receive([craft_initiation(world, 99, b.key)], a.address, local=HERE)
    b.work()
    assert sealed(world, b, BA) == [THERE]


def test_silence_forgets_it(joined: tuple[World, Node, Node]) -> None:
    world, _, b = joined
    assert sealed(world, b, BA) == [THERE]
    world.now += Timing().keepalive_timeout + Timing().rekey_timeout + 1
    b.tunnel.handle_timeout(world.now)
    assert [burst.local for burst in b.tunnel.datagrams_to_send(world.now)] == [b""]  # an initiation
    assert sealed(world, b, BA) == [b""]


def test_an_initiation_without_an_answer_forgets_it(joined: tuple[World, Node, Node]) -> None:
    world, a, b = joined
    world.now += 20
    b.tunnel.request_handshake(a.key, world.now)
    assert [burst.local for burst in b.tunnel.datagrams_to_send(world.now)] == [THERE]
    world.now += 6
    b.tunnel.handle_timeout(world.now)
    assert [burst.local for burst in b.tunnel.datagrams_to_send(world.now)] == [b""]


def test_another_endpoint_forgets_it(joined: tuple[World, Node, Node]) -> None:
    world, a, b = joined
    b.tunnel.set_endpoint(a.key, ("2001:db8::1", 7, 0, 0))
    assert sealed(world, b, BA) == [b""]


def test_a_cookie_leaves_from_where_it_was_asked() -> None:
    world, _, b = pair()
    b.receive([craft_initiation(world, 99, b.key)] * 128, ("203.0.113.1", 1), local=THERE)
    b.work()
    found = {(burst.buf[0], burst.local) for burst in b.tunnel.datagrams_to_send(world.now)}
    assert found == {(COOKIE_REPLY, THERE)}


def test_another_network_of_ours(joined: tuple[World, Node, Node]) -> None:
    """The source is forgotten; a peer with a session hears from us at once, and is asked for another."""
    world, a, b = joined
    b.tunnel.events()
    world.now += 6
    b.tunnel.path_changed(world.now)
    moved: Address = ("192.0.2.77", 7)
    bursts = b.tunnel.datagrams_to_send(world.now)
    assert [(burst.buf[0], burst.local) for burst in bursts] == [(4, b""), (1, b"")]  # a keepalive, an initiation
    a.receive([bytes(bursts[0].buf)], moved)
    assert a.tunnel.endpoints() == [moved]
    a.send_only(AB)
    hand_over(world, a, b, HERE)
    assert any(isinstance(event, PathReturned) for event in b.tunnel.events())


def test_another_network_before_any_session() -> None:
    world, a, _ = pair()
    a.tunnel.path_changed(world.now)
    assert a.tunnel.datagrams_to_send(world.now) == []
