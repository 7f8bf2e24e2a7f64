"""What comes in: SEGMENT ARRIVES.  Read RFC 9293 3.10.7, RFC 5961 (blind attacks), RFC 7323 5 (PAWS), RFC 6675 5.

`segment_arrives` first tries the one case that bulk transfer consists of: ESTABLISHED, next in order, nothing but ACK
and PSH.  Everything else walks RFC 9293 3.10.7.4 in its order: sequence number (with PAWS in front), RST, SYN, ACK,
data, FIN.

Nothing here sends: an answer is noted (`acks_due`, `syn_due`, the outbox) and leaves with the next `take`.
"""

from __future__ import annotations

from typing import Final

from usernet.burst.packets import Buffer
from usernet.tcp.acknowledgement import ack_arrives, challenge, new_ack, set_window, syn_acked
from usernet.tcp.echo import echoes_us, note_echo
from usernet.tcp.output import queue_refusal, queue_reset
from usernet.tcp.seq import HALF, MASK, unwrap
from usernet.tcp.state import (
    CLOSED,
    ESTABLISHED,
    MAY_RECEIVE,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    Event,
)
from usernet.tcp.tcb import DEFAULT_MSS_V4, EOF, NEVER, READABLE, ControlBlock
from usernet.wire.tcp import ACK, CWR, FIN, PSH, RST, SYN, TcpSegment

_ACK_PSH: Final = ACK | PSH
_PAWS_EXPIRES: Final = 24 * 86400.0  # RFC 7323 5.5
_TICK: Final = 0.001  # s, of our timestamps
_OVERTAKEN: Final = 200  # ticks of the peer's: so little can be reordering, and 2**32 bytes take far longer


def segment_arrives(tcb: ControlBlock, segment: TcpSegment, now: float, *, segments: int = 1, ce: bool = False) -> None:
    """One segment, or a super-segment of `segments`, checksum found right.  Never raises for what it holds."""
    _, _, seq, ack, flags, window, _, _, _, blocks, timestamp, payload = segment
    receiver, sender = tcb.receiver, tcb.sender
    size = len(payload)
    acked = (ack - sender.una) & MASK
    if not (
        tcb.state is ESTABLISHED
        and seq == receiver.next & MASK
        and flags | PSH == _ACK_PSH
        and not blocks
        and receiver.fin is None
        and receiver.reassembly is None
        and tcb.recovery is None
        and not ce
        and size <= receiver.edge - receiver.next
        and acked <= sender.nxt - sender.una
        and (size or acked)
        and (timestamp is not None and (timestamp[0] - receiver.ts_recent) & MASK < HALF if tcb.timestamps else True)
    ):
        _arrive(tcb, segment, now, segments, ce=ce)
        return
    if timestamp is not None and receiver.acked == receiver.next:  # RFC 7323 4.3: SEG.SEQ <= Last.ACK.sent
        receiver.ts_recent, receiver.ts_recent_at = timestamp[0], now
    tcb.heard_at = now
    if acked:
        new_ack(tcb, sender.una + acked, timestamp, now)
    if window << sender.scale != sender.window and sender.wl1 <= receiver.next:  # else an update has overtaken it
        set_window(tcb, window << sender.scale, receiver.next, sender.una)
    if size:
        receiver.deliver(bytes(payload))
        tcb.readiness |= READABLE
        _owe_ack(tcb, segments, now)
        if now >= receiver.tune_at:
            _tune(tcb, timestamp, now)


def _owe_ack(tcb: ControlBlock, segments: int, now: float) -> None:
    """For data in order: at once for a burst or every second segment, else a little later (RFC 5681 4.2).

    Less than any full segment is no reason for haste while what we say next follows soon, and takes the ACK along.
    """
    receiver = tcb.receiver
    receiver.pending += segments
    if receiver.pending >= 2 and not (receiver.converses and receiver.next - receiver.acked < DEFAULT_MSS_V4):
        if not receiver.acks_due:
            receiver.acks_due = 1
    elif tcb.ack_at == NEVER:
        tcb.ack_at = now + tcb.settings.delayed_ack


def _tune(tcb: ControlBlock, timestamp: tuple[int, int] | None, now: float) -> None:
    age, shortest = 0.0, tcb.rtt.least
    if timestamp is not None and tcb.timestamps:
        age = max(0.0, tcb.echo_age(timestamp[1], now))
        shortest = min(shortest, age + _TICK)  # who only receives has few samples, and the SYN's may be a slow one
    receiver = tcb.receiver
    receiver.limit_max = min(receiver.limit_max, tcb.settings.receive_buffer_over(shortest))
    receiver.tune(now, tcb.rtt.srtt, age, tcb.their_segment)


