"""Slow hashes of passwords, made and checked.  Their form is that of usernet/config/hashes.py."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from usernet.config.hashes import PasswordHash

LN, R, P = 14, 8, 1  # 16 MiB and about 50 ms
SALT_BYTES, DIGEST_BYTES = 16, 32


def make_hash(password: bytes) -> str:
    """A new hash of a password, by scrypt."""
    salt = os.urandom(SALT_BYTES)
    digest = _scrypt(PasswordHash("scrypt", (LN, R, P), salt, bytes(DIGEST_BYTES)), password)
    parts = (base64.b64encode(raw).decode().rstrip("=") for raw in (salt, digest))
    return f"$scrypt$ln={LN},r={R},p={P}$" + "$".join(parts)


def matches(stored: PasswordHash, password: bytes) -> bool:
    """Whether it is the hash of that password.  Takes its time, without the GIL."""
    digest = (_scrypt if stored.kind == "scrypt" else _argon2id)(stored, password)
    return hmac.compare_digest(digest, stored.digest)


def _scrypt(stored: PasswordHash, password: bytes) -> bytes:
    ln, r, p = stored.cost
    memory = ((128 * r) << ln) + 128 * r * p + (1 << 20)
    return hashlib.scrypt(password, salt=stored.salt, n=1 << ln, r=r, p=p, maxmem=memory, dklen=len(stored.digest))


def _argon2id(stored: PasswordHash, password: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id  # only where somebody has such a hash

    memory, passes, lanes = stored.cost
    kdf = Argon2id(salt=stored.salt, length=len(stored.digest), iterations=passes, lanes=lanes, memory_cost=memory)
    return kdf.derive(password)
