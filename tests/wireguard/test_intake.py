"""The door for handshake messages: what is let in, load, cookies and rates."""

from __future__ import annotations

import pytest

from tests.support.wireguard import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    Node,
    World,
    craft_initiation,
    inner_packet,
    pair,
)
from usernet.burst.packets import SuperPacket
from usernet.wireguard.cookies import CookieJar

AB = inner_packet("10.0.0.1", "10.0.0.2")
STRANGER = 99  # a key nobody has as a peer
ELSEWHERE = ("203.0.113.5", 4242)


def flood(world: World, node: Node, count: int) -> None:
    """Initiations with a good MAC1 that nobody has worked on yet."""
    node.receive([craft_initiation(world, STRANGER, node.key)] * count, ELSEWHERE)


def waiting(node: Node) -> int:
    return node.tunnel.statistics().handshakes_waiting


def hold_load(world: World, node: Node) -> None:
    """Put the node under load for a second, with nothing left to work on."""
    flood(world, node, 128)
    node.work()
    node.tunnel.datagrams_to_send(world.now)


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "unknown-type"),
        (b"\1", "handshake-length"),
        (b"\1\0\0\0", "handshake-length"),
        (b"\1\0\0\1" + bytes(144), "unknown-type"),
        (b"\5\0\0\0" + bytes(144), "unknown-type"),
        (b"\0\0\0\0" + bytes(144), "unknown-type"),
        (b"\1\0\0\0" + bytes(143), "handshake-length"),
        (b"\1\0\0\0" + bytes(145), "unknown-type"),
        (b"\1\0\0\0" + bytes(144), "mac1"),
        (b"\2\0\0\0" + bytes(88), "unknown-index"),
        (b"\2\0\0\0" + bytes(89), "handshake-length"),
        (b"\3\0\0\0" + bytes(60), "unknown-index"),
        (b"\3\0\0\0" + bytes(61), "handshake-length"),
        (b"\4\0\0\0" + bytes(28), "unknown-index"),
        (b"\4\0\0\0" + bytes(27), "data-length"),
    ],
)
def test_what_is_not_let_in(datagram: bytes, reason: str) -> None:
    world, _, b = pair()
    b.receive([datagram], ELSEWHERE)
    assert waiting(b) == 0
    assert b.drops == {reason: 1}
    world.roundtrip()
    assert world.log == []


def test_every_truncation_of_an_initiation_is_dropped_in_silence() -> None:
    world, _, b = pair()
    message = craft_initiation(world, 1, b.key)
    b.receive([message[:length] for length in range(148)] + [message + b"\0"], ELSEWHERE)
    assert waiting(b) == 0
    assert sum(b.drops.values()) == 149


def test_the_queue_is_bounded() -> None:
    world, _, b = pair()
    flood(world, b, 1030)
    assert waiting(b) == 1024
    assert b.drops == {"handshake-queue-full": 6}


def test_one_at_a_time() -> None:
    world, _, b = pair()
    flood(world, b, 3)
    assert b.tunnel.process_handshake(world.now)
    assert b.tunnel.process_handshake(world.now)
    assert not b.tunnel.process_handshake(world.now)
    assert not b.tunnel.process_handshake(world.now)
    assert b.drops == {"unknown-peer": 3}


@pytest.mark.parametrize(("count", "cookies"), [(127, 0), (128, 128)])
def test_load_begins_at_128(count: int, cookies: int) -> None:
    """All that waited is judged under load, for that holds a second."""
    world, _, b = pair()
    flood(world, b, count)
    b.work()
    world.collect(b)
    assert len(world.sent(COOKIE_REPLY, b)) == cookies
    assert b.drops == ({} if cookies else {"unknown-peer": count})


@pytest.mark.parametrize(("after", "cookies"), [(0.99, 1), (1.0, 0)])
def test_load_holds_for_a_second(after: float, cookies: int) -> None:
    world, _, b = pair()
    hold_load(world, b)
    world.now += after
    flood(world, b, 1)
    b.work()
    world.collect(b)
    assert len(world.sent(COOKIE_REPLY, b)) == cookies


def test_a_cookie_opens_the_door_for_an_initiation() -> None:
    world, a, b = pair()
    hold_load(world, b)
    a.send(AB)
    world.roundtrip()
    assert len(world.sent(COOKIE_REPLY, b)) == 1
    assert not a.connected_to(b)
    for _ in range(7):  # until a tries again
        hold_load(world, b)
        world.run(0.8)
    assert a.connected_to(b)
    assert b.packets == [AB]
    assert len(world.sent(COOKIE_REPLY, b)) == 1
    mac2 = [datagram[-16:] for *_, datagram in world.log if datagram[0] == INITIATION]
    assert mac2[0] == bytes(16)
    assert mac2[1] != bytes(16)


