"""What a daemon remembers: keys and bytes, in a file, in memory, in a Kubernetes Secret or AWS' parameter store.

A store is slow (a disk, a network), so nobody on an event loop calls it but by a thread.  Two daemons do not share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from usernet.errors import UsernetError


class StoreError(UsernetError):
    """The store cannot be read or written; the text says why, and what to do."""


class NoValue(LookupError):
    """Nothing is stored under this key."""


class Store(Protocol):
    """`where`: for a person, as --state takes it."""

    where: str
    lasts: bool  # longer than the process

    def read(self, key: str) -> bytes:
        """Raises NoValue."""

    def write(self, key: str, value: bytes) -> None:
        """It is stored once this returns.  Raises StoreError; then what was there still is."""


class MemoryStore:
    """`mem:`"""

    where = "mem:"
    lasts = False

    def __init__(self, values: Mapping[str, bytes] | None = None) -> None:
        """`values`: what is there to begin with."""
        self._values = dict(values or {})

    def read(self, key: str) -> bytes:
        try:
            return self._values[key]
        except KeyError:
            raise NoValue(key) from None

    def write(self, key: str, value: bytes) -> None:
        self._values[key] = value
