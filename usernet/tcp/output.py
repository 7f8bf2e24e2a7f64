"""What goes out, when it is pulled.  Read RFC 9293 3.8.6 and 3.10.2, RFC 6675 5, RFC 5681 3.

`take` in order: resets, then SYN; then lost ranges, then new data (and FIN), as super-segments while congestion window,
peer window and budget allow; then what is still owed: ACKs and probes.  An ACK rides on data when there is data.

`wants_to_send` says beforehand whether `take` has anything to do; it also says yes when nothing may go yet and no timer
runs that would change that, so that `take` starts the persist timer.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from usernet.burst.packets import SuperPacket
from usernet.tcp import blackhole
from usernet.tcp.ecn import asks, capable
from usernet.tcp.recovery import Phase, Recovery
from usernet.tcp.seq import MASK
from usernet.tcp.state import MAY_SEND, SYN_SENT
from usernet.tcp.tcb import NEVER, WRITABLE, ControlBlock, receive_scale
from usernet.wire.tcp import (
    ACK,
    CWR,
    ECE,
    FIN,
    HEADER_BYTES,
    PSH,
    RST,
    SYN,
    TIMESTAMP_BYTES,
    TIMESTAMP_OPTION,
    encode_options,
    encode_segment,
)

_SUPER_SEGMENTS: Final = 45  # one UDP_SEGMENT send carries that many
_SUPER_BYTES: Final = 65_000  # and one IP packet no more, whatever the MSS

# ports, seq, ack, offset and flags and window, checksum and urgent pointer [, timestamp option]
_WORDS = Struct("!5I")
_WORDS_WITH_TIMESTAMP = Struct("!8I")
_OFFSET: Final = HEADER_BYTES << 26
_OFFSET_WITH_TIMESTAMP: Final = HEADER_BYTES + TIMESTAMP_BYTES << 26


def wants_to_send(tcb: ControlBlock) -> bool:
    """Whether `take` would do anything."""
    if tcb.receiver.acks_due or tcb.outbox is not None or tcb.syn_due or tcb.probe_due:
        return True
    sender = tcb.sender
    if tcb.state not in MAY_SEND or (tcb.recovery is None and sender.nxt >= sender.end + sender.fin):
        return False
    return _next_range(tcb) is not None or (tcb.retransmit_at == NEVER and tcb.is_stream_out)


def take(tcb: ControlBlock, budget_bytes: int, now: float) -> list[SuperPacket]:
    """Packets to send now, data of about budget_bytes at the most; acknowledgements are always among them."""
    packets: list[SuperPacket] = []
    if tcb.outbox is not None:
        packets, tcb.outbox = tcb.outbox, None
    if tcb.syn_due:
        packets.append(_syn(tcb, now))
    elif tcb.state in MAY_SEND:
        sender = tcb.sender
        if tcb.recovery is not None or sender.nxt < sender.end + sender.fin:
            _take_data(tcb, packets, budget_bytes, now)
    if tcb.receiver.acks_due:
        _take_acks(tcb, packets, now)
    if tcb.probe_due:
        # An old sequence number, so that the answer is an ACK with the current window (RFC 9293 3.8.4, 3.8.6.1)
        tcb.probe_due = False
        packets.append(SuperPacket(_header(tcb, tcb.sender.una - 1, _ack_flags(tcb), tcb.receiver.window_field(), now)))
    return packets


def _next_range(tcb: ControlBlock) -> tuple[int, int] | None:
    """The sequence numbers that the windows let go now, a super-segment at most: lost ones first (RFC 6675 5 C)."""
    sender, recovery = tcb.sender, tcb.recovery
    una, nxt, mss = sender.una, sender.nxt, sender.mss
    most = min(_SUPER_SEGMENTS, _SUPER_BYTES // mss) * mss
    if recovery is None:
        space = tcb.congestion.cwnd - (nxt - una)
    else:
        if recovery.probe is not None:
            return recovery.probe
        flight = tcb.flight
        pipe = nxt - una - flight.lost - recovery.held(flight, mss)
        space = tcb.congestion.cwnd - pipe if recovery.reduction is None else recovery.reduction.quota
        if space < mss and (recovery.forced or pipe <= 0):
            space = mss
        if flight.lost:
            found = flight.next_lost(min(space // mss * mss, most)) if space >= mss else None
            if found is None:
                return None
            start, end = found
            # A window that was taken back (RFC 9293 3.8.6) still takes the one segment that asks for news.
            end = min(end, una + max(sender.window, mss))
            return (start, end) if start < end else None
    pending = sender.end + sender.fin - nxt
    usable = una + sender.window - nxt
    size = min(pending, usable, space, most)
    if size <= 0:
        return None
    if size < pending and size % mss:  # RFC 9293 3.8.6.2.1: full segments, or all there is, or half the peer's buffer
        if size > mss:
            size -= size % mss
        elif size < mss and (size < usable or not (sender.override or size * 2 >= sender.window_max)):
            return None
    return nxt, nxt + size


def _take_data(tcb: ControlBlock, packets: list[SuperPacket], budget: int, now: float) -> None:
    """Emit ranges until something forbids more."""
    sender, rtt = tcb.sender, tcb.rtt
    if sender.nxt == sender.una and now - sender.sent_at > rtt.rto:
        tcb.congestion.on_idle()
    una, before = sender.una, sender.nxt
    emitted = False
    window = -1
    while budget > 0 and (found := _next_range(tcb)) is not None:
        start, end = found
        mss = sender.mss
        if tcb.search is not None and (larger := blackhole.probe_payload(tcb, tcb.search, now)):
            mss = larger
            end = start + mss
        elif end - start > budget:  # whole segments, but at least one
            end = start + max(budget - budget % sender.mss, min(end - start, sender.mss))
        if tcb.ecn is not None and tcb.ecn.says_cwr and start >= sender.nxt:
            end = min(end, start + mss)  # CWR is said once, so not by a super-segment
        budget -= end - start
        if window < 0:
            window = tcb.receiver.window_field()
        packets.append(_data(tcb, start, end, window, mss, now if start >= sender.nxt else _told(tcb, start, now)))
        _account(tcb, start, end, now)
        emitted = True
        if budget < sender.mss:
            break
    if emitted:
        sender.override = False
        if not tcb.receiver.has_reports:
            _acknowledged(tcb)
        tcb.receiver.converses = una > sender.iss + 1 and now - tcb.heard_at < tcb.settings.delayed_ack
        sender.sent_at = now
    if sender.nxt > before:
        tcb.readiness |= WRITABLE
    if (emitted and before == una) or (tcb.retransmit_at == NEVER and (sender.nxt > una or tcb.is_stream_out)):
        tcb.progress_at = now
        arm_retransmission(tcb, now)


def _told(tcb: ControlBlock, start: int, now: float) -> float:
    """What time the timestamp of something sent again tells."""
    recovery, rack = tcb.recovery, tcb.rack
    if rack is None or recovery is None:
        return now
    return rack.stamp(now, tcb.flight.left_at(start) if recovery.phase is Phase.FAST else now)


def arm_retransmission(tcb: ControlBlock, now: float) -> None:
    """RFC 6298 5.1 to 5.3: the timer runs while anything is outstanding, and first asks for the tail (RFC 8985 7.2)."""
    sender, rtt = tcb.sender, tcb.rtt
    outstanding = sender.nxt - sender.una
    tcb.is_probe_timer = False
    if outstanding <= 0:
        tcb.retransmit_at = now + rtt.timeout() if tcb.is_stream_out else NEVER
    elif _may_probe(tcb, outstanding):
        tcb.is_probe_timer = True
        due = sender.sent_at + rtt.probe_timeout(is_alone=outstanding <= sender.mss + sender.fin)
        soonest = now + rtt.srtt / 4
        tcb.retransmit_at = due if due > soonest else soonest
    else:
        tcb.retransmit_at = now + rtt.timeout()


def _may_probe(tcb: ControlBlock, outstanding: int) -> bool:
    recovery, rtt = tcb.recovery, tcb.rtt
    if not tcb.sack or not rtt.srtt or rtt.backoff or outstanding > tcb.sender.window:
        return False
    return recovery is None or (recovery.phase is Phase.FAST and not recovery.probed)


def _account(tcb: ControlBlock, start: int, end: int, now: float) -> None:
    """Note that [start, end) leaves now."""
    sender, recovery = tcb.sender, tcb.recovery
    if start >= sender.nxt:
        sender.nxt = end
        tcb.flight.sent(start, end, now)
        if recovery is None and sender.timed_at == 0.0:  # RFC 6298 4: one a round trip; a gap would add its repair
            sender.timed_end, sender.timed_at, sender.timed_una = end, now, sender.una
    elif recovery is not None:
        _account_again(tcb, recovery, start, end, now)
    if recovery is not None:
        recovery.forced = False
        if recovery.probe is not None:
            recovery.probe, recovery.probe_end = None, sender.nxt
        elif recovery.reduction is not None:
            recovery.reduction.on_send(end - start)


def _account_again(tcb: ControlBlock, recovery: Recovery, start: int, end: int, now: float) -> None:
    sender = tcb.sender
    sender.timed_at = 0.0  # Karn: what is in flight can no longer tell the time
    head = tcb.flight.runs[0]
    is_first = start == head.start and not head.again
    tcb.flight.sent_again(start, end, now)
    recovery.resent_at = now
    segments = -(-(end - start) // sender.mss)
    if recovery.probe is not None:
        sender.resent_probes += segments
        recovery.probe_at = now
        return
    if recovery.phase is Phase.LOSS:
        sender.resent_late += segments
    else:
        sender.resent_early += segments
    if is_first:
        recovery.head_resent_at = now if tcb.rack is None else tcb.rack.stamped
    if tcb.rack is not None:
        tcb.rack.resent += end - start
    if start == sender.una and recovery.phase is Phase.FAST:
        sender.sent_at = now
        arm_retransmission(tcb, now)  # the repair of the head gets its time too


def _data(tcb: ControlBlock, start: int, end: int, window: int, mss: int, now: float) -> SuperPacket:
    """One super-segment; the kernel fills in lengths, checksums and the later segments' numbers."""
    sender = tcb.sender
    flags = _ack_flags(tcb)
    if end > sender.end:
        flags |= FIN
        end = sender.end
    if start >= end:
        return SuperPacket(_header(tcb, start, flags, window, now))
    if end == sender.end:
        flags |= PSH
    pieces, ecn = sender.pieces(start, end), tcb.ecn
    if ecn is None or start < sender.nxt:  # RFC 3168 6.1.5: what is sent again is not ECN-capable
        return SuperPacket(_header(tcb, start, flags, window, now), pieces, mss)
    if ecn.says_cwr:
        ecn.says_cwr = False
        flags |= CWR
    return SuperPacket(capable(_header(tcb, start, flags, window, now)), pieces, mss)


