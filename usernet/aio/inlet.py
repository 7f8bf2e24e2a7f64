"""How the outer socket is emptied: message by message into one arena.  See recvmsg(2), cmsg(3), ip(7), ipv6(7), udp(7).

A message merged by GRO is a group of its own, as it lies.  Plain datagrams go into slots of a fixed stride, so that
those that one address sends are one group, too.  `SocketInlet` does it with the socket module; `Inlet` of the native
kernel (native/src/inlet.rs) is the same, for 0.5 us a message instead of 1.2.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple, Protocol

from usernet.aio.sockets import SOL_UDP, UDP_GRO
from usernet.aio.stripes import COUNTER_AT, INDEX_AT, stripe_after
from usernet.burst.packets import Address, Kernel

ControlMessage = tuple[int, int, bytes]  # level, type, data
Ancillary = list[ControlMessage]

# Source, first byte in the arena, stride B, the datagrams' lengths, outer TOS, our address that they came to.
Group = tuple[Address, int, int, list[int], int, bytes]

# What `receive` gives: groups; the arena's first free byte; messages that came, useful or not; why it dropped some of
# them; and why it stopped: an errno (EAGAIN: nothing is left), or 0 where the arena is full or it was enough.
Received = tuple[list[Group], int, int, list[str], int]

ROOM: Final = 65_536  # GRO fills up to this whatever the datagrams' size; MSG_TRUNC tells if it ever was too little
SLOT: Final = 2048  # of a plain datagram; a larger one is a group of its own
MAX_SLOTS: Final = 64
LINE: Final = 64  # a group begins with a cache line
MAX_MESSAGES: Final = 256  # in one call: not everything takes room of the arena
IP_PKTINFO: Final = 8  # not in the socket module

_index_and_counter: Final = Struct("<IQ").unpack_from

# Segment size, TOS, and the larger family's address.
_ANCILLARY_BYTES: Final = 2 * socket.CMSG_SPACE(4) + socket.CMSG_SPACE(20)
_TRUNCATED: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # its & costs 1 us as long as it is an enum
_TOS_KINDS: Final = frozenset({(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)})


class Inlet(Protocol):
    """Empties one socket, which must not block."""

    def receive(self, arena: bytearray, at: int) -> Received:
        """Read while there is ROOM from `at` on in the arena.  Raises nothing that the socket says."""


MakeInlet = Callable[[socket.socket, int | None], Inlet]  # its stripe, if it has only one: it stops before others


class Told(NamedTuple):
    """What came beside a message."""

    segment: int = 0  # size of its datagrams, if it was merged
    tos: int = 0
    local: bytes = b""


class SocketInlet:
    """Implements `Inlet`."""

    def __init__(self, sock: socket.socket, stripe: int | None = None) -> None:
        self._sock = sock
        self._stripe = stripe
        self._ancillary: Ancillary = []  # of the last message, and what it says: it hardly ever changes
        self._told = Told()

    def receive(self, arena: bytearray, at: int) -> Received:
        """See `Inlet`."""
        view, recvmsg_into, stripe = memoryview(arena), self._sock.recvmsg_into, self._stripe
        known, (segment, tos, local) = self._ancillary, self._told
        groups: list[Group] = []
        dropped: list[str] = []
        source: Address | None = None  # of the slots being filled
        lengths: list[int] = []
        messages = stopped = 0
        while at <= len(view) - ROOM and messages < MAX_MESSAGES:
            try:
                size, ancillary, flags, address = recvmsg_into([view[at : at + ROOM]], _ANCILLARY_BYTES)
            except OSError as error:
                stopped = error.errno or errno.EIO
                break
            messages += 1
            if flags & _TRUNCATED or size == 0:
                dropped.append("truncated" if size else "empty")
                continue
            if ancillary != known:
                known = self._ancillary = ancillary
                segment, tos, local = self._told = _read(ancillary)
                source = None
            if segment or size > SLOT:
                stride = min(segment or size, size)
                whole, rest = divmod(size, stride)
                groups.append((address, at, stride, [stride] * whole + ([rest] if rest else []), tos, local))
                last, at = at + (size - 1) // stride * stride, at + -(-size // LINE) * LINE
                source = None
            else:
                if address != source or len(lengths) == MAX_SLOTS:
                    source, lengths = address, []
                    groups.append((address, at, SLOT, lengths, tos, local))
                lengths.append(size)
                last, at = at, at + SLOT
            if stripe is not None and stripe_after(arena[last + COUNTER_AT]) != stripe:
                break
        return groups, at, messages, dropped, stopped


class StripedInlet:
    """Implements `Inlet` over those of a port's sockets, see `stripes`."""

    def __init__(self, inlets: list[Inlet]) -> None:
        self._inlets = inlets
        self._next = 0  # the stripe of the next packet, which is the number of its socket
        self._index = 0  # receiver index: whose packet that is

    def receive(self, arena: bytearray, at: int) -> Received:
        """See `Inlet`.  From stripe to stripe; and every socket if that gave nothing, for packets may be lost, or no
        data, or if other peers' came, whose stripes cross these: sorted, each peer's packets are in order."""
        all_groups: list[Group] = []
        all_dropped: list[str] = []
        all_messages = 0
        one_peer = True
        empty = 0  # sockets in a row
        here = self._next
        while True:
            groups, at, messages, dropped, stopped = self._inlets[here].receive(arena, at)
            all_messages += messages
            all_dropped += dropped
            if groups:
                all_groups += groups
                empty = 0
                for _, start, stride, lengths, _, _ in groups:
                    index, _ = _index_and_counter(arena, start + INDEX_AT)  # there is ROOM for both behind a start
                    one_peer = one_peer and index == self._index
                    last = start + stride * (len(lengths) - 1)
                    self._index, self._next = index, stripe_after(arena[last + COUNTER_AT])
                if self._next != here and stopped in (0, errno.EAGAIN):
                    here = self._next
                    continue
            empty += 1
            if stopped != errno.EAGAIN or empty == len(self._inlets) or (all_groups and one_peer):
                break
            here = (here + 1) % len(self._inlets)
        if not one_peer:
            all_groups.sort(key=lambda group: _index_and_counter(arena, group[1] + INDEX_AT))
        return all_groups, at, all_messages, all_dropped, stopped


def _read(ancillary: Ancillary) -> Told:
    segment, tos, local = 0, 0, b""
    for level, kind, data in ancillary:
        if level == SOL_UDP:
            if kind == UDP_GRO:
                segment = int.from_bytes(data[:4], sys.byteorder)
        elif (level, kind) in _TOS_KINDS:  # one byte for IPv4, an int for IPv6
            tos = int.from_bytes(data, sys.byteorder)
        elif (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            local = data[4:8]  # ipi_spec_dst: behind the interface's index
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            local = data[:16]
    return Told(segment, tos, local)


def inlet_of(kernel: Kernel) -> MakeInlet:
    """What empties sockets for a tunnel with this kernel: the native one can do that, too, on Linux."""
    if kernel.name != "native" or sys.platform != "linux":
        return SocketInlet
    from usernet.burst._native import Inlet as NativeInlet

    return lambda sock, stripe: NativeInlet(sock.fileno(), stripe)
