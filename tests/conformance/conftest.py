"""The same tests over asyncio's own TCP transport and over ours, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.conformance.arena import Arena, KernelArena, TunnelArena
from tests.support.networks import memory_pair


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["kernel", "tunnel"])
async def arena(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    if request.param == "kernel":
        async with KernelArena() as kernel:
            yield kernel
        return
    async with memory_pair() as pair, TunnelArena(pair) as tunnel:
        yield tunnel
