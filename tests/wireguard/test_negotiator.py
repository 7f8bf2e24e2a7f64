"""The handshake's rows, each with the moment before and the moment after."""

from __future__ import annotations

import itertools

import pytest

from tests.support.wireguard import (
    COOKIE_REPLY,
    DATA,
    INITIATION,
    RESPONSE,
    Node,
    World,
    connected,
    inner_packet,
    pair,
)
from usernet.wireguard.cookies import CookieJar
from usernet.wireguard.events import (
    ClockJumped,
    HandshakeCompleted,
    HandshakeGaveUp,
    HandshakeStarted,
    PathReturned,
    SessionExpired,
)
from usernet.wireguard.timers import Timing
from usernet.wireguard.tunnel import PeerSettings

AB = inner_packet("10.0.0.1", "10.0.0.2")
BA = inner_packet("10.0.0.2", "10.0.0.1")
JITTER = 0.333
CUT = ()  # a fate: lost


def cut(world: World) -> None:
    world.fate = lambda source, destination, datagram: CUT


def mend(world: World) -> None:
    world.fate = lambda source, destination, datagram: (0.0,)


def lose(world: World, kind: int) -> None:
    world.fate = lambda source, destination, datagram: CUT if datagram[0] == kind else (0.0,)


def initiations(world: World, node: Node, since: float = 0.0) -> list[float]:
    return world.sent(INITIATION, node, since)


def keep_alive_by_data(world: World, sender: Node, packet: bytes, until: float) -> None:
    """One packet every nine seconds, so that neither keepalives nor silence come into it."""
    while world.now + 9 < until:
        sender.send(packet)
        world.run(9)
    world.run_until(until)


def test_events_of_both_ends() -> None:
    _, a, b = connected()
    assert a.take(HandshakeStarted) == [HandshakeStarted(b.key, b.address, 1)]
    assert a.take(HandshakeCompleted) == [HandshakeCompleted(b.key, b.address, True)]
    assert b.take(HandshakeCompleted) == [HandshakeCompleted(a.key, a.address, False)]
    assert b.take(HandshakeStarted) == []


# Rekeying


@pytest.mark.parametrize(("age", "expected"), [(119.9, 0), (120.0, 1)])
def test_initiator_rekeys_when_it_sends_with_a_key_of_120_s(age: float, expected: int) -> None:
    world, a, b = connected()
    start = world.now
    keep_alive_by_data(world, b, BA, start + age)
    a.send(AB)
    world.roundtrip()
    assert len(initiations(world, a, since=start + 1)) == expected
    assert AB in b.packets


def test_responder_does_not_rekey_by_age() -> None:
    world, a, b = connected()
    start = world.now
    keep_alive_by_data(world, a, AB, start + 119)  # the initiator has no reason either, at 119 s
    world.run(30)
    b.send(BA)  # 149 s
    world.roundtrip()
    assert initiations(world, b) == []


@pytest.mark.parametrize(("age", "expected"), [(164.9, 0), (165.0, 1)])
def test_initiator_rekeys_when_it_receives_with_a_key_of_165_s(age: float, expected: int) -> None:
    world, a, b = connected(timing=Timing(rekey_after_time=1000.0))
    start = world.now
    keep_alive_by_data(world, b, BA, start + age - 5)
    b.send(BA)
    world.run_until(start + age)
    b.send(BA)
    world.roundtrip()
    assert len(initiations(world, a, since=start + 1)) == expected


def test_receiving_asks_only_once_for_a_key() -> None:
    world, a, b = connected(timing=Timing(rekey_after_time=1000.0, handshake_attempts=1))
    start = world.now
    keep_alive_by_data(world, b, BA, start + 165)
    lose(world, INITIATION)
    for _ in range(140):
        b.send(BA)
        world.run(0.1)
    assert len(initiations(world, a, since=start + 1)) == 1
    assert a.take(HandshakeGaveUp)


@pytest.mark.parametrize("renewer", ["initiator", "responder"])
def test_either_end_rekeys_by_count(renewer: str) -> None:
    world, a, b = connected(timing=Timing(rekey_after_messages=10))
    world.run(6)
    sender, packet = (a, AB) if renewer == "initiator" else (b, BA)
    start = world.now
    sent_already = 1 if sender is a else 0  # the keepalive that confirmed the session
    for _ in range(10 - sent_already):
        sender.send(packet)
    assert initiations(world, sender, since=start) == []
    sender.send(packet)
    world.roundtrip()
    assert len(initiations(world, sender, since=start)) == 1
    assert sender.take(HandshakeCompleted)[-1].initiator


