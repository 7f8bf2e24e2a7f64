"""A TCP connection, sans-IO: segments and the application's calls in, super-packets out, time as an argument.

Read RFC 9293 3.9 and 3.10 for the calls.  In: `receive_segment`, `receive_icmp_error`, `receive_packet_too_big`,
`handle_timeout`, `path_changed`.  Out: `take` while `wants_to_send`, `next_timeout`, and `readiness` for the
application, which answers with `write`, `read`, `shutdown_write`, `close` and `abort`.  After any call ask
`wants_to_send` and `next_timeout` again.  A closed connection may still have a reset to give to `take`.
"""

from __future__ import annotations

from usernet.burst.packets import Drops, SuperPacket
from usernet.tcp import arrival, output, timeouts
from usernet.tcp.pathmtu import PathMtus, believable
from usernet.tcp.repair import lose_outstanding
from usernet.tcp.seq import MASK, is_older, unwrap
from usernet.tcp.settings import Flow, TcpSettings
from usernet.tcp.state import MAY_RECEIVE, OPENING, Event, State
from usernet.tcp.statistics import ConnectionStatistics
from usernet.tcp.tcb import CONNECTED, EOF, NEVER, READABLE, WRITABLE, ControlBlock
from usernet.tcp.tcb import OVER as CLOSED
from usernet.wire.tcp import SYN, TcpSegment

__all__ = ["CLOSED", "CONNECTED", "EOF", "READABLE", "WRITABLE", "Connection"]


