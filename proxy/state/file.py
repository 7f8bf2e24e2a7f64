"""A store in a file: JSON, its values in base64, for us alone.

A write makes another file beside it, has it on the disk, puts it in the first one's place, and has that on the disk,
too: whenever the machine stops, there is the old file or the new one.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import tempfile
from pathlib import Path

from proxy.state.store import NoValue, StoreError


class FileStore:
    lasts = True

    def __init__(self, path: Path) -> None:
        """Reads it, and proves that it can be written.  Raises StoreError."""
        self.where = str(path)
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._values = self._load()
            self._save(self._values)
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"state file {self._path}: {error.strerror or error}; name another with --state, or --state mem: for none"
        )

    def _load(self) -> dict[str, bytes]:
        try:
            mode = os.lstat(self._path).st_mode
        except FileNotFoundError:
            return {}
        if not stat.S_ISREG(mode):
            raise StoreError(f"state file {self._path} is no regular file; move it away, or name another with --state")
        text = self._path.read_bytes()
        if not text:  # as a crash of other programs, or `touch`, leaves it
            return {}
        try:
            found = json.loads(text)
            return {str(key): base64.b64decode(value, validate=True) for key, value in found.items()}
        except (ValueError, AttributeError, TypeError, binascii.Error):
            raise StoreError(
                f"state file {self._path} holds something else; move it away, or name another with --state"
            ) from None

    def _save(self, values: dict[str, bytes]) -> None:
        text = json.dumps({key: base64.b64encode(value).decode() for key, value in values.items()}, indent=1)
        directory = self._path.parent
        handle, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=directory)  # 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

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
