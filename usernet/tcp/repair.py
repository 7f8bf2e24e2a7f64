"""What acknowledgements tell of losses, and what follows.  Read RFC 8985 6 and 7.4, RFC 6675 5, RFC 6582 3.2 (a peer
without SACK), RFC 3522 and RFC 4015 (Eifel), RFC 3708 (D-SACK).

In the order of an acknowledgement: `sack_arrives`, then `progress` when SND.UNA moves, then `detect_loss`, which time
may call too.  All three only when something is out of order; what it is they find in flight.py's runs.
"""

from __future__ import annotations

from usernet.tcp import blackhole
from usernet.tcp.flight import FLYING, SACKED, Delivered
from usernet.tcp.output import arm_retransmission
from usernet.tcp.rack import DUPLICATE_THRESHOLD, Rack
from usernet.tcp.recovery import Phase, Recovery
from usernet.tcp.seq import MASK, unwrap
from usernet.tcp.tcb import NEVER, ControlBlock

_TICK = 0.001  # s, of our timestamps


def sack_arrives(
    tcb: ControlBlock, blocks: tuple[tuple[int, int], ...], ack: int, timestamp: tuple[int, int] | None, now: float
) -> None:
    """Note what is news of what is outstanding, and whether the first block tells of a duplicate (RFC 2883 4)."""
    sender = tcb.sender
    una, nxt = sender.una, sender.nxt
    ranges = []
    for left, right in blocks:
        start = unwrap(left, una)
        ranges.append((start, start + ((right - left) & MASK)))
    (start, end), *others = ranges
    if una - sender.window_max <= start < end <= nxt and (
        end <= ack or (others and others[0][0] <= start and end <= others[0][1])
    ):
        _duplicate_arrives(tcb, start, end, ack)
        ranges = others
    news: list[Delivered] = []
    for start, end in ranges:
        if ack < start < end <= nxt:
            news += tcb.flight.sack(start, end, sender.mss)
    if news:
        if tcb.recovery is None:
            tcb.recovery = Recovery(una)
        if tcb.rack is None:
            tcb.rack = Rack(una)
        tcb.rack.arrived(news, tcb.rtt, now, _echo_age(tcb, timestamp, now), is_sack=True)


def _duplicate_arrives(tcb: ControlBlock, start: int, end: int, ack: int) -> None:
    """A D-SACK: it came twice.  When all that was sent again came twice, none of it had been lost (RFC 3708 3)."""
    recovery, rack = tcb.recovery, tcb.rack
    if recovery is not None and recovery.probe_end == end:
        recovery.probe_end = 0  # RFC 8985 7.4.2: only the probe was one too many
    elif rack is not None and rack.resent > 0 and rack.began <= start < tcb.flight.again_below:
        rack.was_wrong(ack, tcb.sender.nxt)
        rack.resent -= end - start
        if rack.resent <= 0:
            if recovery is not None and recovery.phase is Phase.LOSS:
                tcb.congestion.undo()  # acknowledgements were lost, and of the rest it says nothing
            else:
                _undo(tcb)


