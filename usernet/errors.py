"""Every error usernet raises, in one place.

Two families.  `WireError` is the *only* thing a parser raises at bytes from the network; whoever called it drops the
packet and counts `reason`.  The dial errors say why a connection, datagram or ping could not be made; they are
`OSError`s with the errno a kernel socket would have given, so code written for asyncio's own sockets handles them
unchanged; `NetworkClosed` is also what open ones end with.  `ConnectionRefusedError`, `ConnectionResetError` and
`TimeoutError` are Python's own.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


class UsernetError(Exception):
    """Base of all errors of this library."""


class WireError(UsernetError, ValueError):
    """Bytes that are not a legal packet.  `reason` is a short constant slug, fit for a counter's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HandshakeError(WireError):
    """A WireGuard handshake message that is malformed, not authentic, or of no one we know."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration: where, what, and what would be right."""

    file: str
    line: int
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}; {self.remedy}"


class ConfigError(UsernetError):
    """A configuration that cannot be used.  Carries *all* its problems, in line order; `str()` gives one a line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class DialError(UsernetError, OSError):
    """A destination could not be reached through the tunnel.  `strerror` is one line, fit for a person."""

    code = errno.EHOSTUNREACH

    def __init__(self, message: str) -> None:
        super().__init__(self.code, message)

    def __reduce__(self) -> tuple[type[DialError], tuple[str | None, ...]]:
        return type(self), (self.strerror,)


class NoRoute(DialError):
    """No peer's allowed IPs cover the destination: nothing was sent."""

    code = errno.ENETUNREACH


class NoHandshake(DialError):
    """The peer for this destination has no session, and none came about in time."""

    code = errno.ETIMEDOUT


class EndpointUnresolved(NoHandshake):
    """As that, because the name of the peer's endpoint does not resolve."""


class HostUnreachable(DialError):
    """An ICMP host unreachable, or the like, answered the dial."""

    code = errno.EHOSTUNREACH


class NetworkUnreachable(DialError):
    """An ICMP network unreachable answered the dial."""

    code = errno.ENETUNREACH


class NameNotFound(DialError):
    """The name does not exist, or has no address of a family the tunnel carries."""

    code = errno.ENOENT


class NameServerFailed(DialError):
    """No name server gave a usable answer in time, or none is configured."""

    code = errno.EAGAIN


class NetworkClosed(DialError, ConnectionAbortedError):
    """The network has been closed, meanwhile or before."""

    code = errno.ECONNABORTED

    def __init__(self) -> None:
        super().__init__("the network was closed")

    def __reduce__(self) -> tuple[type[NetworkClosed], tuple[()]]:
        return type(self), ()
