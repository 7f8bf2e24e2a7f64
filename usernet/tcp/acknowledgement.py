"""What an acknowledgement does: RFC 9293 3.10.7.4, fifth.  Read RFC 5961 5 and 7, RFC 6675 5, RFC 6582, RFC 6298 3.

In order: is it of this time; what it says of ranges that came out of order; what it lets go of; the peer's window; what
it shows to be lost.
"""

from __future__ import annotations

from typing import Final

from usernet.tcp.output import queue_refusal
from usernet.tcp.recovery import DUPLICATE_THRESHOLD, Phase, Recovery
from usernet.tcp.rtt import MAX_RTO
from usernet.tcp.seq import MASK, unwrap
from usernet.tcp.state import CLOSED, SYN_RECEIVED, Event
from usernet.tcp.tcb import NEVER, ControlBlock
from usernet.wire.tcp import SYN, TcpSegment

_UNMEASURED_RTO: Final = 3.0
_CHALLENGE_INTERVAL: Final = 0.5  # per connection; a limit shared by all would be a side channel (CVE-2016-5696)


def syn_acked(tcb: ControlBlock, ack: int, timestamp: tuple[int, int] | None, now: float) -> None:
    tcb.syn_due = False
    new_ack(tcb, ack, timestamp, now)
    if tcb.rtt.srtt == 0.0:  # RFC 6298 5.7: our SYN was sent again, and nothing tells which of them was answered
        tcb.rtt.rto = _UNMEASURED_RTO
    tcb.set_state(Event.SYN_ACKED, now)


def challenge(tcb: ControlBlock, now: float) -> None:
    """RFC 5961 7: an ACK that asks whether they meant it, at most one per interval."""
    if now >= tcb.challenge_at:
        tcb.challenge_at = now + _CHALLENGE_INTERVAL
        tcb.receiver.acks_due = max(tcb.receiver.acks_due, 1)


def ack_arrives(tcb: ControlBlock, segment: TcpSegment, seq: int, *, bare: bool, now: float) -> bool:
    """RFC 9293 3.10.7.4, fifth; False when the segment ends here."""
    sender = tcb.sender
    una, nxt = sender.una, sender.nxt
    ack = unwrap(segment.ack, una)
    window = segment.window if segment.flags & SYN else segment.window << sender.scale  # RFC 7323 2.2
    if tcb.state is SYN_RECEIVED:
        if not una < ack <= nxt:
            tcb.drops.count("tcp-ack")
            queue_refusal(tcb, segment.ack)
            return False
        sender.set_window(window, seq, ack)
        syn_acked(tcb, ack, segment.timestamp, now)
        return True
    if ack > nxt or ack < max(una - sender.window_max, sender.iss):  # RFC 5961 5.2; who has sent little gives less
        tcb.drops.count("tcp-ack")
        challenge(tcb, now)
        return False
    if segment.sack_blocks and tcb.sack and nxt > una:
        _sack_arrives(tcb, segment.sack_blocks)
    if ack > una:
        new_ack(tcb, ack, segment.timestamp, now)
    elif ack == una and bare and nxt > una and window == sender.window and not tcb.sack:  # RFC 5681 2
        tcb.recovery = tcb.recovery or Recovery(una)
        tcb.recovery.duplicates += 1
    if ack >= una and (sender.wl1 < seq or (sender.wl1 == seq and sender.wl2 <= ack)):
        set_window(tcb, window, seq, ack)
    if tcb.recovery is not None:
        _detect_loss(tcb, tcb.recovery)
    return tcb.state is not CLOSED


def set_window(tcb: ControlBlock, window: int, seq: int, ack: int) -> None:
    """SND.WND moves.  When a closed window opens, the persist timer has done its work (RFC 9293 3.8.6.1)."""
    sender = tcb.sender
    if window > sender.window and sender.nxt == sender.una:
        tcb.rtt.backoff = 0
        tcb.retransmit_at = NEVER
    sender.set_window(window, seq, ack)


def _sack_arrives(tcb: ControlBlock, blocks: tuple[tuple[int, int], ...]) -> None:
    """Note the blocks that lie within what is outstanding; a duplicate SACK (RFC 2883) lies below it."""
    sender = tcb.sender
    una, nxt = sender.una, sender.nxt
    most = (nxt - una) // sender.mss + 2
    for left, right in blocks:
        start = unwrap(left, una)
        end = start + ((right - left) & MASK)
        if una < start < end <= nxt:
            if tcb.recovery is None:
                tcb.recovery = Recovery(una)
            tcb.recovery.mark_sacked(start, end, most)


def new_ack(tcb: ControlBlock, ack: int, timestamp: tuple[int, int] | None, now: float) -> None:
    """SND.UNA moves: measure, let go, grow, re-arm."""
    sender, rtt, recovery = tcb.sender, tcb.rtt, tcb.recovery
    una, nxt = sender.una, sender.nxt
    if sender.timed_at:
        if ack >= sender.timed_end:
            rtt.sample(now - sender.timed_at)
            sender.timed_at = 0.0
    elif timestamp is not None and timestamp[1]:  # RFC 7323 4.1: the echo is not ambiguous ...
        age = tcb.echo_age(timestamp[1], now)
        # ... but when an ACK was lost it is as old as that ACK, and would add the wait for our own timer.
        if 0.0 <= age <= (MAX_RTO if recovery is None else now - recovery.resent_at + 0.001):
            rtt.sample(age)
    rtt.backoff = 0
    tcb.progress_at = now
    sender.acknowledge(ack)
    if recovery is None:
        age = 0.0
        if tcb.congestion.wants_rtt and timestamp is not None and timestamp[1] and tcb.timestamps:
            age = tcb.echo_age(timestamp[1], now)
        tcb.congestion.on_ack(ack - una, nxt - una, now, rtt.srtt, age)
    else:
        phase = recovery.phase
        recovery.advance(ack)
        if phase is not Phase.FAST:
            tcb.congestion.on_ack(ack - una, nxt - una, now, rtt.srtt, 0.0)
        elif recovery.phase is Phase.FAST and not tcb.sack:
            recovery.partial_ack(ack, nxt, ack - una, sender.mss)
    tcb.retransmit_at = NEVER if ack >= nxt else now + rtt.timeout()  # RFC 6298 5.2, 5.3
    if sender.fin and ack > sender.end:
        tcb.set_state(Event.FIN_ACKED, now)


def _detect_loss(tcb: ControlBlock, recovery: Recovery) -> None:
    """RFC 6675 5, RFC 6582 3.2: enter fast recovery once per window of data; forget the scoreboard when it is empty."""
    sender = tcb.sender
    una, nxt = sender.una, sender.nxt
    is_lost = recovery.detect(una, sender.mss)
    if recovery.phase is Phase.OPEN:
        if recovery.duplicates >= DUPLICATE_THRESHOLD:
            recovery.lose_first(una, nxt, sender.mss)
            is_lost = True
        if is_lost:
            tcb.congestion.on_loss(nxt - una)
            recovery.enter_fast(una, nxt)
    if recovery.is_idle(una) or una == nxt:
        tcb.recovery = None
