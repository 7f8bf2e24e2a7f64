"""What was measured, and the table made of it: medians, ratios, and whether each goal is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.candidates import RIVALS
from tests.bench.goals import ABSOLUTE, RIVALS_BEST, ROWS, Row

MACHINE = "the machine"  # what no candidate has a part in


@dataclass
class Results:
    """Of each row and candidate, a value a round; or why there is none."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)  # the first one's reason

    def add(self, row: str, candidate: str, value: float) -> None:
        self.values.setdefault((row, candidate), []).append(value)

    def fail(self, row: str, candidate: str, reason: str) -> None:
        self.failures.setdefault((row, candidate), reason)

    def median(self, row: str, candidate: str) -> float | None:
        values = self.values.get((row, candidate))
        return statistics.median(values) if values else None

    def best_rival(self, row: Row) -> float | None:
        medians = [m for name in RIVALS if (m := self.median(row.key, name)) is not None]
        return (max if row.more else min)(medians, default=None)

    def compared(self, row: Row, candidate: str) -> float | None:
        """The number that a goal is about."""
        ours = self.median(row.key, candidate)
        if row.beside == ABSOLUTE:
            return ours
        if row.beside == RIVALS_BEST:
            theirs = self.best_rival(row)
        else:
            theirs = self.median(row.beside, candidate) or self.median(row.beside, MACHINE)
        return None if ours is None or not theirs else ours / theirs

    def verdict(self, row: Row, candidate: str) -> str:
        """Ratio and goal, as "1.62 >= 1.5 met"; nothing where neither is known."""
        compared, goal = self.compared(row, candidate), row.goal(candidate)
        shown = "" if compared is None or row.beside == ABSOLUTE else f"{compared:.3g}"
        if goal is None:
            return shown
        sign = ">=" if row.more else "<="
        outcome = "no figure" if compared is None else "met" if row.met(compared, goal) else "MISSED"
        return f"{shown} {sign} {goal:g} {outcome}".lstrip()

    def cell(self, row: Row, candidate: str) -> str:
        median, reason = self.median(row.key, candidate), self.failures.get((row.key, candidate))
        if median is None:
            return reason or "."
        digits = 0 if abs(median) >= 1000 else 1 if abs(median) >= 10 else 2
        return f"{median:,.{digits}f}" + ("" if reason is None else " (failed once)")


def judged(candidates: Sequence[str]) -> list[str]:
    return [name for name in candidates if name in ("native+uvloop", "python+uvloop")]


def table(results: Results, candidates: Sequence[str]) -> list[list[str]]:
    """With a heading; only rows of which something is known."""
    rows = [["median", "unit", *candidates, *(f"{name}: ratio, goal" for name in judged(candidates))]]
    known = {row for row, _ in results.values} | {row for row, _ in results.failures}
    for row in ROWS:
        if row.key not in known:
            continue
        if (row.key, MACHINE) in results.values:
            rows.append([row.title, row.unit, results.cell(row, MACHINE)] + [""] * (len(rows[0]) - 3))
            continue
        rows.append([
            row.title, row.unit, *(results.cell(row, name) for name in candidates),
            *(results.verdict(row, name) for name in judged(candidates)),
        ])  # fmt: skip
    return rows


def as_text(rows: list[list[str]]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        named, figures = row[:2], row[2:]
        left = "  ".join(text.ljust(width) for text, width in zip(named, widths, strict=False))
        lines.append(left + "".join(f"  {text:>{width}}" for text, width in zip(figures, widths[2:], strict=True)))
    return "\n".join(lines)


def as_markdown(rows: list[list[str]], facts: dict[str, str]) -> str:
    lines = ["# Results of `make bench`", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "Ratios are to the better of sing-box and onetun in the same run, unless a row says otherwise.", ""]
    lines += ["| " + " | ".join(rows[0]) + " |", "|---|---|" + "---:|" * (len(rows[0]) - 2)]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return "\n".join(lines) + "\n"


def as_json(results: Results, candidates: Sequence[str], facts: dict[str, str]) -> dict[str, Any]:
    """Every value, with the ratio that its goal is about."""
    rows = {}
    for row in ROWS:
        names = [name for name in (*candidates, MACHINE) if (row.key, name) in results.values]
        reasons = {name: reason for (key, name), reason in results.failures.items() if key == row.key}
        if names or reasons:
            rows[row.key] = {
                "title": row.title, "unit": row.unit,
                "values": {name: results.values[row.key, name] for name in names},
                "compared": {name: results.compared(row, name) for name in names if name != MACHINE},
                "goals": {name: goal for name in names if (goal := row.goal(name)) is not None},
                "failures": reasons,
            }  # fmt: skip
    return {"facts": facts, "rows": rows}
