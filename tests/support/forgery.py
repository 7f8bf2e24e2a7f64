"""Somebody who sees nothing of a connection but knows its addresses and ports, and forges segments of its far end.

The guesses walk a grid: a point in every 4 MiB of sequence numbers with a point in every 4 MiB of acknowledgements,
2**20 in all and in an order without pattern.  A window of 8 MiB has points in it whatever the numbers are, so nothing
but the timestamps is left to luck; and of those only the echo, for the forger knows the far end's clock.
"""

from __future__ import annotations

import random
import struct
from typing import Final

from usernet.burst.packets import CHECKSUM_OK, PacketBurst
from usernet.tcp.connection import Connection
from usernet.tcp.seq import MASK
from usernet.wire.tcp import ACK, FIN, PSH, RST, SYN, encode_options, encode_segment

GRID: Final = 1 << 20
BURST: Final = 1024
FORGED: Final = b"forged! " * 165  # a whole segment: of a small one the true data would leave nothing

_POINTS: Final = 1 << 10  # in each direction
_ODD: Final = 0x9E3779B1  # multiplying by an odd number goes through the whole grid
# Data and acknowledgements have the most to guess, so they get most of the guesses.
_KINDS: Final = (
    (RST, b""), (RST | ACK, b""), (SYN, b""), (SYN | ACK, b""), (ACK, b""), (ACK, b""), (ACK | FIN, FORGED),
    *9 * ((ACK | PSH, FORGED),),
)  # fmt: skip


class Forger:
    """Forges what the far end of `victim` might send.  A lucky one is always right about both windows."""

    def __init__(self, victim: Connection, seed: int, *, lucky: bool = False) -> None:
        self.sent = 0
        self._victim = victim
        self._lucky = lucky
        self._random = random.Random(seed)
        flow = victim.flow
        names = flow.remote, flow.local, flow.remote_port, flow.local_port
        options = encode_options(timestamp=(0, 0))
        self._templates = [encode_segment(*names, 0, 0, flags, 0x8000, options, data) for flags, data in _KINDS]

    def burst(self) -> PacketBurst:
        """The next BURST guesses, their checksums found right."""
        burst = PacketBurst(0)
        buf, rows, templates, chance = burst.buf, burst.rows, self._templates, self._random
        transport = 20 if len(self._victim.flow.local) == 4 else 40
        clock = self._victim.receiver.ts_recent
        for number in range(self.sent, self.sent + BURST):
            template = templates[number % len(templates)]
            at = len(buf)
            buf += template
            struct.pack_into(">II", buf, at + transport + 4, *(self._near() if self._lucky else self._point(number)))
            struct.pack_into(">II", buf, at + transport + 24, clock, chance.getrandbits(32))
            rows.append((at, len(template), 0, 1, transport, CHECKSUM_OK))
        self.sent += BURST
        return burst

    def _point(self, number: int) -> tuple[int, int]:
        """SEG.SEQ and SEG.ACK."""
        point = number * _ODD % GRID
        return point // _POINTS << 22 | self._random.getrandbits(22), point % _POINTS << 22 | self._random.getrandbits(
            22
        )

    def _near(self) -> tuple[int, int]:
        """Anywhere in the window but not at RCV.NXT, which is no matter of windows."""
        sender, receiver = self._victim.sender, self._victim.receiver
        seq = receiver.next + self._random.randrange(1, receiver.edge - receiver.next)
        ack = self._random.randrange(sender.una, sender.nxt + 1)
        return seq & MASK, ack & MASK
