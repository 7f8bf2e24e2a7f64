"""Memory that a crowd took is given back once, when it has left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy import memory
from proxy.memory import CROWD, QUIET, Relief


class Timer:
    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.delay = delay
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay, callback))
        return self.timers[-1]


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    done: list[None] = []
    monkeypatch.setattr(memory, "trim", lambda: done.append(None))
    return done


def leave(relief: Relief, of: int, down_to: int = 0) -> None:
    for left in reversed(range(down_to, of)):
        relief.ended(left)


def test_a_crowd_leaves(trims: list[None]) -> None:
    loop = Loop()
    relief = Relief(loop)  # type: ignore[arg-type]
    leave(relief, CROWD, CROWD // 4)
    assert not loop.timers  # too many are there still
    leave(relief, CROWD // 4)
    [timer] = loop.timers
    assert timer.delay == QUIET
    assert not trims
    timer.callback()
    assert len(trims) == 1
    for _ in range(3):
        leave(relief, CROWD // 4)
    assert len(loop.timers) == 1
    leave(relief, 2 * CROWD)
    assert len(loop.timers) == 2
    relief.close()
    assert loop.timers[-1].cancelled


def test_a_few_leave() -> None:
    loop = Loop()
    relief = Relief(loop)  # type: ignore[arg-type]
    leave(relief, CROWD - 1)
    assert not loop.timers
    relief.close()


def test_where_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    assert memory.trim() in (True, False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert memory.trim() is False
