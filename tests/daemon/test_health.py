"""What is wrong is told with its cause, and as long as it is so."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket

import pytest

from proxy.daemon.app import Daemon, Options
from proxy.daemon.listeners import Listen
from proxy.status.verdict import judge
from tests.proxy.support import until
from tests.support.networks import LEFT, RIGHT, config_of, key_pair
from usernet.wireguard.events import HandshakeCompleted, HandshakeStarted


@pytest.fixture
async def daemon() -> Daemon:
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), ("192.0.2.9", 51820), dns=(RIGHT,))
    return Daemon(config, Options(lambda: config, lambda _: (), "wg7"))


async def test_a_peer_that_does_not_answer(daemon: Daemon) -> None:
    await daemon.network.start()
    try:
        (peer,) = daemon.config.peers
        end = ("192.0.2.9", 51820)
        daemon.teller.event(HandshakeStarted(peer.public_key, end, 1))
        status = daemon.status()
        assert (status.health, judge(status).state) == ((), "connecting")
        daemon.teller._tell(daemon.teller._narrator.handle_timeout(1e12))
        status = daemon.status()
        (trouble,) = status.health
        assert trouble.text.startswith("no handshake completes with ")
        assert "192.0.2.9:51820 since 2" in trouble.text
        assert "preshared key" in trouble.remedy
        assert judge(status).state == "down"
        daemon.teller.event(HandshakeCompleted(peer.public_key, end, True))
        assert daemon.status().health == ()
    finally:
        daemon.teller.close()
        await daemon.network.close()
        await daemon.serving.proxy.close()


async def test_an_endpoint_that_does_not_resolve() -> None:
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), ("no such name", 51820))
    daemon = Daemon(config, Options(lambda: config, lambda _: (), "wg7"))
    await daemon.network.start()
    try:
        await until(lambda: bool(daemon.status().health))
        (trouble,) = daemon.status().health
        assert "endpoint name no such name does not resolve" in trouble.text
        assert judge(daemon.status()).state == "down"
    finally:
        await daemon.network.close()
        await daemon.serving.proxy.close()


async def test_others(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    await daemon.network.start()
    try:
        monkeypatch.setattr(daemon.network, "name_server_troubles", lambda: {RIGHT: "did not answer"})
        daemon.alive._silent.add("10.0.0.9")
        assert [one.text for one in daemon.status().health] == [
            "10.0.0.9 does not answer", f"name server {RIGHT} did not answer",
        ]  # fmt: skip
    finally:
        await daemon.network.close()
        await daemon.serving.proxy.close()


async def test_a_listener_that_pauses() -> None:
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), None)
    listen = Listen("127.0.0.1", 0, socks5=True, http=True)
    daemon = Daemon(config, Options(lambda: config, lambda _: (listen,), "wg7"))
    context = daemon.serving.proxy._context
    context.limits = dataclasses.replace(context.limits, connections=0)
    await daemon.network.start()
    try:
        with contextlib.ExitStack() as undo:
            (await daemon.prepare(config, undo))()
            undo.pop_all()
        (bound,) = daemon.serving.bound
        assert daemon.status().health == ()
        with socket.create_connection((bound.address, bound.port)):
            await until(lambda: bool(daemon.status().health))
        assert f"nobody new is accepted on 127.0.0.1:{bound.port}" == daemon.status().health[0].text
    finally:
        await daemon.network.close()
        await daemon.serving.proxy.close()
        await asyncio.sleep(0)
