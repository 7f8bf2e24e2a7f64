"""The handshake's messages: bytes <-> frozen values.  Read the WireGuard paper, 5.4.2, 5.4.3, 5.4.7.

Sizes are exact and the three reserved bytes are zero: a peer's `Reserved` is taken off before this and put on behind it.
`encode()` gives an initiation or a response without its two MACs, which depend on whom it goes to and when (cookies.py).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from usernet.burst.packets import Buffer
from usernet.errors import HandshakeError
from usernet.wireguard.constants import (
    COOKIE_REPLY_BYTES,
    INITIATION_BYTES,
    RESPONSE_BYTES,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)

_INITIATION = Struct("<II32s48s28s")
_RESPONSE = Struct("<III32s16s")
_COOKIE_REPLY = Struct("<II24s32s")


class InitiationMessage(NamedTuple):
    sender: int
    ephemeral: bytes
    sealed_static: bytes
    sealed_timestamp: bytes

    def encode(self) -> bytes:
        return _INITIATION.pack(TYPE_INITIATION, *self)


class ResponseMessage(NamedTuple):
    sender: int
    receiver: int
    ephemeral: bytes
    sealed_nothing: bytes

    def encode(self) -> bytes:
        return _RESPONSE.pack(TYPE_RESPONSE, *self)


class CookieReplyMessage(NamedTuple):
    receiver: int
    nonce: bytes
    sealed_cookie: bytes

    def encode(self) -> bytes:
        return _COOKIE_REPLY.pack(TYPE_COOKIE_REPLY, *self)


def parse_initiation(buf: Buffer) -> InitiationMessage:
    """A whole initiation, MACs included but not looked at.  Raises HandshakeError."""
    return InitiationMessage(*_unpack(_INITIATION, buf, INITIATION_BYTES, TYPE_INITIATION))


def parse_response(buf: Buffer) -> ResponseMessage:
    """A whole response, MACs included but not looked at.  Raises HandshakeError."""
    return ResponseMessage(*_unpack(_RESPONSE, buf, RESPONSE_BYTES, TYPE_RESPONSE))


def parse_cookie_reply(buf: Buffer) -> CookieReplyMessage:
    """Raises HandshakeError."""
    return CookieReplyMessage(*_unpack(_COOKIE_REPLY, buf, COOKIE_REPLY_BYTES, TYPE_COOKIE_REPLY))


def _unpack(layout: Struct, buf: Buffer, size: int, expected: int) -> tuple[int | bytes, ...]:
    if len(buf) != size:
        raise HandshakeError("handshake-length")
    message_type, *fields = layout.unpack_from(buf)
    if message_type != expected:
        raise HandshakeError("handshake-type")
    return tuple(fields)
