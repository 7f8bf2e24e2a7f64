"""Where every thread stands: places in the code, and no values."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator


def thread_stacks() -> Iterator[str]:
    """Lines."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"thread {names.get(ident, ident)}:"
        for entry in traceback.extract_stack(frame):
            yield f'  File "{entry.filename}", line {entry.lineno}, in {entry.name}: {entry.line}'