def _arrive(tcb: ControlBlock, segment: TcpSegment, now: float, segments: int, *, ce: bool) -> None:
    if tcb.state is CLOSED:
        tcb.drops.count("tcp-closed")
    elif tcb.state is SYN_SENT:
        _arrive_in_syn_sent(tcb, segment, now)
    else:
        _arrive_synchronized(tcb, segment, now, segments, ce=ce)


def _arrive_in_syn_sent(tcb: ControlBlock, segment: TcpSegment, now: float) -> None:
    """RFC 9293 3.10.7.3."""
    sender, receiver, flags = tcb.sender, tcb.receiver, segment.flags
    ack = unwrap(segment.ack, sender.una)
    if flags & ACK and not sender.una < ack <= sender.nxt:
        tcb.drops.count("tcp-ack")
        if not flags & RST:
            queue_refusal(tcb, segment.ack)
        return
    if flags & RST:
        if flags & ACK:
            tcb.die(ConnectionRefusedError("connection refused"), now)
        else:
            tcb.drops.count("tcp-reset")
        return
    if not flags & SYN:
        tcb.drops.count("tcp-no-syn")
        return
    tcb.heard_at = now
    tcb.negotiate(segment)
    if segment.timestamp is not None:
        receiver.ts_recent, receiver.ts_recent_at = segment.timestamp[0], now
    sender.set_window(segment.window, receiver.next - 1, ack if flags & ACK else sender.una)  # not scaled in a SYN
    if flags & ACK:
        note_echo(tcb, segment.timestamp, now)
        syn_acked(tcb, ack, segment.timestamp, now)
        receiver.acks_due = 1
    else:
        tcb.set_state(Event.SYN, now)
        tcb.syn_due = True


def _arrive_synchronized(tcb: ControlBlock, segment: TcpSegment, now: float, segments: int, *, ce: bool) -> None:
    """RFC 9293 3.10.7.4, from SYN-RECEIVED to TIME-WAIT."""
    receiver, flags, payload = tcb.receiver, segment.flags, segment.payload
    seq = unwrap(segment.seq, receiver.next)
    if flags & SYN and tcb.state is SYN_RECEIVED and seq == receiver.next - 1 and not flags & RST:
        if not flags & ACK:
            tcb.syn_due = True  # their SYN again: our SYN-ACK is lost, or theirs crossed ours
            return
        seq, flags = seq + 1, flags & ~SYN  # the other half of a simultaneous open (figure 8)
    if not _passes_paws(tcb, segment, seq, now):
        return
    end = seq + len(payload) + bool(flags & FIN) + bool(flags & SYN)
    if not _is_acceptable(tcb, seq, end):
        if not _is_question(tcb, flags, seq, end):
            tcb.drops.count("tcp-unacceptable")
        if not flags & RST:
            _answer_unacceptable(tcb, segment, seq, end, now)
        return
    if flags & RST:
        _reset_arrives(tcb, seq, now)
        return
    if flags & SYN:  # RFC 5961 4.2
        tcb.drops.count("tcp-syn")
        challenge(tcb, now)
        return
    if not flags & ACK:
        tcb.drops.count("tcp-no-ack")
        return
    if not echoes_us(tcb, segment.timestamp, now):
        tcb.drops.count("tcp-echo")
        challenge(tcb, now)
        return
    if not ack_arrives(tcb, segment, seq, bare=end == seq, now=now):
        return
    tcb.heard_at = now  # only now is there reason to think that it was the peer
    _note_timestamps(tcb, segment.timestamp, seq, len(payload), now)
    if (ce or flags & CWR) and payload and tcb.ecn is not None and tcb.ecn.arrives(flags, segments if ce else 0):
        receiver.acks_due = max(receiver.acks_due, 1)
    if (payload or flags & FIN) and tcb.state in MAY_RECEIVE:
        _data_arrives(tcb, seq, payload, bool(flags & FIN), segments, now)
    if payload and now >= receiver.tune_at:
        _tune(tcb, segment.timestamp, now)


def _passes_paws(tcb: ControlBlock, segment: TcpSegment, seq: int, now: float) -> bool:
    """RFC 7323 5.3 R1, save that a repair which overtook what had left before it does not make that old.

    Otherwise one loss where packets are reordered makes the next, and that the next.
    """
    if not tcb.timestamps or segment.flags & RST:
        return True
    receiver, timestamp = tcb.receiver, segment.timestamp
    if timestamp is None:
        tcb.drops.count("tcp-no-timestamp")  # RFC 7323 3.2
        return False
    age = (receiver.ts_recent - timestamp[0]) & MASK
    if _OVERTAKEN < age <= HALF and now - receiver.ts_recent_at < _PAWS_EXPIRES:
        tcb.drops.count("tcp-paws")
        _answer_unacceptable(tcb, segment, seq, seq + len(segment.payload), now)
        return False
    return True


