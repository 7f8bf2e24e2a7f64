"""Bodies, read off a stream by their framing (RFC 9112 sections 6 and 7).

`Body.take(buffer)` moves what belongs to the body from the buffer's front, gives its content, and leaves the rest
alone: what follows is the next message's, or, after an upgrade, no message at all.  h11 would do this, but it lets
chunk extensions and trailers of any kind through, and copies each piece twice.
"""

from __future__ import annotations

import enum
import re

from proxy.http.head import CHUNKED, UNTIL_CLOSE, Fields, HeadError, has_stray, parse_fields

MAX_CHUNK_LINE = 256
MAX_TRAILERS = 8 << 10
# Up to 15 digits: less than 2^60.  The extension (RFC 9112 section 7.1.1) is skipped.
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
# RFC 9110 section 6.5.1: fields that change how the message is read have no place after its body
NOT_IN_TRAILERS = frozenset(
    b"content-length transfer-encoding host trailer connection te upgrade expect authorization proxy-authorization "
    b"content-encoding content-type content-range set-cookie".split()
)


class State(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILERS = enum.auto()
    DONE = enum.auto()


class Body:
    """One body.  `framing` as in head.py; `trailers` are there once a chunked body is done."""

    __slots__ = ("_chunked", "_endless", "_left", "_state", "trailers")

    def __init__(self, framing: int) -> None:
        self._chunked = framing == CHUNKED
        self._endless = framing == UNTIL_CLOSE
        self._left = max(framing, 0)
        self._state = State.SIZE if self._chunked else State.DATA if framing else State.DONE
        self.trailers: Fields = []

    @property
    def done(self) -> bool:
        return self._state is State.DONE

    def takes(self, data: bytes) -> bool:
        """Whether all of a piece is content of this body.  It is then counted, and need not go through a buffer."""
        if self._endless:
            return True
        if self._state is not State.DATA or len(data) > self._left:
            return False
        self._count(len(data))
        return True

    def take(self, buffer: bytearray) -> bytes:
        """The content that is there, off the buffer's front with its framing.  Raises HeadError."""
        if self._chunked:
            spans, end = self._chunks(buffer)
        else:
            end = len(buffer) if self._endless else min(self._left, len(buffer))
            spans = [(0, end)]
            if not self._endless:
                self._count(end)
        with memoryview(buffer) as view:
            content = b"".join([view[start:stop] for start, stop in spans])
        del buffer[:end]
        return content

    def end(self) -> bool:
        """The stream has ended.  Whether that is this body's proper end."""
        if self._endless:
            self._state = State.DONE
        return self.done

    def _count(self, size: int) -> None:
        """So much content is through."""
        self._left -= size
        if self._left == 0 and self._state is State.DATA:
            self._state = State.DATA_END if self._chunked else State.DONE

    def _chunks(self, buffer: bytearray) -> tuple[list[tuple[int, int]], int]:
        """Step through chunks: where the content lies, and where the last complete piece ends."""
        at = 0
        spans: list[tuple[int, int]] = []
        while self._state is not State.DONE:
            content = self._state is State.DATA
            step = self._step(buffer, at)
            if step is None:
                break
            if content:
                spans.append((at, step))
            at = step
        return spans, at

    def _step(self, buffer: bytearray, at: int) -> int | None:
        """Where one piece of a chunk ends; None where more bytes are needed."""
        state = self._state
        if state is State.DATA:
            size = min(self._left, len(buffer) - at)
            self._count(size)
            return at + size if size else None
        if state is State.DATA_END:
            if buffer[at : at + 2] == b"\r\n":
                self._state = State.SIZE
                return at + 2
            if len(buffer) - at >= 2 or not b"\r".startswith(buffer[at:]):
                raise HeadError(400, "garbage after a chunk")
            return None
        if state is State.SIZE:
            return self._size(buffer, at)
        return self._trailers(buffer, at)

    def _size(self, buffer: bytearray, at: int) -> int | None:
        end = buffer.find(b"\n", at, at + MAX_CHUNK_LINE)
        if end < 0:
            if len(buffer) - at >= MAX_CHUNK_LINE:
                raise HeadError(400, "a chunk's line is too long")
            return None
        match = CHUNK_LINE.fullmatch(buffer, at, end - 1) if buffer[end - 1 : end] == b"\r" and end > at else None
        if match is None:
            raise HeadError(400, "a malformed chunk size")
        self._left = int(match[1], 16)
        self._state = State.DATA if self._left else State.TRAILERS
        return end + 1

    def _trailers(self, buffer: bytearray, at: int) -> int | None:
        """The trailer section, whole or not at all."""
        if buffer[at : at + 2] == b"\r\n":
            self._state = State.DONE
            return at + 2
        found = buffer.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
        end = found + 4 if found >= 0 else min(len(buffer), at + MAX_TRAILERS)
        if has_stray(buffer, at, end):
            raise HeadError(400, "a bare CR, bare LF or NUL")
        if found < 0:
            if len(buffer) - at >= MAX_TRAILERS:
                raise HeadError(431, "the trailers are larger than 8 KiB")
            return None
        trailers = parse_fields(bytes(buffer[at : end - 2]))
        if any(name.lower().replace(b"_", b"-") in NOT_IN_TRAILERS for name, _ in trailers):
            raise HeadError(400, "a field that has no place in trailers")
        self.trailers = trailers
        self._state = State.DONE
        return end
