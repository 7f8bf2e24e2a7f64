"""RFC 6479, and the expectations of the Linux kernel's and wireguard-go's own tests of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from usernet.burst.replay import RING_BITS, WINDOW, ReplayWindow


def test_each_counter_once() -> None:
    window = ReplayWindow()
    assert [window.accept(counter) for counter in (0, 1, 1, 9, 8, 7, 7, 6, 5, 4, 3, 2, 2, 0)] == [
        True, True, False, True, True, True, False, True, True, True, True, True, False, False,
    ]  # fmt: skip


def test_window_has_8128_counters() -> None:
    window = ReplayWindow()
    assert window.accept(WINDOW + 10)
    assert not window.accept(10)  # 8128 below the highest
    assert window.accept(11)
    assert not window.accept(11)


def test_wholly_new_window() -> None:
    window = ReplayWindow()
    assert all(window.accept(counter) for counter in range(100))
    assert window.accept(100 + 3 * RING_BITS)
    assert all(window.accept(100 + 3 * RING_BITS - back) for back in range(1, WINDOW))
    assert not window.accept(100 + 3 * RING_BITS - WINDOW)


def test_backwards_through_the_whole_window() -> None:
    window = ReplayWindow()
    assert all(window.accept(counter) for counter in range(WINDOW, 0, -1))
    assert not window.accept(0)


def test_extremes() -> None:
    window = ReplayWindow()
    top = 2**64 - 2**13 - 2
    assert window.accept(top)
    assert not window.accept(top)
    assert window.accept(top - 1)
    assert not window.accept(0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_like_a_set(data: st.DataObject) -> None:
    """Against a plain set of all counters seen, with jumps and runs of every size."""
    window, seen, highest = ReplayWindow(), set[int](), -1
    for _ in range(data.draw(st.integers(1, 40))):
        if data.draw(st.booleans()):
            size = data.draw(st.sampled_from([0, 1, 2, 44, 63, 64, 65, 200, RING_BITS - 1, RING_BITS, 3 * RING_BITS]))
            seen.update(range(highest + 1, highest + 1 + size))
            highest += size
            window.advance(highest + 1)
        else:
            reach = data.draw(st.sampled_from([2, 64, 130, WINDOW + 2, 2 * RING_BITS]))
            counter = max(0, highest + data.draw(st.integers(-reach, reach)))
            fresh = counter not in seen and counter > highest - WINDOW
            assert window.accept(counter) == fresh, (counter, highest)
            if fresh:
                seen.add(counter)
                highest = max(highest, counter)
        assert window.next == highest + 1
