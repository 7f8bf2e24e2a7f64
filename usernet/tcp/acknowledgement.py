"""What an acknowledgement does: RFC 9293 3.10.7.4, fifth.  Read RFC 5961 5 and 7, RFC 6298 3; repair.py for losses.

In order: is it of this time; what it says of ranges that came out of order; what it lets go of; the peer's window; what
it shows to be lost.
"""

from __future__ import annotations

from typing import Final

from usernet.tcp import blackhole
from usernet.tcp.output import arm_retransmission, queue_refusal
from usernet.tcp.recovery import Recovery
from usernet.tcp.repair import detect_loss, progress, sack_arrives
from usernet.tcp.rtt import INITIAL_RTO, MAX_RTO
from usernet.tcp.seq import unwrap
from usernet.tcp.state import CLOSED, SYN_RECEIVED, Event
from usernet.tcp.tcb import NEVER, ControlBlock
from usernet.wire.tcp import ECE, SYN, TcpSegment

_UNMEASURED_RTO: Final = 3.0
_CHALLENGE_INTERVAL: Final = 0.5  # per connection; a limit shared by all would be a side channel (CVE-2016-5696)


def syn_acked(tcb: ControlBlock, ack: int, timestamp: tuple[int, int] | None, now: float) -> None:
    tcb.syn_due = False
    if tcb.sender.resent_late and not _answers_first_syn(tcb, timestamp, now):
        tcb.congestion.on_syn_lost()
    new_ack(tcb, ack, timestamp, now)
    if tcb.rtt.srtt == 0.0:  # RFC 6298 5.7: our SYN was sent again, and nothing tells which of them was answered
        tcb.rtt.rto = _UNMEASURED_RTO
    tcb.set_state(Event.SYN_ACKED, now)


def _answers_first_syn(tcb: ControlBlock, timestamp: tuple[int, int] | None, now: float) -> bool:
    """Whether it is known that our SYN was sent again for nothing: on a path of more than a second."""
    if timestamp is None or not tcb.timestamps:
        return False
    return tcb.echo_age(timestamp[1], now) > now - tcb.progress_at - INITIAL_RTO / 2


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
    recovery = tcb.recovery
    held = 0 if recovery is None else recovery.held(tcb.flight, sender.mss)
    if segment.sack_blocks and tcb.sack and (nxt > una or tcb.rack is not None):
        sack_arrives(tcb, segment.sack_blocks, ack, segment.timestamp, now)
    says_ece = tcb.ecn is not None and bool(segment.flags & ECE)
    if says_ece:
        _congestion_arrives(tcb, ack)
    if ack > una:
        new_ack(tcb, ack, segment.timestamp, now, may_grow=not says_ece)
    elif ack == una and bare and nxt > una and window == sender.window and not tcb.sack:  # RFC 5681 2
        tcb.recovery = tcb.recovery or Recovery(una)
        tcb.recovery.duplicates += 1
    if ack >= una and (sender.wl1 < seq or (sender.wl1 == seq and sender.wl2 <= ack)):
        set_window(tcb, window, seq, ack)
    recovery = tcb.recovery
    if recovery is not None:
        gone = max(ack - una, 0) + recovery.held(tcb.flight, sender.mss) - held
        detect_loss(tcb, recovery, max(gone, 0), now)
    return tcb.state is not CLOSED


def _congestion_arrives(tcb: ControlBlock, ack: int) -> None:
    """It says ECE.  Once in a round trip that is news, and it never is for what left before (RFC 3168 6.1.2)."""
    ecn = tcb.ecn
    if ecn is not None and ack > ecn.point:
        ecn.has_shrunk(tcb.sender.nxt)
        ecn.reductions += 1
        tcb.congestion.on_ecn()


def set_window(tcb: ControlBlock, window: int, seq: int, ack: int) -> None:
    """SND.WND moves.  When a closed window opens, the persist timer has done its work (RFC 9293 3.8.6.1)."""
    sender = tcb.sender
    if window > sender.window and sender.nxt == sender.una:
        tcb.rtt.backoff = 0
        tcb.retransmit_at = NEVER
    sender.set_window(window, seq, ack)


def new_ack(
    tcb: ControlBlock, ack: int, timestamp: tuple[int, int] | None, now: float, *, may_grow: bool = True
) -> None:
    """SND.UNA moves: measure, let go, grow, re-arm."""
    sender, rtt, recovery = tcb.sender, tcb.rtt, tcb.recovery
    una, nxt = sender.una, sender.nxt
    if sender.timed_at:
        if ack >= sender.timed_end:
            sender.delivery_rate = (ack - sender.timed_una) / max(now - sender.timed_at, 1e-6)
            rtt.sample(now - sender.timed_at)
            sender.timed_at, sender.timed_una, sender.timed_end = 0.0, 0, 0  # small numbers cost no memory
    elif timestamp is not None and timestamp[1]:  # RFC 7323 4.1: the echo is not ambiguous ...
        age = tcb.echo_age(timestamp[1], now)
        # ... but when an ACK was lost it is as old as that ACK, and would add the wait for our own timer.
        if 0.0 <= age <= (MAX_RTO if recovery is None else now - recovery.resent_at + 0.001):
            rtt.sample(age)
    rtt.backoff = 0
    tcb.progress_at = now
    sender.acknowledge(ack)
    if recovery is None:
        tcb.flight.acknowledge(ack)
        if may_grow:
            age = 0.0
            if tcb.congestion.wants_rtt and timestamp is not None and timestamp[1] and tcb.timestamps:
                age = tcb.echo_age(timestamp[1], now)
            tcb.congestion.on_ack(ack - una, nxt - una, now, rtt.srtt, age)
    else:
        progress(tcb, recovery, una, ack, timestamp, now)
    if tcb.search is not None:
        blackhole.acknowledged(tcb, tcb.search, ack, now)
    arm_retransmission(tcb, now)
    if sender.fin and ack > sender.end:
        tcb.set_state(Event.FIN_ACKED, now)
