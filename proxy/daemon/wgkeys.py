"""Keys as `wg` makes them, for whoever makes or checks them: the commands and the demo."""

from __future__ import annotations

import binascii
import os

KEY_BYTES = 32


def generate() -> bytes:
    """A new private key, clamped (RFC 7748 5)."""
    key = bytearray(os.urandom(KEY_BYTES))
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)


def public(private_key: bytes) -> bytes:
    """The public key of a private one."""
    from usernet.wireguard.crypto import PrivateKey

    return PrivateKey(private_key).public_key


def text(key: bytes) -> str:
    """As `wg` shows it."""
    return binascii.b2a_base64(key, newline=False).decode("ascii")