class Connection(ControlBlock):
    """Sequence numbers and timestamps at this interface are the wire's."""

    __slots__ = ()

    @classmethod
    def connect(
        cls,
        flow: Flow,
        settings: TcpSettings,
        *,
        mtu: int,
        isn: int,
        timestamp_offset: int,
        now: float,
        timeout: float = NEVER,
        drops: Drops | None = None,
        paths: PathMtus | None = None,
    ) -> Connection:
        """Active open; `isn` is from RFC 6528, `timestamp_offset` from RFC 7323 5.4; `drops` and `paths` are shared.

        `timeout`: seconds until it dies of a TimeoutError if nobody answers (OPEN's in RFC 9293 3.9.1.1), also before
        the SYN has been sent for the last time.
        """
        connection = cls(State.CLOSED, flow, settings, mtu, isn, timestamp_offset, now, drops, paths)
        connection.idle_at = now + timeout
        connection.set_state(Event.OPEN, now)
        connection.syn_due = True
        return connection

    @classmethod
    def accept(
        cls,
        flow: Flow,
        settings: TcpSettings,
        syn: TcpSegment,
        *,
        mtu: int,
        isn: int,
        timestamp_offset: int,
        now: float,
        drops: Drops | None = None,
        paths: PathMtus | None = None,
    ) -> Connection:
        """Passive open, by a SYN without ACK or RST.  Data in it is left for the peer to send again."""
        connection = cls(State.LISTEN, flow, settings, mtu, isn, timestamp_offset, now, drops, paths)
        connection.negotiate(syn)
        if syn.timestamp is not None:
            connection.receiver.ts_recent, connection.receiver.ts_recent_at = syn.timestamp[0], now
        connection.sender.set_window(syn.window, syn.seq, isn)
        connection.set_state(Event.SYN, now)
        connection.syn_due = True
        return connection

    @classmethod
    def accept_answered(
        cls,
        flow: Flow,
        settings: TcpSettings,
        syn: TcpSegment,
        *,
        mtu: int,
        isn: int,
        timestamp_offset: int,
        now: float,
        drops: Drops | None = None,
        paths: PathMtus | None = None,
    ) -> Connection:
        """Passive open whose SYN-ACK has left already: half-open, as `accept` and `take` would have made it."""
        connection = cls.accept(
            flow, settings, syn, mtu=mtu, isn=isn, timestamp_offset=timestamp_offset, now=now, drops=drops,
            paths=paths,
        )  # fmt: skip
        connection.syn_due = False
        connection.sender.nxt += 1
        return connection

    # From the network

    def receive_segment(self, segment: TcpSegment, now: float, *, segments: int = 1, ce: bool = False) -> None:
        """One segment, or a super-segment of `segments`, checksum found right.  Never raises for what it holds."""
        arrival.segment_arrives(self, segment, now, segments=segments, ce=ce)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        """Packets to send now, data of about budget_bytes at the most; acknowledgements are always among them."""
        return output.take(self, budget_bytes, now)

    @property
    def wants_to_send(self) -> bool:
        """Whether `take` would do anything."""
        return output.wants_to_send(self)

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`."""
        return timeouts.next_timeout(self)

    def handle_timeout(self, now: float) -> None:
        timeouts.handle_timeout(self, now)

    def path_changed(self, now: float) -> None:
        """The path has come back or moved: a stalled connection tries at once, and its back-off starts anew."""
        timeouts.path_changed(self, now)

    def probe(self, now: float) -> None:
        """Send the oldest unanswered segment once more, and leave timer and back-off as they are."""
        timeouts.probe(self, now)

    def receive_icmp_error(self, error: Exception, quoted_seq: int, now: float) -> None:
        """Unreachable and the like: fatal only while the SYN is unanswered (RFC 5927 4, RFC 1122 4.2.3.9)."""
        if self.state is State.SYN_SENT and self._is_outstanding(quoted_seq):
            self.die(error, now)
        else:
            self.drops.count("icmp-ignored")

    def receive_packet_too_big(self, mtu: int, quoted_seq: int, now: float) -> bool:
        """A lower path MTU (RFC 1191, RFC 8201), believed only about a segment that is outstanding (RFC 5927 7.2).

        Whether it was believed: then `paths` knows it too, and `path_narrowed` tells those who go the same way.
        """
        mtu = believable(mtu, self.flow.remote)
        if mtu >= self.mtu or not self._is_outstanding(quoted_seq) or self.state in OPENING:
            self.drops.count("icmp-ignored")
            return False
        self.paths.narrows(self.flow.remote, mtu, now)
        self.path_narrowed(mtu, now)
        return True

    def path_narrowed(self, mtu: int, now: float) -> None:
        """Smaller segments from now on, and whatever is outstanding goes again (RFC 8201 5.4): it was too large."""
        if mtu >= self.mtu or self.state is State.CLOSED:
            return
        was = self.sender.mss
        self.narrow(mtu, now)
        if self.sender.mss < was and self.sender.nxt > self.sender.una and self.state not in OPENING:
            lose_outstanding(self, now)  # not congestion: the window stays as it is

    def _is_outstanding(self, quoted_seq: int) -> bool:
        return self.sender.una <= unwrap(quoted_seq, self.sender.una) < self.sender.nxt

    def may_be_replaced_by(self, syn: TcpSegment) -> bool:
        """Whether a SYN may open the flow anew out of TIME-WAIT (RFC 9293 3.10.7.4, RFC 6191)."""
        if self.state is State.CLOSED:
            return True
        if self.state is not State.TIME_WAIT or not syn.flags & SYN:
            return False
        receiver = self.receiver
        if self.timestamps and syn.timestamp is not None and syn.timestamp[0] != receiver.ts_recent:
            return is_older(receiver.ts_recent, syn.timestamp[0])
        return is_older(receiver.next & MASK, syn.seq)

    # From the application.

    @property
    def readable_bytes(self) -> int:
        return self.receiver.readable

    @property
    def at_eof(self) -> bool:
        """The peer has closed its direction and everything before that has been read."""
        receiver = self.receiver
        return receiver.fin is not None and receiver.next > receiver.fin and not receiver.readable

    @property
    def unsent_bytes(self) -> int:
        """Written and not sent yet: what flow control looks at.  What is in flight is bounded by the windows."""
        sender = self.sender
        return max(0, sender.end - (sender.una + 1 if self.state in OPENING else sender.nxt))

    @property
    def stalled(self) -> bool:
        """Sent again twice or more without an answer."""
        return self.rtt.backoff >= 2

    def write(self, data: bytes) -> None:
        """Queue data, by reference.  After shutdown_write, or once closed, it raises BrokenPipeError."""
        if self.sender.fin or self.state is State.CLOSED:
            raise BrokenPipeError("the connection is closed for writing")
        if data:
            self.sender.write(data)

    def read(self, max_bytes: int) -> bytes:
        """At most max_bytes; b"" when there is nothing (see `at_eof`).  A chunk that fits is handed over as it came."""
        data = self.receiver.read(max_bytes)
        if data and self.state in MAY_RECEIVE:
            self.receiver.consider_update()
        return data

    def shutdown_write(self, now: float) -> None:
        """Send FIN behind what is written; reading goes on (RFC 9293 3.10.4)."""
        if self.sender.fin or self.state is State.CLOSED:
            return
        self.sender.fin = True
        if self.state is State.ESTABLISHED or self.state is State.CLOSE_WAIT:
            self.set_state(Event.CLOSE, now)  # while opening it is queued until State.ESTABLISHED

    def close(self, now: float) -> None:
        """The application is gone: send the rest and FIN, or a reset if it left data unread (RFC 2525 2.17)."""
        if self.state is State.SYN_SENT:
            self.die(None, now)
        elif self.receiver.readable:
            self.abort(now)
        elif self.state is not State.CLOSED:
            self.orphaned = True
            self.abandon(now)
            self.shutdown_write(now)
            if self.state is State.FIN_WAIT_2:
                self.idle_at = now + self.settings.orphan_timeout

    def abandon(self, now: float) -> None:
        """The application is gone but for what it wrote, which is to leave before it closes.

        From now on the patience is an orphan's: a peer that answers and never opens its window would be waited for
        for ever (RFC 9293 3.8.6.1).
        """
        if not self.abandoned:
            self.abandoned = True
            self.progress_at = now

    def abort(self, now: float) -> None:
        """End at once, with a reset where the peer may wait for more (RFC 9293 3.10.5)."""
        if self.state not in (State.CLOSED, State.SYN_SENT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT):
            output.queue_reset(self, now)
        self.receiver.discard()
        self.die(None, now)

    @property
    def segments_resent(self) -> int:
        sender = self.sender
        return sender.resent_early + sender.resent_late + sender.resent_probes

    def statistics(self) -> ConnectionStatistics:
        sender, receiver = self.sender, self.receiver
        return ConnectionStatistics(
            state=self.state,
            unsent_bytes=self.unsent_bytes,
            in_flight=sender.nxt - sender.una,
            cwnd=self.congestion.cwnd,
            ssthresh=self.congestion.ssthresh,
            send_window=sender.window,
            receive_buffer=receiver.limit,
            mss=sender.mss,
            mtu=self.mtu,
            mtu_reductions=sender.narrowed,
            srtt=self.rtt.srtt,
            rto=self.rtt.rto,
            backoff=self.rtt.backoff,
            delivery_rate=sender.delivery_rate,
            resent_in_recovery=sender.resent_early,
            resent_after_timeout=sender.resent_late,
            resent_as_probe=sender.resent_probes,
            ecn=self.ecn is not None,
            ce_marks=0 if self.ecn is None else self.ecn.marks,
            ecn_reductions=0 if self.ecn is None else self.ecn.reductions,
        )
