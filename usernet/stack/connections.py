"""All TCP connections of a host, and what happens between them and the rest of it.  Read RFC 9293 3.10.7.

The way of a segment: `step` for a flow that has a connection, `receive_unmatched` (a listener or a reset) for one
that has none.  After whatever may have changed a connection, `settle` looks at it once: has it been accepted, does it
want to send, is it over, when does it want to be woken.
"""

from __future__ import annotations

import errno
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

from usernet.burst.packets import Drops
from usernet.errors import NetworkUnreachable
from usernet.stack.attached import Attached, AttachedLocally
from usernet.stack.cookies import COOKIE_SECONDS, SynCookies
from usernet.stack.events import Accepted, HostEvent, Stalled
from usernet.stack.flows import choose_source, flow_key, no_longer_ours
from usernet.stack.forward import Forwards
from usernet.stack.listener import Forwarder, Listener
from usernet.stack.outbox import Outbox
from usernet.stack.ports import FlowSecrets, check_port, pick_port
from usernet.stack.stall import PROBE_INTERVAL, StallProbe
from usernet.stack.timers import TimerWheel
from usernet.tcp.connection import Connection
from usernet.tcp.pathmtu import PathMtus
from usernet.tcp.seq import MASK
from usernet.tcp.settings import Flow, TcpSettings
from usernet.tcp.state import CLOSED, SYN_RECEIVED, TIME_WAIT
from usernet.wire.icmp import Quoted
from usernet.wire.ip import format_address, is_multicast
from usernet.wire.tcp import ACK, FIN, RST, SYN, TcpSegment, encode_segment

# Beside the bits of a connection's readiness: it is on the host's ready list.  So whoever clears the readiness of what
# it took from the list clears this too, and a connection is listed once however often it is touched.
LISTED: Final = 1 << 7

MAX_TIME_WAIT: Final = 4096  # 2 KiB each; beyond them the oldest ends early, as with Linux's tcp_max_tw_buckets


