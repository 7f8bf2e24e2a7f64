"""The sending half: what was written, what of it is sent and acknowledged.  Read RFC 9293 3.3.1 and 3.8.6.2.1.

Written bytes are kept as they came, by reference, with the sequence number each chunk starts at: any range of the
stream is found by bisection and handed out as views, so nothing is copied before it is sealed.
"""

from __future__ import annotations

from bisect import bisect_right

from usernet.tcp.chunks import SMALL


class Sender:
    """Sequence numbers are unwrapped ones.  The FIN is the byte at `end` once `fin` is set."""

    __slots__ = (
        "_chunks", "_starts", "delivery_rate", "end", "fin", "iss", "mss", "narrowed", "nxt", "override", "peer_mss",
        "resent_early", "resent_late", "resent_probes", "scale", "sent_at", "timed_at", "timed_end",
        "timed_una", "una", "window", "window_max", "wl1", "wl2",
    )  # fmt: skip

    def __init__(self, iss: int, peer_mss: int) -> None:
        self._chunks: list[bytes] = []
        self._starts: list[int] = []
        self.iss = iss  # ISS
        self.una = iss  # SND.UNA
        self.nxt = iss  # SND.NXT: the highest ever sent
        self.end = iss + 1  # behind the last byte written
        self.fin = False
        self.window = 0  # SND.WND in bytes
        self.window_max = 0  # the largest seen (RFC 9293 3.8.6.2.1)
        self.wl1 = 0  # SND.WL1, SND.WL2: the segment that set the window
        self.wl2 = 0
        self.scale = 0
        self.peer_mss = peer_mss
        self.mss = peer_mss  # payload of one segment, options and path considered
        self.override = False  # the persist timer lets less than a full segment go
        self.timed_end = 0  # the segment that measures the round trip, and when it left; 0.0: none
        self.timed_at = 0.0
        self.timed_una = 0  # SND.UNA when it left
        self.sent_at = 0.0  # when anything left last
        # For statistics: segments sent again in fast recovery, after a time-out, as probes; B/s over a round trip
        self.resent_early = self.resent_late = self.resent_probes = 0
        self.narrowed = 0  # how often the path was found to take less
        self.delivery_rate = 0.0

    def write(self, data: bytes) -> None:
        chunks = self._chunks
        if chunks and len(chunks[-1]) + len(data) <= SMALL:
            chunks[-1] += data  # views of the old object stay valid: bytes never change
        else:
            chunks.append(data)
            self._starts.append(self.end)
        self.end += len(data)

    def pieces(self, start: int, end: int) -> tuple[memoryview, ...]:
        """The bytes of [start, end), which must be in the buffer."""
        chunks, starts = self._chunks, self._starts
        at = bisect_right(starts, start) - 1
        found = []
        while start < end:
            low = start - starts[at]
            piece = memoryview(chunks[at])[low : low + end - start]
            found.append(piece)
            start += len(piece)
            at += 1
        return tuple(found)

    def acknowledge(self, ack: int) -> None:
        """Everything before ack has arrived: let go of it."""
        self.una = ack
        starts = self._starts
        if ack >= self.end:
            self._chunks.clear()
            starts.clear()
            if self.nxt == self.end:
                self.una = self.nxt = self.end  # one number for three: an idle connection weighs 72 B less
        else:
            whole = bisect_right(starts, ack) - 1
            del self._chunks[:whole], starts[:whole]

    def forget(self) -> None:
        """The connection is over: what has not left never will."""
        self._chunks.clear()
        self._starts.clear()
        self.end = self.nxt

    def set_window(self, window: int, seq: int, ack: int) -> None:
        self.window = window
        self.wl1 = seq
        self.wl2 = ack
        if window > self.window_max:
            self.window_max = window
