"""The daemon's own pages, and where which are: --debug has all of them, --local-addr what probes ask.

A page that takes its time (metrics for the first time, profiles) is made by a thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time
from typing import TYPE_CHECKING, Final

from proxy.daemon.profiling import LONGEST, Profile, heap
from proxy.daemon.stacks import task_stacks
from proxy.daemon.threads import thread_stacks
from proxy.status import page
from proxy.status.snapshot import Status
from proxy.web.server import Answer, Page, Request, text

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon

SVG: Final = "image/svg+xml"
PROFILE_SECONDS: Final = 30.0
BUSY: Final = text("another profile is being made; try again later", 503)


class Pages:
    """Of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._busy = asyncio.Lock()  # one profile or heap at a time

    def for_probes(self) -> dict[str, Page]:
        return {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}

    def all(self) -> dict[str, Page]:
        return {
            "/": self._page,
            "/live": self._live,
            **dict.fromkeys(page.ASSETS, self._asset),
            "/icon.svg": self._icon,
            "/status": self._status,
            **self.for_probes(),
            "/debug/stacks": self._stacks,
            "/debug/profile": self._profile,
            "/debug/heap": self._heap,
        }

    async def _healthz(self, request: Request) -> Answer:
        return text("ok")  # the loop turns

    async def _readyz(self, request: Request) -> Answer:
        found = await self._daemon.readying.ask()
        return text(f"ready: {found.why}") if found.ready else text(f"not ready: {found.why}", 503)

    async def _metrics(self, request: Request) -> Answer:
        status = await self._daemon.observer.status(watching=False)
        return Answer(*await asyncio.to_thread(_exposition, status, request.fields.get("accept", "")))

    async def _status(self, request: Request) -> Answer:
        status = await self._daemon.observer.status()
        return Answer(json.dumps(dataclasses.asdict(status)).encode() + b"\n", "application/json")

    async def _page(self, request: Request) -> Answer:
        status = await self._daemon.observer.status()
        return Answer(page.page(status, self._daemon.observer.history.points, time.monotonic()), page.HTML)

    async def _live(self, request: Request) -> Answer:
        status = await self._daemon.observer.status()
        return Answer(page.live(status, self._daemon.observer.history.points, time.monotonic()).encode(), page.HTML)

    async def _asset(self, request: Request) -> Answer:
        return Answer(page.asset(request.path), page.ASSETS[request.path])

    async def _icon(self, request: Request) -> Answer:
        return Answer(page.icon(request.query.get("state", "")), SVG)

    async def _stacks(self, request: Request) -> Answer:
        return text("\n".join([*task_stacks(asyncio.get_running_loop()), "", *thread_stacks()]))

    async def _profile(self, request: Request) -> Answer:
        try:
            seconds = float(request.query.get("seconds", PROFILE_SECONDS))
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= LONGEST:
            return text(f"seconds are a number up to {LONGEST:g}", 400)
        if self._busy.locked():
            return BUSY
        async with self._busy:
            with Profile() as profile:
                await asyncio.sleep(seconds)
            return Answer(profile.collapsed().encode())

    async def _heap(self, request: Request) -> Answer:
        if self._busy.locked():
            return BUSY
        async with self._busy:
            return text(await asyncio.to_thread(heap))


def _exposition(status: Status, accept: str) -> tuple[bytes, str]:
    from proxy.status.metrics import exposition  # 70 ms the first time

    return exposition(status, accept)
