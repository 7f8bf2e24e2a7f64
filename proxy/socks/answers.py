"""Datagrams back to an association's client: those of one turn of the loop that are equally long leave in one call.

Answers come from the tunnel in bursts, and a client is usually on this machine, where every sendto wakes it: that was a
third of what relaying cost.  Linux cuts one message into datagrams itself (UDP_SEGMENT, udp(7)), here at 522 bytes
with nobody to wake 3.2 us each for one by one, 0.86 for eight in a call, 0.45 for 32.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from typing import Any, Final

from proxy.session import Counters
from usernet.aio.sockets import SOL_UDP, UDP_SEGMENT, has_gso

MAX_DATAGRAMS: Final = 64  # in one message: UDP_MAX_SEGMENTS of older kernels
MAX_BYTES: Final = 65_000  # of one message, less than UDP's own maximum over either family


class Answers:
    """Owned by the association whose relay `sock` is; `address` is its client's."""

    __slots__ = ("_address", "_bytes", "_counters", "_has_gso", "_loop", "_size", "_sock", "_waiting")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, counters: Counters, sock: socket.socket, address: tuple[Any, ...]
    ) -> None:
        self._loop = loop
        self._counters = counters
        self._sock = sock
        self._address = address
        self._has_gso = has_gso(sock)
        self._waiting: list[bytes] = []  # all of one size
        self._size = 0
        self._bytes = 0

    def send(self, datagram: bytes) -> None:
        """Send it before the next turn is over."""
        waiting, size = self._waiting, len(datagram)
        if not self._has_gso or size > MAX_BYTES // 2:
            self._flush()  # what came before goes first
            self._send_one(datagram)
            return
        if not waiting:
            self._loop.call_soon(self._flush)
        elif size != self._size or self._bytes + size > MAX_BYTES or len(waiting) == MAX_DATAGRAMS:
            self._flush()  # the call that is due finds what comes now
        self._size = size
        self._bytes += size
        self._waiting.append(datagram)

    def close(self) -> None:
        self._waiting = []

    def _flush(self) -> None:
        waiting = self._waiting
        if not waiting:
            return
        self._waiting, self._bytes = [], 0
        if len(waiting) > 1 and self._has_gso:
            try:
                segment = SOL_UDP, UDP_SEGMENT, struct.pack("=H", self._size)
                self._sock.sendmsg([b"".join(waiting)], [segment], 0, self._address)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    for _ in waiting:
                        self._counters.refuse("udp-client-full")
                    return
                self._has_gso = False  # the interface cannot, or they are larger than its MTU
            else:
                return
        for datagram in waiting:
            self._send_one(datagram)

    def _send_one(self, datagram: bytes) -> None:
        try:
            self._sock.sendto(datagram, self._address)
        except BlockingIOError:
            self._counters.refuse("udp-client-full")
        except OSError as error:
            self._counters.refuse("udp-too-large" if error.errno == errno.EMSGSIZE else "udp-client-unreachable")
