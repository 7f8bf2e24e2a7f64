"""The access log: one line for each request, when it is over.

    2026-11-25T18:40:01.250Z 127.0.0.1:40122 alice "SOCKS5 CONNECT" example.org:443 tunnel up=517 down=4096 1.204s ok

or the same as JSON.  A request's path, query and credentials are in neither: nobody handed them on (client.py).
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable

from proxy.client import Client
from proxy.names import authority


class AccessLog:
    """`write` gets each line, without its end."""

    __slots__ = ("_form", "_write")

    def __init__(self, write: Callable[[str], None], *, as_json: bool) -> None:
        self._write = write
        self._form = _json if as_json else _text

    def __call__(self, client: Client, outcome: str) -> None:
        self._write(self._form(client, outcome, max(0.0, time.time() - client.began)))


def _when(client: Client) -> str:
    moment = datetime.datetime.fromtimestamp(client.began, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(client: Client, outcome: str, seconds: float) -> str:
    user = json.dumps(client.user) if client.user and not client.user.isalnum() else client.user or "-"
    target = authority(*client.target) if client.target and client.target[0] else "-"
    return (
        f'{_when(client)} {authority(client.address, client.port)} {user} "{client.method}" {target} '
        f"{client.route or '-'} up={client.up} down={client.down} {seconds:.3f}s {outcome}"
    )


def _json(client: Client, outcome: str, seconds: float) -> str:
    return json.dumps(
        {
            "time": _when(client),
            "client": authority(client.address, client.port),
            "user": client.user,
            "method": client.method,
            "destination": authority(*client.target) if client.target and client.target[0] else None,
            "route": client.route or None,
            "bytes_up": client.up,
            "bytes_down": client.down,
            "duration": round(seconds, 6),
            "outcome": outcome,
        }
    )
