"""The outer side on a real host: UDP over both families.  See udp(7), `sockets` and `family`.

Receiving drains what has arrived into one arena before anything is processed (`inlet`): the kernel's buffer is small,
and bursts are what makes the rest fast.

Sending hands a whole burst to the kernel at once (UDP_SEGMENT).  Where the way out cannot do that, which only shows
by the error of a send, the family does without it from then on, beginning with that same burst.

No error of the socket is raised here: datagrams may be lost anyway, so it is counted.
"""

from __future__ import annotations

import errno
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final

from usernet.aio import sockets
from usernet.aio.family import FamilySocket, packed
from usernet.aio.inlet import MAX_MESSAGES, MakeInlet, SocketInlet
from usernet.aio.sockets import ASYNCHRONOUS
from usernet.aio.statistics import UdpStatistics
from usernet.burst.packets import DatagramBurst, Drops, SendBurst

# Slots for more than the 135 datagrams that a socket buffer of the usual size holds.  What a larger one has beyond them
# waits there for the next turn, so that whoever else the loop serves waits a millisecond and not ten.
ARENA_BYTES: Final = 384 << 10
# The way out cannot segment: no checksum offload, a device that changed later.
_NO_GSO: Final = frozenset({errno.EIO, errno.EOPNOTSUPP})
# This destination cannot have it: a smaller path MTU, or no destination at all (port 0).  Others keep it: the address
# is where a peer's packets came from, or were made to seem so on their way.  Or our source address is gone.
_NOT_THERE: Final = frozenset({errno.EINVAL, errno.EMSGSIZE, errno.EADDRNOTAVAIL})