def test_key_is_rejected_for_sending_at_180_s() -> None:
    world, a, b = connected()
    start = world.now
    lose(world, INITIATION)
    world.run_until(start + 179.9)
    assert a.connected_to(b)
    a.send(AB)
    world.roundtrip()
    assert b.packets == [AB]
    world.run_until(start + 180)
    assert not a.connected_to(b)
    a.send(AB)
    world.roundtrip()
    assert b.packets == [AB]
    assert a.tunnel.statistics().peers[0].staged_packets == 1


def test_key_is_rejected_for_receiving_at_180_s() -> None:
    world, a, b = connected()
    start = world.now
    world.run_until(start + 179.9)
    world.fate = lambda source, destination, datagram: (0.1,) if datagram[0] == DATA else CUT
    a.send(AB)
    world.run_until(start + 180.1)
    assert b.packets == []
    assert b.drops["session-expired"] == 1


def test_key_is_rejected_by_count() -> None:
    world, a, b = connected(timing=Timing(reject_after_messages=10))
    for _ in range(12):
        a.send(AB)
    assert a.tunnel.statistics().peers[0].staged_packets == 3  # one of the ten was the keepalive
    world.run(6)  # a new session takes them
    assert len(b.packets) == 12


def test_rekey_under_traffic_loses_nothing() -> None:
    world, a, b = connected()
    sent_a, sent_b = [], []
    for number in range(1500):
        sent_a.append(inner_packet("10.0.0.1", "10.0.0.2", b"%d" % number))
        sent_b.append(inner_packet("10.0.0.2", "10.0.0.1", b"%d" % number))
        a.send(sent_a[-1])
        b.send(sent_b[-1])
        world.run(0.31)
    assert b.packets == sent_a
    assert a.packets == sent_b
    assert len(a.take(HandshakeCompleted)) == 1 + 3  # 465 s, at 120, 240 and 360 s
    assert a.tunnel.statistics().drops == b.tunnel.statistics().drops == {}
    assert a.tunnel.statistics().indices == 2  # current and previous


# Retrying and giving up


def test_twenty_sends_five_seconds_apart_then_giving_up() -> None:
    world, a, b = pair()
    cut(world)
    start = world.now
    a.send(AB, AB)
    world.run(98)
    assert a.take(HandshakeGaveUp) == []
    world.run(10)
    sent = initiations(world, a)
    assert len(sent) == 20
    assert sent[0] == start
    assert all(5.0 <= later - sooner <= 5.0 + JITTER for sooner, later in itertools.pairwise(sent))
    assert a.take(HandshakeGaveUp) == [HandshakeGaveUp(b.key, 20, 2)]
    assert [event.attempt for event in a.take(HandshakeStarted)] == list(range(1, 21))
    assert a.drops == {"no-session": 2}
    assert a.tunnel.statistics().indices == 0
    assert a.tunnel.next_timeout() is None
    a.send(AB)
    world.roundtrip()
    assert len(initiations(world, a)) == 21


def test_more_packets_do_not_prolong_a_series() -> None:
    world, a, _ = pair()
    cut(world)
    for _ in range(103):
        a.send(AB)
        world.run(1)
    assert a.take(HandshakeGaveUp)


def test_every_attempt_is_a_new_one() -> None:
    """No timestamp and no ephemeral key is sent twice."""
    world, a, _ = pair()
    cut(world)
    a.send(AB)
    world.run(60)
    messages = [datagram for *_, datagram in world.log]
    assert len({message[8:40] for message in messages}) == len(messages) > 10


def test_the_path_returns() -> None:
    world, a, b = pair()
    cut(world)
    a.send(AB)
    world.run(12)
    assert a.take(PathReturned) == []
    mend(world)
    world.run(5)
    assert a.take(PathReturned) == [PathReturned(b.key)]
    assert b.packets == [AB]


