"""The immutable snapshot of a connection."""

from __future__ import annotations

from dataclasses import dataclass

from usernet.tcp.state import State


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """Bytes and seconds, as in Linux's tcp_info."""

    state: State
    unsent_bytes: int
    in_flight: int
    cwnd: int
    ssthresh: int
    send_window: int
    receive_buffer: int
    mss: int
    mtu: int  # of the path, as far as known
    mtu_reductions: int
    srtt: float
    rto: float
    backoff: int
    delivery_rate: float  # B/s over the latest round trip that was measured
    resent_in_recovery: int  # segments: by fast retransmission,
    resent_after_timeout: int
    resent_as_probe: int
    ecn: bool  # both ends use it (RFC 3168)
    ce_marks: int  # segments of theirs that met congestion on their way
    ecn_reductions: int  # how often the window shrank because ours did

    @property
    def segments_resent(self) -> int:
        return self.resent_in_recovery + self.resent_after_timeout + self.resent_as_probe
