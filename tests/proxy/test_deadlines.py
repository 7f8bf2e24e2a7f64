"""One timer for all."""

from __future__ import annotations

import asyncio

from proxy.deadlines import Deadlines


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
