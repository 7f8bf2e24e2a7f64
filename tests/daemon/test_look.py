"""What the daemon says of itself is so, and holds no secret."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict

from proxy.daemon.app import Daemon, Options
from tests.support.networks import LEFT, RIGHT, config_of, key_pair


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
