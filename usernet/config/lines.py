"""Text -> sections of `KEY = VALUE` entries with their line numbers.  No meaning yet, except what a comment is.

The grammar is that of `wg` and `wg-quick` (wireguard-tools, src/config.c and src/wg-quick/linux.bash): sections and
keys whatever their case, `#` starts a comment anywhere.  In wireproxy's sections a `#` inside a word is part of the
value, for a password may hold one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from usernet.errors import Problem

WIREGUARD_SECTIONS = ("interface", "peer")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")  # 30: a key pasted in the wrong place is longer, and never repeated
_SPACED_HASH = re.compile(r"(?:^|\s)#")
_SECRET = re.compile(r"[A-Za-z0-9+/=_-]{24,}")


@dataclass(frozen=True, slots=True)
class Entry:
    key: str  # as written
    value: str
    line: int


@dataclass(slots=True)
class Section:
    name: str  # lower case; "" for what stands before the first section
    line: int
    entries: list[Entry] = field(default_factory=list)


def shown(text: str) -> str:
    """`text` as a message may show it: short, printable, and hidden when it might be a key in the wrong place."""
    if _SECRET.search("".join(text.split())):
        return "(a long value, not shown)"
    return repr(text if len(text) <= 40 else text[:37] + "...")


def read_lines(text: str, filename: str, problems: list[Problem]) -> list[Section]:
    """Every section in order; what is not a section, an entry or a comment goes to `problems`."""
    current = Section("", 0)
    sections = [current]
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = _without_comment(raw, current.name).strip()
        if not line:
            continue
        if line.startswith("["):
            name = line[1:].removesuffix("]").strip()
            if not line.endswith("]") or not _NAME.fullmatch(name):
                problems.append(
                    Problem(filename, number, "this is not the head of a section", "write [Interface] or [Peer]")
                )
                name = "?"  # its entries cannot be judged, and are not
            current = Section(name.lower(), number)
            sections.append(current)
            continue
        key, equals, value = line.partition("=")
        key = "".join(key.split())  # `wg` strips white space everywhere: Listen Port is a key
        if not equals or not _NAME.fullmatch(key):
            problems.append(
                Problem(filename, number, "this line is not KEY = VALUE", "write one, or start a comment with #")
            )
            continue
        current.entries.append(Entry(key, value.strip(), number))
    return sections


def _without_comment(line: str, section: str) -> str:
    if section in WIREGUARD_SECTIONS or not section:
        return line.partition("#")[0]
    comment = _SPACED_HASH.search(line)
    return line[: comment.start()] if comment else line
