"""Reading a configuration file."""

from __future__ import annotations

import os
import stat

from usernet.config.lines import shown
from usernet.config.values import BadValue
from usernet.errors import ConfigError, Problem

SECRET_BYTES = 1024  # more than any key
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
    directory = os.stat(os.path.dirname(os.path.abspath(name))).st_mode
    return bool(mode & stat.S_IROTH and directory & stat.S_IXOTH)


def read_secret(config: str, path: str) -> str:
    """The one line of a file of its own, found from the directory of the configuration.  Raises BadValue."""
    remedy = "write file: and the path of a file that holds the key alone"
    try:
        with open(os.path.join(os.path.dirname(config), path), "rb") as file:
            return file.read(SECRET_BYTES).decode("ascii").strip()
    except OSError as error:
        raise BadValue(f"cannot read {shown(path)}: {error.strerror}", remedy) from None
    except ValueError:  # no ASCII, or a NUL in the name
        raise BadValue(f"{shown(path)} holds no key", remedy) from None
