"""Segments that nobody should send: nothing raises, invariants hold, work and memory stay bounded."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tcp import Peer
from usernet.tcp import State, TcpSettings
from usernet.tcp.flight import MAX_RUNS, Run
from usernet.wire.tcp import ACK, FIN, RST, SYN, TcpSegment

OFFSETS = st.integers(-3, 3) | st.integers(-3000, 3000) | st.integers(-(2**31), 2**31)
FLAGS = st.sampled_from([ACK, ACK, ACK, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK, FIN, 0, 0xFF])
SEGMENTS = st.tuples(
    st.sampled_from(["next", "edge", "una"]),
    OFFSETS,
    st.sampled_from(["una", "nxt"]),
    OFFSETS,
    FLAGS,
    st.integers(0, 0xFFFF),
    st.lists(st.tuples(OFFSETS, OFFSETS), max_size=4),
    st.none() | st.tuples(st.integers(990, 1100), st.integers(0, 2**32 - 1)),
    st.integers(0, 3000),
)
ACTIONS = st.tuples(st.just("segment"), SEGMENTS) | st.tuples(
    st.sampled_from(["write", "read", "take", "time", "shut", "path", "big", "icmp"]), st.integers(0, 5000)
)


def segment_from(peer: Peer, fields: tuple[Any, ...]) -> TcpSegment:
    base, offset, ack_base, ack_offset, flags, window, blocks, timestamp, size = fields
    sender, receiver = peer.connection.sender, peer.connection.receiver
    seq = {"next": receiver.next, "edge": receiver.edge, "una": receiver.next - 1}[base] + offset
    ack = {"una": sender.una, "nxt": sender.nxt}[ack_base] + ack_offset
    wire = tuple(((sender.una + left) % 2**32, (sender.una + right) % 2**32) for left, right in blocks)
    return TcpSegment(
        80, 40000, seq % 2**32, ack % 2**32, flags, window,
        sack_blocks=wire, timestamp=timestamp, payload=bytes(size),
    )  # fmt: skip


def act(peer: Peer, action: str, argument: Any) -> None:
    connection = peer.connection
    if action == "segment":
        peer.delivers(segment_from(peer, argument), segments=2)
    elif action == "write" and not connection.sender.fin and connection.state is not State.CLOSED:
        connection.write(bytes(argument))
    elif action == "read":
        connection.read(argument)
    elif action == "take":
        peer.hears(argument)
    elif action == "time":
        peer.passes(argument / 1000)
    elif action == "shut" and argument > 4000:
        connection.shutdown_write(peer.now)
    elif action == "path":
        connection.path_changed(peer.now)
        connection.probe(peer.now)
    elif action == "big":
        connection.receive_packet_too_big(argument, (connection.sender.una + argument % 3) % 2**32, peer.now)
    elif action == "icmp":
        connection.receive_icmp_error(OSError(), connection.sender.una % 2**32, peer.now)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["connecting", "accepting", "established"]),
    st.booleans(),
    st.booleans(),
    st.lists(ACTIONS, max_size=40),
)
def test_anything_goes(start: str, timestamps: bool, sack: bool, actions: list[tuple[str, Any]]) -> None:
    settings = TcpSettings(receive_buffer=6000)
    syn = {"timestamp": (1000, 0) if timestamps else None, "sack_permitted": sack, "window_scale": 3}
    if start == "connecting":
        peer = Peer.connecting(settings)
    elif start == "accepting":
        peer = Peer.accepting(settings, syn=syn)
    else:
        peer = Peer.established(settings=settings, syn=syn)
    edge = peer.connection.receiver.edge
    for action, argument in actions:
        act(peer, action, argument)
        connection = peer.connection
        sender, receiver = connection.sender, connection.receiver
        assert sender.una <= sender.nxt <= sender.end + sender.fin
        if start == "established":
            assert receiver.edge >= edge
            edge = receiver.edge
        assert receiver.next <= receiver.edge + 1 or start == "connecting"
        assert receiver.readable <= 6000 * 1.25 + 8
        assert sum(map(len, receiver.chunks)) >= receiver.readable
        if connection.state is State.CLOSED:
            assert connection.next_timeout() is None
        elif sender.nxt > sender.una and connection.state is not State.TIME_WAIT:
            assert connection.next_timeout() is not None, "something is outstanding and nothing would resend it"
    peer.hears()


def test_single_bytes_out_of_order_cost_little() -> None:
    """CVE-2018-5390: 200 kB in single bytes, every other one missing, in random order."""
    peer = Peer.established()
    places = list(range(3, 200_003, 2))
    random.Random(1).shuffle(places)
    segments = [
        TcpSegment(80, 40000, peer.iss + at, (peer.isn + 1) % 2**32, ACK, 9, payload=b"x") for at in places[:5000]
    ]
    tracemalloc.start()
    for segment in segments:
        peer.delivers(segment)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 200_000
    assert peer.connection.drops["tcp-reassembly-full"] == 5000 - 256


def test_a_scoreboard_full_of_holes_costs_little() -> None:
    """CVE-2019-11477 and 11478: SACK of every other byte of a large window."""
    peer = Peer.established(syn={"window_scale": 7})
    peer.connection.congestion.cwnd = 1 << 22
    peer.sends("1:1 A", b"x")
    peer.connection.sender.sent_at = peer.now
    peer.connection.write(bytes(2_000_000))
    peer.hears()
    for at in range(2, 40_000, 8):
        peer.sends("2:1 A", sack=[(at, at + 1), (at + 2, at + 3), (at + 4, at + 5), (at + 6, at + 7)])
    assert peer.connection.sender.nxt - peer.connection.sender.una > 500 * 1380
    assert len(peer.connection.flight.runs) <= 45  # super-segments: no segment is whole, so nothing was cut


def test_a_scoreboard_is_never_long() -> None:
    """CVE-2019-11478: each acknowledgement looks at all of it, and small segments make room for many holes."""
    peer = Peer.established(syn={"window_scale": 7, "mss": 1})
    peer.connection.congestion.cwnd = 1 << 22
    peer.sends("1:1 A", b"x")
    peer.connection.sender.sent_at = peer.now
    peer.connection.write(bytes(9000 * 216))
    peer.hears()
    assert peer.connection.sender.nxt == peer.connection.sender.end
    for at in range(1 + 216, 9000 * 216, 2 * 216):
        peer.sends("2:1 A", sack=[(at, at + 216)])
    flight = peer.connection.flight
    assert MAX_RUNS <= len(flight.runs) <= MAX_RUNS + 2
    assert flight.sacked > MAX_RUNS * 0.45 * 216, "what fits is noted"
    peer.sends(f"2:{1 + 9000 * 216} A")
    assert flight.runs == []
    assert peer.connection.recovery is None


class Watched(list[Run]):
    """Counts how often it is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        self.looks += 1
        return super().__getitem__(at)

    def __iter__(self) -> Iterator[Run]:
        for run in super().__iter__():
            self.looks += 1
            yield run


