"""One peer's deadlines, and the agenda.  What they lead to is tested with the negotiator."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from usernet.wireguard.timers import NEVER, Agenda, PeerTimers, Timing


def timers(jitter: bytes = b"\0\0") -> PeerTimers:
    return PeerTimers(Timing(), lambda size: jitter)


def test_the_papers_numbers() -> None:
    timing = Timing()
    assert timing.refresh_after_time == 165.0
    assert timing.silence_timeout == 15.0
    assert timing.zero_after_time == 540.0


def test_nothing_runs_at_first() -> None:
    assert timers().next_deadline == NEVER


def test_jitter_is_up_to_a_third_of_a_second() -> None:
    assert timers().jitter() == 0.0
    assert timers(b"\xff\xff").jitter() == 0.333


def test_silence_counts_from_the_first_unanswered_data() -> None:
    ours = timers()
    ours.sent(100.0, data=True)
    ours.sent(110.0, data=True)
    assert (ours.silence_at, ours.unanswered_since) == (115.0, 100.0)
    ours.received(114.0, data=False)
    assert ours.silence_at == NEVER
    ours.sent(120.0, data=True)
    assert ours.unanswered_since == 120.0


def test_keepalives_and_handshakes_are_not_answered() -> None:
    ours = timers()
    ours.sent(100.0, data=False)
    ours.received(100.0, data=False)
    assert ours.next_deadline == NEVER


def test_a_passive_keepalive_counts_from_the_first_data_unless_something_is_sent() -> None:
    ours = timers()
    ours.received(100.0, data=True)
    ours.received(105.0, data=True)
    assert ours.keepalive_at == 110.0
    ours.sent(106.0, data=False)
    assert ours.keepalive_at == NEVER


def test_persistent_keepalive_counts_from_anything() -> None:
    ours = timers()
    ours.persistent_keepalive = 25.0
    ours.sent(100.0, data=False)
    assert ours.next_deadline == 125.0
    ours.received(101.0, data=False)
    assert ours.next_deadline == 126.0


def test_retry_and_erasing() -> None:
    ours = timers(b"\xff\xff")
    ours.initiation_sent(100.0)
    assert ours.next_deadline == 105.333
    ours.handshake_over()
    ours.session_derived(100.0)
    assert ours.next_deadline == 640.0
    ours.received(100.0, data=True)
    ours.keys_erased()
    assert ours.next_deadline == NEVER


class Item:
    armed_at = NEVER


def test_agenda_gives_who_is_due_once() -> None:
    agenda: Agenda[Item] = Agenda()
    first, second = Item(), Item()
    agenda.arm(first, 10.0)
    agenda.arm(second, 20.0)
    assert agenda.next_timeout() == 10.0
    assert agenda.due(9.9) == []
    assert agenda.due(10.0) == [first]
    assert agenda.due(10.0) == []
    assert first.armed_at == NEVER
    assert agenda.due(99.0) == [second]
    assert agenda.next_timeout() is None


def test_agenda_keeps_the_earlier_time() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item()
    for at in (10.0, 12.0, 5.0, 7.0):
        agenda.arm(item, at)
    assert agenda.due(5.0) == [item]
    assert agenda.due(100.0) == []  # the entry for 10 is dead


def test_agenda_disarms() -> None:
    agenda: Agenda[Item] = Agenda()
    item = Item()
    agenda.arm(item, 10.0)
    agenda.disarm(item)
    agenda.disarm(item)
    assert agenda.next_timeout() is None


def test_agenda_never_is_no_time() -> None:
    agenda: Agenda[Item] = Agenda()
    agenda.arm(Item(), NEVER)
    assert agenda.next_timeout() is None


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_agenda_agrees_with_a_list(seed: int, count: int) -> None:
    random = Random(seed)
    agenda: Agenda[Item] = Agenda()
    items = [Item() for _ in range(count)]
    for _ in range(400):
        item = random.choice(items)
        match random.randrange(4):
            case 0 | 1:
                agenda.arm(item, float(random.randrange(1000)))
            case 2:
                agenda.disarm(item)
            case 3:
                now = float(random.randrange(300))
                expected = {id(each) for each in items if each.armed_at <= now}
                assert {id(each) for each in agenda.due(now)} == expected
        armed = [each.armed_at for each in items if each.armed_at != NEVER]
        assert agenda.next_timeout() == (min(armed) if armed else None)
        assert len(agenda) <= 2 * len(armed) + 64
