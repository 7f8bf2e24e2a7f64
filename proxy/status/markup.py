"""Text into HTML, and numbers into words: whatever is not markup already is escaped, so no page can forget it."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """Is HTML."""

    __slots__ = ()


def fill(template: str, **values: object) -> Markup:
    """`{name}` becomes its value; what is no Markup is text."""
    return Markup(template.format_map({name: _safe(value) for name, value in values.items()}))


def join(parts: Iterable[Markup]) -> Markup:
    return Markup("".join(parts))


def _safe(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(str(value))


def size(count: float) -> str:
    """'0 B', '999 B', '1.2 kB', '34 MB': decimal, at most three figures."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.1f} {unit}" if unit != "B" and count < 9.95 else f"{count:.0f} {unit}"


def rate(bytes_per_second: float) -> str:
    return f"{size(bytes_per_second)}/s"


def number(count: int) -> str:
    """'12,345'."""
    return f"{count:,}"
