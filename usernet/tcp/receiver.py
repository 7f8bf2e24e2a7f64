"""The receiving half: what is read, what is acknowledged, what window is offered.  Read RFC 9293 3.8.6, RFC 5681 4.2
and RFC 2883 4 (duplicates).

The offered window is kept as its right edge, which never moves back (RFC 9293 3.8.6).  The buffer starts small and
grows with what is read in a round trip, ahead of what the peer may send in the next.  It holds whole segments of the
peer's, for the rest of one would never be used.  Chunks are a list and not a deque, for an empty deque weighs 760 bytes
and this list stays short.
"""

from __future__ import annotations

from usernet.tcp import chunks
from usernet.tcp.reassembly import Reassembly

_MAX_DUPLICATES = 64
_MAX_REPORTS = 16  # duplicate ranges to tell of: as many ACKs
_MIN_BLOCKS = 64
_BYTES_PER_BLOCK = 1024  # of buffer: more blocks than segments of half this size could make are not honest


class Receiver:
    """Sequence numbers are unwrapped ones."""

    __slots__ = (
        "_drained", "_drained_before", "_head", "acked", "acks_due", "chunks", "converses", "duplicates", "edge", "fin",
        "limit", "limit_max", "mss", "next", "pending", "readable", "reassembly", "sack", "scale", "ts_recent",
        "ts_recent_at", "tune_at",
    )  # fmt: skip

    def __init__(self, limit: int, limit_max: int, mss: int) -> None:
        self.chunks: list[bytes] = []
        self._head = 0  # bytes of the first chunk that have been read already
        self.readable = 0  # bytes in chunks and not read
        self.reassembly: Reassembly | None = None
        self.next = 0  # RCV.NXT
        self.edge = 0  # RCV.NXT + RCV.WND as last offered
        self.acked = 0  # Last.ACK.sent (RFC 7323 4.3)
        self.scale = 0
        self.limit = limit
        self.limit_max = limit_max
        self.mss = mss  # what we announced
        self.fin: int | None = None  # where their FIN stands
        self.acks_due = 0  # ACKs to send now: one, or one per duplicate
        self.pending = 0  # segments in order and not acknowledged yet
        self.converses = False  # we have just answered something of theirs, and not for the first time
        self.sack = False  # ACKs may have blocks
        self.duplicates: list[tuple[int, int]] | None = None  # ranges that came again, for D-SACK blocks
        self.ts_recent = 0
        self.ts_recent_at = 0.0
        self._drained = 0  # bytes read since the last look
        self._drained_before = 0  # and between the two looks before that
        self.tune_at = 0.0

    def start(self, irs: int, scale: int, segment: int, *, sack: bool) -> None:
        """Their SYN is here, and they send `segment` bytes at a time.  Only the SYN's own window was offered yet."""
        self.next = self.acked = irs + 1
        self.scale = scale
        self.sack = sack
        self.limit = self._whole(self.limit, segment)
        self.edge = self.next + min(self.limit, 0xFFFF)

    def _whole(self, size: int, segment: int) -> int:
        """At most limit_max, rounded up to whole segments, or down where the window field ends."""
        segments = min(-(-min(size, self.limit_max) // segment), (0xFFFF << self.scale) // segment)
        return segments * segment

    def deliver(self, data: bytes) -> None:
        """Data that is next in order."""
        start = self.next
        self.next += len(data)
        self.readable += len(data)
        chunks.append(self.chunks, data)
        queue = self.reassembly
        if queue is not None:
            self._take_in_order(queue, start)

    def note_duplicate(self, start: int, end: int) -> None:
        """[start, end) was here before; the next ACK says so (RFC 2883 4).  Ranges of one burst that touch are one."""
        if not self.sack or start >= end:
            return
        known = self.duplicates
        if known is None:
            self.duplicates = [(start, end)]
        elif known[-1][0] <= start <= known[-1][1]:
            known[-1] = known[-1][0], max(end, known[-1][1])
        elif len(known) < _MAX_REPORTS:
            known.append((start, end))
        self.acks_due = max(self.acks_due, 1)

    def _take_in_order(self, queue: Reassembly, start: int) -> None:
        """What the data from `start` up to RCV.NXT has made in order."""
        if (again := queue.overlap(start, self.next)) is not None:
            self.note_duplicate(*again)
        at, more = queue.pop_until(self.next)
        self.readable += at - self.next
        self.next = at
        chunks.extend(self.chunks, more)
        self.acks_due = max(self.acks_due, 1)  # RFC 5681 4.2: at once when it fills a gap
        if not queue.starts:
            self.reassembly = None

    def keep(self, seq: int, data: bytes, segments: int) -> bool:
        """Data beyond a gap: an immediate (duplicate) ACK per segment (RFC 5681 4.2).  False when it was not kept."""
        self.acks_due = min(self.acks_due + segments, _MAX_DUPLICATES)
        if self.reassembly is None:
            self.reassembly = Reassembly()
        elif (again := self.reassembly.overlap(seq, seq + len(data))) is not None:
            self.note_duplicate(*again)
        return self.reassembly.insert(seq, data, max(_MIN_BLOCKS, self.limit // _BYTES_PER_BLOCK))

    @property
    def has_reports(self) -> bool:
        """Whether an ACK has more to say than its number: it cannot ride on data."""
        return self.reassembly is not None or self.duplicates is not None

    def reports(self, room: int) -> list[list[tuple[int, int]]]:
        """The blocks of each ACK to send now, at most `room` in one, the newest last.

        RFC 2018 4: of every block with news.  RFC 2883 4: of every duplicate, first, and then the block it lies in.
        """
        queue = self.reassembly
        blocks, fresh = ([], 0) if queue is None else (queue.sack_blocks(), queue.fresh)
        doubled = []
        for again in self.duplicates or ():
            holding = [block for block in blocks if block[0] <= again[0] and again[1] <= block[1]]
            doubled.append([again, *holding, *(block for block in blocks if block not in holding)][:room])
        if queue is not None:
            queue.fresh = 0
        self.duplicates = None
        if doubled and all(block in doubled[-1] for block in blocks[:fresh]):
            return doubled
        last = max(min(fresh, len(blocks)), 1) - 1  # several segments may have come for one block
        plain = [blocks[at : at + room] for at in range(last // room * room, -1, -room)]
        return plain + doubled

    def read(self, max_bytes: int) -> bytes:
        """At most max_bytes, a chunk as it came when it fits."""
        if not self.chunks:
            return b""
        head, data = self._head, self.chunks[0]
        if len(data) - head <= max_bytes:
            del self.chunks[0]
            self._head = 0
            if head:
                data = data[head:]
        else:
            self._head = head + max_bytes
            data = data[head : self._head]
        self.readable -= len(data)
        self._drained += len(data)
        return data

    def consider_update(self) -> None:
        """After reading: an ACK at once when the window opens significantly (RFC 9293 3.8.6.2.2, RFC 5681 4.2)."""
        offered = self.edge - self.next
        gain = self.limit - self.readable - offered
        least = min(self.limit >> 1, self.mss)  # what window_field() would not offer is no news
        significant = gain >= max(self.limit >> 2, least) or (gain >= 2 * self.mss and gain >= offered)
        if significant and offered < self.limit >> 1:
            self.acks_due = max(self.acks_due, 1)

    def window_field(self) -> int:
        """The window for a header, moving the edge with it."""
        limit, scale = self.limit, self.scale
        free = limit - self.readable
        offered = self.edge - self.next
        if offered < 0:
            offered = 0
        gain = free - offered
        if gain >= self.mss or gain >= limit >> 1:  # RFC 9293 3.8.6.2.2: no silly window
            offered = free
        field = -(-offered >> scale)  # rounded up, for rounding down would take back what was offered ...
        if field << scale > free + (limit >> 2):
            field = offered >> scale  # ... until that adds up, or a peer of single bytes would never find it closed
        edge = self.next + (field << scale)
        if edge > self.edge:
            self.edge = edge
        return field

    def tune(self, now: float, rtt: float, echo_age: float, segment: int) -> None:
        """Once a round trip: let the buffer hold twice what was read in one, and up to four times while that grows.

        In slow start a peer doubles, and what is allowed now is for what it sends two round trips after what was
        counted: less than four times as much would limit it.

        The round trip is that of the path, or that of the ACK which a timestamp now echoes when queues made it longer.
        """
        drained = self._drained
        if self.tune_at:
            growth = max(0, drained - self._drained_before)
            wanted = min(2 * drained + 4 * growth, 4 * drained)
            self.limit = self._whole(max(self.limit, wanted), segment)
        self._drained_before = drained
        self._drained = 0
        self.tune_at = now + max(rtt, min(echo_age, 8 * rtt))

    def discard(self) -> None:
        """Nobody will read any more."""
        self.chunks.clear()
        self.readable = self._head = 0
