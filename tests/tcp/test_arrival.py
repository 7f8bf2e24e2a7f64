"""Segments at an open connection: acceptability, blind attacks, PAWS, data in and out of order (RFC 9293 3.10.7.4)."""

from __future__ import annotations

import pytest

from tests.support.tcp import Peer
from usernet.tcp import READABLE, State
from usernet.tcp.seq import MASK
from usernet.tcp.settings import TcpSettings
from usernet.wire.tcp import ACK, SYN

MSS = 1380
SYN_TS = {"timestamp": (1000, 0)}


def with_window(size: int) -> Peer:
    """Established, with exactly `size` bytes of receive window."""
    return Peer.established(syn={"mss": 1000}, receive_buffer=size, window_scaling=False)  # a whole segment or more


# Acceptability (RFC 9293 3.4, table 6)


@pytest.mark.parametrize(
    ("seq", "size", "accepted"),
    [
        (1, 0, True),
        (1, 10, True),
        (0, 0, False),  # a keep-alive: answered, and no drop
        (2, 0, True),
        (1001, 0, True),  # the right edge
        (1002, 0, False),
        (1000, 10, True),  # begins inside
        (1001, 10, False),
        (-9, 10, False),  # ends before
        (-9, 11, True),  # its last byte is new
        (-2_000, 5_000, True),  # covers the window
    ],
)
def test_acceptability(seq: int, size: int, accepted: bool) -> None:
    peer = with_window(1000)
    peer.connection.write(b"out")
    assert peer.hears() == ["1:1 A +3"]
    peer.sends(f"{seq}:4 A", bytes(size))
    assert (peer.connection.sender.una == peer.connection.sender.nxt) is accepted
    assert peer.connection.drops.get("tcp-unacceptable", 0) == (not accepted and seq != 0)
    if not accepted:
        assert peer.connection.readable_bytes == 0
        assert peer.hears() == [f"4:1 A [{seq & MASK}-1]" if seq < 0 else "4:1 A"]


def test_data_is_trimmed_to_the_window() -> None:
    peer = with_window(1000)
    peer.sends("-4:1 A", b"12345" + bytes(2000))
    assert peer.connection.readable_bytes == 1000
    (answer,) = peer.hears_segments()
    assert peer.text(answer) == f"1:1001 A [{-4 & MASK}-1]"
    assert answer.window == 0


def test_a_closed_window_still_hears_acks_and_resets() -> None:
    peer = with_window(1000)
    peer.connection.write(b"out")
    peer.sends("1:1 A", bytes(1000))
    assert peer.hears() == ["1:1001 A +3"]
    peer.sends("1001:4 A", b"x")  # a probe with data
    assert peer.connection.sender.una == peer.connection.sender.nxt
    assert peer.connection.readable_bytes == 1000
    assert peer.hears() == ["4:1001 A"]
    peer.sends("1001:4 AR")
    assert peer.is_in(State.CLOSED)


def test_unacceptable_segments_without_data_are_answered_twice_a_second_at_most() -> None:
    """So that two ends which disagree do not answer each other for ever."""
    peer = Peer.established()
    for _ in range(10):
        peer.sends("0:1 A")
    assert peer.hears() == ["1:1 A"]
    peer.passes(0.49)
    peer.sends("0:1 A")
    assert peer.hears() == []
    peer.passes(0.01)
    peer.sends("0:1 A")
    assert peer.hears() == ["1:1 A"]


# RFC 5961


def test_only_the_exact_reset_is_believed() -> None:
    peer = Peer.established()
    peer.sends("2:- R")
    peer.sends("60000:- R")
    assert peer.is_in(State.ESTABLISHED)
    assert peer.hears() == ["1:1 A"]  # one challenge for both
    peer.sends("0:- R")  # outside: not even that
    peer.sends("400000:- R")
    assert peer.hears() == []
    peer.sends("1:- R")
    assert peer.is_in(State.CLOSED)
    assert isinstance(peer.connection.error, ConnectionResetError)
    assert peer.hears() == []


@pytest.mark.parametrize("seq", ["1", "100", "0", "-5000"])
def test_a_syn_is_challenged(seq: str) -> None:
    peer = Peer.established()
    for _ in range(5):
        peer.sends(f"{seq}:- S")
    assert peer.is_in(State.ESTABLISHED)
    assert peer.hears() == ["1:1 A"]


