"""Lines that are alike, and how many of them there may be."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from proxy.daemon.limiting import UNLIMITED, LimitedHandler, Limiter, kind_of


def record(
    template: str, *args: object, level: int = logging.INFO, name: str = "usernet", **extra: object
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "file", 1, template, args, None)
    made.__dict__.update(extra)
    return made


def test_kinds() -> None:
    alike = [
        ("%s is away", ("a",), "%s is away", ("b",)),
        ("%s", ("port 1 of 22",), "%s", ("port 333 of 4",)),
    ]
    for first, first_args, second, second_args in alike:
        assert kind_of(record(first, *first_args)) == kind_of(record(second, *second_args))
    line = record("%s", "a is away")
    for other in (
        record("%s", "b is away"),
        record("%s", "a is away", level=logging.WARNING),
        record("%s", "a is away", name="usernet.proxy"),
    ):
        assert kind_of(line) != kind_of(other)


def test_ten_a_minute_and_how_many_more() -> None:
    limiter = Limiter(burst=10, window=60)
    shown = [limiter.admits(record("%s is away", number), 100 + number) for number in range(25)]
    assert shown == [True] * 10 + [False] * 15
    assert limiter.admits(record("another"), 125)
    assert limiter.handle_timeout(159.9) == []
    (withheld,) = limiter.handle_timeout(160)
    assert withheld.number == 15
    assert withheld.last.getMessage() == "24 is away"
    assert limiter.handle_timeout(1000) == []
    assert limiter.admits(record("%s is away", 1), 1000)


def test_whoever_makes_up_new_lines_is_limited_too() -> None:
    limiter = Limiter(burst=2, window=60, kinds=5)
    shown = [limiter.admits(record("x" * number), 0) for number in range(1, 100)]
    assert sum(shown) == 5 + 2  # a line of each kind, and two of all others
    assert sum(item.number for item in limiter.handle_timeout(60)) == 99 - 7


def test_what_is_not_limited() -> None:
    limiter = Limiter(burst=1)
    for made in (record("debug", level=logging.DEBUG), record("a line", is_limited=UNLIMITED["is_limited"])):
        assert all(limiter.admits(made, 0) for _ in range(50))


def test_a_handler() -> None:
    now = 0.0
    stream = io.StringIO()
    handler = LimitedHandler(stream, lambda: now)
    for number in range(13):
        handler.handle(record("%d came", number))
    assert stream.getvalue().splitlines() == [f"{number} came" for number in range(10)]
    now = 61.0
    handler.handle(record("%d came", 13))
    assert stream.getvalue().splitlines()[10:] == ["3 more like it, the last one: 12 came", "13 came"]
    for number in range(20):
        handler.handle(record("%d went", number))
    handler.close()
    assert stream.getvalue().splitlines()[-1] == "10 more like it, the last one: 19 went"


def test_a_traceback_keeps_nothing_alive() -> None:
    limiter = Limiter(burst=0)
    try:
        raise ValueError("a value")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    limiter.admits(made, 0)
    (withheld,) = limiter.handle_timeout(100)
    assert withheld.last.exc_info is None


@pytest.mark.parametrize("count", [1, 3])
def test_a_broken_stream_is_no_error(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    stream = io.StringIO()
    handler = LimitedHandler(stream)
    stream.close()
    for _ in range(count):
        handler.handle(record("a line"))
