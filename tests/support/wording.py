"""From a dialogue's words to segments and back, by the initial sequence numbers of both ends."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from tests.support.dialogue import FLAGS, Utterance
from tests.support.tcp import FLOW
from usernet.tcp.seq import HALF, MASK
from usernet.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, TcpSegment

START: Final = 100.0  # seconds: when every case begins
TS_BASE: Final = 0xFFFF_FF00  # both ends' timestamps: they wrap within the first 256 ms
TS_OFFSET: Final = (TS_BASE - int(START * 1000)) & MASK
_BITS = dict(zip(FLAGS + "P", (SYN, ACK, FIN, RST, URG, ECE, CWR, PSH), strict=True))


class Numbers(NamedTuple):
    """Initial sequence numbers: ours and theirs."""

    isn: int
    iss: int


WRAPPING = Numbers(0xFFFF_FFF0, 0xFFFF_FFF8)
PLAIN = Numbers(0x7FFF_FFF0, 17)


class Said(NamedTuple):
    """A segment of theirs, how many it was merged of, and whether one of them met congestion."""

    segment: TcpSegment
    segments: int
    ce: bool


class Wording:
    """Relative numbers and the wire's."""

    def __init__(self, numbers: Numbers) -> None:
        self.isn, self.iss = numbers
        self.window = 0xFFFF  # theirs, unless a line says otherwise

    def segment(self, text: str) -> Said:
        """A `they` line on the wire."""
        tokens = iter(text.split())
        seq, ack = next(tokens).split(":")
        letters = next(tokens)
        flags = sum(_BITS[letter] for letter in letters.strip("-"))
        fields: dict[str, Any] = {}
        window, segments, ce = self.window, 1, False
        for token in tokens:
            if token[0] == "+":
                fields["payload"] = stream(int(seq) - (not flags & SYN), int(token[1:]))
            elif token == "win":
                window = int(next(tokens))
            elif token in ("mss", "scale"):
                fields["window_scale" if token == "scale" else token] = int(next(tokens))
            elif token == "sackok":
                fields["sack_permitted"] = True
            elif token == "sack":
                pairs = (re.split(r"(?<=\d)-", block) for block in next(tokens).split(","))
                fields["sack_blocks"] = tuple(
                    ((self.isn + int(a)) & MASK, (self.isn + int(b)) & MASK) for a, b in pairs
                )
            elif token == "ts":
                value, echo = next(tokens).split("/")
                fields["timestamp"] = (TS_BASE + int(value)) & MASK, _timestamp(echo)
            elif token == "burst":
                segments = int(next(tokens))
            elif token == "ce":
                ce = True
            else:
                raise ValueError(f"{token!r} says nothing about a segment")
        number = 0 if ack == "-" else (self.isn + int(ack)) & MASK
        names = FLOW.remote_port, FLOW.local_port
        segment = TcpSegment(*names, (self.iss + int(seq)) & MASK, number, flags, window, **fields)
        return Said(segment, segments, ce)

    def utterance(self, segment: TcpSegment) -> Utterance:
        seq = str(_relative(segment.seq, self.isn))
        if segment.flags & RST and segment.seq == 0:
            seq = "0"  # of a connection that we know nothing of (RFC 9293 3.10.7.1)
        ack = str(_relative(segment.ack, self.iss)) if segment.flags & ACK else "-"
        letters = "".join(letter for letter in FLAGS if segment.flags & _BITS[letter])
        parts = [f"{seq}:{ack}", letters]
        if segment.payload:
            parts.append(f"+{len(segment.payload)}")
        if segment.sack_blocks:
            blocks = [f"{_relative(a, self.iss)}-{_relative(b, self.iss)}" for a, b in segment.sack_blocks]
            parts += ["sack", ",".join(blocks)]
        extras = {"win": str(segment.window)}
        if segment.mss is not None:
            extras["mss"] = str(segment.mss)
        if segment.window_scale is not None:
            extras["scale"] = str(segment.window_scale)
        if segment.sack_permitted:
            extras["sackok"] = ""
        if segment.timestamp is not None:
            value, echo = segment.timestamp
            shown = "-" if echo == 0 else str(_relative(echo, TS_BASE))
            extras["ts"] = f"{_relative(value, TS_BASE)}/{shown}"
        return Utterance(" ".join(parts), extras)

    def payload(self, segment: TcpSegment) -> bytes:
        """What our segment must carry."""
        return stream(_relative(segment.seq, self.isn) - 1, len(segment.payload))


def stream(at: int, size: int) -> bytes:
    """Bytes of either direction's stream: a pattern of a prime length."""
    at %= 251
    return (bytes(range(251)) * ((at + size) // 251 + 1))[at : at + size]


def _relative(number: int, base: int) -> int:
    return ((number - base + HALF) & MASK) - HALF


def _timestamp(text: str) -> int:
    return 0 if text == "-" else (TS_BASE + int(text)) & MASK
