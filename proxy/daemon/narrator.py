"""What the daemon says about its peers: a tunnel's events -> the few lines that a person wants to read.

A machine without a clock: `event` and `handle_timeout` take `now` (s, any steady clock) and give lines; `next_timeout`
says when it wants to be called.  The rule is that each state is said once: that a handshake was begun, how long it
took, that none completes and why that usually is, that the peer answers again.  A healthy peer's new keys are details.
"""

from __future__ import annotations

import binascii
from typing import NamedTuple, assert_never

from usernet.burst.packets import Address
from usernet.wireguard.events import (
    ClockJumped,
    EndpointMoved,
    HandshakeCompleted,
    HandshakeGaveUp,
    HandshakeStarted,
    PathReturned,
    SessionExpired,
    TunnelEvent,
)

SILENCE = 15.0  # s without a handshake, after which it is said why that usually is: three attempts of 5 s


class Line(NamedTuple):
    text: str
    warning: bool = False
    detail: bool = False  # shown with --verbose only
    peer: bytes = b""  # its public key: whom it is about


class Struggle(NamedTuple):
    """A handshake that was begun and has not completed.  `why` is said once that takes too long."""

    since: float  # of the clock that the narrator is given
    endpoint: str
    why: str


class _Peer:
    __slots__ = ("began", "ever", "since", "told")

    def __init__(self) -> None:
        self.began = 0.0  # when the first that has not completed was
        self.since: float | None = None  # when the handshake under way was begun
        self.ever = False  # whether one has ever completed
        self.told = False  # that none completes


def short_key(public_key: bytes) -> str:
    """The start of a public key as `wg show` prints it: enough to tell peers apart."""
    return binascii.b2a_base64(public_key, newline=False)[:8].decode("ascii") + "..."


def format_endpoint(address: Address | tuple[str, int]) -> str:
    """host:port, with brackets where it takes them; a v4-mapped address as the IPv4 one it is."""
    host = address[0].removeprefix("::ffff:") if "." in address[0] else address[0]
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


class Narrator:
    """One for a tunnel."""

    def __init__(self) -> None:
        self._peers: dict[bytes, _Peer] = {}
        self._endpoints: dict[bytes, Address] = {}

    def event(self, event: TunnelEvent, now: float) -> list[Line]:
        """The lines, mostly none, for one event."""
        return [line._replace(peer=event.public_key) for line in self._lines(event, now)]

    def _lines(self, event: TunnelEvent, now: float) -> list[Line]:
        peer = self._peers.setdefault(event.public_key, _Peer())
        name = short_key(event.public_key)
        if isinstance(event, HandshakeStarted):
            return self._started(peer, name, event, now)
        if isinstance(event, HandshakeCompleted):
            return self._completed(peer, name, event, now)
        if isinstance(event, HandshakeGaveUp):
            peer.since = None
            return [
                Line(f"peer {name}: gave up after {event.attempts} attempts; it is tried again on demand", detail=True)
            ]
        if isinstance(event, EndpointMoved):
            self._endpoints[event.public_key] = event.new
            return [] if event.old is None else [Line(f"peer {name} has moved to {format_endpoint(event.new)}")]
        if isinstance(event, SessionExpired):
            return [Line(f"peer {name}: its keys were wiped", detail=True)]
        if isinstance(event, ClockJumped):
            return [
                Line(
                    f"peer {name}: its clock jumped {event.seconds:.0f} s ahead; set back, it is not heard for as long",
                    warning=True,
                )
            ]
        if isinstance(event, PathReturned):
            return [Line(f"peer {name} answers", detail=True)]
        assert_never(event)

    def _started(self, peer: _Peer, name: str, event: HandshakeStarted, now: float) -> list[Line]:
        self._endpoints[event.public_key] = event.endpoint
        endpoint = format_endpoint(event.endpoint)
        if peer.since is not None:
            return [Line(f"handshake with {name} at {endpoint}: attempt {event.attempt}", detail=True)]
        peer.since = now
        if not peer.told:
            peer.began = now
        return [Line(f"handshake with {name} at {endpoint} begun", detail=peer.ever or peer.told)]

    def _completed(self, peer: _Peer, name: str, event: HandshakeCompleted, now: float) -> list[Line]:
        self._endpoints[event.public_key] = event.endpoint
        endpoint = format_endpoint(event.endpoint)
        took = "" if peer.since is None or not event.initiator else f" in {duration(now - peer.since)}"
        if peer.told:
            line = Line(f"peer {name} at {endpoint} answers again: handshake completed")
        else:
            line = Line(f"handshake with {name} at {endpoint} completed{took}", detail=peer.ever)
        peer.since, peer.ever, peer.told = None, True, False
        return [line]

    def struggles(self) -> dict[bytes, Struggle]:
        """By public key, those that there are."""
        return {
            key: Struggle(
                peer.began,
                format_endpoint(self._endpoints[key]),
                (_WHY_LOST if peer.ever else _WHY_NEVER) if peer.told else "",
            )
            for key, peer in self._peers.items()
            if peer.told or peer.since is not None
        }

    def next_timeout(self) -> float | None:
        return min(
            (p.since + SILENCE for p in self._peers.values() if p.since is not None and not p.told), default=None
        )

    def handle_timeout(self, now: float) -> list[Line]:
        lines = []
        for key, peer in self._peers.items():
            if peer.since is None or peer.told or now < peer.since + SILENCE:
                continue
            peer.told = True
            where = f"{short_key(key)} at {format_endpoint(self._endpoints[key])}"
            if peer.ever:
                text = f"no handshake completes with {where} any more: {_WHY_LOST}"
            else:
                text = f"no handshake completes with {where}: {_WHY_NEVER}"
            lines.append(Line(text, warning=True, peer=key))
        return lines


_WHY_NEVER = (
    "usually the peer does not have our public key, we have a wrong one of its, or the preshared key differs; else UDP "
    "is blocked on the way, the endpoint is wrong, or our clock stands behind that of an earlier start; it is tried "
    "again on demand"
)
_WHY_LOST = (
    "usually this machine is offline, the far side is down, UDP is blocked on the way, or the far side has changed a "
    "key, perhaps the preshared key; it is tried again on demand"
)


def duration(seconds: float) -> str:
    """'12 ms' or '3.1 s'."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
