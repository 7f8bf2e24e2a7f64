"""Reassembly against a plain model, its bounds, and the blocks it reports."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from usernet.tcp import chunks
from usernet.tcp.reassembly import Reassembly
from usernet.tcp.receiver import Receiver

STREAM = bytes(range(256)) * 2


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 60)), max_size=30), st.integers(0, 60))
def test_in_any_order_and_overlap(segments: list[tuple[int, int]], filled: int) -> None:
    queue = Reassembly()
    held: set[int] = set()
    for start, size in segments:
        again = sorted(held & set(range(start, start + size)))
        overlap = queue.overlap(start, start + size)
        assert (overlap is None) is (not again)
        if overlap is not None:
            assert overlap[0] == again[0]
            assert held.issuperset(range(*overlap))
            assert overlap[1] == start + size or overlap[1] not in held
        assert queue.insert(start, STREAM[start : start + size], 99)
        held |= set(range(start, start + size))
    blocks = list(zip(queue.starts, queue.ends, strict=True))
    assert {at for start, end in blocks for at in range(start, end)} == held
    assert all(end < start for (_, end), (start, _) in pairwise(blocks))
    for (start, end), block in zip(blocks, queue.chunks, strict=True):
        assert b"".join(block) == STREAM[start:end]
    at, delivered = queue.pop_until(filled)
    end = filled
    while end in held:
        end += 1
    assert at == end
    assert b"".join(delivered) == STREAM[filled:end]
    assert all(start > end for start in queue.starts)


def test_the_newest_block_comes_first() -> None:
    queue = Reassembly()
    for start in (10, 30, 50, 70):
        queue.insert(start, b"x" * 5, 9)
    assert queue.sack_blocks() == [(70, 75), (50, 55), (30, 35), (10, 15)]
    assert queue.fresh == 4
    queue.fresh = 0
    queue.insert(35, b"y", 9)
    assert queue.sack_blocks()[:2] == [(30, 36), (70, 75)]
    assert queue.fresh == 1


def test_gaps_are_bounded() -> None:
    queue = Reassembly()
    kept = sum(queue.insert(at, b"x", 256) for at in range(0, 2000, 2))
    assert kept == len(queue.starts) == 256
    assert queue.insert(1, b"x", 256)  # what closes a gap is still welcome


def test_single_bytes_do_not_become_objects() -> None:
    for order in (range(4000), range(3999, -1, -1)):
        queue = Reassembly()
        for at in order:
            queue.insert(1 + at, b"x", 2000)
        assert len(queue.chunks) == 1
        assert len(queue.chunks[0]) <= 5


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=8), st.integers(0, 9000))
def test_chunks(parts: list[bytes], count: int) -> None:
    run: list[bytes] = []
    for part in parts:
        chunks.append(run, part)
    whole = b"".join(parts)
    assert b"".join(run) == whole
    more: list[bytes] = [b"head"]
    chunks.extend(more, run)
    assert b"".join(more) == b"head" + whole
    chunks.drop(run, count)
    assert b"".join(run) == whole[count:]


def test_duplicates_to_report_are_bounded() -> None:
    receiver = Receiver(65536, 65536, 1000)
    receiver.start(0, 0, 1000, sack=True)
    receiver.deliver(bytes(60_000))
    for at in range(1, 50_000, 100):
        receiver.note_duplicate(at, at + 50)
    reports = receiver.reports(4)
    assert len(reports) == 16
    assert reports[0] == [(1, 51)]
    assert not receiver.has_reports
