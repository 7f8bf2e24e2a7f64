"""A stop that waits, and what ends the waiting."""

from __future__ import annotations

import asyncio

from proxy.daemon.draining import Drain


async def test_nobody_is_waited_for_whose_interface_is_gone() -> None:
    begun = asyncio.Event()
    drain = Drain(60)
    drain.add(begun.set, lambda: 1)
    waiting = asyncio.ensure_future(drain.wait())
    await asyncio.wait_for(begun.wait(), 5)
    drain.give_up()
    await asyncio.wait_for(waiting, 5)


async def test_who_finishes_ends_it() -> None:
    served = 1
    drain = Drain(60)
    begun = asyncio.Event()
    drain.add(begun.set, lambda: served)
    waiting = asyncio.ensure_future(drain.wait())
    await asyncio.wait_for(begun.wait(), 5)
    served = 0
    await asyncio.wait_for(waiting, 5)
