"""Reading a configuration file."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

from usernet.config.lines import shown
from usernet.config.values import BadValue
from usernet.errors import ConfigError, Problem

SECRET_BYTES = 1024  # more than any key
CLOSE_IT = "chmod 600 it"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as `>` of PowerShell 5 writes it
MAX_BYTES = 16 << 20  # a peer with 130,000 allowed IPs is 2.6 MB


def read(name: str) -> tuple[str, bool]:
    """Its text, and whether everybody on this machine could read it.  OSError, or ConfigError for what is no text."""
    with open(name, "rb") as file:
        data = file.read(MAX_BYTES + 1)
        exposed = _is_world_readable(name, os.fstat(file.fileno()).st_mode)
    if len(data) > MAX_BYTES:
        raise ConfigError((Problem(name, 1, "the file is longer than 16 MiB", "name a wg-quick file"),))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError((Problem(name, line, "this is not UTF-8 text", "save the file as UTF-8"),)) from None
    return text, exposed


def _is_world_readable(name: str, mode: int) -> bool:
    """A private directory anywhere above a file protects it; a link elsewhere leads nobody past that."""
    if os.name != "posix" or not stat.S_ISREG(mode) or not mode & stat.S_IROTH:
        return False
    try:
        return all(os.stat(above).st_mode & stat.S_IXOTH for above in Path(os.path.realpath(name)).parents)
    except OSError:  # an open one that was handed to us, as /dev/fd/3
        return False


def read_secret(config: str, path: str) -> tuple[str, bool]:
    """The one line of a file of its own, found from the directory of the configuration, and whether everybody on this
    machine could read it.  Raises BadValue."""
    remedy = "write file: and the path of a file that holds the key alone"
    name = os.path.join(os.path.dirname(config), path)
    try:
        with open(name, "rb") as file:
            data = file.read(SECRET_BYTES)
            exposed = _is_world_readable(name, os.fstat(file.fileno()).st_mode)
        if data.startswith(_UTF16):
            raise BadValue(f"{shown(path)} is in UTF-16", "save the file as ASCII or UTF-8")
        return data.decode("ascii").strip(), exposed
    except OSError as error:
        raise BadValue(f"cannot read {shown(path)}: {error.strerror}", remedy) from None
    except ValueError:  # no ASCII, or a NUL in the name
        raise BadValue(f"{shown(path)} holds no key", remedy) from None
