"""The handshake's dialogue with each peer, and the consequences of its success or silence.

Read the WireGuard paper, 5.4 and 6, and Linux drivers/net/wireguard/{send,receive,timers}.c.  In order:

1. `start`: somebody wants a session.  An initiation leaves at once, or as soon as five seconds have passed.
2. `retry`: its deadline passed.  Another leaves, or the series is given up.
3. `process`: one handshake message from the intake.  An initiation is answered and gives a session for receiving
   (`next`); a response gives one for both (`current`); a cookie is kept for the next message.
4. `heard`: a datagram of a peer was authentic, whatever kind it was of.
5. `confirm`: the first data on `next`.
6. `erase`: keys have become too old to keep.

Both ends may initiate at once.  Each then answers the other while its own initiation stays valid, so that whichever
exchange completes first gives a session and a second one does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from usernet.burst.packets import Address, Drops, Kernel, SuperPacket
from usernet.errors import WireError
from usernet.wireguard.constants import TYPE_RESPONSE
from usernet.wireguard.crypto import tai64n
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
from usernet.wireguard.handshake import (
    Identity,
    Keypair,
    RemoteStatic,
    consume_initiation,
    consume_response,
    create_initiation,
    create_response,
)
from usernet.wireguard.intake import Intake, Verdict
from usernet.wireguard.outbox import KEEPALIVE, Outbox
from usernet.wireguard.peer import NO_RESERVED, Peer
from usernet.wireguard.session import IndexTable, Session
from usernet.wireguard.timers import NEVER, Agenda, Timing

_TIMESTAMP_STEP_NS: Final = 1 << 24  # timestamps are floored to this, so that they tell little of our clock


class Negotiator:
    """Shared by all peers of one tunnel; owns the tables that find a peer by key, by index and by time."""

    def __init__(
        self,
        identity: Identity,
        *,
        kernel: Kernel,
        random: Callable[[int], bytes],
        wall_ns: Callable[[], int],
        timing: Timing,
        outbox: Outbox,
        drops: Drops,
        timestamp_floor_ns: int,
    ) -> None:
        self.latest_timestamp_ns = timestamp_floor_ns  # the greatest that we have sent, to whomever
        self.identity = identity
        self.timing = timing
        self.peers: dict[bytes, Peer] = {}
        self.table: IndexTable[Peer] = IndexTable(random)
        self.agenda: Agenda[Peer] = Agenda()
        self.events: list[TunnelEvent] = []
        self.intake = Intake(identity, self.table, drops, random)
        self._kernel = kernel
        self._random = random
        self._wall_ns = wall_ns
        self._outbox = outbox
        self._drops = drops

    def identify(self, identity: Identity) -> None:
        """Be somebody else from now on."""
        self.identity = identity
        self.intake.identify(identity)

    # 1, 2: we initiate

    def start(self, peer: Peer, now: float) -> None:
        """Begin a series of initiations, unless one is running or there is nowhere to send it."""
        timers = peer.timers
        if timers.retry_at != NEVER or peer.endpoint is None:
            return
        peer.attempts = 0
        earliest = peer.last_message + self.timing.rekey_timeout
        if now >= earliest:
            self._initiate(peer, peer.endpoint, now)
        else:
            timers.retry_at = earliest
            self.agenda.arm(peer, earliest)

    def retry(self, peer: Peer, now: float) -> None:
        """`retry_at` has come.  A response of ours that left meanwhile is given the time an initiation has."""
        earliest = peer.last_message + self.timing.rekey_timeout
        if now < earliest:
            peer.timers.retry_at = earliest
            return
        if peer.endpoint is None or peer.attempts >= self.timing.handshake_attempts:
            self._give_up(peer)
            return
        if peer.attempts:
            peer.path_lost = True
            peer.local = b""
        self._initiate(peer, peer.endpoint, now)

    def _initiate(self, peer: Peer, endpoint: Address, now: float) -> None:
        self._withdraw(peer)
        peer.last_message = now
        # A clock that was set back must not make our timestamps repeat (paper, 5.1)
        peer.sent_timestamp_ns = max(self._wall_ns(), peer.sent_timestamp_ns + _TIMESTAMP_STEP_NS)
        self.latest_timestamp_ns = max(self.latest_timestamp_ns, peer.sent_timestamp_ns)
        index = self.table.allocate()
        try:
            initiation, message = create_initiation(
                self.identity, peer.remote, index, tai64n(peer.sent_timestamp_ns), self._random
            )
        except WireError as error:  # a key of low order: nothing is sent to it
            peer.timers.handshake_over()
            self._drops.count(error.reason)
            return
        self.table.pending[index] = peer
        peer.initiation = initiation
        peer.attempts += 1
        peer.timers.initiation_sent(now)
        self._send_message(peer, peer.cookies.add_macs(message, now), endpoint, now)
        self.events.append(HandshakeStarted(peer.public_key, endpoint, peer.attempts))

    def _give_up(self, peer: Peer) -> None:
        """The series is over, and with it what could make a late response valid.

        Linux now starts the timer that erases keys if it does not run; it runs from each session on, so here are none.
        """
        self._withdraw(peer)
        peer.timers.handshake_over()
        peer.timers.keepalive_at = NEVER
        purged = peer.staging.purge()
        if purged:
            self._drops.count("no-session", purged)
        self.events.append(HandshakeGaveUp(peer.public_key, peer.attempts, purged))

    def _withdraw(self, peer: Peer) -> None:
        """A response to our last initiation is no longer welcome."""
        if peer.initiation is not None:
            del self.table.pending[peer.initiation.local_index]
            peer.initiation = None

    def _send_message(self, peer: Peer, message: bytes, address: Address, now: float) -> None:
        """An initiation or a response; both count as authenticated and defer the next of ours."""
        peer.last_message = now
        peer.timers.sent(now, data=False)
        self.agenda.arm(peer, peer.timers.next_deadline)
        if self._outbox.put(message, address, peer.settings.reserved, peer.local):
            peer.tx_bytes += len(message)
        else:
            self._drops.count("outbox-full")

    # 3: a message of theirs

    def process(self, now: float) -> bool:
        """One message from the intake; True while more wait."""
        taken = self.intake.take(now)
        if taken is None:
            return False
        message, address, local, verdict = taken
        try:
            if verdict is Verdict.NEEDS_COOKIE:
                self._demand_cookie(message, address, local, now)
            elif verdict is Verdict.INITIATION:
                self._answer(message, address, local, now)
            elif verdict is Verdict.RESPONSE:
                self._conclude(message, address, local, now)
            elif verdict is Verdict.COOKIE_REPLY:
                self._keep_cookie(message, now)
        except WireError as error:
            self._drops.count(error.reason)
        return len(self.intake) > 0

    def _demand_cookie(self, message: bytes, address: Address, local: bytes, now: float) -> None:
        """Who sent an initiation is not known yet; a response names who it is for, and so who from."""
        peer = self.intake.addressee(message) if message[0] == TYPE_RESPONSE else None
        reserved = peer.settings.reserved if peer is not None else NO_RESERVED
        if not self._outbox.put(self.intake.cookie_reply(message, address, now), address, reserved, local):
            self._drops.count("outbox-full")

    def _known(self, public_key: bytes) -> RemoteStatic | None:
        peer = self.peers.get(public_key)
        return peer.remote if peer is not None else None

    def _answer(self, message: bytes, address: Address, local: bytes, now: float) -> None:
        consumed = consume_initiation(self.identity, message, self._known)
        peer = self.peers[consumed.remote.public_key]
        if consumed.timestamp <= peer.latest_timestamp:  # TAI64N compares as bytes
            raise WireError("initiation-replayed")
        if now < peer.last_accepted + self.timing.initiation_interval:
            raise WireError("initiation-flood")
        self._judge_clock(peer, consumed.timestamp, now)
        peer.latest_timestamp = consumed.timestamp
        peer.last_accepted = now

        response, keypair = create_response(self.identity, consumed, self.table.allocate(), self._random)
        self.heard(peer, address, local, len(message), now, data=False)
        session = self._derive(peer, keypair, now)
        self.table.remove(peer.slots.install_as_responder(session))
        self._send_message(peer, peer.cookies.add_macs(response, now), address, now)

    def _judge_clock(self, peer: Peer, timestamp: bytes, now: float) -> None:
        """Report a timestamp from the future: compared with the last one, or with our own clock if it is the first."""
        if peer.latest_timestamp:
            jump = _seconds(timestamp) - _seconds(peer.latest_timestamp) - (now - peer.last_accepted)
        else:
            jump = _seconds(timestamp) - _seconds(tai64n(self._wall_ns()))
        if jump > self.timing.clock_jump:
            self.events.append(ClockJumped(peer.public_key, jump))

    def _conclude(self, message: bytes, address: Address, local: bytes, now: float) -> None:
        peer = self.table.pending.get(int.from_bytes(message[8:12], "little"))
        if peer is None or peer.initiation is None:
            raise WireError("response-unexpected")  # a second one for the same initiation
        keypair = consume_response(self.identity, peer.initiation, peer.remote, message)
        self._withdraw(peer)
        self.heard(peer, address, local, len(message), now, data=False)
        session = self._derive(peer, keypair, now)
        self.table.remove(peer.slots.install_as_initiator(session))
        self._complete(peer, address, now, initiator=True)
        # The responder may send only once it has heard from us on this session: tell it at once
        self._send(peer, session, peer.staging.take() or [KEEPALIVE], address, now)

    def _keep_cookie(self, message: bytes, now: float) -> None:
        peer = self.intake.addressee(message)
        if peer is None:
            raise WireError("unknown-index")
        peer.cookies.consume_reply(message, now)

    def _derive(self, peer: Peer, keypair: Keypair, now: float) -> Session:
        session = Session(keypair, self._kernel, self.timing, now)
        self.table.add(peer, session)
        peer.timers.session_derived(now)
        self.agenda.arm(peer, peer.timers.next_deadline)
        return session

    def _complete(self, peer: Peer, address: Address, now: float, *, initiator: bool) -> None:
        peer.timers.handshake_over()
        peer.attempts = 0
        peer.handshakes += 1
        peer.last_handshake = now
        peer.last_handshake_wall_ns = self._wall_ns()
        self.events.append(HandshakeCompleted(peer.public_key, address, initiator))

    # 4, 5: data of theirs

    def heard(self, peer: Peer, address: Address, local: bytes, size: int, now: float, *, data: bool) -> None:
        """Something of theirs was authentic; `data`: it was more than a keepalive or a handshake."""
        peer.rx_bytes += size
        timers = peer.timers
        timers.received(now, data=data)
        if timers.keepalive_at < peer.armed_at:
            self.agenda.arm(peer, timers.keepalive_at)
        if address != peer.endpoint:  # roaming, only now that it is authentic (paper, 2.1)
            self.events.append(EndpointMoved(peer.public_key, peer.endpoint, address))
            peer.endpoint = address
        peer.local = local
        if peer.path_lost:
            peer.path_lost = False
            self.events.append(PathReturned(peer.public_key))

    def confirm(self, peer: Peer, address: Address, now: float) -> None:
        """The first authentic datagram on `next`."""
        self._withdraw(peer)
        self.table.remove(peer.slots.confirm())
        self._complete(peer, address, now, initiator=False)
        staged = peer.staging.take()
        session = peer.sending_session(now)
        if staged and session is not None:
            self._send(peer, session, staged, address, now)

    # What we send of ourselves, and the end of a session

    def send_keepalive(self, peer: Peer, now: float) -> None:
        """An empty packet, or a handshake if there is no session for it."""
        session = peer.sending_session(now)
        if session is None or peer.endpoint is None:
            self.start(peer, now)
        else:
            self._send(peer, session, [KEEPALIVE], peer.endpoint, now)
            self.keep_fresh(peer, session, now)

    def keep_fresh(self, peer: Peer, session: Session, now: float) -> None:
        """After sending: ask for a new key if this one is old or much used (paper, 6.2)."""
        if now >= session.rekey_at or session.send_key.counter > self.timing.rekey_after_messages:
            self.start(peer, now)

    def _send(self, peer: Peer, session: Session, packets: list[SuperPacket], address: Address, now: float) -> None:
        peer.tx_bytes += self._outbox.seal_apart(session, packets, address, peer.settings.reserved, peer.local)
        peer.timers.sent(now, data=packets[0] is not KEEPALIVE)
        self.agenda.arm(peer, peer.timers.next_deadline)

    def erase(self, peer: Peer) -> None:
        """Remove every key of a peer (paper, 6.2: three times REJECT-AFTER-TIME)."""
        self._withdraw(peer)
        peer.timers.keys_erased()
        fallen = peer.slots.clear()
        self.table.remove(fallen)
        if fallen:
            self.events.append(SessionExpired(peer.public_key))


def _seconds(timestamp: bytes) -> float:
    """A TAI64N label as seconds; its zero does not matter here."""
    return int.from_bytes(timestamp[:8], "big") - (1 << 62) + int.from_bytes(timestamp[8:], "big") / 1e9
