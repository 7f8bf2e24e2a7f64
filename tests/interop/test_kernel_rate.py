"""What we get through a path that loses 1 %, beside a kernel on the same path at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import traffic
from tests.support.lab import missing
from tests.support.rival import Rivals
from tests.support.skipping import needs, skip

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def rivals() -> Iterator[Rivals]:
    needs("nft", "ss")
    if reason := missing():
        skip(reason)
    with Rivals() as rivals:
        yield rivals


@pytest.mark.parametrize(("port", "rounds"), [(traffic.UP, 2), (traffic.DOWN, 1)], ids=["up", "down"])
def test_keeps_up_with_a_kernel_at_one_percent_and_50_ms(rivals: Rivals, port: int, rounds: int) -> None:
    """Of many streams, for luck is worth more than any code; and in another round, where it may have been that.

    The goal is 0.9, which is tests/bench/rivals.py's to measure: here it must hold on a busy machine too.
    """
    ours = theirs = 0.0
    for number in range(3):
        rivals.fresh()
        rivals.lose(10)
        rivals.delay = 0.025
        more = rivals.compare(port, 32, 8.0)
        ours, theirs = ours + more[0], theirs + more[1]
        if number + 1 >= rounds and ours >= 0.7 * theirs:
            return
    raise AssertionError(f"{ours / theirs:.2f} of the kernel's rate, {theirs / 3e6:.1f} MB/s")
