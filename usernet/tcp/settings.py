"""What can be chosen about a connection, and its name.  One frozen value is shared by all connections of a host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from usernet.tcp.congestion import CongestionControl
from usernet.tcp.cubic import Cubic

PATH_RATE: Final = 200_000_000  # B/s, more than a path of some length gives


class Flow(NamedTuple):
    """The four names of a connection, seen from this side; addresses are 4 or 16 bytes."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """Sizes in bytes, times in seconds."""

    receive_buffer: int = 256 << 10  # to start with; grows with what is read per round trip
    receive_buffer_max: int = 8 << 20
    receive_room: int = 8 << 20  # of the tunnel's socket, see `receive_buffer_over`
    send_window_max: int = 6 << 20  # bounds the congestion window, and so what is kept for retransmission

    congestion_control: Callable[[int, int], CongestionControl] = Cubic  # or Reno: segment size and largest window

    window_scaling: bool = True  # RFC 7323
    timestamps: bool = True  # RFC 7323
    sack: bool = True  # RFC 2018
    ecn: bool = True  # RFC 3168: yes to who asks for it
    ecn_request: bool = False  # and ask for it
    mss_floor: int = 216  # a peer that asks for less gets this (CVE-2019-11479)

    syn_retries: int = 6
    user_timeout: float = 900.0  # RFC 9293 3.8.3: no progress, or no answer to a zero-window probe
    orphan_timeout: float = 60.0  # the same once the application has closed; also FIN-WAIT-2
    time_wait: float = 60.0  # 2 MSL
    delayed_ack: float = 0.040
    keepalive_idle: float | None = None  # RFC 1122 4.2.3.6: off unless asked for; 7200 is its least
    keepalive_interval: float = 75.0
    keepalive_probes: int = 9

    def receive_buffer_over(self, rtt: float) -> int:
        """The largest on a path of that round trip (s).

        What is offered may come all at once, for a peer next door waits for nothing but our ACKs, and what the socket
        does not hold then is lost.  A longer path spreads it over the round trip, or holds it.
        """
        return min(self.receive_buffer_max, self.receive_room + int(rtt * PATH_RATE))
