"""What came out of order.  Read RFC 2018 4 (which blocks to report), RFC 9293 3.10.7.4 (what is kept).

Blocks are disjoint, sorted and never touch; each holds the chunks of its bytes.  Both the number of blocks and, by
joining small chunks, the number of objects per byte are bounded, whatever sizes a peer chooses to send
(CVE-2018-5390).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from usernet.tcp.chunks import append, drop, extend

_MAX_RECENT: Final = 32


class Reassembly:
    """Sequence numbers are unwrapped ones.  Lives only while there is a gap."""

    __slots__ = ("_recent", "chunks", "ends", "fresh", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.chunks: list[list[bytes]] = []
        self._recent: list[int] = []  # where segments lately began, newest first
        self.fresh = 0  # how many of those no ACK has reported yet

    def insert(self, start: int, data: bytes, most: int) -> bool:
        """Keep data beyond a gap, unless that makes more than `most` blocks.  What is held wins over what overlaps."""
        end = start + len(data)
        starts, ends = self.starts, self.ends
        first = bisect_left(ends, start)
        behind = bisect_right(starts, end)
        if first == behind:
            if len(starts) >= most:
                return False
            starts.insert(first, start)
            ends.insert(first, end)
            self.chunks.insert(first, [data])
        elif first + 1 == behind and starts[first] <= start:  # the usual case: one block grows at its end
            if end > ends[first]:
                append(self.chunks[first], data[ends[first] - start :])
                ends[first] = end
        else:
            self._merge(first, behind, start, data)
        self._note(start)
        return True

    def _merge(self, first: int, behind: int, start: int, data: bytes) -> None:
        """Fill the gaps in and around the blocks first..behind with data."""
        starts, ends = self.starts, self.ends
        at, end = start, start + len(data)
        merged: list[bytes] = []
        for index in range(first, behind):
            if at < starts[index]:
                append(merged, data[at - start : starts[index] - start])
            extend(merged, self.chunks[index])
            at = ends[index]
        if at < end:
            append(merged, data[at - start :])
        starts[first:behind] = [min(start, starts[first])]
        ends[first:behind] = [max(at, end)]
        self.chunks[first:behind] = [merged]

    def overlap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first of [start, end) that is held already."""
        at = bisect_right(self.ends, start)
        if at < len(self.starts) and self.starts[at] < end:
            return max(start, self.starts[at]), min(end, self.ends[at])
        return None

    def _note(self, start: int) -> None:
        recent = self._recent
        if recent and self._block_of(recent[0]) == self._block_of(start):
            self.fresh = max(self.fresh, 1)
            return
        recent.insert(0, start)
        del recent[_MAX_RECENT:]
        self.fresh = min(self.fresh + 1, _MAX_RECENT)

    def _block_of(self, seq: int) -> int:
        """Index of the block that holds seq, or -1."""
        index = bisect_right(self.starts, seq) - 1
        return index if index >= 0 and seq < self.ends[index] else -1

    def sack_blocks(self) -> list[tuple[int, int]]:
        """All blocks worth reporting, that of the newest segment first, then the next newest (RFC 2018 4)."""
        found: dict[int, None] = {}
        for seq in self._recent:
            if (index := self._block_of(seq)) >= 0:
                found[index] = None
        return [(self.starts[index], self.ends[index]) for index in found]

    def pop_until(self, seq: int) -> tuple[int, list[bytes]]:
        """What is in order now that everything before `seq` has come: (the sequence number behind it, chunks)."""
        chunks: list[bytes] = []
        while self.starts and self.starts[0] <= seq:
            end, block = self.ends.pop(0), self.chunks.pop(0)
            overlap = seq - self.starts.pop(0)
            if end > seq:
                drop(block, overlap)
                extend(chunks, block)
                seq = end
        return seq, chunks
