"""SOCKS5 as a dialogue without I/O (RFC 1928, RFC 1929; RESOLVE and RESOLVE_PTR: Tor's socks-extensions, section 2).

    receive_data(data);  while (event := next_event()) is not None: ...

Events in order: `Send` (write these bytes), `Login` (decide, then call `login`), `Request` (the end of the dialogue:
what is left is `trailing_data`), or at any point `Refuse` (write these bytes and close).  Every decision depends on
the bytes alone, never on how they were cut into pieces.
"""

from __future__ import annotations

import enum
import socket
from typing import NamedTuple

from proxy.names import BadHost, parse_address, parse_host

CONNECT, BIND, UDP_ASSOCIATE, RESOLVE, RESOLVE_PTR = 1, 2, 3, 0xF0, 0xF1
COMMANDS = frozenset({CONNECT, BIND, UDP_ASSOCIATE, RESOLVE, RESOLVE_PTR})
IPV4, DOMAIN, IPV6 = 1, 3, 4
NO_AUTHENTICATION, USERNAME_PASSWORD, NO_ACCEPTABLE = 0, 2, 0xFF
LOGIN_OK, LOGIN_FAILED = b"\x01\x00", b"\x01\x01"
GENERAL_FAILURE, COMMAND_NOT_SUPPORTED, ADDRESS_TYPE_NOT_SUPPORTED = 1, 7, 8


class Send(NamedTuple):
    data: bytes


class Refuse(NamedTuple):
    data: bytes
    reason: str  # a constant slug


class Login(NamedTuple):
    username: bytes
    password: bytes


class Request(NamedTuple):
    command: int  # one of COMMANDS
    host: str
    port: int


Event = Send | Refuse | Login | Request


class State(enum.Enum):
    GREETING = enum.auto()
    LOGIN = enum.auto()
    DECIDING = enum.auto()  # the owner looks at a Login
    REQUEST = enum.auto()
    DONE = enum.auto()


# Looking a member up in its class takes 0.1 µs, a dozen times for each client.
GREETING, LOGIN, DECIDING, REQUEST, DONE = State


def encode_reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """A reply (RFC 1928 section 6) with a bound address, or the name that RESOLVE_PTR found."""
    address = parse_address(host)
    if address is None:
        return bytes((5, code, 0, DOMAIN, len(host))) + host.encode("ascii") + port.to_bytes(2)
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return bytes((5, code, 0, IPV4 if len(packed) == 4 else IPV6)) + packed + port.to_bytes(2)


class Dialogue:
    __slots__ = ("_buffer", "_login_required", "_state")

    def __init__(self, *, login_required: bool) -> None:
        self._buffer = bytearray()
        self._login_required = login_required
        self._state = GREETING

    def receive_data(self, data: bytes) -> None:
        self._buffer += data

    @property
    def trailing_data(self) -> bytes:
        """What came after the request."""
        return bytes(self._buffer)

    def next_event(self) -> Event | None:
        """The next thing to do, or None: more data, or a call of `login`, is needed."""
        if self._state is GREETING:
            return self._greeting()
        if self._state is LOGIN:
            return self._login()
        if self._state is REQUEST:
            return self._request()
        return None

    def login(self, right: bool) -> Send | Refuse:
        """The owner's decision on a Login.  A failure ends the connection (RFC 1929 section 2)."""
        if self._state is not DECIDING:
            raise RuntimeError("no login is waiting")
        if not right:
            return self._refuse(LOGIN_FAILED, "wrong-credentials")
        self._state = REQUEST
        return Send(LOGIN_OK)

    def _refuse(self, data: bytes, reason: str) -> Refuse:
        self._state = DONE
        self._buffer.clear()
        return Refuse(data, reason)

    def _greeting(self) -> Event | None:
        """VER NMETHODS METHODS (RFC 1928 section 3).  VER is what brought the client here."""
        buffer = self._buffer
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return None
        end = 2 + buffer[1]
        method = USERNAME_PASSWORD if self._login_required else NO_AUTHENTICATION
        if method not in buffer[2:end]:
            return self._refuse(bytes((5, NO_ACCEPTABLE)), "no-acceptable-method")
        del buffer[:end]
        self._state = LOGIN if self._login_required else REQUEST
        return Send(bytes((5, method)))

    def _login(self) -> Event | None:
        """VER ULEN UNAME PLEN PASSWD (RFC 1929 section 2)."""
        buffer = self._buffer
        if buffer and buffer[0] != 1:  # among others: a request without a login
            return self._refuse(LOGIN_FAILED, "bad-login")
        if len(buffer) < 2:
            return None
        if buffer[1] == 0:
            return self._refuse(LOGIN_FAILED, "bad-login")
        at = 2 + buffer[1]
        if len(buffer) <= at or len(buffer) < at + 1 + buffer[at]:
            return None
        end = at + 1 + buffer[at]
        event = Login(bytes(buffer[2:at]), bytes(buffer[at + 1 : end]))
        del buffer[:end]
        self._state = DECIDING
        return event

    def _request(self) -> Event | None:
        """VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 section 4).  RSV is not looked at."""
        buffer = self._buffer
        if buffer and buffer[0] != 5:
            return self._refuse(encode_reply(GENERAL_FAILURE), "bad-version")
        if len(buffer) < 4:
            return None
        command, kind = buffer[1], buffer[3]
        if command not in COMMANDS:
            return self._refuse(encode_reply(COMMAND_NOT_SUPPORTED), "command-not-supported")
        if kind not in (IPV4, DOMAIN, IPV6):
            return self._refuse(encode_reply(ADDRESS_TYPE_NOT_SUPPORTED), "address-type-not-supported")
        if len(buffer) < 5:
            return None
        start = 5 if kind == DOMAIN else 4
        end = start + (buffer[4] if kind == DOMAIN else 4 if kind == IPV4 else 16)
        if len(buffer) < end + 2:
            return None
        raw, port = bytes(buffer[start:end]), int.from_bytes(buffer[end : end + 2])
        del buffer[: end + 2]
        try:
            host = parse_host(raw) if kind == DOMAIN else _literal(raw)
        except BadHost:
            return self._refuse(encode_reply(GENERAL_FAILURE), "bad-host")
        if command == RESOLVE_PTR and parse_address(host) is None:
            return self._refuse(encode_reply(ADDRESS_TYPE_NOT_SUPPORTED), "address-type-not-supported")
        if port == 0 and command == CONNECT:  # of a peer that is still to come it may be unknown
            return self._refuse(encode_reply(GENERAL_FAILURE), "bad-port")
        self._state = DONE
        return Request(command, host, port)


def _literal(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
