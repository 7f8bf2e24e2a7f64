"""A path that swallows what is too large for it and says nothing: what a connection does about it.

Read RFC 4821 7.6 and 7.7, RFC 8899 4.3 and 5.2; mtusearch.py remembers how far it has come.  The hooks, in the order in
which a narrowed path meets them: `timed_out`, `acknowledged`; then, while it looks for more, `probe_payload`, and
`probe_lost` or `acknowledged` again.
"""

from __future__ import annotations

from usernet.tcp.flight import LOST
from usernet.tcp.mtusearch import MtuSearch, step_below
from usernet.tcp.pathmtu import PATH_MTU_SECONDS
from usernet.tcp.rack import DUPLICATE_THRESHOLD
from usernet.tcp.tcb import NEVER, ControlBlock


def timed_out(tcb: ControlBlock, now: float) -> None:
    """A retransmission time-out with data outstanding, which has not been sent again yet."""
    search = tcb.search
    if search is not None and search.probe_mtu:
        _probe_failed(tcb, search, now)
    known = tcb.paths.to(tcb.flow.remote, now)
    if known < tcb.mtu:  # somebody else's time-outs have told
        tcb.narrow(known, now)
        return
    sender = tcb.sender
    payload = min(sender.mss, sender.end - sender.una)
    if payload <= tcb.payload_within(step_below(tcb.mtu)) or payload > sender.window:
        return  # it was small, or they could not take it
    if search is None:
        search = tcb.search = MtuSearch()
    mtu = search.lowered(tcb.mtu, tcb.heard_at)
    if mtu:
        tcb.narrow(mtu, now)
        tcb.rtt.backoff = 0  # the path is there; what was backed off from is not sent any more
    search.asked_at = now
    tcb.probe_due = True


def acknowledged(tcb: ControlBlock, search: MtuSearch, ack: int, now: float) -> None:
    """SND.UNA has moved up to `ack`."""
    search.progressed()
    if search.is_unproven:
        search.is_unproven = False
        search.next_at = now
        tcb.paths.narrows(tcb.flow.remote, tcb.mtu, now)
    if search.probe_mtu and ack >= search.probe_end:
        tcb.set_path_mtu(search.probe_mtu)
        tcb.paths.widens(tcb.flow.remote, tcb.mtu, now)
        search.arrived(now)
    if tcb.mtu >= tcb.paths.largest:
        tcb.search = None


def probe_payload(tcb: ControlBlock, search: MtuSearch, now: float) -> int:
    """The size of a larger segment to send now, 0 for none (RFC 4821 7.4).

    Only in flow and without losses, and with something that follows and tells soon how it fared.  It leaves in the
    place of a segment that may: the congestion window may be overrun by the difference.
    """
    if search.next_at > now or search.probe_mtu or tcb.recovery is not None:
        return 0
    sender = tcb.sender
    mtu = search.candidate(tcb.mtu, tcb.paths.largest)
    payload = tcb.payload_within(mtu)
    if payload <= sender.mss:  # the peer takes no more
        search.next_at = NEVER
        return 0
    followers = (1 if tcb.sack else DUPLICATE_THRESHOLD) * sender.mss
    in_flight, cwnd = sender.nxt - sender.una, tcb.congestion.cwnd
    if min(sender.end - sender.nxt, sender.window - in_flight) < payload + followers:
        return 0
    if cwnd < max(in_flight, followers) + sender.mss:
        return 0
    search.sent(sender.nxt, sender.nxt + payload, mtu)
    return payload


def probe_lost(tcb: ControlBlock, search: MtuSearch, now: float) -> bool:
    """Whether the larger segment is all that is found lost: no sign of congestion (RFC 4821 7.6.2)."""
    start, end = search.probe_start, search.probe_end
    lost = [run for run in tcb.flight.runs if run.state == LOST]
    if not search.probe_mtu or not any(start <= run.start < end for run in lost):
        return False
    _probe_failed(tcb, search, now)
    return all(start <= run.start and run.end <= end for run in lost)


def _probe_failed(tcb: ControlBlock, search: MtuSearch, now: float) -> None:
    if search.failed(tcb.mtu, now, PATH_MTU_SECONDS):
        tcb.paths.narrows(tcb.flow.remote, tcb.mtu, now)
