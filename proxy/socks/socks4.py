"""SOCKS4 and 4a as a dialogue without I/O.  Read Ying-Da Lee's "SOCKS: A protocol for TCP proxy across firewalls" and
"SOCKS 4A: A Simple Extension to SOCKS 4 Protocol"; RESOLVE is Tor's (socks-extensions, section 2).

    VN CD DSTPORT DSTIP USERID NUL [NAME NUL]

It is driven as protocol.py's is and has its events; here `Request` or `Refuse` is the first and the last.  The user id
is whatever the client likes to say: it decides nothing and is not kept.
"""

from __future__ import annotations

import socket

from proxy.names import MAX_NAME, BadHost, parse_host
from proxy.socks.protocol import BIND, CONNECT, RESOLVE, Refuse, Request

GRANTED, REJECTED = 90, 91
BAD_USER = 93  # "client program and identd report different user-ids"; 92 is for who asks identd, and nobody does
COMMANDS = frozenset({CONNECT, BIND, RESOLVE})
MAX_USER_ID = 255  # as RFC 1929 bounds a user name
FIXED = 8  # bytes before USERID


def encode_reply4(code: int, address: str = "0.0.0.0", port: int = 0) -> bytes:
    """VN CD DSTPORT DSTIP, where VN is 0.  An IPv6 address cannot be said: then zeros."""
    packed = bytes(4) if ":" in address else socket.inet_aton(address)
    return bytes((0, code)) + port.to_bytes(2) + packed


class Dialogue4:
    __slots__ = ("_buffer", "_done", "_login_required")

    def __init__(self, *, login_required: bool) -> None:
        self._buffer = bytearray()
        self._done = False
        self._login_required = login_required

    def receive_data(self, data: bytes) -> None:
        self._buffer += data

    @property
    def trailing_data(self) -> bytes:
        """What came after the request."""
        return bytes(self._buffer)

    def next_event(self) -> Refuse | Request | None:
        """The end of the dialogue, or None: more data is needed."""
        buffer = self._buffer
        if self._done or not buffer:
            return None
        if self._login_required:  # there is no way to log in, so nothing more need be heard
            return self._refuse(BAD_USER, "socks4-without-login")
        if len(buffer) < 2:
            return None
        command = buffer[1]
        if command not in COMMANDS:
            return self._refuse(REJECTED, "command-not-supported")
        if len(buffer) < FIXED:
            return None
        user_end = buffer.find(0, FIXED, FIXED + MAX_USER_ID + 1)
        if user_end < 0:
            return self._refuse(REJECTED, "bad-user-id") if len(buffer) > FIXED + MAX_USER_ID else None
        port, address = int.from_bytes(buffer[2:4]), bytes(buffer[4:FIXED])
        end = user_end + 1
        raw = b""
        if is_name := address.startswith(bytes(3)) and address != bytes(4):  # 0.0.0.x with x != 0: SOCKS4a
            name_end = buffer.find(0, end, end + MAX_NAME + 1)
            if name_end < 0:
                return self._refuse(REJECTED, "bad-host") if len(buffer) > end + MAX_NAME else None
            raw, end = bytes(buffer[end:name_end]), name_end + 1
        try:
            host = parse_host(raw) if is_name else socket.inet_ntoa(address)
        except BadHost:
            return self._refuse(REJECTED, "bad-host")
        if port == 0 and command == CONNECT:
            return self._refuse(REJECTED, "bad-port")
        del buffer[:end]
        self._done = True
        return Request(command, host, port)

    def _refuse(self, code: int, reason: str) -> Refuse:
        self._done = True
        self._buffer.clear()
        return Refuse(encode_reply4(code), reason)