def test_the_path_returns_with_the_first_attempt_after_silence() -> None:
    world, a, b = connected()
    world.run(6)
    cut(world)
    a.send(AB)
    world.run(14.9)
    mend(world)
    world.run(1)
    assert len(initiations(world, a)) == 2
    assert a.take(PathReturned) == [PathReturned(b.key)]


def test_giving_up_ends_what_is_owed_too() -> None:
    """Data that came while nothing of ours arrived needs no passive keepalive any more."""
    world, a, b = connected()
    world.run(6)
    world.fate = lambda source, destination, datagram: CUT if source == a.address else (0.0,)
    start = world.now
    a.tunnel.request_handshake(b.key, world.now)
    while len(initiations(world, a, since=start)) < 20:
        world.run(0.1)
    b.send(BA)
    world.run(12)
    assert a.take(HandshakeGaveUp) == [HandshakeGaveUp(b.key, 20, 0)]
    assert world.sent(DATA, a, since=start) == []


def test_a_response_to_an_earlier_attempt_is_not_welcome() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: (6.0,) if datagram[0] == RESPONSE else (0.0,)
    a.send(AB)
    world.run(5.9)
    assert len(initiations(world, a)) == 2
    mend(world)
    world.run(0.2)  # the response to the first
    assert not a.connected_to(b)
    assert a.drops == {"unknown-index": 1}


def test_own_rate_is_one_in_five_seconds() -> None:
    world, a, b = connected()
    start = world.now
    a.tunnel.request_handshake(b.key, world.now)
    a.tunnel.request_handshake(b.key, world.now)
    world.run(4.9)
    assert initiations(world, a) == [start]
    world.run(0.1)  # what was asked for has waited
    assert initiations(world, a) == [start, start + 5.0]
    for _ in range(100):
        a.tunnel.request_handshake(b.key, world.now)
        world.run(1)
    sent = initiations(world, a)
    assert all(later - sooner >= 5.0 for sooner, later in itertools.pairwise(sent))


def test_a_response_of_ours_defers_our_initiation() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: CUT if datagram[0] == RESPONSE else (0.0,)
    a.send(AB)
    world.roundtrip()
    start = world.now
    b.send(BA)
    world.run_until(start + 4.9)
    assert initiations(world, b) == []
    world.run_until(start + 5.3)
    assert len(initiations(world, b)) + len(initiations(world, a)) >= 2


def test_a_response_of_ours_defers_our_next_attempt() -> None:
    world, a, b = pair()
    cut(world)
    b.send(BA)
    start = world.now
    world.run_until(start + 4.9)
    world.fate = lambda source, destination, datagram: (0.5 if datagram[0] == RESPONSE else 0.05,)
    a.send(AB)
    world.run_until(start + 30)
    assert initiations(world, b) == [start]
    assert initiations(world, a) == [start + 4.9]
    assert (a.packets, b.packets) == ([BA], [AB])


def test_a_deferred_attempt_is_made_if_the_response_is_lost() -> None:
    world, a, b = pair()
    cut(world)
    b.send(BA)
    start = world.now
    world.run_until(start + 4.9)
    lose(world, RESPONSE)
    a.send(AB)
    world.run_until(start + 9.89)
    assert initiations(world, b) == [start]
    world.run_until(start + 9.9 + JITTER)
    assert len(initiations(world, b)) == 2


# Silence and keepalives


def test_silence_after_data_makes_a_handshake() -> None:
    world, a, b = connected()
    world.run(6)
    cut(world)
    start = world.now
    assert a.tunnel.unanswered_since(b.key) is None
    a.send(AB)
    world.run(15)
    assert initiations(world, a, since=start) == []
    assert a.tunnel.unanswered_since(b.key) == start
    world.run(JITTER + 0.01)
    assert len(initiations(world, a, since=start)) == 1
    mend(world)
    world.run(6)
    assert a.tunnel.unanswered_since(b.key) is None
    assert a.take(PathReturned) == [PathReturned(b.key)]


def test_anything_authentic_ends_silence() -> None:
    world, a, b = connected()
    world.run(6)
    start = world.now
    a.send(AB)  # b has nothing to send: its passive keepalive is the answer
    world.run(60)
    assert initiations(world, a, since=start) == initiations(world, b) == []


def test_a_keepalive_expects_no_answer() -> None:
    world, a, _ = connected(persistent_keepalive=25)
    cut(world)
    start = world.now
    world.run(60)
    assert initiations(world, a, since=start + 1) == []


