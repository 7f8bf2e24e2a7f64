"""A host inside the tunnel: addresses, TCP, UDP, ICMP.  Read RFC 1122 3 and what RFC 8200 asks of a host.

The six verbs are those of the tunnel: `receive_packets`, `connect`/`listen`/`open_udp`/`ping` and `changed` (what the
application wants), `take` (the pull), `events`, `next_timeout`, `handle_timeout`; and `path_changed`.

The way of a row: `receive_packets` finds the connection by the flow's own bytes, and `connections.step` does the
rest.  Whatever is not a plain TCP segment of a known flow takes the long way: `_receive_packet` parses and asks
whether it is for us, `_dispatch` hands it to reassembly, TCP, UDP or ICMP.  Only WireError is raised in there, and it
ends here, counted.

After each call the owner looks at `events()` and then at `ready`: connections and sockets whose `readiness` is not
zero.  It takes the list, and sets the readiness of each to 0: until then it is not listed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from usernet.burst.packets import CHECKSUM_OK, ECN_CE, Drops, PacketBurst, SuperPacket
from usernet.errors import WireError
from usernet.stack.attached import Attached
from usernet.stack.connections import Connections
from usernet.stack.events import Accepted, EchoFailed, EchoReply, HostEvent, Stalled
from usernet.stack.flows import choose_source, flow_key, why_not_ours
from usernet.stack.forward import Asking
from usernet.stack.icmp import IcmpSender, error_of
from usernet.stack.listener import Listener
from usernet.stack.outbox import Outbox
from usernet.stack.reassembly import CAPACITY_V4, CAPACITY_V6, TIMEOUT_V4, TIMEOUT_V6, Reassembler
from usernet.stack.schedule import Sender
from usernet.stack.stall import StallProbe
from usernet.stack.statistics import HostStatistics
from usernet.stack.timers import TimerWheel
from usernet.stack.udp import UdpSocket, UdpSockets
from usernet.stack.udpflow import Look
from usernet.stack.udpflows import UdpFlows
from usernet.tcp.connection import Connection
from usernet.tcp.pathmtu import PathMtus
from usernet.tcp.settings import TcpSettings
from usernet.tcp.tcb import NEVER
from usernet.wire.icmp import Echo, IcmpError, Kind, parse_icmp
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP, IpPacket, names_one_host
from usernet.wire.ipv6 import NO_NEXT_HEADER, UNRECOGNIZED_NEXT_HEADER, HeaderProblem
from usernet.wire.packet import checksum_holds, parse_packet
from usernet.wire.tcp import parse_segment
from usernet.wire.udp import parse_udp


class Host:
    """One host.  `addresses` are its own, 4 or 16 bytes; `mtu` is the tunnel's; `random` is like os.urandom."""

    def __init__(
        self,
        addresses: Sequence[bytes],
        *,
        mtu: int,
        random: Callable[[int], bytes],
        settings: TcpSettings | None = None,
    ) -> None:
        self.addresses = tuple(addresses)
        self.mtu = mtu
        self.ready: list[Connection | UdpSocket] = []
        self._own = frozenset(addresses)
        self._events: list[HostEvent] = []
        self._drops = Drops()
        self._wheel = TimerWheel()
        self._outbox = Outbox(self._own, mtu, self._drops, self._after_turn)
        self._paths = PathMtus(mtu)
        self._connections = Connections(
            self.addresses,
            self._paths,
            settings or TcpSettings(),
            random,
            self._outbox,
            self._wheel,
            self._drops,
            self._mark_connection,
            self._emit,
        )
        self.forwards = self._connections.forwards  # inbound connections for others: open, admit, refuse
        self._udp = UdpSockets(self.addresses, self._paths, random, self._outbox, self._drops, self._mark_socket)
        self._icmp = IcmpSender(self._outbox, self._drops, mtu, random)
        self.flows = UdpFlows(self._udp, self._icmp, self._wheel, self._drops, self._emit)  # the same for UDP
        self._reassembly_v4 = Reassembler(CAPACITY_V4, TIMEOUT_V4, self._drops)
        self._reassembly_v6 = Reassembler(CAPACITY_V6, TIMEOUT_V6, self._drops)
        self._now = 0.0
        self._rows_in = self._packets_in = self._bytes_in = 0
        self._super_packets_out = self._packets_out = self._bytes_out = 0

    # Receiving

    def receive_packets(self, burst: PacketBurst, now: float) -> None:
        """Take in a burst that came out of the tunnel."""
        self._receive(burst, now, looped=False)

    def _receive(self, burst: PacketBurst, now: float, *, looped: bool) -> None:
        self._now = now
        buf = memoryview(burst.buf)
        by_flow, step = self._connections.by_flow, self._connections.step
        packets_in = bytes_in = 0
        for offset, length, mss, segments, transport, flags in burst.rows:
            packets_in += segments
            bytes_in += length
            try:
                if flags & CHECKSUM_OK:
                    # the shortest headers, where addresses and ports are neighbours
                    if transport == 20 and buf[offset + 9] == TCP:
                        key = buf[offset + 12 : offset + 24].tobytes()
                    elif transport == 40 and buf[offset + 6] == TCP and buf[offset] >> 4 == 6:
                        key = buf[offset + 8 : offset + 44].tobytes()
                    else:
                        key = b""
                    attached = by_flow.get(key)
                    if attached is not None and attached.is_local is looped:
                        segment = parse_segment(buf, offset + transport, offset + length)
                        step(attached, segment, now, segments, bool(flags & ECN_CE))
                        continue
                self._receive_packet(buf, offset, offset + length, mss > 0, segments, flags, now, looped)
            except WireError as error:
                self._drops.count(error.reason)
        self._rows_in += len(burst.rows)
        self._packets_in += packets_in
        self._bytes_in += bytes_in

    def _receive_packet(
        self,
        buf: memoryview,
        start: int,
        end: int,
        is_super: bool,
        segments: int,
        flags: int,
        now: float,
        looped: bool,
        *,
        reassembled: bool = False,
    ) -> None:
        """Any packet: parse it and ask whether it is for us.  Raises WireError."""
        try:
            packet = parse_packet(buf, start, end)
        except HeaderProblem as problem:
            destination = bytes(buf[start + 24 : start + 40])
            if destination in self._own:
                self._icmp.parameter_problem(bytes(buf[start:end]), bytes(buf[start + 8 : start + 24]), problem, now)
            raise
        if not self._is_for_us(packet.destination):
            raise WireError(why_not_ours(packet.destination))
        if not names_one_host(packet.source):
            raise WireError("bad-source")
        if packet.source in self._own and not looped:
            raise WireError("own-source")
        if is_super:  # its header tells of its first segment only
            packet = packet._replace(end=end)
        if packet.is_fragment:
            if reassembled:  # nobody honest fragments twice, and a chain of them would be a recursion
                raise WireError("fragment-nested")
            self._receive_fragment(packet, buf, start, now, looped)
        else:
            self._dispatch(packet, buf, start, segments, flags, now)

    def _is_for_us(self, address: bytes) -> bool:
        if address in self._own:
            return True
        is_taken = self.forwards.takers.covers(address) or self.flows.takers.covers(address)
        return is_taken and names_one_host(address)

    def _receive_fragment(self, packet: IpPacket, buf: memoryview, start: int, now: float, looped: bool) -> None:
        reassembler = self._reassembly_v4 if len(packet.source) == 4 else self._reassembly_v6
        whole = reassembler.add(packet, buf, start, now)
        deadline = reassembler.next_deadline()
        if deadline is not None and deadline < reassembler.deadline:
            self._wheel.schedule(reassembler, deadline)
        if whole is not None:
            self._receive_packet(memoryview(whole), 0, len(whole), False, 1, 0, now, looped, reassembled=True)

    def _dispatch(self, packet: IpPacket, buf: memoryview, start: int, segments: int, flags: int, now: float) -> None:
        """A whole packet for us, to whom it concerns."""
        source, destination, protocol, at, end = packet[:5]
        verified = bool(flags & CHECKSUM_OK)
        if protocol == TCP:
            if not verified and not checksum_holds(packet, buf):
                raise WireError("tcp-checksum")
            segment = parse_segment(buf, at, end)
            attached = self._connections.by_flow.get(
                flow_key(source, destination, segment.source_port, segment.destination_port)
            )
            if attached is None:
                self._connections.receive_unmatched(source, destination, segment, now)
            else:
                self._connections.step(attached, segment, now, segments, packet.tos & 3 == 3)
        elif protocol == UDP:
            datagram = parse_udp(buf, at, end, source, destination, verified=verified)
            key = flow_key(source, destination, datagram.source_port, datagram.destination_port)
            taken = self._udp.receive(key, source, destination, datagram)
            if not taken and not self.flows.receive(source, destination, datagram, now):
                self._drops.count("udp-no-socket")
                self._icmp.unreachable(bytes(buf[start:end]), source, Kind.PORT_UNREACHABLE, now)
        elif protocol == (ICMP if len(source) == 4 else ICMPV6):
            # the burst kernels verify TCP and UDP only
            self._receive_icmp(source, destination, parse_icmp(buf, at, end, source, destination), now)
        elif protocol == NO_NEXT_HEADER and len(source) == 16:
            raise WireError("ip-no-next-header")
        else:
            self._refuse_protocol(packet, bytes(buf[start:end]), now)

    def _refuse_protocol(self, packet: IpPacket, data: bytes, now: float) -> None:
        """RFC 1122 3.2.2.1 for IPv4; for IPv6 a Parameter Problem (RFC 8200 4)."""
        self._drops.count("ip-protocol")
        if len(packet.source) == 4:
            self._icmp.unreachable(data, packet.source, Kind.PROTOCOL_UNREACHABLE, now)
        else:
            problem = HeaderProblem("ip-protocol", UNRECOGNIZED_NEXT_HEADER, packet.next_header_at)
            self._icmp.parameter_problem(data, packet.source, problem, now)

    def _receive_icmp(self, source: bytes, destination: bytes, message: Echo | IcmpError, now: float) -> None:
        if isinstance(message, Echo):
            if destination not in self._own:
                raise WireError("not-for-us")  # whoever is behind us answers no pings through us
            if message.is_reply:
                self._emit(EchoReply(source, message.ident, message.sequence, message.payload))
            else:
                self._icmp.answer_echo(source, destination, message)
            return
        kind, mtu, quoted = message
        if not self._is_for_us(quoted.source) or len(quoted.source) != len(source):
            raise WireError("icmp-not-ours")
        error = error_of(kind, quoted.destination)
        if quoted.protocol == TCP:
            if kind is Kind.PACKET_TOO_BIG:
                self._connections.receive_error(quoted, mtu, now)
            elif error is not None:
                self._connections.receive_error(quoted, error, now)
        elif quoted.protocol == UDP:
            if kind is Kind.PACKET_TOO_BIG:
                self._udp.receive_too_big(quoted, mtu, now)
            elif error is not None:
                self._udp.receive_error(quoted, error)
        elif quoted.protocol in (ICMP, ICMPV6) and error is not None:
            self._emit(EchoFailed(quoted.destination, quoted.seq >> 16, quoted.seq & 0xFFFF, error))

    # Sending

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        """About budget_bytes of packets for the tunnel: replies first, then each sender in its turn."""
        self._now = now
        packets = self._outbox.take(budget_bytes, now)
        packets_out = bytes_out = 0
        for header, pieces, mss in packets:
            bytes_out += len(header)
            if pieces:
                payload = sum(map(len, pieces))
                bytes_out += payload
                packets_out += -(-payload // mss) if mss else 1
            else:
                packets_out += 1
        self._super_packets_out += len(packets)
        self._packets_out += packets_out
        self._bytes_out += bytes_out
        return packets

    def _after_turn(self, sender: Sender, now: float) -> bool:
        if isinstance(sender, Attached):
            return self._connections.settle(sender, now)
        return isinstance(sender, UdpSocket) and self._udp.after_turn(sender)

    # Time

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout` next, in the clock of `now`."""
        if self._outbox.has_loopback:
            return self._now
        return self._wheel.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        stalled: dict[Stalled, None] = {}
        for timer in self._wheel.expire(now):
            if isinstance(timer, Attached):
                event = self._connections.fire(timer, now)
                if event is not None:
                    stalled[event] = None
            elif isinstance(timer, Reassembler):
                self._expire_fragments(timer, now)
            elif isinstance(timer, Asking):
                self.forwards.expire(timer)
            elif isinstance(timer, Look):
                self.flows.look(timer, now)
            elif isinstance(timer, StallProbe):
                self._connections.probe(self._rows_in, now)
        self._events += stalled
        if self._outbox.has_loopback:
            self._receive(self._outbox.take_loopback(), now, looped=True)

    def _expire_fragments(self, reassembler: Reassembler, now: float) -> None:
        for first in reassembler.expire(now):
            sender = first[12:16] if first[0] >> 4 == 4 else first[8:24]
            self._icmp.reassembly_time_exceeded(first, sender, now)
        deadline = reassembler.next_deadline()
        if deadline is not None:
            self._wheel.schedule(reassembler, deadline)

    def readdress(self, addresses: Sequence[bytes], mtu: int, now: float) -> None:
        """Have these addresses and this MTU from now on.  What belongs to an address that is gone ends."""
        self._now = now
        gone = self._own.difference(addresses)
        self.addresses, self._own, self.mtu = tuple(addresses), frozenset(addresses), mtu
        self._outbox.readdress(self._own, mtu)
        self._icmp.mtu = mtu
        self._connections.readdress(self.addresses, gone, mtu, now)
        self._udp.readdress(self.addresses, gone)

    def path_changed(self, now: float) -> None:
        """The path is back or has moved: whatever is stalled tries at once."""
        self._now = now
        self._connections.path_changed(now)

    # What the application wants

    def connect(
        self, remote: bytes, remote_port: int, now: float, *, local_port: int = 0, timeout: float = NEVER
    ) -> Connection:
        """Begin a connection, which ends with a TimeoutError where `timeout` seconds bring no answer.

        Raises NetworkUnreachable, or OSError when no port is free.
        """
        return self._connections.connect(remote, remote_port, now, local_port, timeout)

    def listen(self, port: int, *, address: bytes | None = None, backlog: int = 128) -> Listener:
        """Accept connections: `Accepted` events.  Port 0 chooses one.  Raises OSError."""
        return self._connections.listen(port, address, backlog)

    def open_udp(
        self, *, port: int = 0, address: bytes | None = None, remote: tuple[bytes, int] | None = None
    ) -> UdpSocket:
        """A socket, connected when `remote` is given.  Raises OSError, NetworkUnreachable."""
        return self._udp.open(port, address, remote)

    def ping(self, remote: bytes, ident: int, sequence: int, payload: bytes, now: float) -> None:
        """Send an echo request; EchoReply or EchoFailed answer it.  Raises NetworkUnreachable, OSError."""
        self._now = now
        source = choose_source(self.addresses, remote)
        self._icmp.ask_echo(source, remote, Echo(False, ident, sequence, payload))

    def changed(self, item: Connection | UdpSocket, now: float) -> None:
        """Call after each call that wrote to, read from or closed a connection.  A socket needs no such call."""
        self._now = now
        if isinstance(item, Connection):
            self._connections.changed(item, now)

    # What the owner learns

    def events(self) -> list[HostEvent]:
        """The rare things since the last call.  An accepted connection is ready only from here on."""
        events, self._events = self._events, []
        for event in events:
            if isinstance(event, Accepted):
                self.ready.append(event.connection)
        return events

    def statistics(self) -> HostStatistics:
        return HostStatistics(
            rows_in=self._rows_in,
            packets_in=self._packets_in,
            bytes_in=self._bytes_in,
            super_packets_out=self._super_packets_out,
            packets_out=self._packets_out,
            bytes_out=self._bytes_out,
            drops=dict(self._drops),
            connections=self._connections.count_by_state(),
            half_open=self._connections.count_half_open(),
            segments_resent=self._connections.count_resent(),
            pending_forwards=len(self.forwards),
            syn_cookies_sent=self._connections.cookies.sent,
            syn_cookies_redeemed=self._connections.cookies.redeemed,
            udp_sockets=len(self._udp),
            udp_flows=len(self.flows),
            narrow_paths=len(self._paths),
            path_mtu_reductions=self._paths.reductions,
            senders_waiting=self._outbox.senders_waiting,
            fragment_bytes=self._reassembly_v4.size + self._reassembly_v6.size,
            timers=len(self._wheel),
        )

    def _emit(self, event: HostEvent) -> None:
        self._events.append(event)

    def _mark_connection(self, connection: Connection) -> None:
        self.ready.append(connection)

    def _mark_socket(self, socket: UdpSocket, readiness: int) -> None:
        if not socket.readiness:
            self.ready.append(socket)
        socket.readiness |= readiness