class Connections:
    """`mark` puts a connection on the host's ready list; `emit` adds to its events."""

    __slots__ = (
        "_attached", "_drops", "_emit", "_listeners", "_mark", "_outbox", "_paths", "_random", "_resent",
        "_secrets", "_stall", "_time_wait", "_wheel", "addresses", "by_flow", "cookies", "forwards", "settings",
    )  # fmt: skip

    def __init__(
        self,
        addresses: tuple[bytes, ...],
        paths: PathMtus,
        settings: TcpSettings,
        random: Callable[[int], bytes],
        outbox: Outbox,
        wheel: TimerWheel,
        drops: Drops,
        mark: Callable[[Connection], None],
        emit: Callable[[HostEvent], None],
    ) -> None:
        self.addresses = addresses
        self._paths = paths
        self.settings = settings
        self._random = random
        self._secrets = FlowSecrets(random)
        self._outbox = outbox
        self._wheel = wheel
        self._drops = drops
        self._mark = mark
        self._emit = emit
        self._listeners: dict[tuple[bytes | None, int], Listener] = {}
        self._attached: dict[Connection, Attached] = {}
        self._resent = 0  # segments of connections that are gone
        # Oldest first.  A plain dict would look for its first entry among those that have left: 6 µs, not 0.1.
        self._time_wait: OrderedDict[Attached, None] = OrderedDict()
        self._stall: StallProbe[Attached] = StallProbe(lambda attached: attached.connection.stalled)
        self.by_flow: dict[bytes, Attached] = {}
        self.forwards = Forwards(self, wheel, drops, emit)
        self.cookies = SynCookies(self._secrets, settings, paths.largest)

    # Opening

    def connect(self, remote: bytes, remote_port: int, now: float, local_port: int, timeout: float) -> Connection:
        """Raises NetworkUnreachable; OSError with EADDRINUSE or EADDRNOTAVAIL when ports have run out."""
        check_port(remote_port)
        check_port(local_port)
        if is_multicast(remote):
            raise NetworkUnreachable(f"{format_address(remote)} is not the address of one host")
        local = choose_source(self.addresses, remote)
        if local_port:
            if not self._is_free(remote, local, remote_port, local_port):
                raise OSError(errno.EADDRINUSE, f"TCP port {local_port} is in use")
        else:
            # No closure: compiled, it was in a cycle with what it closes over, one for each dial
            chosen = pick_port(self._random, partial(self._is_free, remote, local, remote_port))
            if chosen is None:
                raise OSError(errno.EADDRNOTAVAIL, f"no port is free to connect to {format_address(remote)} from")
            local_port = chosen
        flow = Flow(local, local_port, remote, remote_port)
        key = flow_key(remote, local, remote_port, local_port)
        connection = Connection.connect(
            flow,
            self.settings,
            mtu=self._paths.to(flow.remote, now),
            isn=self._secrets.initial_sequence(key, now),
            timestamp_offset=self._secrets.timestamp_offset(key),
            now=now,
            timeout=timeout,
            drops=self._drops,
            paths=self._paths,
        )
        self._attach(connection, key, None, now)
        return connection

    def _is_free(self, remote: bytes, local: bytes, remote_port: int, port: int) -> bool:
        if (None, port) in self._listeners or (local, port) in self._listeners:
            return False
        return flow_key(remote, local, remote_port, port) not in self.by_flow

    def listen(self, port: int, address: bytes | None, backlog: int) -> Listener:
        """Raises OSError: EADDRINUSE, EADDRNOTAVAIL."""
        check_port(port)
        if address is not None and address not in self.addresses:
            raise OSError(errno.EADDRNOTAVAIL, f"{format_address(address)} is not an address of this tunnel")
        locals_ = (None, *self.addresses) if address is None else (None, address)

        def is_free(candidate: int) -> bool:
            return not any(
                (local, candidate) in self._listeners or self.forwards.is_taken(local, candidate) for local in locals_
            )

        chosen = port or pick_port(self._random, is_free)
        if chosen is None or not is_free(chosen):
            raise OSError(errno.EADDRINUSE, f"TCP port {port} is in use" if port else "no TCP port is free")
        listener = Listener(chosen, address, backlog, self._close_listener)
        self._listeners[address, chosen] = listener
        return listener

    def is_listening(self, address: bytes, port: int) -> bool:
        """Whether this address of ours listens there."""
        everywhere = address in self.addresses and (None, port) in self._listeners
        return everywhere or (address, port) in self._listeners

    def _close_listener(self, listener: Listener) -> None:
        del self._listeners[listener.address, listener.port]
        for key in list(listener.half_open):
            self.remove(self.by_flow[key])

    def _attach(self, connection: Connection, key: bytes, listener: Listener | None, now: float) -> Attached:
        if connection.flow.remote in self.addresses:
            local = AttachedLocally(connection, key, listener)
            local.outbox = self._outbox
            attached: Attached = local
        else:
            attached = Attached(connection, key, listener)
        self.by_flow[key] = attached
        self._attached[connection] = attached
        self.settle(attached, now)
        return attached

    def remove(self, attached: Attached) -> None:
        del self.by_flow[attached.key]
        del self._attached[attached.connection]
        self._resent += attached.connection.segments_resent
        self._wheel.cancel(attached)
        self._outbox.forget(attached)
        self._stall.discard(attached)
        self._time_wait.pop(attached, None)
        if attached.listener is not None:
            attached.listener.half_open.pop(attached.key, None)
            attached.listener = None

    # Segments

    def step(self, attached: Attached, segment: TcpSegment, now: float, segments: int, ce: bool) -> None:
        """One segment, or several merged into one, for a connection."""
        connection = attached.connection
        if segment.flags & SYN and connection.may_be_replaced_by(segment):
            # RFC 9293 3.6.1, RFC 6191: a SYN that cannot be an old one ends TIME-WAIT early
            self.remove(attached)
            self.receive_unmatched(connection.flow.remote, connection.flow.local, segment, now)
            return
        if (
            attached.listener is not None
            and segment.ack != connection.sender.iss + 1 & MASK
            and self._redeem(attached.listener, connection.flow, segment, now)
        ):
            return  # the client's first SYN met a full table and its second one room: it answers what came first
        connection.receive_segment(segment, now, segments=segments, ce=ce)
        self.settle(attached, now)

    def receive_unmatched(self, source: bytes, destination: bytes, segment: TcpSegment, now: float) -> None:
        """A segment of a flow that has no connection: LISTEN or CLOSED of RFC 9293 3.10.7."""
        flags = segment.flags
        port = segment.destination_port
        if flags & RST:  # never an answer to a reset
            if not self.forwards.hang_up(flow_key(source, destination, segment.source_port, port), segment):
                self._drops.count("tcp-reset-no-connection")
            return
        listener = self._listeners.get((destination, port)) or self._listeners.get((None, port))
        if listener is None or destination not in self.addresses:
            listener = self.forwards.takers.find(destination, port)
        if listener is not None:
            flow = Flow(destination, port, source, segment.source_port)
            if flags & (SYN | ACK | FIN) == SYN:
                self._open_passively(listener, flow, segment, now)
                return
            if self._redeem(listener, flow, segment, now):
                return
        self._drops.count("tcp-no-connection")
        self.refuse(source, destination, segment)

    def refuse(self, source: bytes, destination: bytes, segment: TcpSegment) -> None:
        """RFC 9293 3.10.7.1: the reset that fits the segment."""
        flags = segment.flags
        if flags & ACK:
            seq, ack, answer = segment.ack, 0, RST
        else:
            length = len(segment.payload) + bool(flags & SYN) + bool(flags & FIN)
            seq, ack, answer = 0, (segment.seq + length) & 0xFFFF_FFFF, RST | ACK
        ports = segment.destination_port, segment.source_port
        self._outbox.reply(encode_segment(destination, source, *ports, seq, ack, answer, 0), source)

    def _open_passively(self, listener: Listener, flow: Flow, syn: TcpSegment, now: float) -> None:
        key = flow_key(flow.remote, flow.local, flow.remote_port, flow.local_port)
        if isinstance(listener, Forwarder):
            self.forwards.ask(listener, flow, key, syn, now)
            return
        stale = listener.stale(now)
        if stale is not None:
            self._drops.count("tcp-backlog-evicted")
            self.remove(self.by_flow[stale])
        if listener.is_full:
            listener.cookies_until = now + COOKIE_SECONDS
            self._outbox.reply(self.cookies.answer(flow, key, syn, now), flow.remote)
            return
        self.accept(listener, flow, key, syn, self.settings, now)

    def accept(
        self, listener: Listener, flow: Flow, key: bytes, syn: TcpSegment, settings: TcpSettings, now: float
    ) -> None:
        """A half-open connection: its SYN-ACK is the next thing that leaves."""
        connection = Connection.accept(
            flow,
            settings,
            syn,
            mtu=self._paths.to(flow.remote, now),
            isn=self._secrets.initial_sequence(key, now),
            timestamp_offset=self._secrets.timestamp_offset(key),
            now=now,
            drops=self._drops,
            paths=self._paths,
        )
        listener.half_open[key] = now
        self._attach(connection, key, listener, now)

    def _redeem(self, listener: Listener, flow: Flow, ack: TcpSegment, now: float) -> bool:
        """An ACK that may bring back a cookie: then it finds its half-open connection, as if that had been there."""
        if ack.flags & (SYN | RST | ACK) != ACK or now >= listener.cookies_until:
            return False
        key = flow_key(flow.remote, flow.local, flow.remote_port, flow.local_port)
        syn = self.cookies.redeem(flow, key, ack, now)
        if syn is None:
            return False
        connection = Connection.accept_answered(
            flow,
            self.settings,
            syn,
            mtu=self._paths.to(flow.remote, now),
            isn=(ack.ack - 1) & MASK,
            timestamp_offset=self._secrets.timestamp_offset(key),
            now=now,
            drops=self._drops,
            paths=self._paths,
        )
        if key in self.by_flow:
            self.remove(self.by_flow[key])
        listener.half_open[key] = now  # not for long
        self.step(self._attach(connection, key, listener, now), ack, now, 1, ce=False)
        return True

    def receive_error(self, quoted: Quoted, error: OSError | int, now: float) -> None:
        """An ICMP error, or the MTU of a Packet Too Big, about a segment of ours; its sequence number must fit."""
        key = flow_key(quoted.destination, quoted.source, quoted.destination_port, quoted.source_port)
        attached = self.by_flow.get(key)
        if attached is None:
            self._drops.count("icmp-no-flow")
            return
        connection = attached.connection
        if isinstance(error, int):
            if connection.receive_packet_too_big(error, quoted.seq, now):
                self._path_narrowed(connection.flow.remote, connection.mtu, now)
        else:
            connection.receive_icmp_error(error, quoted.seq, now)
        self.settle(attached, now)

    def _path_narrowed(self, remote: bytes, mtu: int, now: float) -> None:
        """RFC 8201 5.4: whoever else goes that way has lost what was too large, and waits for its own time-out."""
        for attached in list(self.by_flow.values()):
            connection = attached.connection
            if connection.flow.remote == remote and connection.mtu > mtu:
                connection.path_narrowed(mtu, now)
                self.settle(attached, now)

    # Between segments

    def settle(self, attached: Attached, now: float) -> bool:
        """Whatever follows from the connection's state now; whether it wants to send."""
        connection = attached.connection
        if attached.listener is not None and connection.state is not SYN_RECEIVED:
            self._leave_backlog(attached, attached.listener)
        if 0 < connection.readiness < LISTED and attached.listener is None:
            connection.readiness |= LISTED
            self._mark(connection)
        wants_to_send: bool = connection.wants_to_send
        if wants_to_send:
            if not attached.is_queued:
                self._outbox.want(attached)
                return True  # its turn is next, and changes its timers
        elif connection.state is CLOSED:
            self.remove(attached)
            return False
        elif connection.state is TIME_WAIT:
            self._time_wait[attached] = None
            if len(self._time_wait) > MAX_TIME_WAIT:
                self.remove(next(iter(self._time_wait)))
        at = connection.next_timeout()
        if at is not None and at < attached.deadline:  # a timer that fires too early looks again
            self._wheel.schedule(attached, at)
        return wants_to_send

    def _leave_backlog(self, attached: Attached, listener: Listener) -> None:
        """The handshake is over; when it failed a forwarder's owner is told, and nobody else knew."""
        del listener.half_open[attached.key]
        attached.listener = None
        connection = attached.connection
        if isinstance(listener, Forwarder):
            self.forwards.handshake_over(attached.key, failed=connection.state is CLOSED)
        connection.readiness |= LISTED  # it is listed when its owner-to-be hears of it
        if connection.state is not CLOSED:
            self._emit(Accepted(listener, connection))

    def changed(self, connection: Connection, now: float) -> None:
        """The application has written, read or closed."""
        attached = self._attached.get(connection)
        if attached is not None and not attached.is_queued:  # else its turn is next, and settles it
            self.settle(attached, now)

    def fire(self, attached: Attached, now: float) -> Stalled | None:
        """The timer of a connection went off."""
        connection = attached.connection
        stalled = None
        at = connection.next_timeout()
        if at is not None and at <= now:
            connection.handle_timeout(now)
            if connection.stalled:
                stalled = Stalled(connection.flow.remote)
                if self._stall.add(attached, now):
                    self._wheel.schedule(self._stall, now + PROBE_INTERVAL)
        self.settle(attached, now)
        return stalled

    def probe(self, received: int, now: float) -> None:
        """The timer of the stall probe went off; `received` counts what has come in."""
        attached, again = self._stall.choose(received, now)
        if attached is not None:
            attached.connection.probe(now)
            self.settle(attached, now)
        if again:
            self._wheel.schedule(self._stall, now + PROBE_INTERVAL)

    def path_changed(self, now: float) -> None:
        """Every stalled connection tries at once."""
        self._stall.clear()
        for attached in list(self.by_flow.values()):
            if attached.connection.rtt.backoff:  # few of many: each rekey comes by here
                attached.connection.path_changed(now)
                self.settle(attached, now)

    def readdress(self, addresses: tuple[bytes, ...], gone: frozenset[bytes], mtu: int, now: float) -> None:
        """Connections of an address that is gone end; the others, and those to come, obey the MTU."""
        self.addresses = addresses
        self._paths.largest = self.cookies.mtu = mtu
        self.forwards.takers.readdress(addresses)
        for attached in list(self.by_flow.values()):
            connection = attached.connection
            lost = gone.intersection((connection.flow.local, connection.flow.remote))
            if lost:
                connection.die(no_longer_ours(lost), now)
            else:
                connection.path_narrowed(mtu, now)
            self.settle(attached, now)

    def count_by_state(self) -> dict[str, int]:
        return dict(Counter(attached.connection.state.value for attached in self.by_flow.values()))

    def count_resent(self) -> int:
        return self._resent + sum(attached.connection.segments_resent for attached in self.by_flow.values())

    def count_half_open(self) -> int:
        return sum(len(listener.half_open) for listener in self._listeners.values())