def progress(
    tcb: ControlBlock, recovery: Recovery, una: int, ack: int, timestamp: tuple[int, int] | None, now: float
) -> None:
    """SND.UNA has moved from `una` to `ack` while something is out of order."""
    flight, rack, mss, nxt = tcb.flight, tcb.rack, tcb.sender.mss, tcb.sender.nxt
    echo_age = _echo_age(tcb, timestamp, now)
    if rack is not None:
        rack.arrived(flight.until(ack), tcb.rtt, now, echo_age, is_sack=False)
    flight.acknowledge(ack)
    recovery.probed = False
    if recovery.probe_end and ack >= recovery.probe_end:
        recovery.probe_end = 0
        # RFC 8985 7.4.2: if it was the probe that arrived, something had been lost
        was_lost = recovery.probe_at and now - recovery.probe_at >= max(tcb.rtt.least, echo_age - _TICK)
        if was_lost and (tcb.ecn is None or tcb.ecn.notes_loss(una, nxt)):
            tcb.congestion.on_loss(nxt - una)
    if recovery.head_resent_at:  # RFC 3522 3.2: only what was sent just once more can tell
        since, recovery.head_resent_at = now - recovery.head_resent_at, 0.0
        if echo_age > since + _TICK:
            if rack is not None:
                rack.was_wrong(ack, nxt)
            _undo(tcb)
    phase = recovery.phase
    if recovery.advance(ack):
        if rack is not None:
            rack.recovered()
    elif phase is Phase.FAST and not tcb.sack:  # RFC 6582 3.2 step 5: a partial ACK, so the next is lost too
        recovery.duplicates = max(0, recovery.duplicates - (ack - una) // mss + 1)
        flight.lose_first(mss)
        recovery.forced = True
    if phase is not Phase.FAST:
        tcb.congestion.on_ack(ack - una, nxt - una, now, tcb.rtt.srtt, rack.rtt if rack is not None else 0.0)


def detect_loss(tcb: ControlBlock, recovery: Recovery, delivered: int, now: float) -> None:
    """Enter fast recovery once per window of data, let as much leave as arrives, and forget what is over.

    `delivered` bytes are news of this acknowledgement.
    """
    sender, flight, congestion, rack = tcb.sender, tcb.flight, tcb.congestion, tcb.rack
    una, nxt, mss = sender.una, sender.nxt, sender.mss
    tcb.reorder_at = NEVER
    if rack is not None:
        window = rack.window(flight, tcb.rtt, mss, is_recovering=recovery.phase is not Phase.OPEN)
        tcb.reorder_at = rack.detect(flight, now, window)
        if recovery.phase is Phase.FAST and not flight.lost and not rack.resent:
            _undo(tcb)  # all of it has arrived before it could be sent again
    if recovery.phase is Phase.OPEN and recovery.duplicates >= DUPLICATE_THRESHOLD:
        flight.lose_first(mss)
    is_congestion = tcb.search is None or not flight.lost or not blackhole.probe_lost(tcb, tcb.search, now)
    if recovery.phase is Phase.OPEN and flight.lost:
        if tcb.ecn is None or not is_congestion or tcb.ecn.notes_loss(una, nxt):
            congestion.on_loss(nxt - una)
        if not is_congestion:
            congestion.undo()
        recovery.enter_fast(una, nxt, congestion.ssthresh if is_congestion else nxt - una)
        if rack is not None:
            rack.recovers(una)
    if recovery.reduction is not None:
        pipe = nxt - una - flight.lost - recovery.held(flight, mss)
        recovery.reduction.on_ack(delivered, pipe, congestion.ssthresh, mss)
    if una == nxt or recovery.is_idle(flight):
        tcb.recovery = None
        tcb.reorder_at = NEVER
        if una != nxt:
            arm_retransmission(tcb, now)


def lose_outstanding(tcb: ControlBlock, before: float) -> None:
    """The oldest goes again, and whatever of the rest had left before that time: a time-out, or a changed path."""
    flight = tcb.flight
    tcb.recovery = tcb.recovery or Recovery(tcb.sender.una)
    tcb.recovery.enter_loss(tcb.sender.nxt)
    if flight.runs and flight.runs[0].state == SACKED:  # RFC 2018 8: it has thrown away what it had reported
        flight.renege()
    for run in flight.runs:
        if run.state == FLYING and run.at <= before:
            flight.lose(run)
    flight.lose_first(tcb.sender.mss)
    if tcb.rack is not None:
        tcb.rack.recovers(tcb.sender.una)
    tcb.reorder_at = NEVER


def _undo(tcb: ControlBlock) -> None:
    """Nothing had been lost, only late: go on as if nobody had said so (RFC 4015 3.2)."""
    tcb.congestion.undo()
    tcb.flight.find_all()
    recovery, rack = tcb.recovery, tcb.rack
    if rack is not None:
        rack.resent = 0
    if recovery is not None:
        if rack is not None and recovery.phase is Phase.FAST:  # after a time-out it was the path that had become slow
            rack.reordering_seen = True
        recovery.end()


def _echo_age(tcb: ControlBlock, timestamp: tuple[int, int] | None, now: float) -> float:
    """How long ago that left which the peer answers; 0.0 when it does not say."""
    if timestamp is None or not timestamp[1] or not tcb.timestamps:
        return 0.0
    return max(tcb.echo_age(timestamp[1], now), 0.0)
