"""One peer: who it is, where it is, its sessions, what waits for it, and when it is to be looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from usernet.burst.packets import Address
from usernet.wireguard.cookies import CookieJar
from usernet.wireguard.handshake import Initiation, RemoteStatic
from usernet.wireguard.session import KeySlots, Session
from usernet.wireguard.staging import Staging
from usernet.wireguard.statistics import PeerStatistics
from usernet.wireguard.timers import NEVER, PeerTimers, Timing

LONG_AGO: Final = -math.inf
NO_RESERVED: Final = bytes(3)


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What a configuration says of a peer.  Networks are (address, prefix length), the keepalive is seconds, 0 = off.

    `reserved` stands in bytes 1 to 3 of every datagram in place of zeros, for servers that tell clients apart by it.
    """

    public_key: bytes
    preshared_key: bytes | None = field(default=None, repr=False)
    allowed_ips: tuple[tuple[bytes, int], ...] = ()
    endpoint: Address | None = None
    persistent_keepalive: int = 0
    reserved: bytes = NO_RESERVED


class Peer:
    """State only; what happens to it is decided in negotiator.py and tunnel.py."""

    __slots__ = (
        "armed_at",
        "attempts",
        "cookies",
        "endpoint",
        "handshakes",
        "initiation",
        "last_accepted",
        "last_handshake",
        "last_handshake_wall_ns",
        "last_message",
        "latest_timestamp",
        "local",
        "path_lost",
        "remote",
        "rx_bytes",
        "sent_timestamp_ns",
        "settings",
        "slots",
        "staging",
        "timers",
        "tx_bytes",
    )

    def __init__(
        self, settings: PeerSettings, remote: RemoteStatic, mtu: int, timing: Timing, random: Callable[[int], bytes]
    ) -> None:
        self.settings = settings
        self.remote = remote
        self.endpoint = settings.endpoint
        self.local = b""  # our address that its last authentic datagram came to, so that answers leave from there
        self.slots = KeySlots()
        self.staging = Staging(mtu)
        self.cookies = CookieJar(settings.public_key)
        self.timers = PeerTimers(timing, random)
        self.armed_at = NEVER  # the agenda's

        # As initiator
        self.initiation: Initiation | None = None  # the one that waits for its response
        self.attempts = 0  # initiations sent in this series
        self.last_message = LONG_AGO  # when an initiation or response of ours was sent last
        self.sent_timestamp_ns = 0

        # As responder
        self.latest_timestamp = b""  # TAI64N, the greatest accepted
        self.last_accepted = LONG_AGO  # when

        self.path_lost = False  # it does not answer: tell when it does again
        self.handshakes = 0
        self.last_handshake: float | None = None
        self.last_handshake_wall_ns: int | None = None
        self.rx_bytes = 0
        self.tx_bytes = 0

    @property
    def public_key(self) -> bytes:
        return self.settings.public_key

    def sending_session(self, now: float) -> Session | None:
        """The session to send on, if there is one that may still be used (paper, 6.2)."""
        session = self.slots.current
        if session is None or now >= session.reject_at:
            return None
        if session.send_key.counter >= self.timers.timing.reject_after_messages:
            return None
        return session

    def statistics(self) -> PeerStatistics:
        return PeerStatistics(
            public_key=self.public_key,
            endpoint=self.endpoint,
            last_handshake=self.last_handshake,
            last_handshake_wall_ns=self.last_handshake_wall_ns,
            handshakes=self.handshakes,
            rx_bytes=self.rx_bytes,
            tx_bytes=self.tx_bytes,
            staged_packets=len(self.staging),
            staged_bytes=self.staging.bytes,
            session=self.slots.current is not None,
        )
