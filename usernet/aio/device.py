"""THE pump: what moves bursts between the outer socket, the tunnel and the inner link.

One turn, in order:
1. receive: drain the socket, open what came, hand rows to the link;
2. timers, if their time has come;
3. handshakes, at most 2 ms of them;
4. events, for whoever watches;
5. transmit: while the socket takes more, pull from the link, seal, send.

A turn is run by the socket being readable or writable, by the one timer, or by a wake: somebody wrote to a connection.
Wakes are coalesced into one turn.  Nothing here runs while nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from usernet.aio.capture import Tap
from usernet.aio.runtime import boottime, log
from usernet.aio.sealer import Sealer
from usernet.burst.packets import CHECKSUM_OK, PacketBurst, SendBurst
from usernet.links import DatagramLink, PacketLink
from usernet.wire.icmp import Kind, unreachable_for
from usernet.wireguard.events import HandshakeCompleted, PathReturned, TunnelEvent
from usernet.wireguard.tunnel import Rejected, Tunnel

# Hand rows over once this much has been opened: while it still lies in the processor's cache, and bounded by the burst.
DELIVER_BYTES: Final = 256 << 10
# One full super-packet; then let the loop look at everything else before sending on.  More at a time costs as much.
TAKE_BYTES: Final = 64 << 10
TURN_BYTES: Final = 64 << 10
HANDSHAKE_SECONDS: Final = 0.002
# uvloop rounds to this: what is asked for below it could fire at once, over and over.
TIMER_RESOLUTION: Final = 0.001
# After a turn that failed: not at once, so that one which always fails leaves the loop to others.
RETRY_SECONDS: Final = 0.1


class Device:
    """Joins one tunnel, one DatagramLink and one PacketLink.  All three are its owner's, and outlive it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnel: Tunnel,
        datagram_link: DatagramLink,
        packet_link: PacketLink,
        on_event: Callable[[TunnelEvent], None],
        sealer: Sealer | None = None,
    ) -> None:
        self._loop = loop
        self._tunnel = tunnel
        self._datagrams = datagram_link
        self._packets = packet_link
        self._on_event = on_event
        self._sealer = sealer
        self._burst = PacketBurst()
        self._unsent: list[SendBurst] = []  # what the socket did not take: valid until the next seal, so seal nothing
        self._in_turn = False
        self._woken = False
        self._scheduled: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_running = False  # from start to close

    def start(self) -> None:
        self._is_running = True
        self._packets.on_wake(self.wake)
        self._datagrams.on_readable(self._readable)
        if self._sealer is not None:
            self._sealer.start(self._sealed)
        self.wake()  # for what has been asked of it before

    def close(self) -> None:
        """Stop; what the link still has to say is sent if the socket takes it.  Nothing, where it was not started."""
        if not self._is_running:
            return
        try:
            self._turn(receive=False)
        except Exception:  # noqa: BLE001 - whatever it was, this is the end
            log.exception("the last turn of the tunnel's pump failed")
        self._is_running = False
        if self._sealer is not None:
            self._send_rest(self._sealer.close())
        self._datagrams.on_writable(None)
        for handle in (self._scheduled, self._timer):
            if handle is not None:
                handle.cancel()
        self._scheduled = self._timer = None

    def wake(self) -> None:
        """The link has something to send, or an earlier deadline.  Cheap, and callable from within a turn."""
        self._woken = True
        if self._is_running and not (self._in_turn or self._scheduled or self._unsent):
            self._scheduled = self._loop.call_soon(self._woken_turn)

    def _woken_turn(self) -> None:
        self._scheduled = None
        if self._woken:  # a turn for another reason may have seen to it already
            self._turn(receive=False)

    def _readable(self) -> None:
        self._turn(receive=True)

    def _writable(self) -> None:
        self._datagrams.on_writable(None)
        unsent, self._unsent = self._unsent, []
        if self._send(unsent):
            self._turn(receive=False)

    def _sealed(self) -> None:
        """The second core is done with something."""
        if self._sealer is not None:
            self._send_rest(self._sealer.collect())
            self._turn(receive=False)

    def _send_rest(self, bursts: list[SendBurst]) -> None:
        """Send, behind what the second core could not and the socket would not take either."""
        if self._unsent:
            self._unsent += bursts
        else:
            self._send(bursts)

    def rebind(self, renew: Callable[[], None]) -> None:
        """`renew` replaces the outer sockets; what has come to the old ones is taken first, so that it is not lost.

        The second core has none of them then: its duplicate would keep the port.
        """
        if self._in_turn:  # asked for by an event's callback
            self._loop.call_soon(self.rebind, renew)
            return
        if self._is_running:
            self._turn(receive=True)
            if self._sealer is not None:
                self._send_rest(self._sealer.finish())
        renew()
        self.wake()

    @contextlib.contextmanager
    def tapped(self, tap: Tap) -> Iterator[None]:
        """While the block lasts, `tap` is before the link there is."""
        tap.link, self._packets = self._packets, tap
        try:
            yield
        finally:
            self._untap(tap)

    def _untap(self, tap: Tap) -> None:
        """Wherever it is: others may have been put before it since."""
        if self._packets is tap:
            self._packets = tap.link
            return
        before = self._packets
        while isinstance(before, Tap) and before.link is not tap:
            before = before.link
        if isinstance(before, Tap):
            before.link = tap.link

    def path_changed(self) -> None:
        """What is stalled tries at once."""
        self._packets.path_changed(boottime())
        self.wake()

    def _timer_fired(self) -> None:
        self._timer = None
        self._turn(receive=False)

    def _turn(self, *, receive: bool) -> None:
        if not self._is_running:
            return
        now = boottime()
        self._in_turn = True
        try:
            if receive:
                self._receive(now)
            self._handle_timeouts(now)
            waiting = self._handshakes(now)
            self._take_events(now)
            self._transmit(now)
            self._take_events(now)
        except BaseException:
            self._arm_at(now + RETRY_SECONDS, now)  # for whatever it had still to do, and was woken for
            raise
        finally:
            self._in_turn = False
        if (self._woken or waiting) and not self._unsent:
            self.wake()  # handshakes wait, or events or the turn's byte limit left something to send
        self._arm(now)

    def _receive(self, now: float) -> None:
        out = self._burst
        receive = self._tunnel.receive_datagrams
        opened = 0
        for burst in self._datagrams.receive():
            size = sum(burst.lengths)
            if opened + size > DELIVER_BYTES and out.rows:
                self._deliver(now)
                opened = 0
            opened += size
            receive(burst, out, now)
        if out.rows:
            self._deliver(now)

    def _deliver(self, now: float) -> None:
        try:
            self._packets.deliver(self._burst, now)
        finally:
            self._burst.clear()  # should the link have failed at one of these, it must not meet it in every turn

    def _handle_timeouts(self, now: float) -> None:
        due = self._tunnel.next_timeout()
        if due is not None and due <= now:
            self._tunnel.handle_timeout(now)
        due = self._packets.next_timeout()
        if due is not None and due <= now:
            self._packets.handle_timeout(now)

    def _handshakes(self, now: float) -> bool:
        """Whether more of them wait than the time allows: for the next turn, data first."""
        if not self._tunnel.process_handshake(now):
            return False
        end = boottime() + HANDSHAKE_SECONDS  # `now` is the turn's beginning, before all that was received
        while self._tunnel.process_handshake(now):
            if boottime() > end:
                return True
        return False

    def _take_events(self, now: float) -> None:
        for event in self._tunnel.events():
            if isinstance(event, HandshakeCompleted | PathReturned):
                self._packets.path_changed(now)
            self._on_event(event)

    def _transmit(self, now: float) -> None:
        """Pull, seal and send, or have it done, until nothing is left or the socket would block."""
        tunnel, take, sealer = self._tunnel, self._packets.take, self._sealer
        sent = 0
        while not self._unsent:
            self._woken = False
            if sealer is not None and sealer.is_full:
                return  # it tells when it takes more
            packets = take(TAKE_BYTES, now)
            submitted = sealer.submit(packets, now) if sealer is not None and packets else 0
            if packets and not submitted:
                if sealer is not None and sealer.jobs:  # these must not overtake what it has
                    self._send_rest(sealer.finish())
                rejected = tunnel.seal(packets, now)
                if rejected:
                    self._bounce(rejected, now)
            bursts = tunnel.datagrams_to_send(now)
            if bursts:
                self._send_rest(bursts)
            elif not packets and not self._woken:
                return
            sent += submitted + sum(len(burst.buf) for burst in bursts)
            if sent >= TURN_BYTES:
                self._woken = True
                return

    def _send(self, bursts: list[SendBurst]) -> bool:
        send = self._datagrams.send
        for index, burst in enumerate(bursts):
            if not send(burst):
                self._unsent = bursts[index:]
                self._datagrams.on_writable(self._writable)
                return False
        return True

    def _bounce(self, rejected: list[Rejected], now: float) -> None:
        """Tell the inner sender that its packet went nowhere, as a router would (WireGuard: host unreachable)."""
        burst = PacketBurst(0)
        for packet, _ in rejected:
            error = unreachable_for(packet.header + b"".join(packet.pieces), Kind.HOST_UNREACHABLE)
            if error is not None:
                burst.rows.append((len(burst.buf), len(error), 0, 1, 20 if error[0] >> 4 == 4 else 40, CHECKSUM_OK))
                burst.buf += error
        if burst.rows:
            self._packets.deliver(burst, now)

    def _arm(self, now: float) -> None:
        """Keep one loop timer at or before the earliest deadline; one that moved back lets it fire for nothing."""
        first, second = self._tunnel.next_timeout(), self._packets.next_timeout()
        deadline = second if first is None else first if second is None else min(first, second)
        if deadline is None:
            return
        if deadline <= now:  # it loops packets back to itself
            self.wake()
        else:
            self._arm_at(deadline, now)

    def _arm_at(self, deadline: float, now: float) -> None:
        if self._timer is not None and self._timer_at <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(TIMER_RESOLUTION, deadline - now), self._timer_fired)
