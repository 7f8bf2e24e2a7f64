"""One timer for all."""

from __future__ import annotations

import asyncio

from proxy.deadlines import PER_TURN, Deadlines


class Member:
    def __init__(self, deadlines: Deadlines, log: list[str], name: str, then: float | None = None) -> None:
        self.deadlines, self.log, self.name, self.then = deadlines, log, name, then

    def expired(self) -> None:
        self.log.append(self.name)
        if self.then is not None:
            then, self.then = self.then, None
            self.deadlines.start(self, then)


async def test_in_order_of_expiry() -> None:
    deadlines, log = Deadlines(asyncio.get_running_loop()), list[str]()
    late, early, stopped, again, restarted = (
        Member(deadlines, log, name) for name in ["late", "early", "stopped", "again", "r"]
    )
    again.then = 0.01
    deadlines.start(late, 0.5)
    deadlines.start(stopped, 0.02)
    deadlines.start(early, 0.02)
    deadlines.start(again, 0.03)
    deadlines.start(restarted, 0.01)
    deadlines.start(restarted, 0.5)
    deadlines.stop(stopped)
    deadlines.stop(stopped)
    while "r" not in log:
        await asyncio.sleep(0.005)
    assert log == ["early", "again", "again", "late", "r"]
    assert deadlines._timer is None
    deadlines.start(late, 0.001)
    deadlines.close()
    assert deadlines._timer is None


async def test_many_at_once_leave_turns_to_others() -> None:
    deadlines, log = Deadlines(asyncio.get_running_loop()), list[str]()
    for number in range(3 * PER_TURN):
        deadlines.start(Member(deadlines, log, str(number)), 0.0)
    steps, seen = set[int](), 0
    while len(log) < 3 * PER_TURN:
        await asyncio.sleep(0)
        steps.add(len(log) - seen)
        seen = len(log)
    assert max(steps) == PER_TURN
    assert log == [str(number) for number in range(3 * PER_TURN)]
    deadlines.close()


async def test_what_expires_may_start_a_later_one_without_delaying_the_next() -> None:
    deadlines, log = Deadlines(asyncio.get_running_loop()), list[str]()

    class Again(Member):
        def expired(self) -> None:
            super().expired()
            self.deadlines.start(self, 3600)

    deadlines.start(Again(deadlines, log, "first"), 0.01)
    deadlines.start(Member(deadlines, log, "second"), 0.02)
    async with asyncio.timeout(10):
        while log != ["first", "second"]:
            await asyncio.sleep(0.001)
    deadlines.close()
