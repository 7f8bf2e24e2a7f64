"""Ready is who has shaken hands of late, or does when asked; nobody else's word counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.daemon import readiness
from proxy.daemon.app import Daemon, Options
from proxy.daemon.readiness import Readying, own_pages
from proxy.http.own import Content
from tests.support.networks import LEFT, RIGHT, config_of, key_pair
from usernet.aio.network import Network
from usernet.wireguard.events import HandshakeStarted


class Both:
    """A daemon, and its peer, which does not answer before it is started."""

    def __init__(self) -> None:
        (near, near_public), (far, far_public) = key_pair(), key_pair()
        self.far = Network(config_of(far, (RIGHT,), near_public, (LEFT,), None), port=0)
        self._keys = near, far_public
        self.daemon: Any = None

    async def start_daemon(self, port: int) -> None:
        near, far_public = self._keys
        config = config_of(near, (LEFT,), far_public, (RIGHT,), ("127.0.0.1", port))
        self.daemon = Daemon(config, Options(lambda: config, lambda _: (), "wg7"))
        await self.daemon.network.start()

    async def close(self) -> None:
        self.daemon.teller.close()
        self.daemon.observer.close()
        await self.daemon.network.close()
        await self.daemon.serving.proxy.close()
        await self.far.close()


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    made = Both()
    await made.far.start()
    await made.start_daemon(made.far.listen_port)
    yield made
    await made.close()


async def test_asking_makes_the_handshake(both: Both) -> None:
    """As of a tunnel that had nothing to carry: it is at rest, and no fault."""
    assert not both.daemon.readying._look().ready
    found = await both.daemon.readying.ask(4.0)
    assert found.ready
    assert found.why.startswith("the latest handshake was ")
    assert both.daemon.network.peers()[0].handshakes == 1
    for _ in range(3):
        assert (await both.daemon.readying.ask()).ready
    assert both.daemon.network.peers()[0].handshakes == 1, "who is ready asks for nothing"


async def test_many_ask_for_one(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    request = both.daemon.network.request_handshakes

    def counted() -> None:
        nonlocal asked
        asked += 1
        request()

    monkeypatch.setattr(both.daemon.network, "request_handshakes", counted)
    found = await asyncio.gather(*(both.daemon.readying.ask(4.0) for _ in range(20)))
    assert all(one.ready for one in found)
    assert asked == 1


async def test_nobody_answers() -> None:
    made = Both()
    await made.start_daemon(9)  # discard, where nobody is
    try:
        began = time.monotonic()
        found = await made.daemon.readying.ask(0.01)
        assert time.monotonic() - began < readiness.LONGEST
        assert not found.ready
        assert "180 s" in found.why
        (peer,) = made.daemon.config.peers
        made.daemon.teller.event(HandshakeStarted(peer.public_key, ("127.0.0.1", 9), 1))
        made.daemon.teller._tell(made.daemon.teller._narrator.handle_timeout(1e12))
        assert "preshared key" in (await made.daemon.readying.ask(0.01)).why
    finally:
        await made.close()


async def test_silence_counts_for_more_than_a_recent_handshake(both: Both) -> None:
    assert (await both.daemon.readying.ask(4.0)).ready
    (peer,) = both.daemon.config.peers
    both.daemon.teller.event(HandshakeStarted(peer.public_key, ("127.0.0.1", 9), 1))
    assert both.daemon.readying._look().ready, "new keys are under way"
    both.daemon.teller._tell(both.daemon.teller._narrator.handle_timeout(1e12))
    assert not both.daemon.readying._look().ready


async def test_check_alive(both: Both) -> None:
    both.daemon.alive.ask([RIGHT], 5)
    assert (await both.daemon.readying.ask(0.01)).why == f"no answer from {RIGHT}, which CheckAlive = names"
    both.daemon.alive.pongs[RIGHT] = int(time.time())
    assert both.daemon.readying._look().ready, "an answer through the tunnel"


async def test_a_daemon_that_stops(both: Both) -> None:
    assert (await both.daemon.readying.ask(4.0)).ready
    both.daemon.stop.set()
    assert await both.daemon.readying.ask() == (False, "the daemon is stopping")


async def test_on_the_proxys_own_port(both: Both) -> None:
    """Strangers come there: they are not told where our peers are."""
    pages: Any = own_pages(Readying(both.daemon).ask)
    assert pages[b"/healthz"](None) == Content("text/plain; charset=utf-8", b"ok\n")
    both.daemon.stop.set()
    assert await pages[b"/readyz"](None) == Content("text/plain; charset=utf-8", b"not ready\n", 503)
