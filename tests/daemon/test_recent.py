"""The last warnings and errors."""

from __future__ import annotations

import logging

from proxy.daemon.recent import KEPT, LONGEST, Recent
from tests.daemon.test_limiting import record


def test_what_is_alike_is_one_entry() -> None:
    recent = Recent()
    for number, (text, level) in enumerate(
        [("%s is away", logging.WARNING), ("broken", logging.ERROR), ("%s is away", logging.WARNING)]
    ):
        made = record(text, *([number] if "%" in text else []), level=level)
        made.created = 1000.0 + number
        recent.handle(made)
    broken, away = recent.entries()
    assert (broken.level, broken.message, broken.count) == ("error", "broken", 1)
    assert (away.level, away.message, away.count, away.first, away.last) == ("warning", "2 is away", 2, 1000.0, 1002.0)


def test_it_is_bounded() -> None:
    recent = Recent()
    for number in range(KEPT + 10):
        recent.handle(record("x" * (number + 1000), level=logging.WARNING))
    entries = recent.entries()
    assert len(entries) == KEPT
    assert all(len(entry.message) == LONGEST for entry in entries)


def test_only_warnings_and_what_was_raised() -> None:
    logger = logging.Logger("test")
    recent = Recent()
    logger.addHandler(recent)
    logger.info("all is well")
    try:
        raise ValueError("a cause")
    except ValueError:
        logger.exception("it failed")
    (entry,) = recent.entries()
    assert entry.message == "it failed: ValueError: a cause"
