"""What can be asked at the admin socket, where a real process would not show it: see tests/cli/test_commands.py."""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.daemon.app import Daemon, Options
from tests.support.networks import LEFT, RIGHT, config_of, key_pair
from usernet.wireguard.events import HandshakeCompleted


async def test_whoever_watches_hears_of_a_handshake_at_once() -> None:
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), ("127.0.0.1", 9))
    daemon = Daemon(config, Options(lambda: config, lambda _: (), "wg7"))
    await daemon.network.start()
    try:
        watching: Any = daemon.controls.admin.find("status").handler({"watch": True, "interval": 3600})
        assert (await anext(watching))["name"] == "wg7"
        later = asyncio.ensure_future(anext(watching))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not later.done()
        daemon.observer.event(HandshakeCompleted(config.peers[0].public_key, ("127.0.0.1", 9), True))
        assert (await later)["name"] == "wg7"
        await watching.aclose()
        assert not daemon.observer._callbacks, "who has left is told nothing"
    finally:
        await daemon.network.close()
        await daemon.serving.proxy.close()
