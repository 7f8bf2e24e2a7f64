"""How others ask and control the daemon: its admin socket, and the one that `wg` speaks to."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from proxy.admin.binding import Bound
from proxy.admin.paths import SUFFIX, WIREGUARD, AlreadyRunning, SocketError, interface_name, wireguard_directories
from proxy.admin.server import AdminServer
from proxy.admin.uapi_server import UapiServer
from proxy.daemon import wgkeys
from proxy.daemon.process import log
from usernet.aio.engine import Engine
from usernet.config import Config
from usernet.wireguard.statistics import PeerStatistics

Change = Callable[[Callable[[Config], Config]], Coroutine[Any, Any, object]]


class Where(NamedTuple):
    """Of the admin socket."""

    path: Path
    is_wanted: bool  # by --socket: then it is an error where it cannot be


class Tunnel:
    """What `wg` shows and changes."""

    def __init__(self, network: Engine, change: Change) -> None:
        self._network = network
        self.change = change

    @property
    def config(self) -> Config:
        return self._network.config

    @property
    def listen_port(self) -> int:
        return self._network.listen_port

    def peer_statistics(self) -> tuple[PeerStatistics, ...]:
        return self._network.statistics().tunnel.peers


class Controls:
    """`where` None: nobody is let in.

    `claim` comes before anything else, so that a second daemon of the same name ends at once and changes nothing;
    whoever connects meanwhile waits until `open`.
    """

    def __init__(self, where: Where | None, name: str, tunnel: Tunnel) -> None:
        self._where = where
        self._interface = interface_name(name)
        self._bound: Bound | None = None
        self._for_wg: Bound | None = None
        self.admin = AdminServer()
        self.admin.register("ping", _ping)
        self._uapi = UapiServer(tunnel, wgkeys.public)

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
        self._claim_for_wg()

    def _claim_for_wg(self) -> None:
        """Where `wg` looks, or beside ours.  It is nothing that a start may fail of."""
        why: SocketError | None = None
        for directory in wireguard_directories(self._bound.path if self._bound is not None else None):
            try:
                mode = 0o755 if directory == WIREGUARD else 0o700  # as `wg` and its like make theirs
                self._for_wg = Bound(directory / f"{self._interface}{SUFFIX}", mode)
                return
            except SocketError as error:
                why = error
        log.debug("no socket for wg: %s", why)

    async def open(self) -> None:
        if self._bound is not None:
            await self.admin.listen(self._bound)
            log.info("admin socket: %s", self._bound.path)
        if self._for_wg is not None:
            await self._uapi.listen(self._for_wg)
            log.info("peers are shown by: %s", self._command())

    def _command(self) -> str:
        if self._for_wg is None or self._for_wg.path.parent == WIREGUARD:
            return f"wg show {self._interface}"
        is_taken = (WIREGUARD / self._for_wg.path.name).exists()
        return f"usernet wg show {self._interface}" + (" (wg alone shows another of that name)" if is_taken else "")

    async def close(self) -> None:
        """Whoever is connected is told; the sockets are gone then.  Idempotent."""
        await self.admin.close()
        await self._uapi.close()
        for bound in (self._bound, self._for_wg):
            if bound is not None:
                bound.close()


async def _ping(args: dict[str, Any]) -> str:
    """Whether it answers; nothing about the tunnel."""
    return "pong"
