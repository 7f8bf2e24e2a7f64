"""Sees whether the event loop still turns, and whether what the control side asked of the engine comes to an end.

Where it does not, a restart is better than a tunnel that stands still: everything there is to know of it is written to
the log (the calls in flight, the stacks of tasks and threads), and the process aborts, for its supervisor to start it
anew.  A thread does the looking.  Time counts by its own rounds, each as long as it should have been at the most, so
that a suspend, a SIGSTOP or a machine that stood still is nobody's fault.  Nothing is done under a debugger.

Python code that never lets go of the interpreter stops this thread, too; then it is systemd's watchdog that misses
`on_beat`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from proxy.daemon.process import log
from proxy.daemon.stacks import task_stacks

LIMIT: Final = 45.0  # s
ROUNDS: Final = 9  # looks within the limit
REPORT_SECONDS: Final = 5.0  # for each of the two reports: a log that nobody reads must not keep us from the end
STANDARD_ERROR: Final = 2
DEBUGGERS: Final = ("bdb", "pydevd")


class Call:
    """One of those in flight."""

    __slots__ = ("name", "waited")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waited = 0.0  # s

    def __str__(self) -> str:
        return f"{self.name} ({self.waited:.0f} s)"


class Watchdog:
    """`on_beat` is called from the loop, at least once in `interval` s: it proves that the loop turns."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        limit: float = LIMIT,
        on_beat: Callable[[], None] | None = None,
        interval: float | None = None,
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._on_beat = on_beat
        self._step = min(limit / ROUNDS, interval or limit)
        self._loop_call = Call("the event loop's turn")
        self._calls: dict[Call, None] = {}
        self._is_asked = False  # the loop is to answer, and has not yet
        self._is_traced = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """What happens inside must end within the limit."""
        call = Call(name)
        self._calls[call] = None
        try:
            yield
        finally:
            del self._calls[call]

    # The thread

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(self._step):
            now = time.monotonic()
            passed, last = min(now - last, 2 * self._step), now
            if not self._is_asked:
                self._is_asked = True
                try:
                    self._loop.call_soon_threadsafe(self._beat)
                except RuntimeError:  # the loop is closed
                    return
            waiting = [self._loop_call, *self._calls]
            for call in waiting:
                call.waited += passed
            late = [call for call in waiting if call.waited > self._limit]
            if late and not self._is_debugged():
                self._give_up(late)

    def _is_debugged(self) -> bool:
        return self._is_traced or any(name in sys.modules for name in DEBUGGERS) or _tracer() != 0

    def _give_up(self, late: list[Call]) -> None:
        within(REPORT_SECONDS, lambda: self._tell(late))
        within(REPORT_SECONDS, lambda: faulthandler.dump_traceback(STANDARD_ERROR, all_threads=True))
        os.abort()

    def _tell(self, late: list[Call]) -> None:
        log.critical("watchdog: %s took longer than %g s; aborting", " and ".join(map(str, late)), self._limit)
        log.critical("watchdog: calls in flight: %s", ", ".join(map(str, self._calls)) or "none")
        for line in task_stacks(self._loop):
            log.critical("watchdog: %s", line)

    # The loop

    def _beat(self) -> None:
        self._is_asked = False
        self._loop_call.waited = 0.0
        self._is_traced = sys.gettrace() is not None
        if self._on_beat is not None:
            self._on_beat()


def within(seconds: float, work: Callable[[], None]) -> None:
    """Do it in a thread of its own, and wait no longer than that."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)


def _tracer() -> int:
    """The process that debugs this one (Linux); 0: none."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("TracerPid:")), 0)
    except OSError:
        return 0