def test_passive_keepalive_after_ten_seconds() -> None:
    world, a, b = connected()
    world.run(1)
    a.send(AB)
    start = world.now
    world.run(9.9)
    assert world.sent(DATA, b) == []
    world.run(0.1)
    assert world.sent(DATA, b) == [start + 10.0]
    assert len(world.log[-1][3]) == 32
    world.run(60)
    assert len(world.sent(DATA, b)) == 1
    assert a.packets == []


def test_no_passive_keepalive_if_something_was_sent() -> None:
    world, a, b = connected()
    a.send(AB)
    world.run(9)
    b.send(BA)
    world.run(5)
    assert len(world.sent(DATA, b)) == 1
    world.run(60)
    assert len(world.sent(DATA, a)) == 1 + 1 + 1  # confirmed, sent, kept alive


def test_persistent_keepalive_makes_the_session_and_keeps_it() -> None:
    world, a, b = connected(persistent_keepalive=25)
    world.roundtrip()
    start = world.now
    assert a.connected_to(b)
    world.run(24.9)
    assert len(world.sent(DATA, a)) == 1
    world.run(0.1)
    assert world.sent(DATA, a) == [start, start + 25]
    world.run(10)
    b.send(BA)  # anything authentic, either way, puts it off
    world.run(24.9 - 10)
    a.send(AB)
    world.run(24.9)
    assert len(world.sent(DATA, a)) == 4  # and a passive one for BA


def test_persistent_keepalive_renews_the_key_in_time() -> None:
    world, a, _ = connected(persistent_keepalive=25)
    start = world.now
    world.run(600)
    sent = initiations(world, a, since=start + 1)
    assert sent[0] == start + 125  # the first packet with a key of 120 s, long before it is rejected
    assert len(sent) == 4
    assert a.take(SessionExpired) == []


def test_persistent_keepalive_begins_by_itself() -> None:
    world, a, b = pair(persistent_keepalive=25)
    world.run(0.001)
    assert a.connected_to(b)


def test_persistent_keepalive_begins_once_there_is_an_endpoint() -> None:
    world = World()
    a, b = world.node(1, ("192.0.2.1", 1)), world.node(2, ("192.0.2.2", 2))
    a.add(b, "10.0.0.2/32", endpoint=False, persistent_keepalive=25)
    b.add(a, "10.0.0.1/32", endpoint=False)
    world.run(10)
    assert not world.log
    a.tunnel.set_endpoint(b.key, b.address)
    world.run(0.001)
    assert a.connected_to(b)


def test_persistent_keepalive_tries_again_after_giving_up() -> None:
    world, a, b = pair(persistent_keepalive=25)
    cut(world)
    world.run(120)
    assert a.take(HandshakeGaveUp)
    mend(world)
    world.run(30)
    assert a.connected_to(b)


# Keys


def test_keys_are_removed_after_540_s() -> None:
    world, a, b = connected()
    start = world.now
    session = next(iter(a.tunnel._sessions.values()))[1]
    world.run_until(start + 539.9)
    assert a.tunnel.statistics().indices == 1
    assert a.take(SessionExpired) == []
    world.run_until(start + 540)
    assert a.tunnel.statistics().indices == 0
    assert not a.tunnel.statistics().peers[0].session
    assert a.take(SessionExpired) == [SessionExpired(b.key)]
    assert session.send_key.encrypt_into is None  # type: ignore[attr-defined]
    recorded = [datagram for _, source, _, datagram in world.log if source == b.address and datagram[0] == DATA]
    a.receive(recorded, b.address)
    assert a.packets == []


def test_no_key_is_left_after_giving_up() -> None:
    world, a, _ = connected()
    cut(world)
    start = world.now
    keep_alive_by_data(world, a, AB, start + 300)
    assert a.tunnel.statistics().indices > 0
    world.run_until(start + 600)
    assert a.tunnel.statistics().indices == 0


def test_a_long_sleep_erases_first() -> None:
    world, a, b = connected()
    a.send(AB)
    world.roundtrip()
    world.now += 36000
    a.tunnel.handle_timeout(world.now)
    assert a.tunnel.statistics().indices <= 1  # of a new initiation
    world.run(1)
    a.send(AB)
    world.run(6)
    assert a.connected_to(b)


