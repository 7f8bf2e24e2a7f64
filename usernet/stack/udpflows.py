"""UDP for somebody behind us: each client and destination is a flow, with a socket of its own that ends by itself.

A first datagram that a UdpForwarder takes makes a `UdpFlow`, connected to its client, and a `FlowBegun` event; its
owner answers for the backend.  A flow in which nothing has moved for its idle time is closed and `FlowEnded` tells so:
two minutes (RFC 4787 REQ-5), or half a minute for DNS, where it has served its purpose with the first answer.  Flows
are bounded, in all and for each client address; a datagram that would begin one more is dropped.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from usernet.burst.packets import Drops
from usernet.stack.events import FlowBegun, FlowEnded, HostEvent
from usernet.stack.icmp import IcmpSender
from usernet.stack.ports import check_port
from usernet.stack.takers import Network, whole
from usernet.stack.timers import TimerWheel
from usernet.stack.udp import UdpSockets
from usernet.stack.udpflow import Look, UdpFlow, UdpForwarder
from usernet.wire.icmp import Kind
from usernet.wire.ip import UDP
from usernet.wire.packet import fragment
from usernet.wire.udp import UdpDatagram

FLOWS_MAX: Final = 4096
IDLE_SECONDS: Final = 120.0
DNS_IDLE_SECONDS: Final = 30.0
DNS_PORT: Final = 53

_LOOKS: Final = 8  # at each flow within its idle time; it ends after so many in vain


class UdpFlows:
    """The UDP forwarders of a host and their flows."""

    __slots__ = ("_by_client", "_drops", "_emit", "_flows", "_icmp", "_sockets", "_wheel", "flows_max", "takers")

    def __init__(
        self,
        sockets: UdpSockets,
        icmp: IcmpSender,
        wheel: TimerWheel,
        drops: Drops,
        emit: Callable[[HostEvent], None],
    ) -> None:
        self._sockets = sockets
        self._icmp = icmp
        self._wheel = wheel
        self._drops = drops
        self._emit = emit
        self._flows: dict[UdpFlow, None] = {}
        self._by_client: Counter[bytes] = Counter()
        self.flows_max = FLOWS_MAX
        self.takers = sockets.takers

    def __len__(self) -> int:
        return len(self._flows)

    # The owner's side

    def open(self, networks: Iterable[Network] | None, port: int) -> UdpForwarder:
        """`FlowBegun` for datagrams that nobody else takes; as Forwards.open.  Raises OSError (EADDRINUSE)."""
        check_port(port)
        taken = whole(self._sockets.addresses) if networks is None else list(networks)
        for address, _ in taken:
            if port and self._sockets.is_bound(address, port):
                raise OSError(errno.EADDRINUSE, f"UDP port {port} is in use")
        forwarder = UdpForwarder(port, self._close)
        self.takers.add(taken, port, forwarder, everywhere=networks is None)
        return forwarder

    def unreachable(self, flow: UdpFlow, now: float) -> None:
        """The backend has refused what the client sent: tell it, as the host of the backend would have."""
        (address, port), client = flow.local, flow.remote
        if address is None or client is None or flow.is_closed:
            return
        # RFC 792 quotes a header and eight bytes, which name the flow; what was in the datagram nobody asks.
        datagram = UdpDatagram(client[1], port, b"").encode(client[0], address)
        (packet,) = fragment(client[0], address, UDP, datagram, 1280, 0)
        self._icmp.unreachable(packet, client[0], Kind.PORT_UNREACHABLE, now)

    def _close(self, forwarder: UdpForwarder) -> None:
        self.takers.remove(forwarder)
        for flow in [flow for flow in self._flows if flow.forwarder is forwarder]:
            flow.close()

    # From the client

    def receive(self, source: bytes, local: bytes, datagram: UdpDatagram, now: float) -> bool:
        """A datagram that no socket is there for; False when nobody forwards it either."""
        forwarder = self.takers.find(local, datagram.destination_port)
        if forwarder is None:
            return False
        if not self._has_room(source):
            return True
        client = source, datagram.source_port
        flow = UdpFlow(self._sockets, forwarder, (local, datagram.destination_port), client, self._remove)
        self._sockets.add(flow)
        self._flows[flow] = None
        self._by_client[source] += 1
        self._look_later(flow, now)
        flow.deliver(datagram.payload, client)
        self._emit(FlowBegun(flow))
        return True

    def _has_room(self, client: bytes) -> bool:
        if len(self._flows) >= self.flows_max:
            self._drops.count("udp-flows-full")
            return False
        if self._by_client[client] >= self.flows_max * 2 // 3:  # one client leaves room for the others
            self._drops.count("udp-client-flows-full")
            return False
        return True

    # Time

    def _look_later(self, flow: UdpFlow, now: float) -> None:
        idle = DNS_IDLE_SECONDS if flow.local[1] == DNS_PORT else IDLE_SECONDS
        self._wheel.schedule(flow.look, now + idle / _LOOKS)

    def look(self, look: Look, now: float) -> None:
        """The timer of a flow went off."""
        flow = look.flow
        flow.quiet = 0 if flow.has_moved else flow.quiet + 1
        flow.has_moved = False
        if flow.quiet < _LOOKS:
            self._look_later(flow, now)
            return
        flow.close()
        self._emit(FlowEnded(flow))

    def _remove(self, flow: UdpFlow) -> None:
        """It is being closed."""
        del self._flows[flow]
        self._wheel.cancel(flow.look)
        client = flow.remote[0] if flow.remote else b""
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
