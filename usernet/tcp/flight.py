"""What has been sent and is not acknowledged: when each part left, and what has become of it.  Read RFC 8985 5.2.

A run is what left together, at most a super-segment; runs are sorted, touch, and cover all from SND.UNA to SND.NXT
(SYN excepted).  Where nothing is lost a run comes and goes whole: one object for dozens of segments.  SACK and losses
cut runs, and only between the segments that were sent, so that there are never more runs than segments whatever blocks
a peer makes up (CVE-2019-11477).  Each acknowledgement may look at all runs, so there are never many either: what would
cut one too many is not noted, and that segment is sent again (CVE-2019-11478).
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import Final, NamedTuple

FLYING: Final = 0  # on its way, as far as we know
SACKED: Final = 1  # the peer holds it, and may still throw it away
LOST: Final = 2  # to be sent again

MAX_RUNS: Final = 4096  # a window of 8 MiB with every third segment lost

_start = attrgetter("start")


class Run:
    """[start, end) left at `at` (seconds); `again` says that it had left before."""

    __slots__ = ("again", "at", "end", "start", "state")

    def __init__(self, start: int, end: int, at: float, state: int = FLYING, again: bool = False) -> None:
        self.start = start
        self.end = end
        self.at = at
        self.state = state
        self.again = again


class Delivered(NamedTuple):
    """What an acknowledgement is news of: a run or a part of one, which left last at `at`."""

    start: int
    end: int
    at: float
    again: bool


class Flight:
    """Sequence numbers are unwrapped ones.  `sacked` and `lost` are sums of bytes; `again_below` is where the last run
    ends that was ever sent again."""

    __slots__ = ("again_below", "lost", "runs", "sacked")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.sacked = 0
        self.lost = 0
        self.again_below = 0

    def sent(self, start: int, end: int, now: float) -> None:
        """New data leaves."""
        self.runs.append(Run(start, end, now))

    def acknowledge(self, una: int) -> None:
        """Everything before `una` has arrived."""
        gone = 0
        for run in self.runs:
            if run.end > una:
                if run.start < una:
                    self._add(run.state, run.start - una)
                    run.start = una
                break
            if run.state:
                self._add(run.state, run.start - run.end)
            gone += 1
        del self.runs[:gone]

    def clear(self) -> None:
        """Nothing is outstanding any more, or nobody cares."""
        self.runs.clear()
        self.sacked = self.lost = 0

    def pipe(self, una: int, nxt: int) -> int:
        """Bytes thought to be in the network (RFC 6675 4)."""
        return nxt - una - self.sacked - self.lost

    # What has arrived

    def until(self, una: int) -> list[Delivered]:
        """What is not sacked before `una`, which is now acknowledged."""
        found = []
        for run in self.runs:
            if run.start >= una:
                break
            if run.state != SACKED:
                found.append(Delivered(run.start, min(run.end, una), run.at, run.again))
        return found

    def sack(self, start: int, end: int, mss: int) -> list[Delivered]:
        """The peer holds [start, end): what of it is news.  A part of a segment is as good as none of it."""
        runs = self.runs
        first = at = max(bisect_right(runs, start, key=_start) - 1, 0)
        found = []
        while at < len(runs) and runs[at].start < end:
            run = runs[at]
            if run.state != SACKED:
                low = max(run.start, run.start - (run.start - start) // mss * mss)
                high = run.end if end >= run.end else run.start + (end - run.start) // mss * mss
                if low < high and (len(runs) < MAX_RUNS or (low == run.start and high == run.end)):
                    at = self._cut_out(at, low, high)
                    run = runs[at]
                    found.append(Delivered(low, high, run.at, run.again))
                    self._set(run, SACKED)
            at += 1
        if found:
            self._join(max(first - 1, 0), min(at + 1, len(runs)))
        return found

    @property
    def sacked_end(self) -> int:
        """Behind the highest that is sacked; 0 when nothing is."""
        if self.sacked:
            for run in reversed(self.runs):
                if run.state == SACKED:
                    return run.end
        return 0

    def sacked_segments(self, mss: int) -> int:
        """How many at least: each range is one, however small."""
        ranges = sum(run.state == SACKED for run in self.runs) if self.sacked else 0
        return max(ranges, self.sacked // mss)

    # What is lost

    def lose(self, run: Run) -> None:
        """A run that is flying is not."""
        self._set(run, LOST)

    def lose_first(self, size: int) -> None:
        """The oldest `size` bytes, as far as they are one run's."""
        if self.runs and self.runs[0].state == FLYING:
            run = self.runs[0]
            self._cut_out(0, run.start, min(run.start + size, run.end))
            self.lose(self.runs[0])

    def renege(self) -> None:
        """The peer has thrown away what it had reported (RFC 2018 8)."""
        for run in self.runs:
            if run.state == SACKED:
                self._set(run, LOST)

    def find_all(self) -> None:
        """Nothing was lost after all.  What is flying again counts as sent anew, for it is older than what it seems."""
        for run in self.runs:
            if run.state == LOST:
                self._set(run, FLYING)

    def next_lost(self, most: int) -> tuple[int, int] | None:
        """The oldest lost range, of at most so many bytes (RFC 6675 4, NextSeg rule 1)."""
        if not self.lost:
            return None
        start = end = -1
        for run in self.runs:
            if run.state == LOST:
                if start < 0:
                    start = run.start
                end = run.end
                if end - start >= most:
                    return start, start + most
            elif start >= 0:
                break
        return start, end

    def last_segment(self, mss: int, end: int) -> tuple[int, int]:
        """The last bytes that were sent, with the FIN if that lies at `end`: alone a FIN behind a gap tells nobody."""
        run = self.runs[-1]
        if run.start >= end and len(self.runs) > 1:
            run = self.runs[-2]
        size = min(run.end, end) - run.start
        return run.start + max(size - 1, 0) // mss * mss, self.runs[-1].end

    def sent_again(self, start: int, end: int, now: float) -> None:
        """[start, end) leaves once more."""
        runs = self.runs
        at = bisect_right(runs, start, key=_start) - 1
        while at < len(runs) and runs[at].start < end:
            at = self._cut_out(at, max(start, runs[at].start), min(end, runs[at].end))
            run = runs[at]
            if run.state != SACKED:
                self._set(run, FLYING)
                run.at = now
                run.again = True
            at += 1
        self.again_below = max(self.again_below, end)

    # How

    def _add(self, state: int, size: int) -> None:
        if state == SACKED:
            self.sacked += size
        elif state == LOST:
            self.lost += size

    def _set(self, run: Run, state: int) -> None:
        size = run.end - run.start
        self._add(run.state, -size)
        self._add(state, size)
        run.state = state

    def _cut_out(self, at: int, start: int, end: int) -> int:
        """Make [start, end), which lies within run `at`, a run of its own; where it is then."""
        runs = self.runs
        run = runs[at]
        if run.end > end:
            runs.insert(at + 1, Run(end, run.end, run.at, run.state, run.again))
            run.end = end
        if run.start < start:
            runs.insert(at + 1, Run(start, run.end, run.at, run.state, run.again))
            run.end = start
            at += 1
        return at

    def _join(self, low: int, high: int) -> None:
        """Neighbours of runs low..high that are both sacked become one."""
        runs = self.runs
        for at in range(high - 1, low, -1):
            run, before = runs[at], runs[at - 1]
            if run.state == before.state == SACKED:
                before.end = run.end
                del runs[at]
