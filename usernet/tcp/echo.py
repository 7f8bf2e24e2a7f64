"""Whether the timestamp that a segment echoes is one of ours.  Read RFC 7323 4.3 and 5.4, RFC 5961 1 and 5.

Somebody who sees nothing of a connection forges data for it by guessing a sequence number within our window and an
acknowledgement within the peer's.  With windows of 8 MiB each guess fits once in 512: a quarter of a million segments
fit once whatever the numbers are, and RFC 5961 has no more to offer.  Where timestamps are agreed there is a third
number.  A peer echoes what we sent, ours begin at a secret offset, and what it echoes hardly ever goes back; so TSecr
must lie between the last one believed, less what reordering may take, and now: once in 2**16 or less.

The last one believed is noted where a segment takes the long way (arrival.py).  Being out of date only makes the test
milder, so bulk transfer has nothing to do here.  A peer that never echoes what it should is not tested.
"""

from __future__ import annotations

from typing import Final

from usernet.tcp.seq import HALF, MASK
from usernet.tcp.tcb import ControlBlock

_SLACK: Final = 60_000  # ms: 2 MSL, as our TIME-WAIT has it
_FIRST: Final = 150_000  # ms: our SYN may have been sent for two minutes


def echoes_us(tcb: ControlBlock, timestamp: tuple[int, int] | None, now: float) -> bool:
    """Whether the peer may have sent these: TSval, TSecr."""
    if not tcb.timestamps or timestamp is None or tcb.echoed is None:
        return True
    ours = tcb.timestamp(now)
    return (ours - timestamp[1]) & MASK <= ((ours - tcb.echoed) & MASK) + _SLACK


def note_echo(tcb: ControlBlock, timestamp: tuple[int, int] | None, now: float) -> None:
    """A segment with these was believed."""
    if not tcb.timestamps or timestamp is None:
        return
    echo = timestamp[1]
    if tcb.echoed is None:
        if (tcb.timestamp(now) - echo) & MASK <= _FIRST:
            tcb.echoed = echo
    elif (echo - tcb.echoed) & MASK < HALF:
        tcb.echoed = echo
