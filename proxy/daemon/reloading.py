"""Another configuration for a daemon that runs: the file read again, or changed by `wg`; all of it or nothing.

Connections go on.  What may fail comes first: `Daemon.prepare` opens what is new, then the tunnel changes; only then is
the rest made so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from proxy.daemon.limiting import UNLIMITED
from proxy.daemon.process import log
from usernet.config import Config
from usernet.config.changes import Changes
from usernet.errors import ConfigError, UsernetError

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon


class ReloadError(UsernetError):
    """Nothing has changed; the text says why."""


class Reloading:
    """Of one daemon: one change at a time."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._one = asyncio.Lock()

    async def reload(self) -> Changes:
        """Read the file again and be what it says.

        Raises UsernetError (ConfigError, ListenError, ReloadError), and OSError where the file cannot be read.
        """
        options = self._daemon.options
        async with self._one:
            with options.notifier.reloading():
                return await self._become(await asyncio.to_thread(options.read))

    async def change(self, alter: Callable[[Config], Config]) -> Changes:
        """Be what `alter` makes of the present configuration; the file stays as it is.

        Raises what `alter` does, and UsernetError.
        """
        async with self._one:
            return await self._become(alter(self._daemon.config))

    async def _become(self, config: Config) -> Changes:
        daemon = self._daemon
        if config.stdio_tunnel != daemon.config.stdio_tunnel:
            raise ReloadError("[STDIOTunnel] cannot come, go or change while it runs; start usernet anew")
        with contextlib.ExitStack() as undo:
            commit = await daemon.prepare(config, undo)
            try:
                with daemon.watchdog.call("reconfigure"):
                    changes = await daemon.network.reconfigure(config)
            except OSError as error:
                raise ReloadError(error.strerror or str(error)) from error
            undo.pop_all()
        commit()
        daemon.outside.reconfigured()
        return changes

    async def hung_up(self) -> None:
        """SIGHUP."""
        try:
            changes = await self.reload()
        except (UsernetError, OSError) as error:
            for problem in error.problems if isinstance(error, ConfigError) else ():
                log.error("%s", problem, extra=UNLIMITED)
            log.error("not reloaded, everything is as before: %s", _said(error))
        else:
            log.info("reloaded: %s", changes)

    async def asked(self, args: dict[str, Any]) -> str:
        """At the admin socket: what has changed."""
        changes = str(await self.reload())
        log.info("reloaded: %s", changes)
        return changes


def _said(error: Exception) -> str:
    """For a person: one line."""
    if isinstance(error, ConfigError):
        count = len(error.problems)
        return f"{count} problem{'' if count == 1 else 's'} in the file"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)
