"""The daemon's tunnel: made in userspace or with the kernel's interface, started, told of changes of the machine's
network, and closed without ever hanging."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import usernet
from proxy.daemon.keeping import remembered
from proxy.daemon.process import StartError, log
from usernet.aio.engine import Engine
from usernet.config import Config
from usernet.filter import PacketFilter
from usernet.monitor import Change, Monitor, source_of

if TYPE_CHECKING:
    from proxy.daemon.app import Options
    from usernet.tun.interface import Interface
    from usernet.tun.network import KernelNetwork

STOP_WITHIN = 0.8  # s, after the proxy has had one of the 2 s that are promised


def make(
    config: Config, options: Options, interface: Interface | None, packet_filter: PacketFilter
) -> usernet.Network | KernelNetwork:
    """In userspace, or with the kernel's interface."""
    memory = remembered(options.store, options.name) if options.store is not None else None
    if interface is None:
        return usernet.open_tunnel(
            config, port=options.port, dial_timeout=options.dial_timeout, packet_filter=packet_filter, memory=memory
        )
    from usernet.tun.network import KernelNetwork

    return KernelNetwork(
        config, interface, mark=interface.mark,
        port=options.port, dial_timeout=options.dial_timeout, packet_filter=packet_filter, memory=memory,
    )  # fmt: skip


async def prepare(network: Engine) -> None:
    """All but the first datagram, which `Engine.begin` lets go.  Raises StartError."""
    port = network.listen_port
    try:
        await network.open()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"UDP port {port} is in use; end what uses it, or choose another with --port") from None
        where = f" on UDP port {port}" if port else ""
        why = (error.strerror or str(error)).removeprefix(f"UDP port {port}: ")
        remedy = "; choose one from 1024 up" if error.errno == errno.EACCES and port else ""
        raise StartError(f"the tunnel cannot start{where}: {why}{remedy}") from error


@contextlib.contextmanager
def monitored(network: Engine, changed: Callable[[Change], None], mark: int = 0) -> Iterator[None]:
    """While the block lasts, call back with changes of this machine's network."""
    monitor = Monitor(asyncio.get_running_loop(), changed, network.endpoints, source=partial(source_of, mark=mark))
    monitor.start()
    try:
        yield
    finally:
        monitor.close()


async def close(network: Engine) -> None:
    """Close it, but never hang: a process that was told to stop stops."""
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await network.close()
    except TimeoutError:
        log.warning("the tunnel took longer than %g s to close; left as it is", STOP_WITHIN)
