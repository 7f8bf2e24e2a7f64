"""Who may use a listener: users and passwords, kept as hashes only and compared in constant time.

A password in clear becomes a keyed hash at once.  One that is stored as a hash (`$scrypt$`, `$argon2id$`) is slow to
check by intent, so that is done by a thread, and what was right is remembered as a keyed hash: a browser sends its
password with every request.  Neither the answer nor its time tells a bad user from a bad password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from proxy.passwords import matches
from usernet.config.hashes import PasswordHash, is_hash, parse_hash

MAX_FIELD = 255  # RFC 1929 section 2
AT_ONCE = 2  # slow checks, each of which takes a core and 16 MiB


class Users:
    """`users`: names with their password or its hash.  Raises ValueError where a SOCKS client could never say
    them, BadValue where a hash is none."""

    __slots__ = ("_decoy", "_hashes", "_key", "_passwords", "_threads", "_users")

    def __init__(self, users: Iterable[tuple[str, str]]) -> None:
        self._key = os.urandom(32)
        self._users: dict[bytes, str] = {}
        self._passwords: dict[bytes, bytes] = {}  # keyed, of those that are known
        self._hashes: dict[bytes, PasswordHash] = {}
        for name, secret in users:
            user = self._digest(_field("user name", name))
            self._users[user] = name
            if is_hash(secret):
                self._hashes[user] = parse_hash(secret)
            else:
                self._passwords[user] = self._digest(_field("password", secret))
        self._decoy = next(iter(self._hashes.values()), None)  # checked for a user who is not there
        # Not the loop's own threads, all of which a slow resolver of the host may hold.
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def _digest(self, value: bytes) -> bytes:
        return hashlib.blake2b(value, key=self._key, digest_size=32).digest()

    @property
    def is_slow(self) -> bool:
        """Whether `check` saying no is not the last word: ask `verify` then."""
        return bool(self._hashes)

    def check(self, username: bytes, password: bytes) -> str | None:
        """The name of the user, where both are right and that is known at once."""
        user, given = self._digest(username), self._digest(password)
        name = self._users.get(user)
        right = hmac.compare_digest(given, self._passwords.get(user, bytes(32)))
        return name if right and name is not None else None

    async def verify(self, username: bytes, password: bytes) -> str | None:
        """As `check`, and takes the time of a slow hash."""
        if self._decoy is None or len(username) > MAX_FIELD or len(password) > MAX_FIELD:
            return None
        user = self._digest(username)
        stored = self._hashes.get(user, self._decoy)
        right = await asyncio.get_running_loop().run_in_executor(self._threads, matches, stored, password)
        if not right or user not in self._hashes:
            return None
        self._passwords[user] = self._digest(password)
        return self._users[user]


def _field(what: str, value: str) -> bytes:
    encoded = value.encode()
    if not 0 < len(encoded) <= MAX_FIELD:
        raise ValueError(f"a proxy's {what} is 1 to 255 bytes long (RFC 1929)")
    return encoded


def parse_basic(field: bytes | None) -> tuple[bytes, bytes]:
    """User and password of `Basic ...` (RFC 7617); of anything else two empty strings, which are never right."""
    scheme, _, encoded = (field or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return b"", b""
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return b"", b""
    username, _, password = decoded.partition(b":")  # RFC 7617 section 2: the password may hold more of them
    return username, password
