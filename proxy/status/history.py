"""What the tunnel has carried of late: samples of the peers' counters -> rates, and points for charts.

A machine without a clock: times are seconds of any steady one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

KEPT: Final = 300.0  # s
WINDOW: Final = 1.5  # s over which a rate is taken at least: shorter ones jump about

Counts = Mapping[str, tuple[int, int]]  # received and sent bytes, by whom


class Point(NamedTuple):
    """What it was between the sample before and this one."""

    at: float
    rx_rate: float
    tx_rate: float
    streams: int


class _Sample(NamedTuple):
    at: float
    counts: Counts


class History:
    """Rates are those of the samples; counters that begin anew count as they are."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque()
        self._samples: deque[_Sample] = deque()  # those that rates are taken from

    def take(self, now: float, counts: Counts, streams: int) -> None:
        """One more sample."""
        if self._samples:
            before = self._samples[-1]
            passed = now - before.at
            if passed <= 0.0:
                return
            deltas = [_delta(before.counts.get(who), after) for who, after in counts.items()]
            rx, tx = sum(delta[0] for delta in deltas), sum(delta[1] for delta in deltas)
            self._points.append(Point(now, rx / passed, tx / passed, streams))
        self._samples.append(_Sample(now, counts))
        while len(self._samples) > 2 and now - self._samples[1].at >= WINDOW:
            self._samples.popleft()
        while self._points and now - self._points[0].at > KEPT:
            self._points.popleft()

    @property
    def points(self) -> Sequence[Point]:
        """The oldest first."""
        return tuple(self._points)

    def rates(self) -> dict[str, tuple[float, float]]:
        """Received and sent, of everybody in the last sample."""
        if len(self._samples) < 2:
            return {}
        first, last = self._samples[0], self._samples[-1]
        passed = last.at - first.at
        found = {}
        for who, after in last.counts.items():
            rx, tx = _delta(first.counts.get(who), after)
            found[who] = (rx / passed, tx / passed)
        return found


def _delta(before: tuple[int, int] | None, after: tuple[int, int]) -> tuple[int, int]:
    """`before` None: there was none, and what it has counted may be older than the samples."""
    if before is None:
        return 0, 0
    if after[0] < before[0] or after[1] < before[1]:
        return after
    return after[0] - before[0], after[1] - before[1]


class StreamRates:
    """Rates of those streams that are looked at, from look to look."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[float, int, int, float, float]] = {}

    def update(self, now: float, streams: Mapping[object, tuple[int, int]]) -> dict[object, tuple[float, float]]:
        """`streams`: up and down bytes by an identity.  Those that are not among them are forgotten."""
        known = {}
        for identity, (up, down) in streams.items():
            at, up_before, down_before, up_rate, down_rate = self._known.get(identity, (now, up, down, 0.0, 0.0))
            passed = now - at
            if passed >= WINDOW / 2:
                up_rate, down_rate = (up - up_before) / passed, (down - down_before) / passed
                at, up_before, down_before = now, up, down
            known[identity] = (at, up_before, down_before, max(0.0, up_rate), max(0.0, down_rate))
        self._known = known
        return {identity: one[3:] for identity, one in known.items()}
