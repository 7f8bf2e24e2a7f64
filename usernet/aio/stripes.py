"""Sockets that share a port, where one alone would hold too little.  See socket(7) and SO_ATTACH_REUSEPORT_CBPF.

Without privileges a receive buffer is as large as net.core.rmem_max allows, usually 212,992 bytes, which Linux doubles:
less than a near peer sends during one turn of ours.  Each of several sockets has that much.  A classic BPF program
chooses one of them by a packet's counter, so that STRIPE packets one after the other are in the same, and the last one
read says which is next: what was sent in order is read in order.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Callable
from typing import Final

SOCKETS: Final = 4
STRIPE: Final = 256 // SOCKETS  # so one byte of the counter is enough
ENOUGH: Final = 2 << 20  # bytes of receive buffer, as Linux counts: more makes a download no faster

INDEX_AT: Final = 4  # the receiver index, in a transport data message
COUNTER_AT: Final = 8
_SO_ATTACH_REUSEPORT_CBPF: Final = 51  # not in the socket module

# linux/filter.h: load a byte, divide by STRIPE, that is it.  Of what is too short for that the first socket gets all.
_INSTRUCTIONS: Final = (0x30, COUNTER_AT), (0x34, STRIPE), (0x16, 0)
_PROGRAM: Final = array("B", b"".join(struct.pack("=HBBI", code, 0, 0, operand) for code, operand in _INSTRUCTIONS))


def open_others(first: socket.socket, open_another: Callable[[], socket.socket]) -> list[socket.socket]:
    """What is to be read beside a bound socket; nothing if it holds enough, or the system cannot share out that way.

    `open_another` makes one like it with SO_REUSEPORT.  The first was bound without, so a port in use is refused.
    """
    if sys.platform != "linux" or first.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= ENOUGH:
        return []
    others: list[socket.socket] = []
    try:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        while len(others) < SOCKETS - 1:
            others.append(open_another())
        program = struct.pack("@HP", len(_INSTRUCTIONS), _PROGRAM.buffer_info()[0])
        first.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError:
        for other in others:
            other.close()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        return []
    return others


def stripe_after(counter: int) -> int:
    """That of the packet after the one with this lowest byte of its counter."""
    return (counter + 1) % 256 // STRIPE
