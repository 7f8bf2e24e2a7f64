"""What time brings.  Read RFC 6298 5, RFC 9293 3.8.3, 3.8.4 and 3.8.6.1, RFC 1122 4.2.3.

Four timers: `retransmit_at` is the retransmission timer, with the tail loss probe before it (RFC 8985 7), while
something is outstanding, and the persist timer while a closed window holds the stream back; `reorder_at` is when what
was overtaken is late enough to be lost (RFC 8985 6.2); `ack_at` is the delayed ACK; `idle_at` is when an open has
waited long enough, 2 MSL, the wait of an orphan in FIN-WAIT-2, or keepalive.  Firing early does no harm, and firing
late only delays.
"""

from __future__ import annotations

from usernet.tcp import blackhole
from usernet.tcp.output import queue_reset
from usernet.tcp.recovery import Phase, Recovery
from usernet.tcp.repair import detect_loss, lose_outstanding
from usernet.tcp.state import CLOSED, FIN_WAIT_2, OPENING, TIME_WAIT, Event
from usernet.tcp.tcb import NEVER, ControlBlock

_ROUNDING = 1e-6  # s


def next_timeout(tcb: ControlBlock) -> float | None:
    """When to call `handle_timeout`."""
    at = tcb.retransmit_at
    if tcb.ack_at < at:  # twice as fast as min() of four, and asked for after every segment
        at = tcb.ack_at
    if tcb.idle_at < at:
        at = tcb.idle_at
    if tcb.reorder_at < at:
        at = tcb.reorder_at
    return at if at != NEVER else None


def handle_timeout(tcb: ControlBlock, now: float) -> None:
    if tcb.ack_at <= now:
        tcb.ack_at = NEVER
        tcb.receiver.acks_due = max(tcb.receiver.acks_due, 1)
        tcb.receiver.converses = False
    if tcb.reorder_at <= now:
        tcb.reorder_at = NEVER
        if tcb.recovery is not None:
            detect_loss(tcb, tcb.recovery, 0, now)
    if tcb.retransmit_at <= now:
        _retransmission_timeout(tcb, now)
    if tcb.idle_at <= now:
        _idle_timeout(tcb, now)


def _retransmission_timeout(tcb: ControlBlock, now: float) -> None:
    rtt, sender = tcb.rtt, tcb.sender
    if tcb.is_probe_timer:
        _probe_timeout(tcb, now)
        return
    if _has_given_up(tcb, now):
        tcb.die(TimeoutError("the other end does not answer"), now)
        return
    if sender.nxt > sender.una and tcb.state not in OPENING:
        if rtt.backoff == 0:
            tcb.congestion.on_timeout(sender.nxt - sender.una)
            if tcb.ecn is not None:
                tcb.ecn.has_shrunk(sender.nxt)
        blackhole.timed_out(tcb, now)
    _resend(tcb, now)
    rtt.back_off()  # RFC 6298 5.5
    tcb.retransmit_at = now + rtt.timeout()


def _probe_timeout(tcb: ControlBlock, now: float) -> None:
    """RFC 8985 7.3: nothing has been heard for a round trip and more, so send something that will be answered.

    The timer was set by the last acknowledgement; what was sent later gets its time, up to the RTO.
    """
    sender, rtt = tcb.sender, tcb.rtt
    due = sender.sent_at + rtt.probe_timeout(is_alone=sender.nxt - sender.una <= sender.mss + sender.fin)
    due = min(due, tcb.progress_at + rtt.rto)
    if due > now + _ROUNDING:
        tcb.retransmit_at = due
        return
    tcb.is_probe_timer = False
    if sender.nxt > sender.una + sender.window:  # the window was taken back: the tail would not be heard
        tcb.retransmit_at = max(tcb.progress_at + rtt.rto, now)
        return
    tcb.retransmit_at = max(tcb.progress_at + rtt.rto, now + rtt.probe_timeout(is_alone=True))
    if (recovery := tcb.recovery) is not None:
        if recovery.phase is not Phase.FAST:
            return  # something was reported after the timer was set, and `reorder_at` will do
        # In fast recovery it is the repair of the oldest that was lost too, and nothing left later to show that; the
        # RFC waits for the time-out here, but one segment does no harm (as RFC 9002 6.2.4 has it).
        recovery.probed = recovery.forced = True
        tcb.flight.lose_first(sender.mss)
        return
    recovery = tcb.recovery = Recovery(sender.una)
    pending = min(sender.end - sender.nxt, sender.mss)
    if pending > 0 and sender.nxt + pending <= sender.una + sender.window:
        recovery.probe = sender.nxt, sender.nxt + pending
    else:
        recovery.probe = tcb.flight.last_segment(sender.mss, sender.end)


def _has_given_up(tcb: ControlBlock, now: float) -> bool:
    settings, sender = tcb.settings, tcb.sender
    if tcb.state in OPENING:
        return tcb.rtt.backoff >= settings.syn_retries
    limit = settings.orphan_timeout if tcb.abandoned else settings.user_timeout
    if now - tcb.progress_at < limit:
        return False
    # A peer that keeps answering with a closed window is alive (RFC 9293 3.8.6.1), but no reason to keep an orphan.
    return sender.window > 0 or tcb.abandoned or now - tcb.heard_at >= limit


def _resend(tcb: ControlBlock, now: float) -> None:
    """Let the oldest of what is unanswered go again: SYN, data, or a probe of a closed window."""
    sender = tcb.sender
    sender.timed_at = 0.0
    if tcb.state in OPENING:
        tcb.syn_due = True
    elif sender.nxt > sender.una:
        lose_outstanding(tcb, now - tcb.rtt.srtt)
    elif sender.window > 0:
        sender.override = True  # RFC 9293 3.8.6.2.1 (4): a small window is better than none by now
    else:
        tcb.probe_due = True


def _idle_timeout(tcb: ControlBlock, now: float) -> None:
    if tcb.state is TIME_WAIT or (tcb.state is FIN_WAIT_2 and tcb.orphaned):
        tcb.set_state(Event.TIMEOUT, now)
        return
    if tcb.state in OPENING:
        tcb.die(TimeoutError("the other end does not answer"), now)
        return
    tcb.idle_at = NEVER
    settings = tcb.settings
    if settings.keepalive_idle is None:
        return
    begin = tcb.heard_at + settings.keepalive_idle
    if now < begin:  # not by the length of the silence, which may round to less when its end has come
        tcb.idle_at = begin
        return
    if round((now - begin) / settings.keepalive_interval) >= settings.keepalive_probes:
        queue_reset(tcb, now)
        tcb.die(TimeoutError("the other end does not answer keepalive probes"), now)
        return
    if tcb.sender.nxt == tcb.sender.una:  # else retransmission asks already
        tcb.probe_due = True
    tcb.idle_at = now + settings.keepalive_interval


def path_changed(tcb: ControlBlock, now: float) -> None:
    """The path has come back or moved: a stalled connection tries at once, and its back-off starts anew."""
    if tcb.rtt.backoff == 0 or tcb.state is CLOSED:
        return
    tcb.rtt.backoff = 0
    probe(tcb, now)
    tcb.retransmit_at = now + tcb.rtt.timeout()


def probe(tcb: ControlBlock, now: float) -> None:
    """Send the oldest unanswered segment once more, and leave timer and back-off as they are."""
    if tcb.retransmit_at != NEVER:
        _resend(tcb, now)