def test_replaced_sessions_are_wiped() -> None:
    world, a, b = connected()
    sessions = []
    for _ in range(4):
        sessions += [session for _, session in a.tunnel._sessions.values() if session not in sessions]
        world.run(6)
        a.tunnel.request_handshake(b.key, world.now)
        world.roundtrip()
    assert a.tunnel.statistics().indices == b.tunnel.statistics().indices == 2
    assert sessions[0].send_key.encrypt_into is None  # type: ignore[attr-defined]


def test_responder_waits_for_the_first_data() -> None:
    world, a, b = pair()
    lose(world, DATA)
    a.tunnel.request_handshake(b.key, world.now)
    world.roundtrip()
    assert a.connected_to(b)
    assert not b.connected_to(a)
    b.send(BA)
    world.roundtrip()
    assert world.sent(DATA, b) == []
    assert b.take(HandshakeCompleted) == []
    mend(world)
    a.send(AB)
    world.roundtrip()
    assert b.take(HandshakeCompleted) == [HandshakeCompleted(a.key, a.address, False)]
    assert a.packets == [BA]  # it was staged


def test_responder_keeps_to_the_current_key_meanwhile() -> None:
    world, a, b = connected()
    world.run(6)
    world.fate = lambda source, destination, datagram: CUT if source == a.address and datagram[0] == DATA else (0.0,)
    a.tunnel.request_handshake(b.key, world.now)
    world.roundtrip()
    b.send(BA)
    world.roundtrip()
    assert a.packets == [BA]


# Both at once, twice, again


def test_both_initiate_at_once() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: (0.05,)
    a.send(AB)
    b.send(BA)
    world.run(1)
    assert b.packets == [AB]
    assert a.packets == [BA]
    for _ in range(10):
        a.send(AB)
        b.send(BA)
        world.run(20)
    assert len(a.packets) == len(b.packets) == 11


def test_a_session_of_theirs_ends_our_series() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: (
        0.3 if datagram[0] == INITIATION and source == a.address else 0.0,
    )
    a.send(AB)
    b.send(BA)
    world.run(8)
    assert (a.packets, b.packets) == ([BA], [AB])
    assert len(initiations(world, a)) == 1
    assert a.drops == {"unknown-index": 1}  # the answer to it, which is no longer awaited


def test_duplicates_of_handshakes_do_no_harm() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: (0.0, 0.01, 0.5)
    a.send(AB)
    world.run(2)
    assert b.packets == [AB]
    assert len(world.sent(RESPONSE, b)) == 1
    assert b.drops["initiation-replayed"] == 2
    assert b.drops["replay"] == 2
    assert a.connected_to(b)
    assert b.connected_to(a)


def test_two_responses_at_once_give_one_session() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: () if source == b.address else (0.0,)
    a.send(AB)
    world.roundtrip()
    a.receive([world.log[-1][3]] * 2, b.address)
    a.work()
    assert a.drops == {"response-unexpected": 1}
    assert a.connected_to(b)


def test_a_message_may_outlive_its_question_in_the_queue() -> None:
    world, a, b = pair()
    a.send(AB)
    index = world.log[0][3][4:8]
    a.receive([b"\3\0\0\0" + index + bytes(56)], b.address)
    a.tunnel.remove_peer(b.key)
    a.work()
    assert a.drops == {"unknown-index": 1, "peer-removed": 1}


def test_a_replayed_initiation_is_not_answered_after_days() -> None:
    world, a, b = connected()
    recorded = world.log[0][3]
    world.run(100_000)
    b.receive([recorded], ("203.0.113.9", 1))
    b.work()
    assert b.drops == {"initiation-replayed": 1}
    assert b.tunnel.statistics().peers[0].endpoint == a.address


@pytest.mark.parametrize(("interval", "answered"), [(0.019, 1), (0.0201, 2)])
def test_one_initiation_in_20_ms(interval: float, answered: int) -> None:
    world, a, b = pair(timing=Timing(rekey_timeout=0.001, retry_jitter=0.0))
    lose(world, RESPONSE)
    a.tunnel.request_handshake(b.key, world.now)
    world.roundtrip()
    world.now += interval
    a.tunnel.handle_timeout(world.now)
    world.roundtrip()
    assert len(initiations(world, a)) == 2
    assert len(world.sent(RESPONSE, b)) == answered
    assert b.drops.get("initiation-flood", 0) == 2 - answered