def test_challenges_are_limited_for_each_connection_on_its_own() -> None:
    first, second = Peer.established(), Peer.established()
    first.sends("9:- R")
    second.sends("9:- R")
    assert (first.hears(), second.hears()) == (["1:1 A"], ["1:1 A"])


@pytest.mark.parametrize("ack", [2, 70_000, -70_000])
def test_acks_of_another_time_are_challenged(ack: int) -> None:
    peer = Peer.established()
    peer.sends(f"1:{ack} A", b"evil")
    assert peer.connection.readable_bytes == 0
    assert peer.hears() == ["1:1 A"]
    assert peer.connection.drops == {"tcp-ack": 1}


def test_an_old_ack_may_carry_data() -> None:
    peer = Peer.established()
    peer.connection.write(b"abc")
    peer.hears()
    peer.sends("1:4 A")
    peer.sends("1:2 A", b"late")
    assert peer.connection.read(10) == b"late"


def test_no_ack_no_data() -> None:
    peer = Peer.established()
    peer.sends("1:- P", b"data")
    assert peer.connection.readable_bytes == 0
    assert peer.connection.drops == {"tcp-no-ack": 1}


# PAWS (RFC 7323 5)


def test_an_old_timestamp_is_refused() -> None:
    peer = Peer.established(syn=SYN_TS)
    peer.sends("1:1 A", b"new", timestamp=(2000, 0))
    peer.hears()
    peer.sends("4:1 A", b"old", timestamp=(1799, 0))
    assert peer.connection.read(10) == b"new"
    assert peer.connection.readable_bytes == 0
    assert peer.connection.drops == {"tcp-paws": 1}
    assert peer.hears() == ["1:4 A"]


def test_a_reset_needs_no_timestamp_and_data_does() -> None:
    peer = Peer.established(syn=SYN_TS)
    peer.sends("1:1 A", b"none")
    assert peer.connection.drops == {"tcp-no-timestamp": 1}
    assert peer.connection.readable_bytes == 0
    peer.sends("1:1 AR")
    assert peer.is_in(State.CLOSED)


def test_after_24_days_of_silence_any_timestamp_will_do() -> None:
    peer = Peer.established(syn=SYN_TS)
    peer.passes(25 * 86_400.0)
    peer.sends("1:1 A", b"back", timestamp=(5, 0))
    assert peer.connection.read(10) == b"back"


def test_the_echoed_timestamp_is_of_what_the_ack_answers() -> None:
    """RFC 7323 4.3: while an ACK is delayed the older timestamp stays."""
    peer = Peer.established(syn=SYN_TS)
    peer.sends("1:1 A", b"a", timestamp=(1100, 0))
    peer.sends("2:1 A", b"b", timestamp=(1200, 0))
    (answer,) = peer.hears_segments()
    assert answer.timestamp is not None
    assert answer.timestamp[1] == 1100
    peer.sends("4:1 A", b"d", timestamp=(1300, 0))  # beyond a gap
    (answer,) = peer.hears_segments()
    assert answer.timestamp is not None
    assert answer.timestamp[1] == 1100


# Data


def test_in_order_data_is_handed_over_as_it_came() -> None:
    peer = Peer.established()
    data = memoryview(bytearray(b"z" * 5000))
    peer.sends("1:1 A", data, segments=4)  # type: ignore[arg-type]
    assert peer.connection.readiness == READABLE
    data[:] = bytes(5000)  # the burst's buffer is used again
    chunk = peer.connection.read(1 << 20)
    assert chunk == b"z" * 5000


def test_reading_in_parts() -> None:
    peer = Peer.established()
    peer.sends("1:1 A", b"abcdef" * 1000)
    assert [peer.connection.read(2) for _ in range(3)] == [b"ab", b"cd", b"ef"]
    assert peer.connection.readable_bytes == 5994
    assert peer.connection.read(1 << 20) == b"abcdef" * 999
    assert peer.connection.read(10) == b""
    assert not peer.connection.at_eof


def test_out_of_order_data_is_kept_and_reported() -> None:
    peer = Peer.established()
    peer.sends("11:1 A", b"c" * 10)
    assert peer.hears() == ["1:1 A [11-21]"]
    peer.sends("31:1 A", b"e" * 10)
    assert peer.hears() == ["1:1 A [31-41] [11-21]"]
    peer.sends("21:1 A", b"d" * 10)
    assert peer.hears() == ["1:1 A [11-41]"]
    assert peer.connection.readable_bytes == 0
    peer.sends("1:1 A", b"b" * 10)
    assert peer.hears() == ["1:41 A"]
    assert peer.connection.read(100) == b"b" * 10 + b"c" * 10 + b"d" * 10 + b"e" * 10
    assert peer.connection.receiver.reassembly is None


