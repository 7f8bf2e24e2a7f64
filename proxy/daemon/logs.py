"""The log: where its lines go, and what they look like.

Text is for people, JSON for collectors: an object a line with `time` (RFC 3339, UTC), `level`, `logger`, `message`, the
fields that are known (`peer`: its public key), and `traceback`.  Where standard error is systemd's journal each line
begins with its priority, `<4>` say (sd-daemon(3)), and leaves the time to the journal.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from typing import Final, Literal, TextIO

from proxy.daemon.limiting import UNLIMITED, LimitedHandler
from proxy.daemon.process import log
from proxy.daemon.recent import RECENT

Form = Literal["text", "json"]

# What a terminal would obey, or what would look like another line: a message never needs it.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_STANDARD: Final = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime", *UNLIMITED))
_PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


def set_up_log(verbose: int, form: Form = "text") -> None:
    """Everything goes to standard error: plain lines, or with --verbose a time and the level; 2 shows libraries too."""
    handler = LimitedHandler(sys.stderr)
    journal = is_journal(sys.stderr)
    base: logging.Formatter = Json() if form == "json" else Text(timed=verbose > 0 and not journal)
    handler.setFormatter(Prioritized(base) if journal else base)
    root = logging.getLogger()
    root.handlers[:] = [handler, RECENT]
    root.setLevel(logging.DEBUG if verbose > 1 else logging.WARNING)
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    # One line a refused client would let any client fill the log.
    logging.getLogger("usernet.proxy").setLevel(logging.NOTSET if verbose else logging.WARNING)


def is_journal(stream: TextIO) -> bool:
    """Whether systemd's journal reads it: JOURNAL_STREAM is its device and inode (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or none at all
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class Text(logging.Formatter):
    def __init__(self, *, timed: bool) -> None:
        super().__init__("%(asctime)s %(levelname).1s %(message)s" if timed else "%(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.translate(_CONTROLS)
        return super().formatMessage(record)


class Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seconds, micros = divmod(round(record.created * 1e6), 1_000_000)
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{micros:06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Prioritized(logging.Formatter):
    """Every line of what another formatter says, with its priority."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelname, 5)}>"
        return "\n".join(prefix + line for line in self._inner.format(record).split("\n"))


def lines_to(file: str | None) -> Callable[[str], None]:
    """Writes lines to standard output, or appends them to a file, which others may move away and this opens anew."""
    handler = logging.StreamHandler(sys.stdout) if file is None else WatchedFileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    lines = logging.getLogger("usernet.access")
    lines.propagate = False
    lines.handlers[:] = [handler]
    lines.setLevel(logging.INFO)
    return functools.partial(lines.info, "%s")
