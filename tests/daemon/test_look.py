"""What the daemon says of itself is so, and holds no secret."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from dataclasses import asdict
from typing import cast

from proxy.client import Client, Terms
from proxy.daemon.app import Daemon, Options
from proxy.daemon.listeners import Listen
from proxy.daemon.look import STREAMS, _streams
from tests.proxy.support import until
from tests.support.networks import LEFT, RIGHT, config_of, key_pair
from usernet.aio.relay import reset


async def test_a_status() -> None:
    private, public = key_pair()
    peer, peer_public = key_pair()
    config = config_of(private, (LEFT,), peer_public, (RIGHT,), ("192.0.2.9", 51820))
    daemon = Daemon(config, Options(lambda: config, lambda _: (), "wg7"))
    await daemon.network.start()
    try:
        status = daemon.status()
    finally:
        await daemon.network.close()
        await daemon.serving.proxy.close()
    assert (status.name, status.state, status.addresses) == ("wg7", "running", (LEFT,))
    assert status.public_key == base64.b64encode(public).decode()
    (found,) = status.peers
    assert (found.endpoint, found.allowed_ips) == ("192.0.2.9:51820", (f"{RIGHT}/32",))
    assert found.latest_handshake is None
    assert not found.session
    text = json.dumps(asdict(status))
    for secret in (private, peer):
        assert base64.b64encode(secret).decode() not in text


async def test_streams_are_there_while_they_last() -> None:
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), ("192.0.2.9", 51820))
    listen = Listen("127.0.0.1", 0, socks5=True, http=True)
    daemon = Daemon(config, Options(lambda: config, lambda _: (listen,), "wg7"))
    await daemon.network.start()
    try:
        with contextlib.ExitStack() as undo:
            (await daemon.prepare(config, undo))()
            undo.pop_all()
        (bound,) = daemon.serving.bound
        _, writer = await asyncio.open_connection(bound.address, bound.port)
        writer.write(f"CONNECT {RIGHT}:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await until(lambda: daemon.status().streams_total == 1)
        (stream,) = daemon.status().streams
        assert (stream.method, stream.destination, stream.route) == ("CONNECT", f"{RIGHT}:443", "tunnel")
        assert stream.client == "{}:{}".format(*writer.get_extra_info("sockname"))
        assert abs(stream.began - time.time()) < 60
        reset(cast(asyncio.Transport, writer.transport), at_once=True)  # of an end only it would still be dialled
        await until(lambda: daemon.status().streams_total == 0)
        assert daemon.status().requests["http-connect"] == 1
    finally:
        await daemon.network.close()
        await daemon.serving.proxy.close()


async def test_of_very_many_streams_the_busiest_are_shown() -> None:
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), None)
    daemon = Daemon(config, Options(lambda: config, lambda _: (), "wg7"))
    clients = []
    for number in range(STREAMS + 50):
        client = Client(Terms(), "127.0.0.1", 1024 + number, None)
        client.ask("CONNECT", "example.org", 443)
        client.down = number
        clients.append(client)
    shown = _streams(daemon, clients)
    assert len(shown) == STREAMS
    assert {stream.down_bytes for stream in shown} == set(range(50, STREAMS + 50))
    await daemon.serving.proxy.close()
