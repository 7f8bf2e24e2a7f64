"""UDP sockets.  Read RFC 768, RFC 1122 4.1, RFC 8085, RFC 8201 for the path MTU.

A datagram goes to the socket connected to its whole flow, else to the one bound to its port.  Both queues of a socket
are bounded in bytes, and what does not fit is dropped and counted.  A datagram beyond the path MTU is sent as
fragments, up to the largest that UDP has.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from usernet.burst.packets import Drops, SuperPacket
from usernet.errors import NetworkUnreachable
from usernet.stack.flows import choose_source, flow_key, no_longer_ours
from usernet.stack.outbox import Outbox
from usernet.stack.ports import check_port, pick_port
from usernet.stack.takers import Takers
from usernet.tcp.pathmtu import PathMtus, believable
from usernet.tcp.tcb import READABLE, WRITABLE
from usernet.wire.icmp import Quoted
from usernet.wire.ip import UDP, format_address, is_multicast
from usernet.wire.packet import fragment
from usernet.wire.udp import MAX_PAYLOAD_BYTES_V4, MAX_PAYLOAD_BYTES_V6, UdpDatagram

if TYPE_CHECKING:
    from usernet.stack.udpflow import UdpForwarder

RECEIVE_BYTES: Final = 208 << 10  # what Linux gives by default
SEND_BYTES: Final = 208 << 10

_DATAGRAM_OVERHEAD: Final = 200  # B: the objects around a datagram, so that empty ones are bounded too

Remote = tuple[bytes, int]


class UdpSocket:
    """One socket.  `local[0]` is None while it may use any of our addresses; `remote` is set when it is connected.

    `error` is what an ICMP error said about a connected socket's last datagrams; the owner takes it by setting None.
    `readiness` accumulates READABLE (data or an error) and WRITABLE (after a full send queue) until the owner clears
    it, as with a connection.
    """

    __slots__ = (
        "_received",
        "_received_bytes",
        "_sockets",
        "_to_send",
        "_to_send_bytes",
        "deficit",
        "error",
        "is_queued",
        "local",
        "readiness",
        "remote",
        "was_full",
    )

    def __init__(self, sockets: UdpSockets, local: tuple[bytes | None, int], remote: Remote | None) -> None:
        self._sockets: UdpSockets | None = sockets
        self._received: deque[tuple[bytes, Remote]] = deque()
        self._received_bytes = 0
        self._to_send: deque[bytes] = deque()
        self._to_send_bytes = 0
        self.deficit = 0
        self.is_queued = False
        self.was_full = False
        self.local = local
        self.remote = remote
        self.readiness = 0
        self.error: OSError | None = None

    # The owner's side

    def send(self, data: bytes, remote: Remote | None, now: float) -> bool:
        """Queue one datagram; False when the queue is full and it was dropped (WRITABLE tells when it no longer is).

        `remote` may be None on a connected socket.  Raises OSError (EMSGSIZE, EDESTADDRREQ, EBADF), NetworkUnreachable.
        """
        target = remote or self.remote
        if self._sockets is None:
            raise OSError(errno.EBADF, "the socket is closed")
        if target is None:
            raise OSError(errno.EDESTADDRREQ, "a datagram of a socket that is not connected needs a destination")
        if self._to_send_bytes >= SEND_BYTES:
            self.was_full = True
            self._sockets.drops.count("udp-send-queue-full")
            return False
        for packet in self._sockets.packets_of(self, data, target, now):
            self._to_send.append(packet)
            self._to_send_bytes += len(packet) + _DATAGRAM_OVERHEAD
        if self._to_send:
            self._sockets.outbox.want(self)
        return True

    def receive(self) -> tuple[bytes, Remote] | None:
        """The oldest datagram and who sent it."""
        if not self._received:
            return None
        data, remote = self._received.popleft()
        self._received_bytes -= len(data) + _DATAGRAM_OVERHEAD
        return data, remote

    def close(self) -> None:
        """Release the port.  What is queued to send still goes out; what was received is gone."""
        if self._sockets is not None:
            self._sockets.remove(self)
            self._sockets = None
        self._received.clear()
        self._received_bytes = 0

    @property
    def is_closed(self) -> bool:
        return self._sockets is None

    # The stack's side

    @property
    def wants_to_send(self) -> bool:
        return bool(self._to_send)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        """Packets of about budget_bytes; at least one."""
        packets: list[SuperPacket] = []
        while self._to_send and (budget_bytes > 0 or not packets):
            packet = self._to_send.popleft()
            budget_bytes -= len(packet)
            self._to_send_bytes -= len(packet) + _DATAGRAM_OVERHEAD
            packets.append(SuperPacket(packet))
        return packets

    @property
    def has_room(self) -> bool:
        return self._to_send_bytes < SEND_BYTES // 2

    def deliver(self, data: bytes, remote: Remote) -> bool:
        """Queue a datagram that has come in, or False where it does not fit."""
        if self._received_bytes >= RECEIVE_BYTES:
            return False
        self._received.append((data, remote))
        self._received_bytes += len(data) + _DATAGRAM_OVERHEAD
        return True


class UdpSockets:
    """All UDP sockets of a host.  `mark` puts a socket on the host's ready list with some readiness."""

    __slots__ = ("_by_flow", "_by_port", "_mark", "_paths", "_random", "addresses", "drops", "outbox", "takers")

    def __init__(
        self,
        addresses: tuple[bytes, ...],
        paths: PathMtus,
        random: Callable[[int], bytes],
        outbox: Outbox,
        drops: Drops,
        mark: Callable[[UdpSocket, int], None],
    ) -> None:
        self.addresses = addresses
        self._paths = paths
        self._random = random
        self._mark = mark
        self.takers: Takers[UdpForwarder] = Takers()  # of what no socket is there for
        self._by_flow: dict[bytes, UdpSocket] = {}
        self._by_port: dict[bytes, UdpSocket] = {}  # own address and port
        self.outbox = outbox
        self.drops = drops

    def __len__(self) -> int:
        return len({*self._by_flow.values(), *self._by_port.values()})

    def open(self, port: int, address: bytes | None, remote: Remote | None) -> UdpSocket:
        """Raises OSError: EADDRINUSE, EADDRNOTAVAIL, NetworkUnreachable."""
        check_port(port)
        if remote is not None:
            check_port(remote[1])
        if address is not None and address not in self.addresses:
            raise OSError(errno.EADDRNOTAVAIL, f"{format_address(address)} is not an address of this tunnel")
        if remote is not None and address is None:
            address = choose_source(self.addresses, remote[0])
        locals_ = self.addresses if address is None else (address,)

        def is_free(candidate: int) -> bool:
            bound = any(self.is_bound(local, candidate) or self.takers.is_taken(local, candidate) for local in locals_)
            if remote is None or address is None:
                return not bound
            return not bound and flow_key(remote[0], address, remote[1], candidate) not in self._by_flow

        chosen = port or pick_port(self._random, is_free)
        if chosen is None or not is_free(chosen):
            raise OSError(errno.EADDRINUSE, f"UDP port {port} is in use" if port else "no UDP port is free")
        socket = UdpSocket(self, (address, chosen), remote)
        self.add(socket)
        return socket

    def add(self, socket: UdpSocket) -> None:
        for table, key in self._keys(socket):
            table[key] = socket

    def readdress(self, addresses: tuple[bytes, ...], gone: frozenset[bytes]) -> None:
        """Sockets of every address have the new ones, too; those of one that is gone are told so."""
        everywhere = {socket for socket in self._by_port.values() if socket.local[0] is None}
        for socket in everywhere:
            self.remove(socket)
        self.addresses = addresses
        for socket in everywhere:
            self.add(socket)
        self.takers.readdress(addresses)
        for socket in {*self._by_flow.values(), *self._by_port.values()}:
            lost = gone.intersection((socket.local[0],))
            if lost:
                socket.error = no_longer_ours(lost)
                self._mark(socket, READABLE)

    def is_bound(self, address: bytes, port: int) -> bool:
        return address + port.to_bytes(2, "big") in self._by_port

    def remove(self, socket: UdpSocket) -> None:
        for table, key in self._keys(socket):
            del table[key]

    def _keys(self, socket: UdpSocket) -> list[tuple[dict[bytes, UdpSocket], bytes]]:
        address, port = socket.local
        if socket.remote is not None and address is not None:
            return [(self._by_flow, flow_key(socket.remote[0], address, socket.remote[1], port))]
        locals_ = self.addresses if address is None else (address,)
        return [(self._by_port, local + port.to_bytes(2, "big")) for local in locals_]

    def packets_of(self, socket: UdpSocket, data: bytes, remote: Remote, now: float) -> list[bytes]:
        """The packets that carry a datagram; what is for ourselves is looped back and gives none."""
        address, port = remote
        check_port(port)
        largest = MAX_PAYLOAD_BYTES_V4 if len(address) == 4 else MAX_PAYLOAD_BYTES_V6
        if len(data) > largest:
            raise OSError(errno.EMSGSIZE, f"a datagram of {len(data)} bytes; UDP carries at most {largest}")
        if is_multicast(address):
            raise NetworkUnreachable(f"{format_address(address)}: multicast does not go through a tunnel")
        source = socket.local[0] or choose_source(self.addresses, address)
        if len(source) != len(address):
            raise NetworkUnreachable(f"{format_address(source)} cannot speak to {format_address(address)}")
        payload = UdpDatagram(socket.local[1], port, data).encode(source, address)
        mtu = self._paths.to(address, now)
        ident = int.from_bytes(self._random(4), "big") if len(payload) + 40 > mtu else 0
        packets = fragment(source, address, UDP, payload, mtu, ident)
        if address not in self.addresses:
            return packets
        for packet in packets:
            self.outbox.loop_back(SuperPacket(packet))
        return []

    def receive(self, key: bytes, source: bytes, local: bytes, datagram: UdpDatagram) -> bool:
        """Hand a datagram to its socket; False when there is none."""
        socket = self._by_flow.get(key) or self._by_port.get(local + key[-2:])
        if socket is None:
            return False
        if socket.deliver(datagram.payload, (source, datagram.source_port)):
            self._mark(socket, READABLE)
        else:
            self.drops.count("udp-queue-full")
        return True

    def receive_error(self, quoted: Quoted, error: OSError) -> None:
        """An ICMP error goes to the socket connected to the flow; another could not tell whom it is about."""
        key = flow_key(quoted.destination, quoted.source, quoted.destination_port, quoted.source_port)
        socket = self._by_flow.get(key)
        if socket is None:
            self.drops.count("icmp-no-flow")
            return
        socket.error = error
        self._mark(socket, READABLE)

    def receive_too_big(self, quoted: Quoted, mtu: int, now: float) -> None:
        """Remember a smaller path MTU, never below what every path carries (RFC 8201 4, RFC 1191 7)."""
        key = flow_key(quoted.destination, quoted.source, quoted.destination_port, quoted.source_port)
        port = quoted.source + quoted.source_port.to_bytes(2, "big")
        if key not in self._by_flow and port not in self._by_port:
            self.drops.count("icmp-no-flow")
            return
        self._paths.narrows(quoted.destination, believable(mtu, quoted.destination), now)

    def after_turn(self, socket: UdpSocket) -> bool:
        """It has just sent: whoever was refused may try again once half the queue is gone.  Whether it has more."""
        if socket.was_full and socket.has_room and not socket.is_closed:
            socket.was_full = False
            self._mark(socket, WRITABLE)
        return socket.wants_to_send