@pytest.mark.parametrize("news", ["nothing", "known blocks", "one segment more", "a duplicate", "an acknowledgement"])
def test_an_acknowledgement_looks_at_few_runs(news: str) -> None:
    peer = Peer.established(syn={"window_scale": 7, "mss": 1})
    peer.connection.congestion.cwnd = 1 << 22
    peer.sends("1:1 A", b"x")
    peer.connection.sender.sent_at = peer.now
    peer.connection.write(bytes(4000 * 216))
    peer.hears()
    for at in range(2, 3800, 2):
        peer.sends("2:1 A", sack=[(1 + at * 216, 1 + at * 216 + 216)])
    peer.hears()
    peer.sends("2:1 A")
    flight = peer.connection.flight
    watched = flight.runs = Watched(flight.runs)
    for at in range(100):
        end = 1 + 216 * (at + 1)
        above = 1 + (3800 + 2 * at) * 216
        options: dict[str, Any] = {
            "nothing": {},
            "known blocks": {"sack": [(1 + 2 * 216, 1 + 3 * 216), (1 + 4 * 216, 1 + 5 * 216)]},
            "one segment more": {"sack": [(above, above + 216)]},
            "a duplicate": {"sack": [(1, 217), (1 + 2 * 216, 1 + 3 * 216)]},
            "an acknowledgement": {},
        }[news]
        peer.sends(f"2:{end if news == 'an acknowledgement' else 1} A", **options)
        peer.hears()
    assert len(watched) > 3000
    assert watched.looks < 100 * 300


def test_a_peer_that_wants_crumbs_gets_the_floor() -> None:
    """CVE-2019-11479."""
    peer = Peer.established(syn={"mss": 1})
    peer.connection.write(bytes(10_000))
    assert len(peer.hears()) <= 10


@pytest.mark.parametrize("flags", [0, FIN, SYN | FIN, SYN | FIN | RST | ACK, 0xFF])
def test_odd_flags_change_nothing(flags: int) -> None:
    peer = Peer.established()
    peer.delivers(TcpSegment(80, 40000, peer.iss + 1, (peer.isn + 1) % 2**32, flags & ~RST, 9, payload=b"x"))
    assert peer.is_in(State.ESTABLISHED)
    assert len(peer.hears()) <= 1


def test_no_flood_of_answers() -> None:
    peer = Peer.connecting()
    peer.hears()
    for ack in range(1000):
        peer.sends(f"0:{ack + 10} A")
    assert len(peer.hears()) <= 4


@pytest.mark.parametrize(("sack", "most"), [(True, 8), (False, 64)])
def test_no_flood_of_duplicate_acknowledgements(sack: bool, most: int) -> None:
    """What came out of order is answered one by one, but not without end where nobody takes the answers."""
    peer = Peer.established(syn={"sack_permitted": sack})
    for at in range(1000):
        peer.sends(f"{3 + 4 * at}:1 A", b"xx")
    assert most / 2 < len(peer.hears()) <= most
