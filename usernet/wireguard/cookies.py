"""MAC1, MAC2 and cookies: what a handshake message must show before it is worth a DH.

Read the WireGuard paper, 5.3, 5.4.4 and 5.4.7.  A message ends in MAC1, which proves that its sender knows our public
key, and MAC2, which proves that its sender receives at the address it sends from, and is zero from one who has no
cookie.  `CookieChecker` is the receiver of handshake messages, one for all peers; `CookieJar` is their sender, one for
each peer.  Both see messages whose reserved bytes are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from usernet.burst.packets import Address, Buffer
from usernet.errors import HandshakeError
from usernet.wireguard.constants import (
    COOKIE_LIFETIME,
    COOKIE_SECRET_LIFETIME,
    KEY_BYTES,
    MAC_BYTES,
    XNONCE_BYTES,
)
from usernet.wireguard.crypto import cookie_key, mac1_key, mac_of, xaead_open, xaead_seal
from usernet.wireguard.messages import CookieReplyMessage, parse_cookie_reply

_NO_MAC2: Final = bytes(MAC_BYTES)


class CookieChecker:
    """Checks the MACs of messages to the owner of `public_key`, us, and hands out cookies."""

    __slots__ = ("_cookie_key", "_mac1_key", "_random", "_secret", "_secret_expires")

    def __init__(self, public_key: bytes, random: Callable[[int], bytes]) -> None:
        self._mac1_key = mac1_key(public_key)
        self._cookie_key = cookie_key(public_key)
        self._random = random
        self._secret = b""
        self._secret_expires = 0.0

    def check_mac1(self, message: Buffer) -> bool:
        mac1 = mac_of(self._mac1_key, message[: -2 * MAC_BYTES])
        return compare_digest(mac1, message[-2 * MAC_BYTES : -MAC_BYTES])

    def check_mac2(self, message: Buffer, source: Address, now: float) -> bool:
        if not self._secret or now >= self._secret_expires or message[-MAC_BYTES:] == _NO_MAC2:
            return False
        mac2 = mac_of(self._cookie_for(source), message[:-MAC_BYTES])
        return compare_digest(mac2, message[-MAC_BYTES:])

    def create_reply(self, message: Buffer, source: Address, now: float) -> bytes:
        """The cookie reply (64 bytes) to an initiation or a response, whole and with a valid MAC1."""
        if not self._secret or now >= self._secret_expires:
            self._secret = self._random(KEY_BYTES)
            self._secret_expires = now + COOKIE_SECRET_LIFETIME
        nonce = self._random(XNONCE_BYTES)
        mac1 = bytes(message[-2 * MAC_BYTES : -MAC_BYTES])
        sealed_cookie = xaead_seal(self._cookie_key, nonce, self._cookie_for(source), mac1)
        sender = int.from_bytes(message[4:8], "little")
        return CookieReplyMessage(sender, nonce, sealed_cookie).encode()

    def _cookie_for(self, source: Address) -> bytes:
        # Host and port in a form of our own: nobody but us ever opens a cookie.  The port has a fixed size, so no two
        # addresses give the same bytes
        return mac_of(self._secret, source[0].encode() + source[1].to_bytes(2, "big"))


class CookieJar:
    """Puts the MACs on messages to one peer, and keeps the cookie it gave us."""

    __slots__ = ("_cookie", "_cookie_expires", "_cookie_key", "_last_mac1", "_mac1_key")

    def __init__(self, public_key: bytes) -> None:
        self._mac1_key = mac1_key(public_key)
        self._cookie_key = cookie_key(public_key)
        self._last_mac1 = b""
        self._cookie = b""
        self._cookie_expires = 0.0

    def add_macs(self, message: bytes, now: float) -> bytes:
        """The message with MAC1 and MAC2 behind it, ready to send."""
        self._last_mac1 = mac_of(self._mac1_key, message)
        with_mac1 = message + self._last_mac1
        if not self._cookie or now >= self._cookie_expires:
            return with_mac1 + _NO_MAC2
        return with_mac1 + mac_of(self._cookie, with_mac1)

    def consume_reply(self, message: Buffer, now: float) -> None:
        """Keep the cookie of a reply to the last message.  Raises HandshakeError at any other."""
        reply = parse_cookie_reply(message)
        if not self._last_mac1:
            raise HandshakeError("cookie-unexpected")
        self._cookie = xaead_open(self._cookie_key, reply.nonce, reply.sealed_cookie, self._last_mac1)
        self._cookie_expires = now + COOKIE_LIFETIME
        self._last_mac1 = b""  # one message, one reply
