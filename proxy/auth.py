"""Who may use a listener: one user name and password, kept and compared as keyed hashes.

Both fields are always hashed and always compared, each in constant time, so that neither the answer nor its time
tells a bad user from a bad password; and the decision is the single `and` of two finished booleans (`check`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os

MAX_FIELD = 255  # RFC 1929 section 2


class Credentials:
    """What a client must show.  Holds hashes only.  Raises ValueError where a SOCKS client could never say them."""

    __slots__ = ("_key", "_password", "_username")

    def __init__(self, username: str, password: str) -> None:
        for what, value in (("user name", username), ("password", password)):
            if not 0 < len(value.encode()) <= MAX_FIELD:
                raise ValueError(f"a proxy's {what} is 1 to 255 bytes long (RFC 1929)")
        self._key = os.urandom(32)
        self._username = self._digest(username.encode())
        self._password = self._digest(password.encode())

    def _digest(self, value: bytes) -> bytes:
        return hashlib.blake2b(value, key=self._key, digest_size=32).digest()

    def check(self, username: bytes, password: bytes) -> bool:
        """Whether both are right."""
        username_right = hmac.compare_digest(self._digest(username), self._username)
        password_right = hmac.compare_digest(self._digest(password), self._password)
        return username_right and password_right

    def check_basic(self, field: bytes | None) -> bool:
        """Whether a Proxy-Authorization field's value is right (RFC 7617); an absent one costs the same time."""
        return self.check(*parse_basic(field or b""))


def parse_basic(field: bytes) -> tuple[bytes, bytes]:
    """User and password of `Basic ...`; two empty strings, which are never right, where it is anything else."""
    scheme, _, encoded = field.partition(b" ")
    if scheme.lower() != b"basic":
        return b"", b""
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return b"", b""
    username, _, password = decoded.partition(b":")  # RFC 7617 section 2: the password may hold more of them
    return username, password
