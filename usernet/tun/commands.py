"""Programs of the machine's that are run for an interface."""

from __future__ import annotations

import errno
import subprocess
from typing import Final

_SECONDS: Final = 10.0


def run_command(command: list[str], text: str = "") -> None:
    """`text` is its standard input.  Raises OSError, with what it said, where it fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"{command[0]} takes too long") from None
    if done.returncode:
        raise OSError(errno.EIO, f"{' '.join(command)}: {done.stderr.strip() or f'status {done.returncode}'}")