def test_a_cookie_is_welcome_under_load() -> None:
    """And is not answered by one, back and forth."""
    world, a, b = pair()
    hold_load(world, a)
    hold_load(world, b)
    a.send(AB)
    world.roundtrip()
    assert len(world.sent(COOKIE_REPLY, b)) == 1
    assert world.sent(COOKIE_REPLY, a) == []
    world.run(6)
    mac2 = [datagram[-16:] for *_, datagram in world.log if datagram[0] == INITIATION]
    assert mac2[1] != bytes(16)


def test_a_cookie_opens_the_door_for_a_response() -> None:
    world, a, b = pair()
    hold_load(world, a)
    a.send(AB)
    world.roundtrip()
    assert len(world.sent(RESPONSE, b)) == len(world.sent(COOKIE_REPLY, a)) == 1
    assert not a.connected_to(b)
    for _ in range(7):
        hold_load(world, a)
        world.run(0.8)
    assert a.connected_to(b)
    mac2 = [datagram[-16:] for *_, datagram in world.log if datagram[0] == RESPONSE]
    assert mac2[0] == bytes(16)
    assert mac2[-1] != bytes(16)


def cookie_for(world: World, node: Node, source: tuple[str, int]) -> CookieJar:
    """A jar with the cookie that a node under load gives this source."""
    jar = CookieJar(node.key)
    node.receive([craft_initiation(world, STRANGER, node.key, jar)], source)
    node.work()
    [reply] = [bytes(burst.buf) for burst in node.tunnel.datagrams_to_send(world.now)]
    jar.consume_reply(reply, world.now)
    return jar


def test_a_cookie_is_for_one_address() -> None:
    world, _, b = pair()
    hold_load(world, b)
    jar = cookie_for(world, b, ELSEWHERE)
    message = craft_initiation(world, STRANGER, b.key, jar)
    for source, reason in ((("203.0.113.5", 4243), 0), (("203.0.113.6", 4242), 0), (ELSEWHERE, 1)):
        b.receive([message], source)
        b.work()
        assert b.drops.get("unknown-peer", 0) == reason


def test_rate_of_who_has_a_cookie() -> None:
    world, _, b = pair()
    hold_load(world, b)
    jar = cookie_for(world, b, ELSEWHERE)
    for _ in range(100):
        b.receive([craft_initiation(world, STRANGER, b.key, jar)], ELSEWHERE)
        b.work()
    assert b.drops == {"unknown-peer": 5, "rate-limited": 95}
    world.now += 0.5
    for _ in range(20):
        b.receive([craft_initiation(world, STRANGER, b.key, jar)], ELSEWHERE)
        b.work()
    assert b.drops == {"unknown-peer": 10, "rate-limited": 110}


def test_a_response_needs_mac1_too() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: () if datagram[0] == RESPONSE else (0.0,)
    a.send(AB)
    world.roundtrip()
    response = bytearray(world.log[-1][3])
    response[-17] ^= 1
    a.receive([bytes(response)], b.address)
    assert a.drops == {"mac1": 1}
    assert waiting(a) == 0


def test_a_forged_cookie_reply_is_dropped() -> None:
    world, a, b = pair()
    a.send(AB)
    index = world.log[0][3][4:8]
    a.receive([b"\3\0\0\0" + index + bytes(56)], b.address)
    a.work()
    assert sum(a.drops.values()) == 1
    world.roundtrip()
    assert a.connected_to(b)


def test_replies_nobody_takes_are_bounded() -> None:
    world, _, b = pair()
    for _ in range(20):
        flood(world, b, 128)
        b.work()
    assert sum(len(burst.buf) for burst in b.tunnel.datagrams_to_send(world.now)) == 64 * 1024
    assert b.drops["outbox-full"] == 20 * 128 - 1024


def test_our_own_handshake_may_find_the_outbox_full() -> None:
    world, _, b = pair()
    for _ in range(8):
        flood(world, b, 128)
        b.work()
    b.tunnel.seal([SuperPacket(inner_packet("10.0.0.2", "10.0.0.1"))], world.now)
    assert b.drops["outbox-full"] == 1
    b.tunnel.datagrams_to_send(world.now)
    world.run(6)  # it is sent again like any that was lost
    assert len(world.sent(INITIATION, b)) == 1
