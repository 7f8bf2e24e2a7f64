"""A WireGuard interface without any I/O: datagrams on one side, super-packets on the other.

The way in, `receive_datagrams`: the header of a datagram names a session -> the kernel opens the run of datagrams
of that session -> the peer is noted as heard (negotiator.py) -> each row's inner source must be the peer's.
Anything else is a handshake message and goes to the intake; `process_handshake` works on one.
The way out, `seal`: each packet's destination names a peer -> its session seals the peer's packets in one call, or
they are staged and a handshake begins -> `datagrams_to_send`.
Time: `next_timeout` and `handle_timeout`; the rules are in timers.py.

Read the WireGuard paper, 2.1 (cryptokey routing) and 5.4.6 (transport data).  Nothing from the network raises here:
what is not right is dropped and counted in `statistics().drops`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from usernet.burst.packets import Address, DatagramBurst, Drops, Kernel, PacketBurst, SendBurst, SuperPacket
from usernet.wireguard.allowed_ips import AllowedIPs
from usernet.wireguard.constants import INITIATION_BYTES, MIN_DATA_BYTES
from usernet.wireguard.events import TunnelEvent
from usernet.wireguard.handshake import Identity, RemoteStatic
from usernet.wireguard.negotiator import Negotiator
from usernet.wireguard.outbox import Outbox
from usernet.wireguard.peer import NO_RESERVED, Peer, PeerSettings
from usernet.wireguard.reserved import clear_reserved
from usernet.wireguard.session import Session
from usernet.wireguard.statistics import TunnelStatistics
from usernet.wireguard.timers import NEVER, Timing

__all__ = ["PeerSettings", "Rejected", "Timing", "Tunnel"]

DEFAULT_MTU: Final = 1420


class Rejected(NamedTuple):
    """A packet that cannot be sent anywhere: its sender is owed an ICMP host unreachable."""

    packet: SuperPacket
    reason: Literal["no-route", "no-endpoint"]


class Ready(NamedTuple):
    """Whom packets are for, and what seals them."""

    peer: Peer
    session: Session
    endpoint: Address


def _destination(packet: SuperPacket) -> bytes:
    header = packet[0]
    return header[16:20] if header[:1] < b"\x50" else header[24:40]  # by the version of IP


class Tunnel:
    """Any number of peers under one private key.  `now` is CLOCK_BOOTTIME in seconds, `wall_ns` gives ns since 1970."""

    def __init__(
        self,
        private_key: bytes,
        *,
        kernel: Kernel,
        random: Callable[[int], bytes],
        wall_ns: Callable[[], int],
        mtu: int = DEFAULT_MTU,
        timing: Timing | None = None,
        timestamp_floor_ns: int = 0,
    ) -> None:
        """`timestamp_floor_ns`: no timestamp of ours is below, as earlier ones were not: see `latest_timestamp_ns`."""
        self._identity = Identity(private_key)
        self._kernel = kernel
        self._random = random
        self.mtu = mtu
        self._timing = timing if timing is not None else Timing()
        self._drops = Drops()
        self._outbox = Outbox(kernel, mtu)
        self._negotiator = Negotiator(
            self._identity,
            kernel=kernel,
            random=random,
            wall_ns=wall_ns,
            timing=self._timing,
            outbox=self._outbox,
            drops=self._drops,
            timestamp_floor_ns=timestamp_floor_ns,
        )
        self._peers = self._negotiator.peers
        self._sessions = self._negotiator.table.sessions
        self._agenda = self._negotiator.agenda
        self._allowed: AllowedIPs[Peer] = AllowedIPs()
        self._reserved: frozenset[bytes] = frozenset()

    # Peers

    @property
    def public_key(self) -> bytes:
        return self._identity.public_key

    def add_peer(self, settings: PeerSettings, now: float) -> None:
        """Add a peer, or give one that is there new settings; its sessions stay.  Our own public key is ignored."""
        public_key = settings.public_key
        if public_key == self.public_key:
            return
        peer = self._peers.get(public_key)
        remote = RemoteStatic(self._identity, public_key, settings.preshared_key)
        if peer is None:
            peer = Peer(settings, remote, self.mtu, self._timing, self._random)
            peer.sent_timestamp_ns = self.latest_timestamp_ns  # it may have been here before
            self._peers[public_key] = peer
        else:
            peer.settings, peer.remote = settings, remote
            if settings.endpoint is not None:
                peer.endpoint, peer.local = settings.endpoint, b""
            self._allowed.remove(peer)
        for network, length in settings.allowed_ips:
            self._allowed.insert(network, length, peer)
        self._note_reserved()
        self._set_keepalive(peer, settings.persistent_keepalive or NEVER, now)

    def set_private_key(self, private_key: bytes, now: float) -> None:
        """Become somebody else.  Sessions were made with who we were: they end, and are asked for anew.

        A peer with our own new public key is forgotten.
        """
        self._identity = identity = Identity(private_key)
        negotiator = self._negotiator
        negotiator.identify(identity)
        self.remove_peer(identity.public_key)
        for peer in self._peers.values():
            peer.remote = RemoteStatic(identity, peer.public_key, peer.settings.preshared_key)
            was_used = peer.slots.current is not None or peer.timers.retry_at != NEVER
            negotiator.erase(peer)
            peer.timers.handshake_over()
            if was_used:
                negotiator.start(peer, now)

    def set_mtu(self, mtu: int) -> None:
        """The largest inner packet, which padding does not exceed."""
        self.mtu = self._outbox.mtu = mtu

    def remove_peer(self, public_key: bytes) -> None:
        """Forget a peer and wipe its keys; nothing happens if there is none."""
        peer = self._peers.pop(public_key, None)
        if peer is None:
            return
        self._negotiator.erase(peer)
        purged = peer.staging.purge()
        if purged:
            self._drops.count("peer-removed", purged)
        self._agenda.disarm(peer)
        self._allowed.remove(peer)
        self._note_reserved()

    @property
    def latest_timestamp_ns(self) -> int:
        """The greatest timestamp that a handshake of ours has carried, ns since 1970: a later start goes beyond it."""
        return self._negotiator.latest_timestamp_ns

    def set_endpoint(self, public_key: bytes, address: Address) -> None:
        """Where the peer is to be found from now on, until it moves.  KeyError if there is no such peer."""
        peer = self._peers[public_key]
        known, peer.endpoint, peer.local = peer.endpoint, address, b""
        timers = peer.timers
        if known is None and timers.persistent_keepalive != NEVER:  # it can begin now
            timers.last_traversal -= timers.persistent_keepalive
            self._agenda.arm(peer, timers.persistent_at)

    def route(self, address: bytes) -> bytes | None:
        """The public key of the peer for an inner address."""
        peer = self._allowed.lookup(address)
        return peer.public_key if peer is not None else None

    def has_session(self, public_key: bytes, now: float) -> bool:
        """Whether data for the peer would leave at once."""
        return self._peers[public_key].sending_session(now) is not None

    def unanswered_since(self, public_key: bytes) -> float | None:
        """When data went to the peer and nothing authentic has come from it since; None where something has."""
        timers = self._peers[public_key].timers
        return timers.unanswered_since if timers.silence_at != NEVER else None

    def request_handshake(self, public_key: bytes, now: float) -> None:
        """Somebody waits for a session, or doubts that the peer still answers.  Never above one initiation in 5 s."""
        self._negotiator.start(self._peers[public_key], now)

    def endpoints(self) -> list[Address]:
        """Where the peers are, as far as it is known."""
        return [peer.endpoint for peer in self._peers.values() if peer.endpoint is not None]

    def path_changed(self, now: float) -> None:
        """Our own address may be another.  A peer follows once something authentic comes from there (paper, 2.1), so it
        hears from us at once.  Not to trust one datagram, and to learn that the path is good, we ask for a session,
        too.  Peers without one have nothing to follow.
        """
        for peer in self._peers.values():
            peer.local = b""
            if peer.sending_session(now) is not None:
                peer.path_lost = True
                self._negotiator.send_keepalive(peer, now)
                self._negotiator.start(peer, now)

    def _set_keepalive(self, peer: Peer, interval: float, now: float) -> None:
        """A persistent keepalive begins with a packet at once, which makes the session."""
        if interval == peer.timers.persistent_keepalive:
            return
        peer.timers.persistent_keepalive = interval
        peer.timers.last_traversal = now - interval if interval != NEVER else now
        self._agenda.arm(peer, peer.timers.next_deadline)

    def _note_reserved(self) -> None:
        self._reserved = frozenset(peer.settings.reserved for peer in self._peers.values()) - {NO_RESERVED}

    # The way in

    def receive_datagrams(self, burst: DatagramBurst, out: PacketBurst, now: float) -> None:
        """Open a burst; rows whose inner source is their peer's are appended to `out`."""
        if self._reserved:
            burst = clear_reserved(burst, self._reserved, self._negotiator.intake, self._negotiator.table)
        buf, stride, count = burst.buf, burst.stride, len(burst.lengths)
        sessions = self._sessions
        number = 0
        while number < count:
            at = number * stride
            found = sessions.get(bytes(buf[at : at + 8]))
            if found is None:
                self._receive_other(burst, number)
                number += 1
            else:
                number += self._receive_data(*found, burst, number, out, now)

    def _receive_other(self, burst: DatagramBurst, number: int) -> None:
        """Not data of a session we know."""
        at, length = number * burst.stride, burst.lengths[number]
        head = bytes(burst.buf[at : at + min(length, 4)])
        if head == b"\x04\0\0\0":
            self._drops.count("unknown-index" if length >= MIN_DATA_BYTES else "data-length")
        elif length > INITIATION_BYTES:
            self._drops.count("unknown-type")  # no handshake message is as long: do not copy it
        else:
            self._negotiator.intake.push(bytes(burst.buf[at : at + length]), burst.address, burst.local)

    def _receive_data(
        self, peer: Peer, session: Session, burst: DatagramBurst, number: int, out: PacketBurst, now: float
    ) -> int:
        """A run of datagrams of one session, from `number` on; how many they were."""
        if now >= session.reject_at:
            self._drops.count("session-expired")
            return 1
        rows = out.rows
        first = len(rows)
        opened = self._kernel.open_burst(session.receive_key, burst, number, out, self._drops)
        if opened.authentic:
            negotiator = self._negotiator
            negotiator.heard(peer, burst.address, burst.local, opened.authentic_bytes, now, data=opened.data > 0)
            if session is peer.slots.next:
                negotiator.confirm(peer, burst.address, now)
            current = peer.slots.current
            if current is not None and now >= current.refresh_at:  # once, for who only receives
                current.refresh_at = NEVER
                negotiator.start(peer, now)
            if len(rows) > first:
                self._check_sources(peer, out, first)
        elif opened.datagrams == 0:
            self._drops.count("data-length")  # the header alone is not a datagram
            return 1
        return opened.datagrams

    def _check_sources(self, peer: Peer, out: PacketBurst, first: int) -> None:
        """Cryptokey routing: the inner source must map to the peer that sent it (paper, 2.1)."""
        buf, rows, lookup = out.buf, out.rows, self._allowed.lookup
        foreign: list[int] = []
        for number in range(first, len(rows)):
            at = rows[number][0]
            source = buf[at + 12 : at + 16] if buf[at] >> 4 == 4 else buf[at + 8 : at + 24]
            if lookup(bytes(source)) is not peer:
                foreign.append(number)
        for number in reversed(foreign):
            self._drops.count("source-not-allowed", rows[number][3])
            del rows[number]

    def process_handshake(self, now: float) -> bool:
        """Work on one handshake message; True while more wait."""
        return self._negotiator.process(now)

    # The way out

    def seal(self, packets: Sequence[SuperPacket], now: float) -> list[Rejected]:
        """Seal packets, or stage those whose peer has no session yet.  Ends what `datagrams_to_send` gave before."""
        rejected: list[Rejected] = []
        groups: dict[Peer, list[SuperPacket]] = {}
        lookup = self._allowed.lookup
        self._outbox.begin()
        for packet in packets:
            destination = _destination(packet)
            if len(destination) not in (4, 16):
                self._drops.count("not-ip")
                continue
            peer = lookup(destination)
            if peer is None:
                rejected.append(Rejected(packet, "no-route"))
            elif peer in groups:
                groups[peer].append(packet)
            else:
                groups[peer] = [packet]
        for peer, group in groups.items():
            if peer.endpoint is None:
                rejected.extend(Rejected(packet, "no-endpoint") for packet in group)
            else:
                self._send(peer, peer.endpoint, group, now)
        return rejected

    def _send(self, peer: Peer, endpoint: Address, packets: list[SuperPacket], now: float) -> None:
        session, sealed = peer.sending_session(now), 0
        if session is not None:
            sealed = self._outbox.seal(session, packets, endpoint, peer.settings.reserved, peer.local)
        if session is None or not sealed:  # or its counter could pass the limit within these
            self._stage(peer, packets, now)
            return
        self.note_sealed(peer, session, sealed, now)

    def ready_to_seal(self, packets: Sequence[SuperPacket], now: float) -> Ready | None:
        """The one peer that all of them are for and its session, if that is all there is to it: for who seals them
        elsewhere and then calls `note_sealed`."""
        destinations = set(map(_destination, packets))
        peers = {self._allowed.lookup(each) if len(each) in (4, 16) else None for each in destinations}
        peer = peers.pop()
        if peer is None or peers or peer.endpoint is None or peer.settings.reserved != NO_RESERVED:
            return None
        if self._outbox.is_waiting:  # what was staged goes first
            return None
        session = peer.sending_session(now)
        return None if session is None else Ready(peer, session, peer.endpoint)

    def note_sealed(self, peer: Peer, session: Session, sealed: int, now: float) -> None:
        """Data for a peer is on its way: so many bytes on the wire."""
        peer.tx_bytes += sealed
        timers = peer.timers
        timers.sent(now, data=True)
        if timers.silence_at < peer.armed_at:
            self._agenda.arm(peer, timers.silence_at)
        self._negotiator.keep_fresh(peer, session, now)

    def _stage(self, peer: Peer, packets: list[SuperPacket], now: float) -> None:
        dropped = sum(map(peer.staging.stage, packets))
        if dropped:
            self._drops.count("staging-full", dropped)
        self._negotiator.start(peer, now)

    def datagrams_to_send(self, now: float) -> list[SendBurst]:
        """All that is ready, each burst fit for one sendmsg.  Those from `seal` are valid until the next `seal`."""
        return self._outbox.take()

    # Events, time, statistics

    def events(self) -> list[TunnelEvent]:
        """What has happened since the last call."""
        events, self._negotiator.events = self._negotiator.events, []
        return events

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, in the time of `now`; O(1)."""
        return self._agenda.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        for peer in self._agenda.due(now):
            self._handle_due(peer, now)
            self._agenda.arm(peer, peer.timers.next_deadline)

    def _handle_due(self, peer: Peer, now: float) -> None:
        timers, negotiator = peer.timers, self._negotiator
        if now >= timers.zero_at:  # first: after a long sleep all of them are due
            negotiator.erase(peer)
        if now >= timers.retry_at:
            negotiator.retry(peer, now)
        if now >= timers.silence_at:
            timers.silence_at = NEVER
            peer.path_lost = True
            peer.local = b""  # it may be why, as Linux thinks, too
            negotiator.start(peer, now)
        if now >= timers.keepalive_at:
            timers.keepalive_at = NEVER
            negotiator.send_keepalive(peer, now)
        if now >= timers.persistent_at:
            timers.last_traversal = now  # even if nothing could be sent
            negotiator.send_keepalive(peer, now)

    def statistics(self) -> TunnelStatistics:
        """A snapshot."""
        return TunnelStatistics(
            drops=dict(self._drops),
            peers=tuple(peer.statistics() for peer in self._peers.values()),
            handshakes_waiting=len(self._negotiator.intake),
            indices=len(self._negotiator.table),
        )