def test_every_new_block_of_a_burst_is_reported() -> None:
    peer = Peer.established()
    for at in range(11, 181, 20):  # nine gaps before the next take
        peer.sends(f"{at}:1 A", b"x" * 10)
    blocks = {(block) for segment in peer.hears_segments() for block in segment.sack_blocks}
    assert len(blocks) == 9


def test_three_blocks_beside_a_timestamp() -> None:
    peer = Peer.established(syn=SYN_TS)
    for at in range(11, 111, 20):
        peer.sends(f"{at}:1 A", b"x" * 10, timestamp=(1001, 0))
    answers = peer.hears_segments()
    assert [len(segment.sack_blocks) for segment in answers] == [2, 3]
    assert all(segment.timestamp for segment in answers)
    assert peer.text(answers[-1]) == "1:1 A [91-101] [71-81] [51-61]"


def test_without_sack_every_segment_is_a_duplicate_ack() -> None:
    peer = Peer.established(syn={"sack_permitted": False})
    peer.sends("1381:1 A", bytes(3 * MSS), segments=3)
    assert peer.hears() == ["1:1 A"] * 3


def test_data_behind_a_gap_rides_with_a_sack_of_its_own() -> None:
    peer = Peer.established()
    peer.connection.write(b"out")
    peer.sends("11:1 A", b"x")
    assert peer.hears() == ["1:1 A +3", "4:1 A [11-12]"]


def test_duplicate_data_is_acknowledged_at_once_and_not_delivered_twice() -> None:
    peer = Peer.established()
    peer.sends("1:1 A", b"hello")
    peer.passes(1)
    assert peer.hears() == ["1:6 A"]
    peer.sends("1:1 A", b"hello")
    assert peer.hears() == ["1:6 A [1-6]"]
    peer.sends("1:1 A", b"hello world")
    assert peer.hears() == ["1:12 A [1-6]"]
    assert peer.connection.read(100) + peer.connection.read(100) == b"hello world"


# Delayed ACK (RFC 5681 4.2)


def test_one_segment_waits_40_ms_even_with_push() -> None:
    peer = Peer.established()
    peer.sends("1:1 AP", b"request")
    assert peer.hears() == []
    assert peer.connection.next_timeout() == pytest.approx(peer.now + 0.040)
    peer.passes(0.040)
    assert peer.hears() == ["1:8 A"]
    assert peer.connection.next_timeout() is None


def test_the_second_segment_is_acknowledged_at_once() -> None:
    peer = Peer.established()
    peer.sends("1:1 A", b"x")
    peer.sends("2:1 A", b"y")
    assert peer.hears() == ["1:3 A"]


def test_a_burst_is_acknowledged_once() -> None:
    peer = Peer.established()
    for at in range(3):
        peer.sends(f"{1 + at * 10 * MSS}:1 A", bytes(10 * MSS), segments=10)
    assert peer.hears() == [f"1:{1 + 30 * MSS} A"]


def test_an_ack_rides_on_the_answer() -> None:
    peer = Peer.established()
    peer.sends("1:1 AP", b"request")
    peer.connection.write(b"answer")
    assert peer.hears() == ["1:8 A +6"]
    peer.sends("8:7 A")
    assert peer.connection.next_timeout() is None


# The receive window


def test_the_window_closes_and_opens_significantly() -> None:
    peer = with_window(20_000)
    peer.sends("1:1 A", bytes(20_000), segments=15)
    (full,) = peer.hears_segments()
    assert full.window == 0
    peer.connection.read(1000)
    assert peer.hears() == []  # not a silly window
    peer.connection.read(2000)
    (update,) = peer.hears_segments()
    assert update.window == 3000
    peer.connection.read(1000)
    assert peer.hears() == []
    peer.connection.read(20_000)
    (update,) = peer.hears_segments()
    assert update.window == 20_000


def test_the_right_edge_never_moves_back_whatever_the_scale() -> None:
    peer = Peer.established(syn={"window_scale": 0})
    scale = peer.connection.receiver.scale
    assert scale == 7
    edge = 0
    at = 1
    for size in range(1, 400):
        peer.sends(f"{at}:1 A", bytes(size), segments=2)
        at += size
        if size % 3 == 0:
            peer.connection.read(size)
        for segment in peer.hears_segments():
            offered = segment.ack + (segment.window << scale)
            assert offered >= edge
            edge = offered


