"""Whose turn it is to probe."""

from __future__ import annotations

from usernet.stack.stall import PROBE_SECONDS, StallProbe


def test_in_turn_while_silent() -> None:
    stalled = {"a", "b", "c"}
    probe: StallProbe[str] = StallProbe(stalled.__contains__)
    assert probe.add("a", 100)
    assert not probe.add("b", 100)
    assert not probe.add("c", 100)
    assert not probe.add("a", 100)
    assert probe.choose(7, 100.5) == (None, True)  # not yet known to be silent
    assert [probe.choose(7, 101)[0] for _ in range(4)] == ["a", "b", "c", "a"]
    assert probe.choose(8, 101) == (None, True)
    stalled.discard("b")
    probe.discard("c")
    assert [probe.choose(8, 101)[0] for _ in range(2)] == ["a", "a"]
    stalled.clear()
    assert probe.choose(8, 101) == (None, False)


def test_only_for_the_first_minute() -> None:
    stalled = {"a", "b"}
    probe: StallProbe[str] = StallProbe(stalled.__contains__)
    assert probe.add("a", 100)
    assert probe.choose(1, 100 + PROBE_SECONDS) == (None, False)
    assert not probe.add("a", 200)
    assert not probe.add("b", 200)  # still the same silence
    stalled.clear()
    assert probe.add("c", 300)  # that one is over


def test_told_to_try_they_begin_anew() -> None:
    probe: StallProbe[str] = StallProbe(lambda _: True)
    assert probe.add("a", 100)
    probe.clear()
    assert probe.choose(1, 101) == (None, False)
    assert probe.add("a", 102)
