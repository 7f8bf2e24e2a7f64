"""The interpreter of dialogues: plays one script on a connection or a host, in virtual time.  See dialogue.py."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.support.dialogue import DialogueError, Script, Utterance, parse_utterances, split_delay
from tests.support.ends import ConnectionEnd, HostEnd
from tests.support.tcp import FLOW, MTU
from tests.support.wording import START, TS_OFFSET, Numbers, Wording, stream
from usernet.errors import HostUnreachable
from usernet.tcp import Connection, State, TcpSettings
from usernet.tcp.flight import SACKED
from usernet.tcp.reno import Reno
from usernet.tcp.seq import MASK
from usernet.wire.tcp import SYN

TOLERANCE: Final = 0.006
_SETTINGS = frozenset(TcpSettings.__dataclass_fields__)
_RENO = TcpSettings(congestion_control=Reno)  # whose figures can be told without a clock


class Stage:
    """Plays one script.  Each verb of the notation is a method `do_...`; hyphens are underscores."""

    def __init__(self, script: Script, numbers: Numbers) -> None:
        self.script = script
        self.words = Wording(numbers)
        self.now = START
        self.settings = _RENO
        self.end: ConnectionEnd | HostEnd | None = None
        self.heard: list[Utterance] = []
        self.at = 0  # index of the line being played
        self.written = self.read = 0

    def play(self) -> None:
        lines = self.script.lines
        while self.at < len(lines):
            first = self.at
            line = lines[first][1]
            delay, line = split_delay(line)
            if line.startswith("we "):
                self._listen(delay, line[3:])
                continue
            if self.heard:
                self._fail([])
            if delay is not None:
                self._pass(self.now + delay)
                if self.heard:
                    self._fail([])
            for event in line.split(" and "):
                self.run(*event.split(maxsplit=1))
            self._hear()
            self.at += 1
        if self.heard:
            self._fail([])

    def run(self, verb: str, rest: str = "") -> None:
        """One event, or one look at what is true."""
        if verb == "they":
            self._say(rest)
        elif (do := getattr(self, "do_" + verb.replace("-", "_"), None)) is not None:
            do(*rest.split())
        elif (holds := getattr(self, "is_" + verb.replace("-", "_"), None)) is not None:
            self._check(holds, rest)
        else:
            raise ValueError(f"{self._where()}: nobody knows what {verb!r} is")

    # Speaking and listening

    def _say(self, text: str) -> None:
        segment, segments, ce = self.words.segment(text)
        if self.end is None:  # `listen` waits for the SYN
            connection = Connection.accept(
                FLOW, self.settings, segment, mtu=MTU, isn=self.words.isn, timestamp_offset=TS_OFFSET, now=self.now
            )
            self.end = ConnectionEnd(connection)
        else:
            self.end.receive(segment, self.now, segments, ce=ce)

    def _hear(self) -> None:
        if self.end is None:
            return
        for segment in self.end.take(self.now):
            if segment.payload and bytes(segment.payload) != self.words.payload(segment):
                raise DialogueError(f"{self._where()}: wrong bytes at {self.words.utterance(segment)}")
            if segment.flags & SYN and isinstance(self.end, HostEnd):
                self.words.isn = segment.seq  # a host chooses its own
            self.heard.append(self.words.utterance(segment))

    def _listen(self, delay: float | None, rest: str) -> None:
        """A block of `we` lines: the first may say when, the others follow at once."""
        if delay is not None:
            if self.heard:
                self._fail([])
            due = self.now + delay
            self._pass(due + TOLERANCE)
            if self.heard and self.now < due - TOLERANCE:
                raise DialogueError(f"{self._where()}: said {due - self.now:.3f} s too early: {self.heard[0]}")
        lines = self.script.lines
        expected: list[Utterance] = []
        begin = self.at
        while self.at < len(lines) and (self.at == begin or lines[self.at][1].startswith("we ")):
            text = rest if self.at == begin else lines[self.at][1][3:]
            expected += parse_utterances(text)
            self.at += 1
        seen = [
            heard.seen_as(expected[index] if index < len(expected) else None) for index, heard in enumerate(self.heard)
        ]
        if seen != [str(utterance) for utterance in expected]:
            self.at = begin
            self._fail(expected)
        self.heard.clear()

    def _pass(self, until: float) -> None:
        """Time passes, up to when we speak."""
        assert self.end is not None
        for _ in range(10_000):
            at = self.end.next_timeout()
            if at is None or at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            self.end.handle_timeout(self.now)
            self._hear()
            if self.heard:
                return
        raise DialogueError(f"{self._where()}: timers without end")

    # Failing

    def _where(self) -> str:
        number, line = self.script.lines[min(self.at, len(self.script.lines) - 1)]
        return f"{self.script.file}:{number}: {line}"

    def _fail(self, expected: list[Utterance]) -> None:
        wanted = [str(utterance) for utterance in expected]
        seen = [
            heard.seen_as(expected[index] if index < len(expected) else None) for index, heard in enumerate(self.heard)
        ]
        before = [f"    {line}" for _, line in self.script.lines[: self.at]]
        diff = [f"  {line[:2]}we    {line[2:]}" for line in difflib.ndiff(wanted, seen) if line[0] != "?"]
        head = f"{self.script}\n  {self._where()}   (- written, + seen at {self.now - START:+.3f} s)"
        raise DialogueError("\n".join([head, *before[-12:], *diff]))

    def _check(self, holds: Callable[[], object], expected: str) -> None:
        seen = holds()
        is_right = abs(seen - float(expected)) < TOLERANCE if isinstance(seen, float) else str(seen) == expected
        if not is_right:
            raise DialogueError(f"{self.script}\n  {self._where()}\n  but it is {seen}")

    # Beginnings

    def do_connect(self, *options: str) -> None:
        """An active open; its SYN has yet to be heard."""
        self._choose(options)
        connection = Connection.connect(
            FLOW, self.settings, mtu=MTU, isn=self.words.isn, timestamp_offset=TS_OFFSET, now=self.now
        )
        self.end = ConnectionEnd(connection)

    def do_listen(self, *options: str) -> None:
        """A passive open: the next `they` line is the SYN."""
        self._choose(options)

    def do_host(self, *options: str) -> None:
        """A host that listens on our port, or with `deaf` does not."""
        rest = self._choose(options)
        self.end = HostEnd(self.settings, listens="deaf" not in rest)

    def do_established(self, *options: str) -> None:
        """An active open done: MSS 1000, scale 0, SACK, no timestamps, RTT 0, window 65535, unless told otherwise."""
        syn = {"mss": "1000", "scale": "0", "sack": "yes", "ts": "no", "rtt": "0", "win": "65535"}
        rest = self._choose(options)
        assert set(rest) <= set(syn), f"{self._where()}: no such option"
        syn |= rest
        self.run("connect")
        self._hear()
        self.now += float(syn["rtt"])
        flags = "SAE" if self.settings.ecn_request else "SA"
        answer = [f"0:1 {flags} win {min(int(syn['win']), 65535)}"]
        answer += [f"{name} {syn[name]}" for name in ("mss", "scale") if syn[name] != "no"]
        answer += ["sackok"] * (syn["sack"] == "yes")
        answer += [f"ts 0/{round(self.now * 1000 - START * 1000)}"] * (syn["ts"] == "yes")
        self.run("they", " ".join(answer))
        self._hear()
        assert self.connection.state is State.ESTABLISHED
        self.heard.clear()
        self.words.window = int(syn["win"])
        self.connection.readiness = 0

    def do_in(self, name: str, *options: str) -> None:
        """A connection in this state by the shortest way; their FIN is at 1 and ours too, where they are."""
        if name == "SYN-SENT":
            self.run("connect", " ".join(options))
        elif name == "SYN-RECEIVED":
            self.run("listen", " ".join(options))
            self.run("they", "0:- S mss 1000 scale 0 sackok")
        else:
            self.do_established(*options)
        ways: dict[str, tuple[str, ...]] = {
            "FIN-WAIT-1": ("shutdown",),
            "FIN-WAIT-2": ("shutdown", "they 1:2 A"),
            "CLOSE-WAIT": ("they 1:1 AF",),
            "CLOSING": ("shutdown", "they 1:1 AF"),
            "LAST-ACK": ("they 1:1 AF", "shutdown"),
            "TIME-WAIT": ("shutdown", "they 1:2 AF"),
        }
        for step in ways.get(name, ()):
            self.run(*step.split(maxsplit=1))
            self._hear()
        self._hear()
        self.heard.clear()
        assert self.connection.state.value == name

    def _choose(self, options: tuple[str, ...]) -> dict[str, str]:
        """Take what is a setting; give back the rest."""
        pairs = {name: value for name, _, value in (option.partition("=") for option in options)}
        chosen: dict[str, Any] = {}
        for name in list(pairs):
            if name in _SETTINGS:
                value = pairs.pop(name)
                kind = type(getattr(_RENO, name))
                chosen[name] = value == "yes" if kind is bool else int(value) if kind is int else float(value)
        if chosen:
            self.settings = replace(_RENO, **chosen)
        return pairs

    # Events

    @property
    def connection(self) -> Connection:
        assert self.end is not None
        assert self.end.connection is not None, f"{self._where()}: there is no connection yet"
        return self.end.connection

    def do_write(self, size: str) -> None:
        self.connection.write(stream(self.written, int(size)))
        self.written += int(size)

    def do_read(self, size: str) -> None:
        """Exactly that much is there, and it is the stream's next."""
        data = b""
        while len(data) < int(size) and (chunk := self.connection.read(int(size) - len(data))):
            data += chunk
        if data != stream(self.read, int(size)):
            raise DialogueError(f"{self.script}\n  {self._where()}\n  but {len(data)} bytes came, right or wrong")
        self.read += len(data)

    def do_shutdown(self) -> None:
        self.connection.shutdown_write(self.now)

    def do_close(self) -> None:
        self.connection.close(self.now)

    def do_abandon(self) -> None:
        self.connection.abandon(self.now)

    def do_abort(self) -> None:
        self.connection.abort(self.now)

    def do_grant(self, cwnd: str) -> None:
        """A congestion window to begin with."""
        self.connection.congestion.cwnd = int(cwnd)
        self.connection.sender.sent_at = self.now

    def do_unreachable(self, seq: str) -> None:
        """An ICMP error that quotes our segment with this number."""
        self.connection.receive_icmp_error(HostUnreachable("no way"), (self.words.isn + int(seq)) & MASK, self.now)

    def do_too_big(self, mtu: str, seq: str) -> None:
        self.connection.receive_packet_too_big(int(mtu), (self.words.isn + int(seq)) & MASK, self.now)

    def do_silence(self) -> None:
        """Nothing; with a time in front of it, nothing for so long."""

    def do_flood(self, first: str, count: str, step: str, size: str) -> None:
        """That many segments of theirs, `step` apart; the answers are not listened to."""
        for at in range(int(count)):
            self._say(f"{int(first) + at * int(step)}:1 A +{size}")
            self._hear()
            self.heard.clear()

    def do_crumbs(self, first: str, count: str, step: str, size: str) -> None:
        """As many SACK blocks, each in an ACK of its own; the answers are not listened to."""
        for at in range(int(count)):
            left = int(first) + at * int(step)
            self._say(f"1:1 A sack {left}-{left + int(size)}")
            self._hear()
            self.heard.clear()

    # What is true

    def is_state(self) -> str:
        return self.connection.state.value

    def is_error(self) -> str:
        return "none" if self.connection.error is None else type(self.connection.error).__name__

    def is_ecn(self) -> str:
        return "yes" if self.connection.statistics().ecn else "no"

    def is_drops(self) -> str:
        return " ".join(f"{reason} {count}" for reason, count in self.connection.drops.items()) or "none"

    def is_eof(self) -> str:
        return "yes" if self.connection.at_eof else "no"

    def is_readable(self) -> int:
        return self.connection.readable_bytes

    def is_unsent(self) -> int:
        return self.connection.unsent_bytes

    def is_cwnd(self) -> int:
        return self.connection.congestion.cwnd

    def is_ssthresh(self) -> int:
        return self.connection.congestion.ssthresh

    def is_mss(self) -> int:
        return self.connection.sender.mss

    def is_mtu(self) -> int:
        return self.connection.mtu

    def is_known_mtu(self) -> int:
        """What a new connection would begin with."""
        return self.connection.paths.to(FLOW.remote, self.now)

    def is_rto(self) -> float:
        return self.connection.rtt.timeout()

    def is_srtt(self) -> float:
        return self.connection.rtt.srtt

    def is_resent(self) -> str:
        """Segments sent again: in fast recovery, after a time-out, as probes."""
        statistics = self.connection.statistics()
        return f"{statistics.resent_in_recovery} {statistics.resent_after_timeout} {statistics.resent_as_probe}"

    def is_rate(self) -> int:
        """Delivered B/s, as last measured."""
        return round(self.connection.statistics().delivery_rate)

    def is_timer(self) -> str | float:
        """Seconds until the next."""
        at = self.connection.next_timeout()
        return "none" if at is None else at - self.now

    def is_holes(self) -> int:
        """Sacked ranges: what SACK has cost us."""
        return sum(run.state == SACKED for run in self.connection.flight.runs)

    def is_blocks(self) -> int:
        """Blocks out of order: what strange segments have cost us."""
        queue = self.connection.receiver.reassembly
        return 0 if queue is None else len(queue.starts)