def _ack_flags(tcb: ControlBlock) -> int:
    """RFC 3168 6.1.3: every segment says it, until they say CWR."""
    return ACK if tcb.ecn is None or not tcb.ecn.echoes else ACK | ECE


def _header(tcb: ControlBlock, seq: int, flags: int, window: int, now: float) -> bytes:
    """IP and TCP header, finished if it stays without payload: one sum of 32-bit words, for 2**16 is 1 modulo 65535."""
    seq &= MASK
    receiver = tcb.receiver
    ack = receiver.next & MASK
    total = tcb.ack_base + seq + ack + (flags - ACK) + window
    if tcb.timestamps:
        value, echo = (int(now * 1000) + tcb.ts_offset) & MASK, receiver.ts_recent
        return tcb.ack_header + _WORDS_WITH_TIMESTAMP.pack(
            tcb.ports, seq, ack, _OFFSET_WITH_TIMESTAMP | flags << 16 | window,
            (-(total + value + echo) % 65535) << 16, TIMESTAMP_OPTION, value, echo,
        )  # fmt: skip
    return tcb.ack_header + _WORDS.pack(tcb.ports, seq, ack, _OFFSET | flags << 16 | window, (-total % 65535) << 16)


def _take_acks(tcb: ControlBlock, packets: list[SuperPacket], now: float) -> None:
    """One pure ACK; as many as it takes to report what is out of order or came twice; without SACK, with a gap, one per
    segment (RFC 5681 4.2)."""
    receiver, sender = tcb.receiver, tcb.sender
    due = receiver.acks_due
    window = receiver.window_field()
    if tcb.sack and receiver.has_reports:
        packets.extend(_sack(tcb, blocks, window, now) for blocks in receiver.reports(3 if tcb.timestamps else 4))
    else:
        ack = SuperPacket(_header(tcb, sender.nxt, _ack_flags(tcb), window, now))
        packets.extend([ack] * due if receiver.reassembly is not None else [ack])
    _acknowledged(tcb)


