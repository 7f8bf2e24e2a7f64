"""The last warnings and errors, for the status page and for bug reports: what is alike is one entry with a count.

for entry in recent.RECENT.entries(): ...
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from proxy.daemon.limiting import Kind, kind_of

KEPT: Final = 50
LONGEST: Final = 500  # characters of a message


@dataclass(frozen=True, slots=True)
class Entry:
    """Times are seconds since 1970."""

    level: str  # "warning", "error", "critical"
    logger: str
    message: str  # the last one of its kind
    first: float
    last: float
    count: int


class Recent(logging.Handler):
    """Keeps them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._entries: dict[Kind, Entry] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            error = record.exc_info[1]
            message = f"{message}: {type(error).__name__}: {error}"
        kind = kind_of(record)
        new = Entry(record.levelname.lower(), record.name, message[:LONGEST], record.created, record.created, 1)
        before = self._entries.pop(kind, None)
        self._entries[kind] = new if before is None else replace(new, first=before.first, count=before.count + 1)
        if len(self._entries) > KEPT:
            del self._entries[next(iter(self._entries))]

    def entries(self) -> tuple[Entry, ...]:
        """The newest last."""
        self.acquire()
        try:
            return tuple(self._entries.values())
        finally:
            self.release()


RECENT: Final = Recent()
