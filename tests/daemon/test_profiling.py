"""A profile says where time goes, in the form that flamegraph.pl and speedscope read."""

from __future__ import annotations

import re
import threading

from proxy.daemon.profiling import Profile, heap


def spin(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(100))


def test_what_a_thread_does() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=spin, args=(stop,), name="spinner")
    thread.start()
    try:
        text = ""
        while "spinner;" not in text or ".spin" not in text:
            with Profile() as profile:
                threading.Event().wait(0.05)
            text = profile.collapsed()
    finally:
        stop.set()
        thread.join()
    lines = text.splitlines()
    assert all(re.fullmatch(r"[^;\s][^;]*(;[^; ]+)* \d+", line) for line in lines)
    assert any(
        re.match(r"spinner;threading\..*;tests\.daemon\.test_profiling\.spin|spinner;.*\.spin", line) for line in lines
    )
    counts = [int(line.rpartition(" ")[2]) for line in lines]
    assert counts == sorted(counts, reverse=True)
    assert not any("Profile._work" in line for line in lines)  # which is not what one wants to know


def test_the_heap_is_counted_by_type() -> None:
    assert "blocks of memory in use: " in heap()
