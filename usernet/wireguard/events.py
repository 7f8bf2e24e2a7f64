"""What a tunnel tells its owner: rare things, taken as one list with `Tunnel.events()`."""

from __future__ import annotations

from dataclasses import dataclass

from usernet.burst.packets import Address


@dataclass(frozen=True, slots=True)
class HandshakeStarted:
    """An initiation was sent; `attempt` counts from 1 within one series."""

    public_key: bytes
    endpoint: Address
    attempt: int


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """There is a new session to send on.  As responder: its first data has come (paper, 5.4.3)."""

    public_key: bytes
    endpoint: Address
    initiator: bool


@dataclass(frozen=True, slots=True)
class HandshakeGaveUp:
    """A series of initiations stayed without an answer; `purged` packets that waited for it were dropped."""

    public_key: bytes
    attempts: int
    purged: int


@dataclass(frozen=True, slots=True)
class EndpointMoved:
    """A peer's authenticated datagram came from a new address.  `old` is None where there was none."""

    public_key: bytes
    old: Address | None
    new: Address


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """The peer's keys were removed: no session came about for three lifetimes of a key."""

    public_key: bytes


@dataclass(frozen=True, slots=True)
class ClockJumped:
    """An initiation's timestamp is `seconds` further on than the time that has passed.

    Only greater timestamps are accepted from now on: had the clock been forged, the key would be dead for as long
    (CVE-2021-46873).
    """

    public_key: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class PathReturned:
    """A peer that did not answer has done so again: what stalled on it may try at once."""

    public_key: bytes


TunnelEvent = (
    HandshakeStarted
    | HandshakeCompleted
    | HandshakeGaveUp
    | EndpointMoved
    | SessionExpired
    | ClockJumped
    | PathReturned
)
