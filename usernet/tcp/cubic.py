"""CUBIC: the window is a cubic function of the time since the last loss.  Read RFC 9438 4.

It rises fast towards where the last loss was (W_max), is nearly flat around it, and then looks further and faster.  So
growth depends on time and not on round trips.  Where that gives less than Reno would have, Reno's estimate is followed.

The RFC counts windows in segments; here they are bytes, and C is multiplied by the segment size instead.
"""

from __future__ import annotations

from typing import Final

from usernet.tcp.congestion import Window

C: Final = 0.4  # RFC 9438 5: segments per second cubed
BETA: Final = 0.7  # RFC 9438 4.6
ALPHA: Final = 3 * (1 - BETA) / (1 + BETA)  # RFC 9438 4.3: with it Reno's rate is kept in spite of BETA > 0.5
FASTEST: Final = 1.5  # RFC 9438 4.2: the most that one round trip may multiply the window by

_NOT_BEGUN: Final = -1.0


class Cubic(Window):
    """RFC 9438.  The names of the fields are the RFC's."""

    __slots__ = ("_course", "_credit", "_cwnd_prior", "_grown_at", "_k", "_t_epoch", "_w_est", "_w_max")

    def __init__(self, mss: int, limit: int) -> None:
        super().__init__(mss, limit)
        self._course = (0.0, 0, _NOT_BEGUN, 0.0, 0.0)  # W_max, cwnd_prior, t_epoch, K, W_est before the latest loss
        self._w_max = 0.0  # 0.0: the stage that begins next has no loss to return to
        self._cwnd_prior = 0
        self._t_epoch = _NOT_BEGUN
        self._k = 0.0
        self._w_est = 0.0
        self._credit = 0.0  # the fraction of a byte by which cwnd should be larger
        self._grown_at = 0.0

    def on_timeout(self, in_flight: int) -> None:
        super().on_timeout(in_flight)
        self._w_max = 0.0  # RFC 9438 4.8

    def undo(self) -> None:
        if self._before is not None:  # RFC 9438 4.9
            self._w_max, self._cwnd_prior, self._t_epoch, self._k, self._w_est = self._course
        super().undo()

    def on_idle(self) -> None:
        super().on_idle()
        self._t_epoch = _NOT_BEGUN

    def _begin(self, now: float) -> None:
        """A stage of congestion avoidance: after fast recovery, or after a slow start (4.2; 4.8 and 4.10: K is 0)."""
        self._t_epoch = now
        self._credit = 0.0
        self._w_est = float(self.cwnd)
        if self._w_max > self.cwnd:
            self._k = ((self._w_max - self.cwnd) / (C * self._mss)) ** (1 / 3)  # figure 2
        else:
            self._k = 0.0
            self._w_max = float(self.cwnd)

    def _w_cubic(self, t: float) -> float:
        """Figure 1."""
        x = t - self._k
        return C * self._mss * x * x * x + self._w_max

    def _avoid_congestion(self, acked: int, now: float, srtt: float) -> None:
        cwnd = self.cwnd
        if self._t_epoch == _NOT_BEGUN:
            self._begin(now)
        elif now - self._grown_at > 2 * srtt:
            self._t_epoch += now - self._grown_at  # RFC 9438 5.8: time in which the window was not used
        self._grown_at = now
        t = now - self._t_epoch
        alpha = ALPHA if self._w_est < self._cwnd_prior else 1.0
        self._w_est += alpha * acked * self._mss / cwnd  # figure 4
        if self._w_cubic(t) < self._w_est:  # RFC 9438 4.3: the Reno-friendly region
            if self._w_est > cwnd:
                self.cwnd = int(self._w_est)
            return
        target = min(max(self._w_cubic(t + srtt), cwnd), FASTEST * cwnd)  # RFC 9438 4.2
        self._credit += (target - cwnd) * acked / cwnd  # RFC 9438 4.4, 4.5
        grown = int(self._credit)
        self._credit -= grown
        self.cwnd = cwnd + grown

    def _decrease(self, in_flight: int) -> int:
        cwnd = self.cwnd
        self._course = self._w_max, self._cwnd_prior, self._t_epoch, self._k, self._w_est
        # RFC 9438 4.7, fast convergence: who falls short of what he had makes room for newcomers.
        self._w_max = cwnd * (1 + BETA) / 2 if cwnd < self._w_max else float(cwnd)
        self._cwnd_prior = cwnd
        self._t_epoch = _NOT_BEGUN
        return int(in_flight * BETA)  # RFC 9438 4.6
