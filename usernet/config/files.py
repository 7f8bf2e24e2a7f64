"""Reading a configuration file."""

from __future__ import annotations

import os
import stat

from usernet.errors import ConfigError, Problem

MAX_BYTES = 16 << 20  # a peer with 130,000 allowed IPs is 2.6 MB


def read(name: str) -> tuple[str, bool]:
    """Its text, and whether everybody on this machine could read it.  OSError, or ConfigError for what is no text."""
    with open(name, "rb") as file:
        data = file.read(MAX_BYTES + 1)
        mode = os.fstat(file.fileno()).st_mode
    if len(data) > MAX_BYTES:
        raise ConfigError((Problem(name, 1, "the file is longer than 16 MiB", "name a wg-quick file"),))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError((Problem(name, line, "this is not UTF-8 text", "save the file as UTF-8"),)) from None
    return text, stat.S_ISREG(mode) and os.name == "posix" and _world_readable(name, mode)


def _world_readable(name: str, mode: int) -> bool:
    """A private directory protects what is in it."""
    return bool(mode & os.stat(os.path.dirname(os.path.abspath(name))).st_mode & (stat.S_IROTH | stat.S_IXOTH))