def _acknowledged(tcb: ControlBlock) -> None:
    receiver = tcb.receiver
    receiver.acked = receiver.next
    receiver.acks_due = receiver.pending = 0
    tcb.ack_at = NEVER


def _sack(tcb: ControlBlock, blocks: list[tuple[int, int]], window: int, now: float) -> SuperPacket:
    wire = tuple((start & MASK, end & MASK) for start, end in blocks)
    options = encode_options(sack_blocks=wire, timestamp=_timestamps(tcb, now))
    return _finished(tcb, tcb.sender.nxt, tcb.receiver.next, _ack_flags(tcb), window, options)


def _timestamps(tcb: ControlBlock, now: float) -> tuple[int, int] | None:
    return (tcb.timestamp(now), tcb.receiver.ts_recent) if tcb.timestamps else None


def _finished(tcb: ControlBlock, seq: int, ack: int, flags: int, window: int, options: bytes) -> SuperPacket:
    flow = tcb.flow
    names = flow.local, flow.remote, flow.local_port, flow.remote_port
    return SuperPacket(encode_segment(*names, seq & MASK, ack & MASK, flags, window, options))


def _syn(tcb: ControlBlock, now: float) -> SuperPacket:
    """SYN, or SYN-ACK with only those options that their SYN had (RFC 7323 2.2 and 3.2, RFC 2018 2)."""
    settings, sender, receiver = tcb.settings, tcb.sender, tcb.receiver
    tcb.syn_due = False
    is_first = tcb.state is SYN_SENT
    scale = None
    if settings.window_scaling and (is_first or receiver.scale or sender.scale):
        scale = receive_scale(settings)
    options = encode_options(
        mss=receiver.mss, window_scale=scale, sack_permitted=tcb.sack, timestamp=_timestamps(tcb, now)
    )
    if sender.nxt == sender.una:
        sender.nxt = sender.una + 1
        sender.timed_end, sender.timed_at, sender.timed_una = sender.nxt, now, sender.una
    else:
        sender.timed_at = 0.0
        sender.resent_late += 1
    if tcb.retransmit_at == NEVER:
        tcb.retransmit_at = now + tcb.rtt.timeout()
    window = min(receiver.limit, 0xFFFF)  # never scaled (RFC 7323 2.2)
    if is_first:
        flags = SYN | ECE | CWR if asks(settings, sender.resent_late) else SYN
        return _finished(tcb, sender.una, 0, flags, window, options)
    _acknowledged(tcb)
    flags = SYN | ACK if tcb.ecn is None else SYN | ACK | ECE
    return _finished(tcb, sender.una, receiver.next, flags, window, options)


def queue_reset(tcb: ControlBlock, now: float) -> None:
    """A reset from our side of a connection whose SYN is acknowledged (RFC 9293 3.5.2 group 3)."""
    options = encode_options(timestamp=_timestamps(tcb, now))
    _queue(tcb, _finished(tcb, tcb.sender.nxt, tcb.receiver.next, RST | ACK, 0, options))


def queue_refusal(tcb: ControlBlock, ack: int) -> None:
    """A reset that answers an ACK of something never sent, taking its sequence number from there (group 1 and 2)."""
    _queue(tcb, _finished(tcb, ack, 0, RST, 0, b""))


def _queue(tcb: ControlBlock, packet: SuperPacket) -> None:
    if tcb.outbox is None:
        tcb.outbox = []
    if len(tcb.outbox) < 4:  # a flood of bad segments earns no flood of answers
        tcb.outbox.append(packet)
