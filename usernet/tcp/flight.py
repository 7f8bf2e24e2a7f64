"""What has been sent and is not acknowledged: when each part left, and what has become of it.  Read RFC 8985 5.2.

A run is what left together, at most a super-segment; runs are sorted, touch, and cover all from SND.UNA to SND.NXT
(SYN excepted).  Where nothing is lost a run comes and goes whole: one object for dozens of segments.  SACK and losses
cut runs, and only between the segments that were sent, so that there are never more runs than segments whatever blocks
a peer makes up (CVE-2019-11477).  An acknowledgement may look at all runs, so SACK makes never many either: what would
cut one too many is not noted, and that segment is sent again (CVE-2019-11478).

Most acknowledgements look at few, though there be thousands: two heaps know where the oldest loss is and what of what
was sent again is overdue.  Their entries outlive what they are about, and are thrown away where they come up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final, NamedTuple

FLYING: Final = 0  # on its way, as far as we know
SACKED: Final = 1  # the peer holds it, and may still throw it away
LOST: Final = 2  # to be sent again

_NEVER: Final = float("inf")

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


class _Marks:
    """What finds the runs that something has become of."""

    __slots__ = ("again", "fresh", "losses", "sacked_runs")

    def __init__(self) -> None:
        self.losses: list[int] = []  # a heap: where each lost run starts
        self.again: list[tuple[float, int, int]] = []  # a heap: (at, start, end) of what was sent again
        self.fresh = 0  # before that, nothing is flying for the first time
        self.sacked_runs = 0


class Flight:
    """Sequence numbers are unwrapped ones.  `sacked` and `lost` are sums of bytes; `again_below` is where the last run
    ends that was ever sent again."""

    __slots__ = ("_marks", "again_below", "lost", "runs", "sacked")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.sacked = 0
        self.lost = 0
        self.again_below = 0
        self._marks: _Marks | None = None

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
                self._set(run, FLYING)
            gone += 1
        del self.runs[:gone]
        if self._marks is not None and not self.runs:
            self._marks = None

    def clear(self) -> None:
        """Nothing is outstanding any more, or nobody cares."""
        self.runs.clear()
        self.sacked = self.lost = 0
        self._marks = None

    def pipe(self, una: int, nxt: int) -> int:
        """Bytes thought to be in the network (RFC 6675 4)."""
        return nxt - una - self.sacked - self.lost

    def left_at(self, seq: int) -> float:
        """When what is outstanding at `seq` left last."""
        return self.runs[bisect_right(self.runs, seq, key=_start) - 1].at

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
        first = at = self._index(start)
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

    def sacked_segments(self, mss: int) -> int:
        """How many at least: each range is one, however small."""
        return max(self._marks.sacked_runs, self.sacked // mss) if self._marks is not None else 0

    # What is lost

    def lose(self, run: Run) -> None:
        """A run that is flying is not."""
        self._set(run, LOST)
        heappush(self._marked().losses, run.start)

    def lose_overdue(self, newest: tuple[float, int], late: float, until: float) -> float:
        """What left before `newest` (when, and where it ends) is lost when that is `late` seconds before `until`; when
        the next would be."""
        runs, marks = self.runs, self._marked()
        again = marks.again
        next_at = _NEVER
        at = self._index(marks.fresh)
        while at < len(runs):
            run = runs[at]
            if run.state == FLYING and not run.again:
                if (run.at, run.end) > newest:
                    break
                if run.at + late > until:
                    next_at = run.at + late
                    break
                self.lose(run)
            at += 1
        if runs:
            marks.fresh = runs[at].start if at < len(runs) else runs[-1].end
        while again and again[0][:2] < newest:
            sent_at, start, end = again[0]
            for run in self._within(start, end):
                if run.state == FLYING and run.at == sent_at:
                    if (sent_at, run.end) > newest:
                        return next_at
                    if sent_at + late > until:
                        return min(next_at, sent_at + late)
                    self.lose(run)
            heappop(again)
        return next_at

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
                self.lose(run)

    def find_all(self) -> None:
        """Nothing was lost after all."""
        marks = self._marked()
        for run in self.runs:
            if run.state == LOST:
                self._set(run, FLYING)
                if run.again:
                    heappush(marks.again, (run.at, run.start, run.end))
        marks.losses.clear()
        marks.fresh = 0

    def next_lost(self, most: int) -> tuple[int, int] | None:
        """The oldest lost range, of at most so many bytes (RFC 6675 4, NextSeg rule 1)."""
        if not self.lost:
            return None
        runs, losses = self.runs, self._marked().losses
        while runs[at := self._index(losses[0])].state != LOST:
            heappop(losses)
        start = end = runs[at].start
        while at < len(runs) and runs[at].state == LOST and end - start < most:
            end = runs[at].end
            at += 1
        return start, min(end, start + most)

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
        at = self._index(start)
        while at < len(runs) and runs[at].start < end:
            if runs[at].state != SACKED:
                at = self._cut_out(at, max(start, runs[at].start), min(end, runs[at].end))
                run = runs[at]
                self._set(run, FLYING)
                run.at = now
                run.again = True
            at += 1
        self.again_below = max(self.again_below, end)
        heappush(self._marked().again, (now, start, end))

    # How

    def _marked(self) -> _Marks:
        if self._marks is None:
            self._marks = _Marks()
        return self._marks

    def _index(self, at: int) -> int:
        """Of the run that holds this number, or the first."""
        return max(bisect_right(self.runs, at, key=_start) - 1, 0)

    def _within(self, start: int, end: int) -> Iterator[Run]:
        runs = self.runs
        for at in range(self._index(start), len(runs)):
            if runs[at].start >= end:
                break
            yield runs[at]

    def _add(self, state: int, size: int) -> None:
        if state == SACKED:
            self.sacked += size
        elif state == LOST:
            self.lost += size

    def _set(self, run: Run, state: int) -> None:
        size = run.end - run.start
        self._add(run.state, -size)
        self._add(state, size)
        self._marked().sacked_runs += (state == SACKED) - (run.state == SACKED)
        run.state = state

    def _cut_out(self, at: int, start: int, end: int) -> int:
        """Make [start, end), which lies within run `at`, a run of its own; where it is then."""
        if self.runs[at].end > end:
            self._cut(at, end)
        if self.runs[at].start < start:
            self._cut(at, start)
            at += 1
        return at

    def _cut(self, at: int, where: int) -> None:
        run = self.runs[at]
        self.runs.insert(at + 1, Run(where, run.end, run.at, run.state, run.again))
        run.end = where
        if run.state == LOST:
            heappush(self._marked().losses, where)

    def _join(self, low: int, high: int) -> None:
        """Neighbours of runs low..high that are both sacked become one."""
        joined: list[Run] = []
        for run in self.runs[low:high]:
            if joined and run.state == joined[-1].state == SACKED:
                joined[-1].end = run.end
                self._marked().sacked_runs -= 1
            else:
                joined.append(run)
        self.runs[low:high] = joined
