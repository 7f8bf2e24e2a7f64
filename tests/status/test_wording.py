"""Numbers as people read them."""

from __future__ import annotations

import pytest

from proxy.status.wording import ago, amount, rate


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5_000_000, "4.8 MiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_amounts(count: int, text: str) -> None:
    assert amount(count) == text
    assert rate(count) == f"{text}/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (-3, "0 s"), (99, "99 s"), (100, "2 min"), (3723, "62 min"), (9000, "2.5 h"), (400_000, "4.6 d")],
)
def test_times(seconds: float, text: str) -> None:
    assert ago(seconds) == text
