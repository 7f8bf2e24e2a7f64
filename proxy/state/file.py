"""A store in a file: JSON, its values in base64, for us alone.

A write makes another file beside it, has it on the disk, puts it in the first one's place, and has that on the disk,
too: whenever the machine stops, there is the old file or the new one.  Whoever may write more of it keeps it locked, so
that others see whether it lives.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import fcntl
import json
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

from proxy.state.store import NoValue, StoreError

ABANDONED: Final = 60.0  # s after which a temporary file is nobody's


class FileStore:
    lasts = True

    def __init__(self, path: Path) -> None:
        """Reads it, and proves that it can be written.  Raises StoreError."""
        self.where = str(path)
        self._path = path
        self._held = -1
        try:
            with contextlib.suppress(FileExistsError):  # by a file: then what comes next says that it is no directory
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._values = load(path)
            self._sweep()
            self._save(self._values)
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"state file {self._path}: {error.strerror or error}; name another with --state, or --state mem: for none"
        )

    def _temporary(self) -> tuple[str, str]:
        """How the names of our temporary files begin and end."""
        return f".{self._path.name}.", ".tmp"

    def _sweep(self) -> None:
        """Take away what those have left who were killed as they wrote; it may hold a key."""
        prefix, suffix = self._temporary()
        with os.scandir(self._path.parent) as entries:
            found = [entry for entry in entries if entry.name.startswith(prefix) and entry.name.endswith(suffix)]
        for entry in found:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
                    os.unlink(entry.path)

    def _save(self, values: dict[str, bytes]) -> None:
        text = json.dumps({key: base64.b64encode(value).decode() for key, value in values.items()}, indent=1)
        directory = self._path.parent
        prefix, suffix = self._temporary()
        handle, temporary = tempfile.mkstemp(suffix, prefix, directory)  # 0600
        try:
            with open(handle, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(handle)
            held = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except BaseException:
            os.unlink(temporary)
            raise
        try:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(held, fcntl.LOCK_EX)
            os.rename(temporary, self._path)
        except BaseException:
            os.close(held)
            os.unlink(temporary)
            raise
        self.close()
        self._held = held
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Let it go.  So does the end of the process."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def read(self, key: str) -> bytes:
        try:
            return self._values[key]
        except KeyError:
            raise NoValue(key) from None

    def write(self, key: str, value: bytes) -> None:
        values = {**self._values, key: value}
        try:
            self._save(values)
        except OSError as error:
            raise self._failed(error) from None
        self._values = values


def is_held(path: Path) -> bool:
    """Whether whoever wrote it lives, and may write again."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(handle)
    return False


def load(path: Path) -> dict[str, bytes]:
    """What is in a store's file, if there is one.  Raises OSError, and StoreError where it is none of ours."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):  # opening a device may already do something
            raise _refused(path, "is no regular file")
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "is no regular file")
        if found.st_uid != os.geteuid():  # who wrote it would choose our key
            raise _refused(path, f"belongs to user {found.st_uid}, not to us, user {os.geteuid()}")
        text = file.read()
    if not text:  # as a crash of other programs, or `touch`, leaves it
        return {}
    try:
        return {str(key): base64.b64decode(value, validate=True) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
        raise _refused(path, "holds something else") from None


def _refused(path: Path, why: str) -> StoreError:
    return StoreError(f"state file {path} {why}; move it away, or name another with --state")
