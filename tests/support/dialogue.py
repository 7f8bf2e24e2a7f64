"""Conformance as dialogues: segments in and out of one connection (or one host) in virtual time, written as text.

A case begins with `=== RFC NNNN section: title` and goes on in lines of one event each::

    established rtt=0.1             an active open with a peer of MSS 1000, scale 0, SACK and no timestamps
    write 1500                      the application's verbs: write, read, shutdown, close, abort
    we    1:1 A +1000               what the connection sends: seq:ack, flags, bytes
    we    1001:1 A +500
    +0.1  they  1:1501 A win 900    a tenth of a second later the test's peer answers
    +0.2  we    ...                 time passes, silently, and just then it speaks
    state ESTABLISHED               what is true now; `stage.Stage`'s methods are the list

Events joined by `and` happen before anything is sent.  Numbers are relative to both initial sequence numbers and `-`
says that there is no ACK.  A line `with a | b` and lines `| 1 | 2` below it make a case of each row, {a} and {b}
replaced.  **Silence is part of the script**: whatever is sent must be in it.  Of what we send, seq, ack, flags (but
PSH), size and SACK blocks always count; `win`, `mss`, `scale`, `sackok`, `ts` and their denials (`nots` ...) only where
written.  `xN` stands for N such segments in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_HEADING: Final = re.compile(r"=== ((?:RFC \d+ [\d.A-Z]+|CVE-\d+-\d+|spec)[^:]*): (.+)")


@dataclass(frozen=True)
class Script:
    """One case: where it is from, what it is about, and its lines with their numbers."""

    file: str
    section: str
    title: str
    lines: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        return f"{self.section}: {self.title}"


FLAGS: Final = "SAFRUEC"  # in the order they are written


class DialogueError(AssertionError):
    """What was said is not what is written."""


def load(path: Path) -> list[Script]:
    """All cases of a file, tables unrolled."""
    scripts: list[Script] = []
    heading: re.Match[str] | None = None
    lines: list[tuple[int, str]] = []

    def finish() -> None:
        if heading is not None:
            scripts.extend(_unroll(path.name, heading[1], heading[2], lines))
        lines.clear()

    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = raw.split("#")[0].strip()
        if line.startswith("==="):
            finish()
            heading = _HEADING.fullmatch(line)
            if heading is None:
                raise ValueError(f"{path.name}:{number}: a case is headed by '=== RFC NNNN section: title'")
        elif line:
            lines.append((number, line))
    finish()
    return scripts


def _unroll(file: str, section: str, title: str, lines: list[tuple[int, str]]) -> Iterator[Script]:
    names: list[str] = []
    rows: list[list[str]] = []
    plain: list[tuple[int, str]] = []
    for number, line in lines:
        if line.startswith("with "):
            names = [name.strip() for name in line[5:].split("|")]
        elif line.startswith("|"):
            rows.append([value.strip() for value in line[1:].split("|")])
        else:
            plain.append((number, line))
    if not rows:
        yield Script(file, section, title, tuple(plain))
    for row in rows:
        fields = dict(zip(names, row, strict=True))
        body = tuple((number, line.format_map(fields)) for number, line in plain)
        # A cell may be empty, and a line that consisted of it is gone
        yield Script(file, section, title.format_map(fields), tuple(entry for entry in body if entry[1].strip()))


class Utterance(NamedTuple):
    """A segment as text, split: what always counts, and what counts where written."""

    plain: str
    extras: dict[str, str]

    def seen_as(self, expected: Utterance | None) -> str:
        """The text of what was heard, with those extras that the expectation mentions (all without one)."""
        wanted = self.extras if expected is None else expected.extras
        parts = [self.plain]
        for name in wanted:
            value = self.extras.get(name, "")
            if name == "ts" and value and expected is not None and expected.extras["ts"].startswith("*/"):
                value = "*/" + value.split("/")[1]
            parts.append(f"{name} {value}".rstrip() if value or name in self.extras else f"no{name}")
        return " ".join(parts)

    def __str__(self) -> str:
        return " ".join([self.plain, *(_extra(name, value) for name, value in self.extras.items())])


def _extra(name: str, value: str) -> str:
    return f"no{name}" if value == "no" else f"{name} {value}".rstrip()


def parse_utterances(text: str) -> list[Utterance]:
    """A `we` line: what is expected; with xN, N segments of which each goes on where the last one ended."""
    tokens = iter(text.split())
    numbers, flags = next(tokens), "".join(sorted(next(tokens).replace("P", ""), key=FLAGS.index))
    rest, extras, size, times = [], {}, 0, 1
    for token in tokens:
        if token[0] == "+":
            size = int(token[1:])
            rest.append(token)
        elif token[0] == "x" and token[1:].isdigit():
            times = int(token[1:])
        elif token == "sack":
            rest += [token, next(tokens)]
        elif token == "sackok":
            extras[token] = ""
        elif token in ("win", "mss", "scale", "ts"):
            extras[token] = next(tokens)
        elif token in ("nomss", "noscale", "nosackok", "nots"):
            extras[token[2:]] = "no"
        else:
            raise ValueError(f"{token!r} says nothing about a segment")
    seq, ack = numbers.split(":")
    return [Utterance(" ".join([f"{int(seq) + at * size}:{ack}", flags, *rest]), extras) for at in range(times)]


def split_delay(line: str) -> tuple[float | None, str]:
    """'+0.2  we ...' is 0.2 and 'we ...'."""
    if line[0] != "+":
        return None, line
    delay, _, rest = line.partition(" ")
    return float(delay), rest.strip()
