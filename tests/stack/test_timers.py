"""The wheel: by example, and against a sorted list."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from usernet.stack.timers import TICK, Timer, TimerWheel


def test_fires_never_early_and_at_most_a_tick_late() -> None:
    wheel, timer = TimerWheel(), Timer()
    wheel.schedule(timer, 5.003)
    at = wheel.next_timeout()
    assert at is not None
    assert 5.003 <= at <= 5.003 + TICK
    assert wheel.expire(at - 0.001) == []
    assert wheel.expire(at) == [timer]
    assert wheel.expire(at + 100) == []
    assert wheel.next_timeout() is None


def test_rescheduling_moves_it() -> None:
    wheel, timer = TimerWheel(), Timer()
    wheel.schedule(timer, 5)
    wheel.schedule(timer, 3)
    assert wheel.next_timeout() == 3
    wheel.schedule(timer, 7)
    assert wheel.next_timeout() == 7
    assert wheel.expire(6) == []
    assert wheel.expire(8) == [timer]


def test_cancelling_leaves_nothing_behind() -> None:
    wheel, timer = TimerWheel(), Timer()
    wheel.schedule(timer, 7200)
    wheel.cancel(timer)
    wheel.cancel(timer)
    assert wheel.next_timeout() is None
    assert len(wheel) == 0
    assert timer.deadline == math.inf


def test_a_deadline_in_the_past_fires_at_once() -> None:
    wheel, timer = TimerWheel(), Timer()
    wheel.schedule(timer, -1)
    assert wheel.expire(0) == [timer]


def test_moving_timers_about_does_not_grow_the_wheel() -> None:
    wheel, timer = TimerWheel(), Timer()
    for number in range(20_000):
        wheel.schedule(timer, 7200 + number)
        wheel.cancel(timer)
    wheel.schedule(timer, 9000)
    assert len(wheel._heap) < 2000
    assert wheel.next_timeout() == 9000


@given(st.floats(0, 1e7))
def test_any_time_can_be_cancelled(deadline: float) -> None:
    wheel, timer = TimerWheel(), Timer()
    wheel.schedule(timer, deadline)
    assert deadline <= timer.deadline + 1e-6
    wheel.cancel(timer)
    assert len(wheel) == 0


class AgainstASortedList(RuleBasedStateMachine):
    """The same calls to the wheel and to a dictionary that is sorted whenever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = TimerWheel()
        self.timers = [Timer() for _ in range(12)]
        self.oracle: dict[int, int] = {}  # timer -> tick
        self.now = 1000  # ticks

    @rule(number=st.integers(0, 11), delay=st.one_of(st.integers(0, 20), st.integers(0, 800_000)))
    def schedule(self, number: int, delay: int) -> None:
        # a hair before the tick's end: within the tick, whatever rounding does
        self.wheel.schedule(self.timers[number], (self.now + delay - 0.25) * TICK)
        self.oracle[number] = self.now + delay

    @rule(number=st.integers(0, 11))
    def cancel(self, number: int) -> None:
        self.wheel.cancel(self.timers[number])
        self.oracle.pop(number, None)

    @rule(ticks=st.one_of(st.integers(0, 30), st.integers(0, 900_000)))
    def advance(self, ticks: int) -> None:
        self.now += ticks
        self.expire()

    @precondition(lambda self: self.oracle)
    @rule()
    def advance_to_next(self) -> None:
        self.now = min(self.oracle.values())
        self.expire()

    def expire(self) -> None:
        due = self.wheel.expire((self.now + 0.25) * TICK)
        expected = {number for number, tick in self.oracle.items() if tick <= self.now}
        order = [self.oracle[self.timers.index(timer)] for timer in due]
        assert {self.timers.index(timer) for timer in due} == expected
        assert order == sorted(order)
        for number in expected:
            del self.oracle[number]

    @invariant()
    def the_next_is_the_earliest(self) -> None:
        at = self.wheel.next_timeout()
        if not self.oracle:
            assert at is None
        else:
            assert at is not None
            assert round(at / TICK) == min(self.oracle.values())
        assert len(self.wheel) == len(self.oracle)


TestAgainstASortedList = AgainstASortedList.TestCase
