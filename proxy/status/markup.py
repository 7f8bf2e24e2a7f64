"""Text into HTML: whatever is not markup already is escaped, so no page can forget it."""

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


def number(count: int) -> str:
    """'12,345'."""
    return f"{count:,}"