def _note_timestamps(tcb: ControlBlock, timestamp: tuple[int, int] | None, seq: int, size: int, now: float) -> None:
    """Of a segment that is believed, or a forged one would make the peer's own look old (RFC 7323 4.3, 5.3 R3)."""
    receiver = tcb.receiver
    if timestamp is not None and tcb.timestamps:
        age = (receiver.ts_recent - timestamp[0]) & MASK
        if seq <= receiver.acked <= seq + size and not 0 < age <= _OVERTAKEN:
            receiver.ts_recent, receiver.ts_recent_at = timestamp[0], now
        note_echo(tcb, timestamp, now)


def _is_acceptable(tcb: ControlBlock, seq: int, end: int) -> bool:
    """RFC 9293 3.4 table 6, save that at a closed window the next segment's ACK is still heard (3.10.7.4)."""
    receiver = tcb.receiver
    if seq == end or seq == receiver.next:
        return receiver.next <= seq <= receiver.edge
    return seq < receiver.edge and end > receiver.next


def _is_question(tcb: ControlBlock, flags: int, seq: int, end: int) -> bool:
    """One byte back, with it or empty: a keep-alive (RFC 9293 3.8.4) or Linux's probe of a closed window (3.8.6.1).

    All it wants is an ACK, which it gets: nothing is dropped.
    """
    return seq == tcb.receiver.next - 1 and end <= tcb.receiver.next and flags | PSH == _ACK_PSH


def _answer_unacceptable(tcb: ControlBlock, segment: TcpSegment, seq: int, end: int, now: float) -> None:
    """An ACK tells the peer where we are.  Only data earns it at once: two ends that disagree must not ping-pong."""
    receiver, flags = tcb.receiver, segment.flags
    if tcb.state is TIME_WAIT and flags & FIN and end == receiver.next:
        tcb.idle_at = now + tcb.settings.time_wait  # their FIN again (RFC 9293 3.10.7.4, eighth)
    if seq == end or flags & SYN:
        challenge(tcb, now)
    else:
        receiver.acks_due = max(receiver.acks_due, 1)
        if echoes_us(tcb, segment.timestamp, now):
            receiver.note_duplicate(seq, min(end, receiver.next))  # RFC 2883 4


def _reset_arrives(tcb: ControlBlock, seq: int, now: float) -> None:
    """RFC 5961 3.2; in TIME-WAIT it is ignored (RFC 1337)."""
    if tcb.state is TIME_WAIT:
        tcb.drops.count("tcp-reset")
    elif seq == tcb.receiver.next:
        tcb.die(ConnectionResetError("connection reset by peer"), now)
    else:
        tcb.drops.count("tcp-reset")
        challenge(tcb, now)


def _data_arrives(tcb: ControlBlock, seq: int, payload: Buffer, has_fin: bool, segments: int, now: float) -> None:
    """RFC 9293 3.10.7.4, seventh and eighth: trim to the window, keep or deliver, then their FIN if it is next."""
    receiver = tcb.receiver
    end = seq + len(payload)
    if tcb.orphaned and end > receiver.next:  # RFC 1122 4.2.2.13: nobody will read it
        queue_reset(tcb, now)
        tcb.die(None, now)
        return
    if has_fin and receiver.fin is None and end <= receiver.edge:
        receiver.fin = end
    low = max(receiver.next - seq, 0)
    high = min(end, receiver.edge, end if receiver.fin is None else receiver.fin) - seq
    receiver.note_duplicate(seq, min(end, receiver.next))
    if low or high < len(payload):
        receiver.acks_due = max(receiver.acks_due, 1)  # some of it was here already, or does not fit
    if low < high:
        data = bytes(payload[low:high])
        if seq + low == receiver.next:
            receiver.deliver(data)
            tcb.readiness |= READABLE
            _owe_ack(tcb, segments, now)
        elif not receiver.keep(seq + low, data, segments):
            tcb.drops.count("tcp-reassembly-full")
    elif receiver.next < seq:
        receiver.acks_due = max(receiver.acks_due, 1)  # a bare FIN behind a gap
    if receiver.fin == receiver.next:
        receiver.next += 1
        receiver.edge = max(receiver.edge, receiver.next)
        receiver.acks_due = max(receiver.acks_due, 1)
        tcb.readiness |= EOF
        tcb.set_state(Event.FIN, now)
