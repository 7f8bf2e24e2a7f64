"""The daemon's own pages, of a real daemon."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from proxy.daemon.app import Daemon, Options
from proxy.daemon.pages import Pages
from proxy.web.server import Answer, Request
from tests.support.networks import LEFT, RIGHT, config_of, key_pair


class Visitor:
    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.pages = Pages(daemon).all()

    async def get(self, path: str, **query: str) -> Answer:
        return await self.pages[path](Request(path, query, {}))


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), ("127.0.0.1", 9))
    daemon = Daemon(config, Options(lambda: config, lambda _: (), "wg7"))
    await daemon.network.start()
    daemon.observer.start()
    yield Visitor(daemon)
    daemon.teller.close()
    daemon.observer.close()
    await daemon.network.close()
    await daemon.serving.proxy.close()


async def test_each_has_its_kind(visitor: Visitor) -> None:
    kinds: Mapping[str, str] = {
        "/": "text/html", "/live": "text/html", "/page.css": "text/css", "/page.js": "text/javascript",
        "/icon.svg": "image/svg+xml", "/status": "application/json", "/healthz": "text/plain", "/readyz": "text/plain",
        "/metrics": "text/plain", "/debug/stacks": "text/plain", "/debug/heap": "text/plain",
    }  # fmt: skip
    assert {*kinds, "/debug/profile"} == set(visitor.pages)
    for path, kind in kinds.items():
        answer = await visitor.get(path)
        assert answer.media_type.startswith(kind)
        assert answer.body
        assert answer.status == (503 if path == "/readyz" else 200)


async def test_what_they_say(visitor: Visitor) -> None:
    status = json.loads((await visitor.get("/status")).body)
    assert (status["name"], status["addresses"]) == ("wg7", [LEFT])
    assert (await visitor.get("/healthz")).body == b"ok\n"
    assert (await visitor.get("/readyz")).body.startswith(b"not ready: no handshake has completed")
    assert b"usernet_tunnel_up 0.0\n" in (await visitor.get("/metrics")).body
    stacks = (await visitor.get("/debug/stacks")).body.decode()
    assert "thread MainThread:" in stacks
    assert "in test_what_they_say" in stacks
    assert "wg7" in (await visitor.get("/")).body.decode()


async def test_no_secret_is_on_any(visitor: Visitor) -> None:
    key = visitor.daemon.config.interface.private_key
    for path in visitor.pages:
        body = (await visitor.get(path, seconds="0.05")).body
        assert key.hex().encode() not in body
        assert base64.b64encode(key) not in body


async def test_a_profile_shows_where_the_time_goes(visitor: Visitor) -> None:
    def busy() -> None:
        end = asyncio.get_running_loop().time() + 0.2
        while asyncio.get_running_loop().time() < end:
            pass

    asyncio.get_running_loop().call_later(0.01, busy)
    lines = (await visitor.get("/debug/profile", seconds="0.3")).body.decode().splitlines()
    stack, count = next(line for line in lines if "busy" in line).rsplit(" ", 1)
    assert stack.startswith("MainThread;")
    assert int(count) > 0


async def test_profiles_are_bounded(visitor: Visitor) -> None:
    for seconds in ("", "x", "0", "-1", "nan", "inf", "61"):
        assert (await visitor.get("/debug/profile", seconds=seconds)).status == 400
    first: Any = asyncio.ensure_future(visitor.get("/debug/profile", seconds="0.05"))
    await asyncio.sleep(0)
    assert (await visitor.get("/debug/profile", seconds="1")).status == 503
    assert (await visitor.get("/debug/heap")).status == 503
    assert (await first).status == 200


async def test_probes_see_no_more_than_they_need(visitor: Visitor) -> None:
    assert set(Pages(visitor.daemon).for_probes()) == {"/healthz", "/readyz", "/metrics"}


async def test_a_probe_is_nobody_who_watches(visitor: Visitor) -> None:
    await visitor.get("/metrics")
    assert visitor.daemon.observer._watched_until == 0.0
    await visitor.get("/live")
    assert visitor.daemon.observer._watched_until > 0.0