def test_timestamps_increase_though_the_clock_is_set_back() -> None:
    world, a, b = connected()
    for _ in range(5):
        world.run(6)
        a.wall_skew -= 1e6
        a.tunnel.request_handshake(b.key, world.now)
        world.roundtrip()
    assert len(a.take(HandshakeCompleted)) == 6


@pytest.mark.parametrize("kept", [True, False])
def test_a_restart_with_a_clock_set_back_needs_the_mark_of_the_one_before(kept: bool) -> None:
    world, a, b = connected()
    world.run(6)
    a.restart(timestamp_floor_ns=a.tunnel.latest_timestamp_ns if kept else 0)
    a.wall_skew -= 1e6
    a.add(b, "10.0.0.2/32")
    a.send(AB)
    world.roundtrip()
    assert a.connected_to(b) is kept


def test_a_peer_that_comes_back_though_the_clock_was_set_back() -> None:
    world, a, b = connected()
    a.wall_skew -= 1e6
    for _ in range(3):
        world.run(6)
        a.tunnel.remove_peer(b.key)
        a.add(b, "10.0.0.2/32")
        a.send(AB)
        world.roundtrip()
        assert a.connected_to(b)


@pytest.mark.parametrize(("jump", "reported"), [(290.0, False), (310.0, True), (1e9, True)])
def test_a_jump_of_the_clock_is_reported(jump: float, reported: bool) -> None:
    world, a, b = connected()
    world.run(600)
    a.wall_skew += jump
    a.tunnel.request_handshake(b.key, world.now)
    world.roundtrip()
    events = b.take(ClockJumped)
    assert [event.public_key for event in events] == ([a.key] if reported else [])
    assert all(abs(event.seconds - jump) < 1 for event in events)


def test_the_first_timestamp_is_compared_with_our_clock() -> None:
    world, a, b = pair()
    a.wall_skew = 1e8
    a.send(AB)
    world.roundtrip()
    assert len(b.take(ClockJumped)) == 1


# Keys that do not fit


def test_another_preshared_key_gives_no_session() -> None:
    world, a, b = pair(preshared_key=bytes(31) + b"\1")
    a.send(AB)
    world.run(3)
    assert not a.connected_to(b)
    assert sum(a.drops.values()) == 1


def test_the_same_preshared_key_does_and_may_change() -> None:
    world, a, b = pair(preshared_key=bytes(31) + b"\1")
    for key in (bytes(31) + b"\1", bytes(31) + b"\2"):
        a.add(b, "10.0.0.2/32", preshared_key=key)
        b.add(a, "10.0.0.1/32", preshared_key=key)
        a.tunnel.request_handshake(b.key, world.now)
        world.run(6)
    assert len(a.take(HandshakeCompleted)) == 2


def test_an_unknown_peer_is_met_with_silence() -> None:
    world, a, b = pair()
    b.tunnel.remove_peer(a.key)
    a.send(AB)
    world.roundtrip()
    assert [*world.sent(RESPONSE), *world.sent(COOKIE_REPLY)] == []
    assert b.drops == {"unknown-peer": 1}


LOW_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("key", LOW_ORDER)
def test_nothing_is_sent_to_a_key_of_low_order(key: bytes) -> None:
    world = World()
    a = world.node(1, ("192.0.2.1", 51820))
    a.tunnel.add_peer(
        PeerSettings(key, None, ((bytes([10, 0, 0, 2]), 32),), ("192.0.2.2", 51820), persistent_keepalive=25), world.now
    )
    a.send(AB)
    world.run(60)
    assert world.log == []
    assert set(a.drops) == {"low-order-point"}


def test_garbage_in_place_of_a_response_leaves_the_initiation_waiting() -> None:
    world, a, b = pair()
    world.fate = lambda source, destination, datagram: (1.0,) if datagram[0] == RESPONSE else (0.0,)
    a.send(AB)
    world.roundtrip()
    response = world.log[-1][3]
    forged = bytearray(response[:60])
    forged[50] ^= 1
    a.receive([CookieJar(a.key).add_macs(bytes(forged), world.now)], b.address)
    a.work()
    assert sum(a.drops.values()) == 1
    world.run(2)
    assert a.connected_to(b)
