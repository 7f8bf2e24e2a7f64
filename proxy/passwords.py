"""Passwords as slow hashes, in the PHC string format: `$scrypt$ln=14,r=8,p=1$SALT$HASH`, `$argon2id$v=19$m=...$...`.

Read RFC 7914 (scrypt), RFC 9106 (Argon2).  What is checked is bounded: a line of a file must not eat the machine.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import Final

SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)
ARGON2ID: Final = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)
MAX_MEMORY: Final = 256 << 20  # B
LN, R, P = 14, 8, 1  # 16 MiB and about 50 ms
SALT_BYTES, HASH_BYTES = 16, 32


def is_hash(secret: str) -> bool:
    """Whether it is one of these, and not a password."""
    return secret.startswith(("$scrypt$", "$argon2id$"))


def problem(secret: str) -> str:
    """What is wrong with a hash; "" where it can be checked."""
    if found := SCRYPT.fullmatch(secret):
        ln, r, p = (int(number) for number in found.groups()[:3])
        if not (ln >= 1 and r >= 1 and 1 <= p <= 16 and (128 * r) << ln <= MAX_MEMORY):
            return "its parameters ask for more than 256 MiB, or for nothing"
    elif found := ARGON2ID.fullmatch(secret):
        memory, passes, lanes = (int(number) for number in found.groups()[:3])
        if not (8 * lanes <= memory <= MAX_MEMORY >> 10 and 1 <= passes <= 64 and lanes):
            return "its parameters ask for more than 256 MiB, or for nothing"
    else:
        return "this is not a hash of the forms $scrypt$ and $argon2id$"
    try:
        _unpad(found[4])
        _unpad(found[5])
    except binascii.Error:
        return "its salt or hash is not base64"
    return ""


def make_hash(password: bytes) -> str:
    """A new hash of a password, by scrypt."""
    salt = os.urandom(SALT_BYTES)
    key = hashlib.scrypt(password, salt=salt, n=1 << LN, r=R, p=P, maxmem=64 << 20, dklen=HASH_BYTES)
    return f"$scrypt$ln={LN},r={R},p={P}${_pad(salt)}${_pad(key)}"


def matches(stored: str, password: bytes) -> bool:
    """Whether it is the hash of that password."""
    if found := SCRYPT.fullmatch(stored):
        ln, r, p = (int(number) for number in found.groups()[:3])
        salt, wanted = _unpad(found[4]), _unpad(found[5])
        memory = ((128 * r) << ln) + (1 << 20)
        key = hashlib.scrypt(password, salt=salt, n=1 << ln, r=r, p=p, maxmem=memory, dklen=len(wanted))
    elif found := ARGON2ID.fullmatch(stored):
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id  # only where somebody has such a hash

        memory, passes, lanes = (int(number) for number in found.groups()[:3])
        salt, wanted = _unpad(found[4]), _unpad(found[5])
        key = Argon2id(salt=salt, length=len(wanted), iterations=passes, lanes=lanes, memory_cost=memory).derive(
            password
        )
    else:
        return False
    return hmac.compare_digest(key, wanted)


def _pad(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def _unpad(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
