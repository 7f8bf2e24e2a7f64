"""Lines of the log that are alike are limited, so that nobody who is far away can fill a disk.

What a remote can bring about again and again comes from one place in the code, with one template: `kind_of` tells which
lines are alike.  In a minute there are BURST lines of a kind, then one that says how many more there were.  `Limiter`
knows no clock.  Not limited are debug lines, for whoever asks for them looks at them, and what has an end of its own:

    log.info("%s", line, extra=UNLIMITED)
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TextIO

BURST: Final = 10
WINDOW: Final = 60.0  # s
MAX_KINDS: Final = 1024  # told apart at once; all further ones share the limit of one
UNLIMITED: Final = {"is_limited": False}
_VARYING: Final = re.compile(r"\d+")
_WHOLE: Final = "%s"  # the template of lines that were put together before

Kind = tuple[str, int, str]
_OTHERS: Final[Kind] = ("", 0, "")


def kind_of(record: logging.LogRecord) -> Kind:
    """The same for lines that differ in their arguments, or in their numbers, only."""
    template = str(record.msg)
    if template == _WHOLE:
        template = _VARYING.sub("0", record.getMessage())
    return record.name, record.levelno, template


class Withheld(NamedTuple):
    """So many lines of a kind were not shown; `last` is the last of them."""

    number: int
    last: logging.LogRecord


class _Window:
    __slots__ = ("end", "last", "seen")

    def __init__(self, end: float) -> None:
        self.end = end
        self.seen = 0
        self.last: logging.LogRecord | None = None


class Limiter:
    """Which lines are shown."""

    def __init__(self, burst: int = BURST, window: float = WINDOW, kinds: int = MAX_KINDS) -> None:
        self._burst = burst
        self._window = window
        self._kinds = kinds
        self._windows: dict[Kind, _Window] = {}  # in the order of their ends

    def admits(self, record: logging.LogRecord, now: float) -> bool:
        """`handle_timeout` is called before."""
        if record.levelno <= logging.DEBUG or not getattr(record, "is_limited", True):
            return True
        kind = kind_of(record)
        if kind not in self._windows and len(self._windows) >= self._kinds:
            kind = _OTHERS
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(now + self._window)
        window.seen += 1
        if window.seen <= self._burst:
            return True
        # Not the record itself: its traceback would keep alive what its frames hold.
        window.last = logging.LogRecord(
            record.name, record.levelno, record.pathname, record.lineno, record.msg, record.args, None
        )
        return False

    def handle_timeout(self, now: float) -> list[Withheld]:
        """What was not shown in the minutes that are over."""
        over = []
        for kind, window in self._windows.items():
            if now < window.end:
                break
            over.append(kind)
        ended = [self._windows.pop(kind) for kind in over]
        return [Withheld(window.seen - self._burst, window.last) for window in ended if window.last is not None]


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream what the limiter lets through, and how much it did not."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._limiter = Limiter()
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        self._tell(now)
        if self._limiter.admits(record, now):
            super().emit(record)

    def _tell(self, now: float) -> None:
        for withheld in self._limiter.handle_timeout(now):
            super().emit(_summary(withheld))

    def close(self) -> None:
        """At the end of the process: nothing stays untold."""
        self.acquire()
        try:
            self._tell(float("inf"))
        finally:
            self.release()
        super().close()


def _summary(withheld: Withheld) -> logging.LogRecord:
    last = withheld.last
    text = "%d more like it, the last one: %s"
    return logging.LogRecord(
        last.name, last.levelno, last.pathname, last.lineno, text, (withheld.number, last.getMessage()), None
    )
