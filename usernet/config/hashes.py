"""Passwords that are stored as slow hashes, in the PHC string format: what they say, not what they mean.

    $scrypt$ln=14,r=8,p=1$SALT$HASH     $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH

Read RFC 7914 (scrypt), RFC 9106 (Argon2).  Bounded: a line of a file must not eat the machine.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, NamedTuple

from usernet.config.values import BadValue

MAX_MEMORY: Final = 256 << 20  # B

_SALT_AND_HASH: Final = r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
_SCRYPT: Final = re.compile(r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})" + _SALT_AND_HASH)
_ARGON2ID: Final = re.compile(r"\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,2}),p=([0-9]{1,2})" + _SALT_AND_HASH)
_REMEDY: Final = "make one with `usernet passwd`"


class PasswordHash(NamedTuple):
    """`cost`: log2 N, r and p of scrypt; KiB, passes and lanes of Argon2id."""

    kind: str
    cost: tuple[int, int, int]
    salt: bytes
    digest: bytes


def is_hash(secret: str) -> bool:
    """Whether it is meant as one: a password that begins so would be a strange one."""
    return re.match(r"\$[a-z0-9-]{1,16}\$", secret) is not None


def parse_hash(text: str) -> PasswordHash:
    """Raises BadValue."""
    found = _SCRYPT.fullmatch(text) or _ARGON2ID.fullmatch(text)
    if found is None:
        raise BadValue("this is a hash of a kind that usernet does not know, or it is incomplete", _REMEDY)
    kind = text.split("$", 2)[1]
    first, second, third = (int(number) for number in found.groups()[:3])
    memory = (128 * second) << first if kind == "scrypt" else first << 10
    # RFC 7914 section 2: N is 2 at least, and less than 2^(128 * r / 8).  RFC 9106 section 3.1: 8 KiB for each lane.
    legal = 1 <= first < 16 * second if kind == "scrypt" else first >= 8 * third
    if not (legal and second and 0 < third <= 16 and memory <= MAX_MEMORY):
        raise BadValue("the hash's parameters ask for more than 256 MiB, or for too little to be legal", _REMEDY)
    try:
        return PasswordHash(kind, (first, second, third), _unpadded(found[4]), _unpadded(found[5]))
    except binascii.Error:
        raise BadValue("the hash's salt or digest is not base64", _REMEDY) from None


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
