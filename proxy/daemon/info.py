"""wireproxy's --info: /readyz, by its CheckAlive, and /metrics, which is the text of WireGuard's `get=1`.

Read https://www.wireguard.com/xplatform/.  Keys that are secret read REDACTED.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from proxy.admin.uapi import describe, encode
from proxy.daemon.alive import Alive
from proxy.web.server import TEXT, Answer, Page, Request
from usernet.aio.engine import Engine


def info_pages(net: Engine, alive: Alive) -> dict[str, Page]:
    """By path."""

    async def readyz(request: Request) -> Answer:
        body = json.dumps(alive.pongs, separators=(",", ":")) + "\n"
        return Answer(body.encode(), TEXT, 200 if alive.is_ready() else 503)

    async def metrics_page(request: Request) -> Answer:
        return Answer(encode(metrics(net)))

    return {"/readyz": readyz, "/metrics": metrics_page}


def metrics(net: Engine) -> Iterator[tuple[str, object]]:
    """The keys of `get=1` that have a meaning here, in its order."""
    return describe(net.config, net.listen_port, net.peers(), secrets=False)
