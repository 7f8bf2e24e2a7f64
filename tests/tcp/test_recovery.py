"""The scoreboard against a plain model, and RFC 6675's rules one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usernet.tcp.recovery import Phase, Recovery

MSS = 10


def board(*blocks: tuple[int, int], una: int = 0) -> Recovery:
    recovery = Recovery(una)
    for block in blocks:
        recovery.mark_sacked(*block, 99)
    return recovery


def test_blocks_merge() -> None:
    recovery = board((10, 20), (30, 40), (20, 25), (50, 60), (24, 55))
    assert list(zip(recovery.starts, recovery.ends, strict=True)) == [(10, 60)]


def test_lost_is_what_has_three_segments_above_it() -> None:
    recovery = board((10, 30))
    assert not recovery.detect(0, MSS)  # two segments are reordering
    recovery.mark_sacked(30, 40, 99)
    assert recovery.detect(0, MSS)
    assert recovery.lost_below == 10


def test_lost_is_what_has_three_blocks_above_it() -> None:
    recovery = board((10, 11), (20, 21))
    assert not recovery.detect(0, MSS)
    recovery.mark_sacked(30, 31, 99)
    assert recovery.detect(0, MSS)
    assert recovery.lost_below == 10
    assert recovery.next_hole(0) == (0, 10)


def test_holes_are_sent_once_each() -> None:
    recovery = board((10, 20), (30, 70))
    recovery.detect(0, MSS)
    recovery.enter_fast(0, 100)
    assert recovery.pipe(0, 100, MSS) == 30  # 70..100; both holes are lost
    holes = []
    while (hole := recovery.next_hole(0)) is not None:
        holes.append(hole)
        recovery.resent(hole[1], 100, 1.0)
    assert holes == [(0, 10), (20, 30)]
    assert recovery.pipe(0, 100, MSS) == 50


def test_a_lost_retransmission_shows_by_what_was_sent_after_it() -> None:
    recovery = board((10, 50))
    recovery.detect(0, MSS)
    recovery.enter_fast(0, 60)
    recovery.resent(10, 60, 1.0)
    recovery.mark_sacked(60, 80, 99)  # new data; might still be reordering
    recovery.detect(0, MSS)
    assert recovery.next_hole(0) is None
    recovery.mark_sacked(80, 90, 99)
    recovery.detect(0, MSS)
    assert recovery.next_hole(0) == (0, 10)
    recovery.resent(10, 90, 2.0)
    recovery.detect(0, MSS)
    assert recovery.next_hole(0) == (50, 60)


def test_recovery_ends_at_the_point() -> None:
    recovery = board((10, 50))
    recovery.detect(0, MSS)
    recovery.enter_fast(0, 60)
    recovery.advance(50)
    assert recovery.phase == Phase("fast recovery")
    assert not recovery.is_idle(50)
    recovery.advance(60)
    assert recovery.phase == Phase("open")
    assert recovery.is_idle(60)


def test_a_time_out_loses_all_but_what_is_sacked() -> None:
    recovery = board((10, 20))
    recovery.lose_all(0, 50)
    assert recovery.next_hole(0) == (0, 10)
    recovery.resent(10, 50, 1.0)
    assert recovery.next_hole(0) == (20, 50)
    assert recovery.pipe(0, 50, MSS) == 10


def test_a_peer_that_reneges_is_sent_everything() -> None:
    recovery = board((10, 20), una=0)
    recovery.lose_all(10, 50)  # acknowledged up to 10, so it no longer has 10..20
    assert recovery.next_hole(10) == (10, 50)


def test_the_scoreboard_is_bounded() -> None:
    recovery = Recovery(0)
    for at in range(0, 10_000, 2):
        recovery.mark_sacked(at + 1, at + 2, 512)
    assert len(recovery.starts) == 512
    recovery.mark_sacked(1, 9999, 512)  # still merges
    assert recovery.starts == [1]


@given(
    st.lists(st.tuples(st.integers(1, 99), st.integers(1, 30)), max_size=12),
    st.integers(0, 50),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_against_a_set_of_bytes(blocks: list[tuple[int, int]], una: int, lost: int, resent: int) -> None:
    recovery = Recovery(0)
    held: set[int] = set()
    for start, size in blocks:
        end = min(start + size, 100)
        recovery.mark_sacked(start, end, 99)
        held |= set(range(start, end))
    while una in held:
        una += 1
    recovery.advance(una)
    held = {at for at in held if at >= una}
    recovery.lost_below, recovery.resent_to = lost, resent
    gone = {at for at in range(max(una, resent), lost) if at not in held}
    flying = len(set(range(una, 100)) - held - gone)
    assert recovery.pipe(una, 100, MSS) == flying
    hole = recovery.next_hole(una)
    if gone:
        assert hole is not None
        assert hole[0] == min(gone)
        assert set(range(*hole)) <= gone
        assert hole[1] not in gone
    else:
        assert hole is None
