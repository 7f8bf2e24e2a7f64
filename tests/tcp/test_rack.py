"""RFC 8985 6.2, step by step, without a connection."""

from __future__ import annotations

import pytest

from usernet.tcp.flight import LOST, Flight
from usernet.tcp.rack import PERSISTENCE, Rack
from usernet.tcp.rtt import RttEstimator

MSS = 10
RTT = 0.1


def stage(segments: int) -> tuple[Flight, Rack, RttEstimator]:
    """Segments that left a millisecond after each other, from time 0 on."""
    flight, rtt = Flight(), RttEstimator()
    rtt.sample(RTT)
    for at in range(segments):
        flight.sent(at * MSS, (at + 1) * MSS, at / 1000)
    return flight, Rack(0), rtt


def sack(flight: Flight, rack: Rack, rtt: RttEstimator, segment: int, now: float) -> None:
    news = flight.sack(segment * MSS, (segment + 1) * MSS, MSS)
    rack.arrived(news, rtt, now, 0.0, is_sack=True)


def look(flight: Flight, rack: Rack, rtt: RttEstimator, now: float) -> tuple[list[int], float]:
    again_at = rack.detect(flight, now, rack.window(flight, rtt, MSS, is_recovering=False))
    return [run.start // MSS for run in flight.runs if run.state == LOST], again_at


def test_what_is_overtaken_by_one_waits_a_quarter_of_a_round_trip() -> None:
    flight, rack, rtt = stage(4)
    sack(flight, rack, rtt, 1, 0.101)
    lost, again_at = look(flight, rack, rtt, 0.101)
    assert lost == []
    assert again_at == pytest.approx(0.0 + 0.1 + RTT / 4)  # it left at 0, the other took 0.1
    assert look(flight, rack, rtt, again_at) == ([0], float("inf"))


def test_what_left_later_is_not_lost() -> None:
    flight, rack, rtt = stage(4)
    sack(flight, rack, rtt, 1, 0.101)
    assert look(flight, rack, rtt, 9.0)[0] == [0]


def test_three_segments_are_enough_while_nothing_was_reordered() -> None:
    flight, rack, rtt = stage(5)
    for segment in (1, 2, 3):
        sack(flight, rack, rtt, segment, 0.1)
    assert look(flight, rack, rtt, 0.1035)[0] == [0]


def test_where_packets_overtake_each_other_three_are_not_enough() -> None:
    flight, rack, rtt = stage(6)
    sack(flight, rack, rtt, 4, 0.104)
    sack(flight, rack, rtt, 2, 0.105)
    assert rack.reordering_seen
    sack(flight, rack, rtt, 3, 0.105)
    assert look(flight, rack, rtt, 0.106)[0] == []


def test_the_window_grows_once_a_round_trip_and_is_forgotten_in_the_end() -> None:
    flight, rack, rtt = stage(4)
    sizes = []
    for una, nxt in ((0, 40), (20, 50), (40, 90), (90, 100)):
        rack.was_wrong(una, nxt)
        sizes.append(rack.window(flight, rtt, MSS, is_recovering=False))
    assert sizes == pytest.approx([0.05, 0.05, 0.075, 0.1])
    rack.was_wrong(100, 110)
    assert rack.window(flight, rtt, MSS, is_recovering=False) == pytest.approx(rtt.srtt)  # and no further
    for _ in range(PERSISTENCE):
        rack.recovered()
    assert rack.window(flight, rtt, MSS, is_recovering=False) == pytest.approx(RTT / 4)


def test_a_retransmission_that_is_lost_too_shows_by_what_left_after_it() -> None:
    flight, rack, rtt = stage(4)
    for segment in (1, 2, 3):
        sack(flight, rack, rtt, segment, 0.1)
    assert look(flight, rack, rtt, 0.1035)[0] == [0]
    flight.sent_again(0, MSS, 0.104)
    flight.sent(40, 50, 0.105)
    sack(flight, rack, rtt, 4, 0.205)
    assert look(flight, rack, rtt, 0.206)[0] == [0]


def test_the_answer_to_what_had_been_sent_before_says_nothing_of_the_retransmission() -> None:
    flight, rack, rtt = stage(2)
    flight.sent_again(10, 20, 0.1)
    sack(flight, rack, rtt, 1, 0.11)  # sooner than any round trip
    assert look(flight, rack, rtt, 9.0)[0] == []
