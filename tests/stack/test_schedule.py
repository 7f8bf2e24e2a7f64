"""The scheduler alone: budgets, fairness, and who goes first."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from usernet.burst.packets import SuperPacket
from usernet.stack.schedule import QUANTUM, Scheduler

MSS = 1000
HEADER = b"h" * 40


class Source:
    """Gives super-packets of at most `largest` bytes of payload until it has given `size`."""

    def __init__(self, name: str, size: int, largest: int = 61_560) -> None:
        self.name, self.left, self.largest = name, size, largest
        self.deficit = 0
        self.is_queued = False

    @property
    def wants_to_send(self) -> bool:
        return self.left > 0

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        size = min(self.left, self.largest, max(budget_bytes - 40, 0))
        if not size:
            return []
        self.left -= size
        return [SuperPacket(HEADER + self.name.encode(), (bytes(size),), MSS)]


def make(*sources: Source) -> Scheduler[Source]:
    scheduler: Scheduler[Source] = Scheduler(1500, lambda source, now: source.wants_to_send)
    for source in sources:
        scheduler.add(source)
    return scheduler


def sent(packets: list[SuperPacket]) -> Counter[str]:
    count: Counter[str] = Counter()
    for packet in packets:
        count[packet.header[40:].decode()] += packet.payload_bytes
    return count


def test_nothing_to_send() -> None:
    assert make().take(1 << 20, 0) == []


def test_everything_goes_out_once_and_twice_added_is_once() -> None:
    source = Source("a", 200_000)
    scheduler = make(source, source)
    assert sent(scheduler.take(1 << 20, 0)) == {"a": 200_000}
    assert len(scheduler) == 0
    assert not source.is_queued


def test_the_budget_is_kept() -> None:
    scheduler = make(Source("a", 10_000_000), Source("b", 10_000_000))
    for _ in range(20):
        total = sum(sent(scheduler.take(100_000, 0)).values())
        assert 80_000 < total <= 102_000


def test_a_small_budget_still_moves_one_packet() -> None:
    scheduler = make(Source("a", 10_000))
    assert sum(sent(scheduler.take(1, 0)).values()) > 0


def test_shares_are_equal_whatever_the_size_of_packets() -> None:
    sources = [Source(str(number), 1 << 30, largest=(500, 1000, 9000, 61_560)[number % 4]) for number in range(64)]
    scheduler = make(*sources)
    count: Counter[str] = Counter()
    for _ in range(400):
        count += sent(scheduler.take(262_144, 0))
    shares = [count[source.name] for source in sources]
    assert sum(shares) ** 2 / (64 * sum(share**2 for share in shares)) > 0.99  # Jain


def test_who_begins_goes_ahead_of_bulk() -> None:
    bulk = [Source(f"bulk{number}", 1 << 30) for number in range(8)]
    scheduler = make(*bulk)
    for _ in range(10):
        scheduler.take(8 * QUANTUM, 0)
    key = Source("key", 10)
    scheduler.add(key)
    packets = scheduler.take(8 * QUANTUM, 0)
    assert packets[0].header.endswith(b"key")


def test_those_who_always_begin_do_not_starve_the_others() -> None:
    bulk = Source("bulk", 1 << 30)
    beginners = [Source(f"b{number}", 30_000) for number in range(4)]
    scheduler = make(bulk, *beginners)
    count: Counter[str] = Counter()
    for _ in range(200):
        count += sent(scheduler.take(60_000, 0))
        for beginner in beginners:
            if not beginner.left:
                beginner.left = 30_000
                scheduler.add(beginner)
    assert count["bulk"] > 0.15 * sum(count.values())


def test_wanting_without_giving_ends_the_turn() -> None:
    class Stubborn(Source):
        def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
            return []

    scheduler = make(Stubborn("x", 10), Source("a", 5_000), Stubborn("y", 10))
    assert sent(scheduler.take(100_000, 0)) == {"a": 5_000}
    assert scheduler.take(100_000, 0) == []


@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(500, 70_000)), max_size=8), st.integers(1, 200_000))
def test_whatever_they_want_all_of_it_goes_out(wishes: list[tuple[int, int]], budget: int) -> None:
    sources = [Source(str(number), size, largest) for number, (size, largest) in enumerate(wishes)]
    scheduler = make(*sources)
    count: Counter[str] = Counter()
    for _ in range(10_000):
        packets = scheduler.take(budget, 0)
        if not packets:
            break
        count += sent(packets)
    assert count == Counter({str(number): size for number, (size, _) in enumerate(wishes) if size})
    assert not any(source.is_queued for source in sources)
