"""The transmission control block: all that a connection remembers.  Read RFC 9293 3.3.1.

`arrival.py` and `acknowledgement.py` (what comes in), `output.py` (what goes out) and `timeouts.py` (what time brings)
are functions over this block; `connection.py` puts the application's verbs on top.  Here are only the fields and what
several of those share: the one `set_state`, the end of a connection, and the negotiation of both kinds of opening.

An idle connection should weigh little (1.7 KB): scoreboard, reassembly queue and waiting packets are None until needed.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

from usernet.burst.packets import Drops, SuperPacket
from usernet.tcp.congestion import CongestionControl
from usernet.tcp.ecn import Ecn, agrees
from usernet.tcp.flight import Flight
from usernet.tcp.mtusearch import MtuSearch
from usernet.tcp.pathmtu import PATH_MTU_SECONDS, PathMtus
from usernet.tcp.rack import Rack
from usernet.tcp.receiver import Receiver
from usernet.tcp.recovery import Recovery
from usernet.tcp.rtt import RttEstimator
from usernet.tcp.sender import Sender
from usernet.tcp.seq import MASK, unwrap
from usernet.tcp.settings import Flow, TcpSettings
from usernet.tcp.state import CLOSED, CLOSING, ESTABLISHED, FIN_WAIT_2, LAST_ACK, TIME_WAIT, TRANSITIONS, Event, State
from usernet.wire.checksum import pseudo_header_sum
from usernet.wire.ip import TCP, format_address
from usernet.wire.packet import header_before
from usernet.wire.tcp import ACK, HEADER_BYTES, TIMESTAMP_BYTES, TIMESTAMP_OPTION, TcpSegment

logger = logging.getLogger(__name__)

# Readiness: what the owner should look at, bits accumulated until the owner clears them.
CONNECTED: Final = 1
READABLE: Final = 2
WRITABLE: Final = 4  # some of what was written has left
EOF: Final = 8  # the peer's FIN is here: after what is readable nothing more comes
OVER: Final = 16  # closed both ways, reset, or given up: see `error` (outside, its name is CLOSED)

NEVER: Final = float("inf")  # a timer that is off

DEFAULT_MSS_V4: Final = 536  # RFC 9293 3.7.1
DEFAULT_MSS_V6: Final = 1220


class ControlBlock:
    """Times are seconds on the caller's clock, sequence numbers unwrapped ones."""

    __slots__ = (
        "abandoned", "ack_at", "ack_base", "ack_header", "challenge_at", "congestion", "drops", "echoed",
        "ecn", "error", "flight", "flow", "heard_at", "idle_at", "is_probe_timer", "mtu", "orphaned", "outbox",
        "paths", "ports", "probe_due", "progress_at", "rack", "readiness", "receiver", "recovery", "reorder_at",
        "retransmit_at", "rtt", "sack", "search", "sender", "settings", "state", "syn_due", "timestamps", "ts_offset",
    )  # fmt: skip

    def __init__(
        self,
        state: State,
        flow: Flow,
        settings: TcpSettings,
        mtu: int,
        iss: int,
        timestamp_offset: int,
        now: float,
        drops: Drops | None,
        paths: PathMtus | None,
    ) -> None:
        self.state = state
        self.flow = flow
        self.settings = settings
        self.drops = Drops() if drops is None else drops
        self.error: Exception | None = None
        self.readiness = 0
        self.orphaned = False  # the application has closed: nobody reads what comes
        self.abandoned = False  # it has closed, and only waits for what it wrote to leave
        self.mtu = mtu
        self.paths = PathMtus(mtu) if paths is None else paths
        self.search = MtuSearch(now + PATH_MTU_SECONDS) if mtu < self.paths.largest else None
        self.timestamps = settings.timestamps  # offered; after the handshake: agreed
        self.sack = settings.sack
        self.ts_offset = timestamp_offset
        self.echoed: int | None = None  # a timestamp of ours that the peer has echoed (echo.py)
        is_v4 = len(flow.local) == 4
        mss = min(mtu - self.header_bytes, 0xFFFF)
        self.receiver = Receiver(settings.receive_buffer, settings.receive_buffer_max, mss)
        self.sender = Sender(iss, min(mss, DEFAULT_MSS_V4 if is_v4 else DEFAULT_MSS_V6))
        self.rtt = RttEstimator()
        self.congestion: CongestionControl = settings.congestion_control(self._expected_mss, settings.send_window_max)
        self.flight = Flight()
        self.rack: Rack | None = None  # from the first SACK on
        self.recovery: Recovery | None = None
        self.ecn: Ecn | None = None  # when both ends want it
        self.outbox: list[SuperPacket] | None = None  # resets, which outlive the connection
        self.syn_due = False
        self.probe_due = False  # one segment that only asks for an answer
        self.retransmit_at = NEVER  # RTO or PTO, or the persist timer when nothing is outstanding
        self.is_probe_timer = False  # it is the PTO (RFC 8985 7.2)
        self.reorder_at = NEVER  # RACK's reordering timer
        self.ack_at = NEVER  # delayed ACK
        self.idle_at = NEVER  # the end of an open, 2 MSL, orphaned FIN-WAIT-2, keepalive: one at a time
        self.challenge_at = -1.0  # no challenge ACK before this
        self.heard_at = now  # the last acceptable segment
        self.progress_at = now  # SND.UNA moved, or something became outstanding
        # What never changes in a pure ACK: its IP header, its ports, and the checksum's share of both.
        size = HEADER_BYTES + TIMESTAMP_BYTES * self.timestamps
        self.ports = flow.local_port << 16 | flow.remote_port
        self._prepare_headers(size)

    @property
    def header_bytes(self) -> int:
        """IP and TCP headers without options."""
        return 40 if len(self.flow.local) == 4 else 60

    @property
    def _expected_mss(self) -> int:
        """Of what we send, if their tunnel is as wide as ours."""
        return self.receiver.mss - TIMESTAMP_BYTES * self.timestamps

    @property
    def their_segment(self) -> int:
        """The payload of a full segment of theirs."""
        return min(self.receiver.mss, self.sender.peer_mss) - TIMESTAMP_BYTES * self.timestamps

    def _prepare_headers(self, size: int) -> None:
        """For segments with a TCP header of `size` bytes and no payload."""
        self.ack_header, base = _beginning(self.flow.local, self.flow.remote, size)
        self.ack_base = (base + self.ports + TIMESTAMP_OPTION * self.timestamps) % 65535

    def set_state(self, event: Event, now: float) -> None:
        """The only place where a state changes; KeyError would be a bug, never a peer's doing."""
        old = self.state
        new = self.state = TRANSITIONS[old, event]
        if logger.isEnabledFor(logging.DEBUG):
            local, remote = format_address(self.flow.local), format_address(self.flow.remote)
            names = f"{local} {self.flow.local_port} {remote} {self.flow.remote_port}"
            logger.debug("%s: %s -> %s: %s", names, old.value, new.value, event.value)
        if new is ESTABLISHED:
            self.readiness |= CONNECTED | WRITABLE
            self.arm_keepalive(now)
            if self.sender.fin:
                self.set_state(Event.CLOSE, now)
        elif new is FIN_WAIT_2:
            if self.orphaned:
                self.idle_at = now + self.settings.orphan_timeout
        elif new is TIME_WAIT:
            self.readiness |= OVER
            self.retransmit_at = NEVER
            self.idle_at = now + self.settings.time_wait
        elif new is CLOSED:
            self.readiness |= OVER
            self.retransmit_at = self.reorder_at = self.ack_at = self.idle_at = NEVER
            self.syn_due = self.probe_due = False
            self.receiver.acks_due = 0
            self.receiver.reassembly = None
            self.recovery = self.rack = None
            self.flight.clear()
            self.sender.forget()

    def die(self, error: Exception | None, now: float) -> None:
        """End at once, telling the application why; the peer is told by whoever queued a reset.

        When their FIN is here and all our data acknowledged, there is nothing to tell (RFC 9293 3.10.7.4, second).
        """
        if self.state is not CLOSED:
            is_done = self.state in (CLOSING, LAST_ACK, TIME_WAIT) and self.sender.una >= self.sender.end
            if not is_done:
                self.error = error
            self.set_state(Event.ABORT, now)

    def negotiate(self, syn: TcpSegment) -> None:
        """Their SYN or SYN-ACK: sequence numbers, window, options (RFC 9293 3.7.1, RFC 7323 2.2, 3.2, RFC 2018 2,
        RFC 3168 6.1.1)."""
        settings, sender, expected = self.settings, self.sender, self._expected_mss
        scaled = settings.window_scaling and syn.window_scale is not None
        sender.scale = (syn.window_scale or 0) if scaled else 0
        self.sack = settings.sack and syn.sack_permitted
        if settings.timestamps and syn.timestamp is None:
            self.timestamps = False
            self._prepare_headers(HEADER_BYTES)
        if syn.mss is not None:
            sender.peer_mss = max(syn.mss, settings.mss_floor)
        self.receiver.start(syn.seq, receive_scale(settings) if scaled else 0, self.their_segment, sack=self.sack)
        if agrees(settings, syn, sender.resent_late):
            self.ecn = Ecn()
        self.set_path_mtu(self.mtu)
        if sender.mss != expected:  # else it is as it was made
            self.congestion = settings.congestion_control(sender.mss, settings.send_window_max)

    def set_path_mtu(self, mtu: int) -> None:
        """Fit segments to the path, to what the peer takes, and to our options (RFC 9293 3.7.1, RFC 6691)."""
        self.mtu = mtu
        self.sender.mss = self.payload_within(mtu)
        self.congestion.set_mss(self.sender.mss)

    def payload_within(self, mtu: int) -> int:
        """Of a segment."""
        return min(self.sender.peer_mss, mtu - self.header_bytes) - TIMESTAMP_BYTES * self.timestamps

    def narrow(self, mtu: int, now: float) -> None:
        """Segments are smaller from now on, until it is time to look whether more passes (RFC 8899 5.1.1)."""
        self.search = self.search or MtuSearch()
        self.search.narrowed(now + PATH_MTU_SECONDS)
        self.sender.narrowed += 1
        self.set_path_mtu(mtu)

    def arm_keepalive(self, now: float) -> None:
        idle = self.settings.keepalive_idle
        self.idle_at = now + idle if idle is not None else NEVER

    def timestamp(self, now: float) -> int:
        """TSval: milliseconds with an offset of the connection's own (RFC 7323 5.4)."""
        return (int(now * 1000) + self.ts_offset) & MASK

    def echo_age(self, echo: int, now: float) -> float:
        """Seconds since we sent the timestamp that a segment echoes."""
        return (unwrap(self.timestamp(now), echo) - echo) / 1000

    @property
    def is_stream_out(self) -> bool:
        """Whether written bytes or our FIN are still unsent."""
        sender = self.sender
        return sender.nxt < sender.end + sender.fin


@lru_cache(256)
def _beginning(local: bytes, remote: bytes, size: int) -> tuple[bytes, int]:
    """The IP header of a pure ACK with a TCP header of `size` bytes, and the checksum's share of all but the ports."""
    total = pseudo_header_sum(local, remote, TCP, size) + (size << 26) + (ACK << 16)
    return header_before(local, remote, TCP, size), total % 65535


def receive_scale(settings: TcpSettings) -> int:
    """The least window scale that can express the largest receive buffer (RFC 7323 2.2)."""
    return min(max((settings.receive_buffer_max - 1).bit_length() - 16, 0), 14)
