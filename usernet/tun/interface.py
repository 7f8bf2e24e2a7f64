"""A TUN with its addresses, routes, rules and name servers, and the way back: all that was set is taken away.

The interface itself goes with its descriptor, and with it its addresses and routes.  What would stay are rules, name
servers and a table of nftables: `close` removes them, and `cleanup.py` does after a crash.

A persistent interface, made beforehand (`ip tuntap add`), stays.  What it has of what is wanted is not set again, so
that its owner needs no privileges where root has set all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVarTuple

from usernet.aio.runtime import log
from usernet.config import Config
from usernet.config.lines import shown
from usernet.tun.applied import Applied
from usernet.tun.device import is_persistent
from usernet.tun.firewall import Firewall
from usernet.tun.link import TunLink
from usernet.tun.names import NameServers
from usernet.tun.wanted import Wanted, wanted

Ts = TypeVarTuple("Ts")


class Interface:
    """`network.Inside`.  `hooks`: whether the file's commands may be run."""

    def __init__(self, name: str, link: TunLink, config: Config, mtu: int, *, stays: bool, hooks: bool) -> None:
        self.name = name
        self.link = link
        self._stays = stays
        self._config = config
        self._wanted = wanted(config, name, mtu)
        self._hooks = hooks
        self._applied = Applied(name)
        self._firewall = Firewall(name)
        self._name_servers = NameServers(name)
        self._changing = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    @property
    def mark(self) -> int:
        """What outer packets must carry, so that they do not come back in; 0 is nothing."""
        return self._wanted.mark

    @classmethod
    async def open(cls, config: Config, fd: int, name: str, mtu: int, *, hooks: bool = False) -> Interface:
        """`fd` is device.open_tun's, owned from here on.  Raises OSError; then nothing is left of it."""
        link = TunLink(asyncio.get_running_loop(), fd)
        try:
            interface = cls(name, link, config, mtu, stays=is_persistent(fd), hooks=hooks)
        except BaseException:
            link.close()
            raise
        own = config.interface
        try:
            await _in_thread(interface._run, own.pre_up)
            await _in_thread(interface._set_up)
            await _in_thread(interface._run, own.post_up)
        except BaseException:
            with contextlib.suppress(asyncio.CancelledError):  # what it failed of is to be told
                await interface.close()
            raise
        return interface

    def _set_up(self) -> None:
        with contextlib.suppress(OSError):  # no IPv6 here; else the kernel would make up an address of the link
            Path(f"/proc/sys/net/ipv6/conf/{self.name}/addr_gen_mode").write_text("1")
        if self._stays:
            self._applied.find(self._wanted)
        self._become(self._wanted)

    async def change(self, config: Config, mtu: int) -> None:
        """Raises OSError; then it is as before, and a warning says what of it could not be had again."""
        after = wanted(config, self.name, mtu)
        if after.mark != self._wanted.mark:
            raise OSError(errno.EOPNOTSUPP, "a default route, or FwMark, comes or goes: start usernet anew")
        async with self._changing:
            if self._closing is not None:
                raise OSError(errno.ECANCELED, f"the interface {self.name} is being taken away")
            try:
                await _in_thread(self._become, after)
            except BaseException:
                await _in_thread(self._become, self._wanted, self._not_taken_back)
                raise
            self._config, self._wanted = config, after

    def _become(self, after: Wanted, failed: Callable[[OSError], None] | None = None) -> None:
        try:
            self._applied.become(after, failed)
            self._firewall.become(after)
            self._name_servers.become(after.dns, after.dns_search)
        except OSError as error:
            if failed is None:
                raise
            failed(error)

    # The file's commands

    def _run(self, commands: Sequence[str]) -> None:
        """As wg-quick does: in bash (or sh, where there is none), %i being the interface.  OSError where one fails."""
        shell = shutil.which("bash") or "/bin/sh"
        for command in commands if self._hooks else ():
            text = command.replace("%i", self.name)
            log.info("%s: running %s", self.name, shown(command))
            done = subprocess.run([shell, "-c", text], stdin=subprocess.DEVNULL)
            if done.returncode:
                raise OSError(errno.ECANCELED, f"{shown(command)} ended with status {done.returncode}")

    # The end

    async def close(self) -> None:
        """Take away all that was set: also where whoever waits for that is cancelled.  Never raises; idempotent."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await _to_its_end(self._closing)

    async def _close(self) -> None:
        async with self._changing:
            own = self._config.interface
            try:
                await asyncio.to_thread(self._take_back, own.pre_down)
            finally:
                self.link.close()
                await asyncio.to_thread(self._try, own.post_down)

    def _take_back(self, pre_down: Sequence[str]) -> None:
        self._try(pre_down)
        self._name_servers.forget()
        self._firewall.close()
        self._applied.take_back(self._not_taken_back)

    def _try(self, commands: Sequence[str]) -> None:
        for command in commands:
            try:
                self._run([command])
            except OSError as error:
                log.warning("%s: %s", self.name, error.strerror)

    def _not_taken_back(self, error: OSError) -> None:
        log.warning("%s: not as it was before: %s", self.name, error.strerror or error)


async def _in_thread(function: Callable[[*Ts], None], *arguments: *Ts) -> None:
    """As asyncio.to_thread, but for who is cancelled: a thread goes on, so what it sets could not be taken back yet."""
    await _to_its_end(asyncio.ensure_future(asyncio.to_thread(function, *arguments)))


async def _to_its_end(task: asyncio.Task[None]) -> None:
    """Wait for it, and then only be cancelled."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("after it was cancelled: %s", error)
        raise