def test_single_bytes_cannot_creep_past_the_buffer() -> None:
    peer = Peer.established(receive_buffer=4096, receive_buffer_max=1 << 20)
    at = 1
    for _ in range(6000):
        peer.sends(f"{at}:1 A", b"x", segments=2)
        peer.hears()
        at = peer.connection.receiver.next - peer.iss
    assert 4096 <= peer.connection.readable_bytes <= 4096 + 1024 + 128
    assert len(peer.connection.receiver.chunks) <= 4


def test_the_buffer_grows_with_what_is_read_in_a_round_trip() -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.passes(0.05)
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1, window_scale=7))
    peer.hears()
    receiver = peer.connection.receiver
    assert receiver.limit == 190 * MSS
    at = 1
    for _ in range(10):
        window = receiver.edge - receiver.next
        while window > 0:
            size = min(window, 45 * MSS)
            peer.sends(f"{at}:1 A", bytes(size), segments=45)
            at, window = at + size, window - size
            peer.connection.read(1 << 20)
        peer.hears()
        peer.passes(0.051)
    assert receiver.limit == (65_535 << 7) // MSS * MSS
    slow = Peer.established()
    for at in range(100):
        slow.sends(f"{1 + at * MSS}:1 A", bytes(MSS), segments=2)
        slow.connection.read(MSS)
        slow.passes(0.05)
        slow.hears()
    assert slow.connection.receiver.limit == 190 * MSS


@pytest.mark.parametrize(
    ("rtt", "room", "largest"),
    [
        (0.0005, 319_488, 419_488),  # next door, with the usual socket buffer
        (0.0005, 8 << 20, 8 << 20),  # with a large one
        (0.01, 319_488, 2_319_488),
        (0.05, 319_488, 8 << 20),
        (120.0, 319_488, 8 << 20),  # no sample yet
    ],
)
def test_the_largest_buffer_follows_socket_and_round_trip(rtt: float, room: int, largest: int) -> None:
    assert TcpSettings(receive_room=room).receive_buffer_over(rtt) == largest


@pytest.mark.parametrize(("rtt", "largest"), [(0.001, 519_488), (0.005, 1_319_488), (0.05, 8 << 20)])
def test_a_small_socket_bounds_the_window_on_a_short_path(rtt: float, largest: int) -> None:
    peer = Peer.connecting(receive_room=319_488)
    peer.hears()
    peer.passes(rtt)
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1, window_scale=7))
    peer.hears()
    receiver = peer.connection.receiver
    at = 1
    for _ in range(10):
        window = receiver.edge - receiver.next
        while window > 0:
            size = min(window, 45 * MSS)
            peer.sends(f"{at}:1 A", bytes(size), segments=45)
            at, window = at + size, window - size
            peer.connection.read(1 << 20)
        peer.hears()
        peer.passes(rtt + 0.001)
    assert receiver.limit == min(-(-largest // MSS), (65_535 << 7) // MSS) * MSS
    assert receiver.edge - receiver.next <= receiver.limit + 127


def test_a_window_that_shrinks_takes_nothing_back() -> None:
    peer = Peer.connecting(receive_buffer=2 << 20, receive_room=319_488)
    peer.hears()
    peer.passes(0.001)
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1, window_scale=7))
    peer.hears()
    receiver = peer.connection.receiver
    edge, at = receiver.edge, 1
    for _ in range(100):
        peer.sends(f"{at}:1 A", bytes(20 * MSS), segments=20)
        at += 20 * MSS
        peer.connection.read(1 << 20)
        peer.hears()
        assert receiver.edge >= edge
        edge = receiver.edge
        peer.passes(0.002)
    assert receiver.edge - receiver.next <= 519_488 + MSS


def test_the_buffer_grows_ahead_of_a_slow_start() -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.passes(0.1)
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1, window_scale=7))
    peer.hears()
    receiver = peer.connection.receiver
    at, congestion_window = 1, 10 * MSS
    while congestion_window < 4 << 20:
        left = congestion_window
        assert receiver.edge - receiver.next >= left, "the window, and not the peer, is the limit"
        while left > 0:
            size = min(left, 45 * MSS)
            peer.sends(f"{at}:1 A", bytes(size), segments=-(-size // MSS))
            at, left = at + size, left - size
            peer.connection.read(1 << 20)
            peer.hears()
        peer.passes(0.1)
        congestion_window *= 2
