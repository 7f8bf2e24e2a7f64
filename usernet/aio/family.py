"""One family's outer sockets, and what goes and comes beside its datagrams.  See cmsg(3), ip(7), ipv6(7), udp(7).

Beside a message comes the size of its datagrams if it was merged, its TOS, and which of our addresses it came to.  That
address is also what answers leave from, so that a host of several addresses answers with the one it was asked at.  An
address we can no longer send from is forgotten with the first error that may be due to it, until something comes to it
again; that also is why a source counts only once something came to it at this very socket.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from usernet.aio import sockets
from usernet.aio.inlet import IP_PKTINFO, Ancillary, ControlMessage, Inlet, MakeInlet, StripedInlet
from usernet.aio.sockets import ASYNCHRONOUS, SOL_UDP, UDP_SEGMENT
from usernet.burst.packets import Address, SendBurst

MAX_SOURCES: Final = 256

# A source that is no longer ours, or from where no route leads there.
_NOT_FROM_HERE: Final = frozenset({errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH})


class FamilySocket:
    """The socket that sends, those that receive, and what is known about them."""

    __slots__ = ("_ip", "_sources", "blocked", "gro", "gso", "inlet", "readable", "sock", "socks", "watched")

    def __init__(self, socks: list[socket.socket], make_inlet: MakeInlet) -> None:
        self.socks = socks
        self.sock = sock = socks[0]
        self.inlet: Inlet = (
            make_inlet(sock, None)
            if len(socks) == 1
            else StripedInlet([make_inlet(each, stripe) for stripe, each in enumerate(socks)])
        )
        self.gso = sockets.has_gso(sock)
        self.gro = all(sockets.enable_gro(each) for each in socks)
        self.readable = False  # the loop said so, and it has not been drained since
        self.blocked = False  # a send would have blocked, and the loop has not said otherwise since
        self.watched = False  # the loop watches it for being writable
        self._sources: dict[bytes, ControlMessage] = {}  # our addresses that something came to
        if sock.family == socket.AF_INET6:
            self._ip = socket.IPPROTO_IPV6, socket.IPV6_TCLASS
            options = socket.IPV6_RECVTCLASS, socket.IPV6_RECVPKTINFO
        else:
            self._ip = socket.IPPROTO_IP, socket.IP_TOS
            options = socket.IP_RECVTOS, IP_PKTINFO
        for each in socks:
            for option in options:
                each.setsockopt(self._ip[0], option, 1)

    @property
    def receive_room(self) -> int:
        """Bytes of a burst that the sockets hold.  The rest is what Linux counts beside those of messages, and what one
        of several has free while another is full."""
        return sockets.receive_buffer(self.socks) * (3 if len(self.socks) == 1 else 2) // 4

    def came_to(self, local: bytes) -> None:
        """Something came to this address of ours."""
        if not local or local in self._sources:
            return
        if len(self._sources) >= MAX_SOURCES:  # a whole network may be routed to this host
            self._sources.clear()
        if len(local) == 4:
            self._sources[local] = socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4x", 0, local)
        else:
            self._sources[local] = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", local, 0)

    def beside(self, burst: SendBurst) -> Ancillary:
        """The control messages that go with a burst's datagrams."""
        ancillary: Ancillary = []
        if burst.tos:
            ancillary.append((*self._ip, struct.pack("=i", burst.tos)))
        source = self._sources.get(burst.local)
        if source is not None:
            ancillary.append(source)
        return ancillary

    def send_merged(self, burst: SendBurst) -> None:
        """All of a burst in one call.  OSError as the socket raises it."""
        segment = SOL_UDP, UDP_SEGMENT, struct.pack("=H", burst.segment_size)
        self.sock.sendmsg([burst.buf], [segment, *self.beside(burst)], 0, burst.address)

    def send_one(self, data: memoryview, ancillary: Ancillary, burst: SendBurst) -> Ancillary:
        """One datagram of a burst; what shall be beside the next one.  OSError as the socket raises it."""
        try:
            _send(self.sock, data, ancillary, burst.address)
        except OSError as error:
            if error.errno not in _NOT_FROM_HERE or self._sources.pop(burst.local, None) is None:
                raise
            ancillary = self.beside(burst)
            _send(self.sock, data, ancillary, burst.address)
        return ancillary


def packed(ancillary: Ancillary) -> bytes:
    """Control messages as sendmsg(2) takes them, see cmsg(3)."""
    return b"".join(
        (struct.pack("@Nii", socket.CMSG_LEN(len(data)), level, kind) + data).ljust(socket.CMSG_SPACE(len(data)), b"\0")
        for level, kind, data in ancillary
    )


def _send(sock: socket.socket, data: memoryview, ancillary: Ancillary, address: Address) -> None:
    """An error left over from a datagram sent before is not this one's: it gets another try."""
    for last in (False, True):
        try:
            if ancillary:
                sock.sendmsg([data], ancillary, 0, address)
            else:
                sock.sendto(data, address)
        except OSError as error:
            if last or error.errno not in ASYNCHRONOUS:
                raise
        else:
            return