class UdpLink:
    """A DatagramLink over sockets of both families on one port."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        families: list[list[socket.socket]],
        requested_port: int = 0,
        mark: int = 0,
        make_inlet: MakeInlet = SocketInlet,
    ) -> None:
        self._loop = loop
        self._make_inlet = make_inlet
        self._mark = mark
        self._requested_port = requested_port
        self._arena = bytearray(ARENA_BYTES)  # calloc: pages cost memory only once written
        self._on_readable: Callable[[], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._drops = Drops()
        self._received_datagrams = self._received_bytes = self._received_messages = 0
        self._sent_datagrams = self._sent_bytes = self._sent_messages = 0
        self._rest: SendBurst | None = None  # what is left of a burst that went plainly until the socket was full
        self._adopt(families)

    @classmethod
    def open(
        cls, loop: AbstractEventLoop, port: int = 0, mark: int = 0, make_inlet: MakeInlet = SocketInlet
    ) -> UdpLink:
        """Bind to `port` (0: any that is free for both families).  OSError names the port if it is taken.

        `mark`: what packets carry for the kernel's rules; 0 is nothing.  `make_inlet`: what empties a socket.
        """
        return cls(loop, sockets.open_sockets(port, mark), port, mark, make_inlet)

    def rebind(self) -> None:
        """New sockets on the requested port, or else the current one, or else any.  OSError if even that fails."""
        current = self.port
        self._close_sockets()
        for port in dict.fromkeys((self._requested_port or current, current, 0)):
            try:
                self._adopt(sockets.open_sockets(port, self._mark))
            except OSError:
                if port == 0:
                    raise
            else:
                return

    def prepare(self, port: int) -> list[list[socket.socket]]:
        """Sockets like these on another port; none where it is the present one.  OSError names it if it is taken."""
        return [] if port == self.port else sockets.open_sockets(port, self._mark)

    def move(self, port: int, families: list[list[socket.socket]]) -> None:
        """Leave the present port for those of `prepare`."""
        self._requested_port = port
        if families:
            self._close_sockets()
            self._adopt(families)

    def close(self) -> None:
        """Release the port.  Nothing is received or sent from now on."""
        self._close_sockets()
        self._on_readable = self._on_writable = self._rest = None

    def _adopt(self, families: list[list[socket.socket]]) -> None:
        self.port: int = families[0][0].getsockname()[1]
        self._sockets = [FamilySocket(socks, self._make_inlet) for socks in families]
        by_family = {entry.sock.family: entry for entry in self._sockets}
        self._ipv4 = by_family.get(socket.AF_INET)
        self._ipv6 = by_family.get(socket.AF_INET6)
        self._watch_reading()
        self._watch_writing()

    def _close_sockets(self) -> None:
        for entry in self._sockets:
            self._loop.remove_writer(entry.sock)
            for sock in entry.socks:
                self._loop.remove_reader(sock)
                sock.close()
        self._sockets, self._ipv4, self._ipv6 = [], None, None

    # --- receiving ---

    def receive(self) -> list[DatagramBurst]:
        """Drain what has arrived, bounded by the arena.  Buffers live until the next call."""
        bursts: list[DatagramBurst] = []
        at = 0
        told = [entry for entry in self._sockets if entry.readable]
        for entry in told or self._sockets:
            at = self._drain(entry, at, bursts)
        self._sockets.reverse()  # a family that fills the arena must not keep the other one waiting
        for burst in bursts:
            self._received_datagrams += len(burst.lengths)
            self._received_bytes += sum(burst.lengths)
        return bursts

    def _drain(self, entry: FamilySocket, at: int, bursts: list[DatagramBurst]) -> int:
        """Read one socket until it is empty or the arena full, whose first free byte is `at` before and after."""
        view = memoryview(self._arena)
        came = 0
        while came < MAX_MESSAGES:
            groups, at, messages, dropped, stopped = entry.inlet.receive(self._arena, at)
            self._received_messages += messages
            for address, start, stride, lengths, tos, local in groups:
                buf = view[start : start + stride * len(lengths)]
                bursts.append(DatagramBurst(address, buf, stride, lengths, tos, local))
                entry.came_to(local)
            for reason in dropped:
                self._drops.count(reason)
            if stopped not in (0, errno.EAGAIN):
                self._drops.count(_name(stopped))
            if stopped not in ASYNCHRONOUS:
                entry.readable = stopped == 0
                break
            came += (
                messages + 1
            )  # the error was about a datagram sent before: the next call tells of another, or of data
        return at

    # --- sending ---

    def send(self, burst: SendBurst) -> bool:
        """Send, or return False where it would block.  True means that nothing of it is to be sent again."""
        if self._rest is not None and not self._send_rest():
            return False
        address, segment, size = burst.address, burst.segment_size, len(burst.buf)
        entry = self._ipv4 if len(address) == 2 else self._ipv6
        datagrams = -(-size // segment)
        if entry is None:
            self._drops.count("no-ipv4" if len(address) == 2 else "no-ipv6", datagrams)
            return True
        if size <= segment or not entry.gso:
            return self._send_plainly(entry, burst)
        try:
            entry.send_merged(burst)
        except (BlockingIOError, InterruptedError):
            return self._block(entry)
        except OSError as error:
            if error.errno in _NO_GSO:
                entry.gso = False
                self._count_error(error, 0)
            elif error.errno in _NOT_THERE:
                self._count_error(error, 0)
            elif error.errno not in ASYNCHRONOUS:
                self._count_error(error, datagrams)
                return True
            # Asynchronous ones are about another datagram, and this burst was not sent.
            return self._send_plainly(entry, burst)
        self.count_sent(datagrams, size, 1)
        return True

    def _send_plainly(self, entry: FamilySocket, burst: SendBurst) -> bool:
        """Datagram by datagram.  If the socket takes only a part, the rest is kept and goes first next time."""
        buf, segment = burst.buf, burst.segment_size
        ancillary = entry.beside(burst)
        sent = sent_bytes = 0
        for at in range(0, len(buf), segment):
            piece = buf[at : at + segment]
            try:
                ancillary = entry.send_one(piece, ancillary, burst)
            except (BlockingIOError, InterruptedError):
                self.count_sent(sent, sent_bytes, sent)
                if at:
                    self._rest = burst._replace(buf=memoryview(bytes(buf[at:])))
                return self._block(entry) or at > 0
            except OSError as error:
                self._count_error(error)
            else:
                sent += 1
                sent_bytes += len(piece)
        self.count_sent(sent, sent_bytes, sent)
        return True

    def _send_rest(self) -> bool:
        """True when it is all gone."""
        rest, self._rest = self._rest, None
        if rest is None:
            return True
        entry = self._ipv4 if len(rest.address) == 2 else self._ipv6
        if entry is not None and not self._send_plainly(entry, rest):
            self._rest = rest
        self._watch_writing()
        return self._rest is None

    def _block(self, entry: FamilySocket) -> bool:
        entry.blocked = True
        self._watch_writing()
        return False

    def route(self, burst: SendBurst) -> tuple[int, bytes] | None:
        """For who sends by itself: the descriptor, and the control messages beside a burst like this one.  None if it
        may not be merged, or something waits to go before it."""
        entry = self._ipv4 if len(burst.address) == 2 else self._ipv6
        if entry is None or not entry.gso or self._rest is not None:
            return None
        return entry.sock.fileno(), packed(entry.beside(burst))

    def count_sent(self, datagrams: int, size: int, messages: int) -> None:
        self._sent_datagrams += datagrams
        self._sent_bytes += size
        self._sent_messages += messages

    def _count_error(self, error: OSError, datagrams: int = 1) -> None:
        self._drops.count(_name(error.errno or 0), datagrams)

    # --- the loop ---

    def on_readable(self, callback: Callable[[], None]) -> None:
        """Call back whenever something has arrived."""
        self._on_readable = callback
        self._watch_reading()

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        """Call back while the socket that would have blocked takes more; None ends that."""
        self._on_writable = callback
        self._watch_writing()

    def _watch_reading(self) -> None:
        if self._on_readable is not None:
            for entry in self._sockets:
                for sock in entry.socks:
                    self._loop.add_reader(sock, self._is_readable, entry)

    def _is_readable(self, entry: FamilySocket) -> None:
        entry.readable = True
        if self._on_readable is not None:
            self._on_readable()

    def _watch_writing(self) -> None:
        wanted = self._on_writable is not None or self._rest is not None
        none_blocked = not any(entry.blocked for entry in self._sockets)
        for entry in self._sockets:
            watch = wanted and (entry.blocked or none_blocked)
            if watch and not entry.watched:
                self._loop.add_writer(entry.sock, self._is_writable, entry)
            elif entry.watched and not watch:
                self._loop.remove_writer(entry.sock)
            entry.watched = watch

    def _is_writable(self, entry: FamilySocket) -> None:
        entry.blocked = False
        if self._send_rest() and self._on_writable is not None:
            self._on_writable()
        self._watch_writing()

    # --- watching ---

    @property
    def receive_room(self) -> int:
        """Bytes of a burst that the smaller family holds."""
        return min(entry.receive_room for entry in self._sockets)

    def statistics(self) -> UdpStatistics:
        return UdpStatistics(
            port=self.port,
            received_datagrams=self._received_datagrams,
            received_bytes=self._received_bytes,
            received_messages=self._received_messages,
            sent_datagrams=self._sent_datagrams,
            sent_bytes=self._sent_bytes,
            sent_messages=self._sent_messages,
            drops=tuple(sorted(self._drops.items())),
            families=tuple(
                sockets.statistics(entry.socks, gso=entry.gso, gro=entry.gro)
                for entry in (self._ipv4, self._ipv6)
                if entry is not None
            ),
        )


def _name(number: int) -> str:
    return errno.errorcode.get(number, "unknown-error")
