"""The handshake's messages: bytes <-> frozen values.  Read the WireGuard paper, 5.4.2, 5.4.3, 5.4.7.

Sizes are exact and the three reserved bytes are zero: a peer's `Reserved` is taken off before and put on behind this.
`encode()` gives an initiation or a response without its two MACs: those are the business of cookies.py.
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
    _check(buf, INITIATION_BYTES, TYPE_INITIATION)
    _, sender, ephemeral, sealed_static, sealed_timestamp = _INITIATION.unpack_from(buf)
    return InitiationMessage(sender, ephemeral, sealed_static, sealed_timestamp)


def parse_response(buf: Buffer) -> ResponseMessage:
    """A whole response, MACs included but not looked at.  Raises HandshakeError."""
    _check(buf, RESPONSE_BYTES, TYPE_RESPONSE)
    _, sender, receiver, ephemeral, sealed_nothing = _RESPONSE.unpack_from(buf)
    return ResponseMessage(sender, receiver, ephemeral, sealed_nothing)


def parse_cookie_reply(buf: Buffer) -> CookieReplyMessage:
    """Raises HandshakeError."""
    _check(buf, COOKIE_REPLY_BYTES, TYPE_COOKIE_REPLY)
    _, receiver, nonce, sealed_cookie = _COOKIE_REPLY.unpack_from(buf)
    return CookieReplyMessage(receiver, nonce, sealed_cookie)


def _check(buf: Buffer, size: int, message_type: int) -> None:
    if len(buf) != size:
        raise HandshakeError("handshake-length")
    if int.from_bytes(buf[:4], "little") != message_type:
        raise HandshakeError("handshake-type")
