"""The runs of what is outstanding, against a plain model of single bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from usernet.tcp.flight import FLYING, LOST, MAX_RUNS, SACKED, Flight

MSS = 10


def flight(*sends: int) -> Flight:
    """Super-segments of these sizes from 0 on, a second apart."""
    found, at = Flight(), 0
    for when, size in enumerate(sends):
        found.sent(at, at + size, float(when))
        at += size
    return found


def shape(found: Flight) -> list[tuple[int, int, int]]:
    return [(run.start, run.end, run.state) for run in found.runs]


def test_sack_cuts_a_run_between_its_segments() -> None:
    found = flight(50)
    assert [news[:2] for news in found.sack(20, 40, MSS)] == [(20, 40)]
    assert shape(found) == [(0, 20, FLYING), (20, 40, SACKED), (40, 50, FLYING)]
    assert found.sack(20, 40, MSS) == []  # no news
    assert found.pipe(0, 50) == 30


def test_a_part_of_a_segment_is_none_of_it() -> None:
    found = flight(50)
    assert found.sack(21, 29, MSS) == []
    assert [news[:2] for news in found.sack(15, 45, MSS)] == [(20, 40)]


def test_the_last_segment_may_be_short() -> None:
    found = flight(25)
    assert [news[:2] for news in found.sack(20, 25, MSS)] == [(20, 25)]


def test_the_last_segment_takes_the_fin_along() -> None:
    assert flight(25).last_segment(MSS, 25) == (20, 25)
    assert flight(21).last_segment(MSS, 20) == (10, 21)  # sent with it
    assert flight(20, 1).last_segment(MSS, 20) == (10, 21)  # sent behind it
    assert flight(1).last_segment(MSS, 0) == (0, 1)  # nothing else is outstanding


def test_sacked_neighbours_become_one() -> None:
    found = flight(30, 30, 30)
    found.sack(20, 40, MSS)
    found.sack(40, 90, MSS)
    assert shape(found) == [(0, 20, FLYING), (20, 90, SACKED)]


def test_lost_ranges_go_again_once_each() -> None:
    found = flight(60)
    found.sack(20, 40, MSS)
    for run in list(found.runs):
        if run.state == FLYING:
            found.lose(run)
    assert found.next_lost(15) == (0, 15)
    assert found.next_lost(100) == (0, 20)
    found.sent_again(0, 20, 9.0)
    assert found.next_lost(100) == (40, 60)
    assert found.lost == 20
    assert found.runs[0].again
    assert found.runs[0].at == 9.0


def test_a_peer_that_reneges_is_sent_everything() -> None:
    found = flight(50)
    found.sack(20, 40, MSS)
    found.renege()
    assert (found.sacked, found.lost) == (0, 20)


def test_a_long_scoreboard_still_notes_what_cuts_nothing() -> None:
    found = flight(*[MSS] * (MAX_RUNS - 1), 2 * MSS)
    end = MAX_RUNS * MSS
    assert found.sack(end - MSS, end, MSS) == []
    assert [news[:2] for news in found.sack(MSS, 2 * MSS, MSS)] == [(MSS, 2 * MSS)]
    assert [news[:2] for news in found.sack(end - MSS, end + MSS, MSS)] == [(end - MSS, end + MSS)]


VERBS = st.sampled_from(["send", "ack", "sack", "lose", "again", "find", "first", "overdue", "renege"])


@given(st.lists(st.tuples(VERBS, st.integers(0, 60), st.integers(1, 45)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_against_single_bytes(steps: list[tuple[str, int, int]]) -> None:
    found, una, nxt = Flight(), 0, 0
    state: dict[int, int] = {}
    for now, (verb, offset, size) in enumerate(steps):
        low, high = min(una + offset, nxt), min(una + offset + size, nxt)
        if verb == "send":
            found.sent(nxt, nxt + size, now)
            state |= dict.fromkeys(range(nxt, nxt + size), FLYING)
            nxt += size
        elif verb == "ack":
            una = low
            found.acknowledge(una)
            state = {at: what for at, what in state.items() if at >= una}
        elif verb == "sack" and low < high:
            for news in found.sack(low, high, MSS):
                assert all(state[at] != SACKED for at in range(news.start, news.end))
                assert low <= news.start < news.end <= high
                state |= dict.fromkeys(range(news.start, news.end), SACKED)
        elif verb == "lose" and found.runs:
            run = found.runs[offset % len(found.runs)]
            if run.state == FLYING:
                found.lose(run)
                state |= dict.fromkeys(range(run.start, run.end), LOST)
        elif verb == "again" and (lost := found.next_lost(size)) is not None:
            assert lost[0] == min(at for at, what in state.items() if what == LOST)
            assert lost[1] - lost[0] <= size
            assert all(state[at] == LOST for at in range(*lost))
            found.sent_again(*lost, now)
            state |= dict.fromkeys(range(*lost), FLYING)
        elif verb == "find":
            found.find_all()
            state = {at: FLYING if what == LOST else what for at, what in state.items()}
        elif verb == "first" and found.runs and found.runs[0].state == FLYING:
            end = min(found.runs[0].end, una + MSS)
            found.lose_first(MSS)
            state |= dict.fromkeys(range(una, end), LOST)
        elif verb == "overdue" and found.runs:
            newest = found.runs[offset % len(found.runs)]
            before = [run for run in found.runs if run.state == FLYING and (run.at, run.end) <= (newest.at, newest.end)]
            late = [run for run in before if run.at + size / 3 <= now]
            again_at = found.lose_overdue((newest.at, newest.end), size / 3, now)
            for run in late:
                state |= dict.fromkeys(range(run.start, run.end), LOST)
            assert again_at == min((run.at + size / 3 for run in before if run not in late), default=float("inf"))
        elif verb == "renege":
            found.renege()
            state = {at: LOST if what == SACKED else what for at, what in state.items()}
        assert found.sacked_segments(1 << 60) == sum(run.state == SACKED for run in found.runs)
        assert [at for run in found.runs for at in range(run.start, run.end)] == list(range(una, nxt))
        assert all(state[at] == run.state for run in found.runs for at in range(run.start, run.end))
        assert found.sacked == sum(what == SACKED for what in state.values())
        assert found.lost == sum(what == LOST for what in state.values())
        assert found.pipe(una, nxt) == sum(what == FLYING for what in state.values())
