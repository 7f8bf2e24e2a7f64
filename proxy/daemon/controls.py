"""How others ask and control the daemon: its admin socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from proxy.admin.binding import Bound
from proxy.admin.paths import AlreadyRunning, SocketError
from proxy.admin.server import AdminServer
from proxy.daemon.process import log


class Where(NamedTuple):
    """Of the admin socket."""

    path: Path
    is_wanted: bool  # by --socket: then it is an error where it cannot be


class Controls:
    """`where` None: nobody is let in.

    `claim` comes before anything else, so that a second daemon of the same name ends at once and changes nothing;
    whoever connects meanwhile waits until `open`.
    """

    def __init__(self, where: Where | None) -> None:
        self._where = where
        self._bound: Bound | None = None
        self.admin = AdminServer()
        self.admin.register("ping", _ping)

    def claim(self) -> None:
        """Raises AlreadyRunning, and SocketError where it was asked for; where it was not, one line says why not."""
        if self._where is None:
            return
        try:
            self._bound = Bound(self._where.path)
        except AlreadyRunning:
            raise
        except SocketError as error:
            if self._where.is_wanted:
                raise
            log.info("no admin socket: %s", error)

    async def open(self) -> None:
        if self._bound is not None:
            await self.admin.listen(self._bound)
            log.info("admin socket: %s", self._bound.path)

    async def close(self) -> None:
        """Whoever is connected is told; the socket is gone then.  Idempotent."""
        await self.admin.close()
        if self._bound is not None:
            self._bound.close()


async def _ping(args: dict[str, Any]) -> str:
    """Whether it answers; nothing about the tunnel."""
    return "pong"
