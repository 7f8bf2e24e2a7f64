"""The committed results.  A change in them is a change of behaviour, to be looked at and committed with its cause."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SNAPSHOT: Final = Path(__file__).with_name("snapshot.txt")


def join(sections: list[str]) -> str:
    return "\n".join(sections)


def read() -> dict[str, str]:
    """Sections by title."""
    if not SNAPSHOT.exists():
        return {}
    found = {}
    for text in SNAPSHOT.read_text().split("\n\n"):
        found[text.partition("\n")[0].removeprefix("## ")] = text.rstrip("\n") + "\n"
    return found
