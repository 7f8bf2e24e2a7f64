"""The handshake's primitives under the names of the WireGuard paper, 5.4.

Of the wireguard package only this module knows `cryptography` and PyNaCl.  The data path's AEAD belongs to the burst
kernel; what is sealed here is a few dozen bytes, a few times an hour.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from usernet.burst.packets import Buffer
from usernet.errors import HandshakeError
from usernet.wireguard.constants import LABEL_COOKIE, LABEL_MAC1, MAC_BYTES

_ZERO_NONCE: Final = bytes(12)
_TAI64_BASE: Final = 0x4000_0000_0000_000A  # TAI was 10 s ahead of UTC in 1970
_TAI64N_GRANULARITY: Final = 1 << 24  # ns


class PrivateKey:
    """An X25519 private key, ready for use, and its public key."""

    __slots__ = ("_key", "public_key")

    def __init__(self, private_key: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._key.public_key().public_bytes_raw()

    def exchange(self, public_key: bytes) -> bytes:
        """DH(this key, public_key).  Raises HandshakeError where the result is all zero (RFC 7748 6.1)."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError:  # of a low-order point the result is the same for every private key: no secret at all
            raise HandshakeError("low-order-point") from None


def hash_of(first: bytes, second: bytes = b"") -> bytes:
    """HASH(first || second)."""
    return hashlib.blake2s(first + second).digest()


def mac_of(key: bytes, data: Buffer) -> bytes:
    """MAC(key, data): keyed BLAKE2s of 16 bytes."""
    return hashlib.blake2s(data, digest_size=MAC_BYTES, key=key).digest()


def hmac_of(key: bytes, data: bytes) -> bytes:
    """HMAC(key, data), the ordinary construction over BLAKE2s."""
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf1(key: bytes, data: bytes) -> bytes:
    """KDF_1: the first output of HKDF with `key` as salt."""
    return hmac_of(hmac_of(key, data), b"\x01")


def kdf2(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    secret = hmac_of(key, data)
    first = hmac_of(secret, b"\x01")
    return first, hmac_of(secret, first + b"\x02")


def kdf3(key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    secret = hmac_of(key, data)
    first = hmac_of(secret, b"\x01")
    second = hmac_of(secret, first + b"\x02")
    return first, second, hmac_of(secret, second + b"\x03")


def aead_seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """AEAD(key, 0, plaintext, associated).  The counter is zero because a handshake's keys seal once."""
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, plaintext, associated)


def aead_open(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """What `aead_seal` sealed; HandshakeError where it is not authentic."""
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, associated)
    except InvalidTag:
        raise HandshakeError("handshake-not-authentic") from None


def xaead_seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """XAEAD: XChaCha20-Poly1305 with a nonce of 24 bytes."""
    # Only cookie replies need it, and most processes never see one: the import waits for the first
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    return encrypt(plaintext, associated, nonce, key)


def xaead_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """What `xaead_seal` sealed; HandshakeError where it is not authentic."""
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
    from nacl.exceptions import CryptoError

    try:
        return decrypt(sealed, associated, nonce, key)
    except CryptoError:
        raise HandshakeError("cookie-not-authentic") from None


def mac1_key(public_key: bytes) -> bytes:
    """The key of MAC1 in messages to the owner of `public_key` (5.4.4)."""
    return hash_of(LABEL_MAC1, public_key)


def cookie_key(public_key: bytes) -> bytes:
    """The key of cookie replies from the owner of `public_key` (5.4.7)."""
    return hash_of(LABEL_COOKIE, public_key)


def tai64n(wall_ns: int) -> bytes:
    """Unix time in ns as TAI64N, 12 bytes that sort as time does.

    Nanoseconds are floored to 2^24 (17 ms), lest the timestamp give away the clock well enough to time other things by.
    """
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    nanoseconds -= nanoseconds % _TAI64N_GRANULARITY
    return (_TAI64_BASE + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")
