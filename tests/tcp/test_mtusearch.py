"""The search for a segment size that arrives: downwards by what is answered, upwards by halves."""

from __future__ import annotations

import pytest

from usernet.tcp.mtusearch import BASE_MTU, ENOUGH, LEAST_MTU, MAX_PROBES, MtuSearch


def test_no_answer_is_an_outage() -> None:
    search = MtuSearch()
    assert search.lowered(1420, heard_at=10.0) == 0  # not asked yet
    search.asked_at = 20.0
    assert search.lowered(1420, heard_at=20.0) == 0
    assert not search.is_unproven
    assert search.lowered(1420, heard_at=20.1) == BASE_MTU
    assert search.is_unproven


def test_the_second_step_takes_two_answers() -> None:
    search = MtuSearch()
    search.asked_at = 20.0
    assert search.lowered(BASE_MTU, heard_at=20.1) == 0
    search.progressed()
    search.asked_at = 30.0
    assert search.lowered(BASE_MTU, heard_at=30.1) == 0
    assert search.lowered(BASE_MTU, heard_at=30.1) == LEAST_MTU


@pytest.mark.parametrize("passes", [1200, 1201, 1239, 1310, 1387, 1388])
def test_upwards(passes: int) -> None:
    """What the path takes is found but for 32 bytes, each size lost three times before that is believed."""
    search, mtu, lost = MtuSearch(0.0), 1200, dict[int, int]()
    while search.next_at == 0.0:
        size = search.candidate(mtu, 1420)
        search.sent(1, 1 + size, size)
        if size <= passes:
            search.arrived(0.0)
            mtu = size
        else:
            lost[size] = lost.get(size, 0) + 1
            assert search.failed(mtu, 0.0, 600.0) == (lost[size] == MAX_PROBES)
        assert not search.probe_mtu
    assert passes - ENOUGH < mtu <= passes
    assert set(lost.values()) == {MAX_PROBES}
    assert len(lost) <= 5
    assert search.next_at == 600.0
    assert search.candidate(mtu, 1420) == 1420  # then all of it again


def test_what_was_tried_before_the_path_changed_counts_no_more() -> None:
    search = MtuSearch(0.0)
    for _ in range(MAX_PROBES + 1):
        search.sent(1, 1421, 1420)
        search.failed(1200, 0.0, 600.0)
    search.narrowed(600.0)
    assert search.candidate(576, 1420) == 1420
    search.sent(1, 1421, 1420)
    assert not search.failed(576, 600.0, 600.0)
