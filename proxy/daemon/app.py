"""The composition root: a configuration and flags -> a tunnel, a proxy in front of it, forwards, and what is said.

The stages of `Daemon.run`: tunnel prepared -> listeners and forwards open -> hello -> nothing can fail any more, so the
peers are spoken to -> serve, through any number of `reload`s, until a signal -> the listeners, then the tunnel, closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import usernet
from proxy.accesslog import AccessLog
from proxy.certificate import Certificate
from proxy.daemon import admitting, tunnel
from proxy.daemon.alive import Alive
from proxy.daemon.answering import Answering, by_sockets
from proxy.daemon.commands import Commands
from proxy.daemon.controls import Controls, Tunnel, Where
from proxy.daemon.draining import Drain
from proxy.daemon.hello import hello
from proxy.daemon.joining import join_stdio
from proxy.daemon.keeping import Keeper
from proxy.daemon.leading import Leading
from proxy.daemon.limiting import UNLIMITED
from proxy.daemon.listeners import Listen, inside_each
from proxy.daemon.look import count, look
from proxy.daemon.observer import Observer
from proxy.daemon.outside import Outside
from proxy.daemon.pac import PacPage
from proxy.daemon.process import (
    StartError,
    for_as_long,
    freeze_garbage,
    log,
    on_hangup,
    raise_descriptor_limit,
    stop_event,
)
from proxy.daemon.readiness import Readiness, Readying, own_pages
from proxy.daemon.reloading import Reloading
from proxy.daemon.sdnotify import NOBODY, Notifier
from proxy.daemon.serving import Caps, Serving
from proxy.daemon.teller import Teller
from proxy.daemon.wakeups import Wakeups
from proxy.daemon.watchdog import Watchdog
from proxy.http.own import OwnPages
from proxy.state.store import Store
from proxy.status.history import StreamRates
from proxy.status.snapshot import Status
from usernet.aio.engine import DEFAULT_MTU
from usernet.config import Config
from usernet.filter import PacketFilter
from usernet.monitor import Change
from usernet.tun.candidates import USERSPACE, open_first
from usernet.wire.ip import format_address

if TYPE_CHECKING:
    from usernet.tun.interface import Interface


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, in the shapes that the parts take."""

    read: Callable[[], Config]  # the file as it is now, with what the flags add to it
    plan: Callable[[Config], Sequence[Listen]]
    name: str = "usernet"  # of the tunnel: the stem of its file
    port: int | None = None  # outer UDP; None: the file's ListenPort
    dial_timeout: float = 10.0  # s
    allow_anyone: bool = False  # listen beyond this machine without credentials
    access_log: AccessLog | None = None
    via: str | None = None  # the name for Via fields
    info: tuple[str, int] | None = None  # where wireproxy's pages are
    debug: tuple[str, int] | None = None  # where all of the daemon's own pages are
    local_addr: tuple[str, int] | None = None  # where those for probes are
    certificate: Certificate | None = None  # HTTP is spoken inside TLS as well
    hostnames: Sequence[str] = ()  # of the proxy, besides its addresses
    caps: Caps | None = None  # None: the defaults
    drain: float = 0.0  # s that connections have to finish when the process is told to stop
    admin: Where | None = None  # the admin socket; None: there is none
    tun: Sequence[str] = (USERSPACE,)  # interfaces of the kernel's to try, in order
    store: Store | None = None  # what is kept for the next start; None: nothing
    run_hooks: bool = False  # whether the file's commands may be run, where there is an interface
    notifier: Notifier = NOBODY  # the service manager
    bird: Path | None = None  # BIRD's control socket


class Daemon:
    """One tunnel and what is in front of it, from its start to its end."""

    def __init__(
        self,
        config: Config,
        options: Options,
        interface: Interface | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        """`config`: what `options.read()` has given.  `interface`: the kernel's.  `stop`: who sets it wants the end.

        Belongs to the event loop that runs when it is made.
        """
        self.options = options
        self.started = time.time()
        self.stop = asyncio.Event() if stop is None else stop
        self.packet_filter = PacketFilter()  # drops everything until there are listeners
        self._mark = interface.mark if interface is not None else 0
        self.network = tunnel.make(config, options, interface, self.packet_filter)
        self.interface = interface.name if interface is not None else ""
        self._broken: StartError | None = None  # what nothing can go on without
        if interface is not None:
            interface.link.on_gone(self._interface_gone)
        self._pac = PacPage(config)
        self.serving = Serving(
            self.network,
            dial_timeout=options.dial_timeout,
            allow_anyone=options.allow_anyone,
            access_log=options.access_log,
            via=options.via,
            certificate=options.certificate,
            pages=OwnPages(
                {b"/proxy.pac": self._pac, b"/wpad.dat": self._pac}, options.hostnames, own_pages(self._ask_ready)
            ),
            caps=options.caps,
            interface=self.interface,
            mark=self._mark,
        )
        self.answering: Answering | Leading = (
            Answering(self.network)
            if isinstance(self.network, usernet.Network)
            else Leading(self.serving.host, options.access_log, self.interface)
        )
        self.leading = Leading(self.network, options.access_log)
        self._drain = Drain(options.drain)
        self._drain.add(self.serving.proxy.drain, self.serving.proxy.unfinished)
        self._drain.add(self.answering.drain, self.answering.busy)
        self._drain.add(self.leading.drain, self.leading.busy)
        self.alive = Alive(self.network)
        store = options.store
        self.keeper = Keeper(store, options.name, self.network) if store is not None and store.lasts else None
        loop = asyncio.get_running_loop()
        self.teller = Teller(loop)
        self.stream_rates = StreamRates()
        self.observer = Observer(loop, self.status, partial(count, self))
        self.readying = Readying(self)
        for callback in (self.teller.event, self.observer.event, self.readying.event):
            self.network.on_event(callback)
        self.watchdog = Watchdog(loop)
        self.outside = Outside(self.network, options.notifier, options.bird)
        self.reloading = Reloading(self)
        self.controls = Controls(options.admin, options.name, Tunnel(self.network, self.reloading.change))
        self.controls.admin.register("reload", self.reloading.asked, changes=True)
        Commands(self)

    @property
    def config(self) -> Config:
        """What holds now."""
        return self.network.config

    async def run(self) -> None:
        """Serve until it is to stop.  Raises StartError, ListenError, StoreError."""
        raise_descriptor_limit()
        self.controls.claim()
        try:
            with self.watchdog:
                await self._run()
        finally:
            if self.keeper is not None:  # also of a start that fails, or the next one would be ahead of the clock
                await self.keeper.close()
            await self.controls.close()

    async def _run(self) -> None:
        wakeups = Wakeups(self.network)
        self.network.on_event(wakeups.event)
        if self.keeper is not None:
            await self.keeper.begin()
        await tunnel.prepare(self.network)
        self.observer.start()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._open(stack)
                await self._serve()
        finally:
            self.teller.close()
            self.observer.close()
            await wakeups.close()
            with self.watchdog.call("close"):
                await tunnel.close(self.network)

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        """Listen, say so, and have done what goes on beside."""
        stack.push_async_callback(self.controls.close)  # after all listeners, and before the tunnel it tells about
        for part in (self.serving.proxy.close, self.answering.close, self.leading.close):
            stack.push_async_callback(part)
        with contextlib.ExitStack() as undo:
            commit = await self.prepare(self.config, undo)
            undo.pop_all()
        commit()
        for line in hello(self.config, self.network, self.serving.bound, self.leading.bound):
            log.info("%s", line, extra=UNLIMITED)
        if any((self.options.info, self.options.debug, self.options.local_addr)):
            from proxy.daemon.showing import show  # few want it, and it brings an HTTP parser

            await show(self, stack)
        self.network.begin()
        await self.controls.open()
        await stack.enter_async_context(for_as_long(self.alive.run()))
        if self.keeper is not None:
            await stack.enter_async_context(for_as_long(self.keeper.run()))
        stack.enter_context(tunnel.monitored(self.network, self._network_changed, self._mark))
        if self.config.stdio_tunnel is None:
            await stack.enter_async_context(on_hangup(self.reloading.hung_up))
        await stack.enter_async_context(self.outside.told(lambda: self.serving.proxy.statistics().connections))

    async def _serve(self) -> None:
        self.network.request_handshakes()
        freeze_garbage()
        if self.config.stdio_tunnel is None:
            await self.stop.wait()
        else:
            await join_stdio(self.network, self.config.stdio_tunnel, self.stop)
        if self._broken is None:
            self.options.notifier.stopping(self.options.drain)
            await self._drain.wait()
        if self._broken is not None:
            raise self._broken

    def _interface_gone(self) -> None:
        self._broken = StartError(f"the interface {self.interface} is gone: somebody has deleted it")
        self._drain.give_up()
        self.stop.set()

    async def _ask_ready(self) -> Readiness:
        return await self.readying.ask()

    @property
    def loop_name(self) -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    def status(self) -> Status:
        """At once.  Whoever asks from outside asks `observer`, which bounds what it costs."""
        with self.watchdog.call("status"):
            return look(self)

    def _network_changed(self, change: Change) -> None:
        """The tunnel follows this machine from network to network; direct connections cannot."""
        reasons = ", ".join(change.reasons)
        if not change.major:
            self.network.path_changed()
            log.debug("network changed (%s)", reasons)
            return
        with self.watchdog.call("rebind"):
            self.network.rebind()
        log.info("network changed (%s): UDP port %d bound anew", reasons, self.network.listen_port)
        ended = self.serving.host.path_changed()
        if ended:
            log.info("network changed: direct connections from the old address ended: %d", ended)

    # Another configuration

    async def prepare(self, config: Config, undo: contextlib.ExitStack) -> Callable[[], None]:
        """Open what is new in it, for now with `undo`; what is returned makes it so, and cannot fail."""
        commits = (
            await self.serving.prepare(self._listeners(config), config.access, undo),
            await self._prepare_answering(config, undo),
            await self.leading.prepare(config.client_tunnels, undo),
        )

        def commit() -> None:
            for each in commits:
                each()
            self.packet_filter.set_rules(admitting.rules(config, self.serving.bound))
            self._pac.learn(config)
            self.alive.ask(config.interface.check_alive, config.interface.check_alive_interval)

        return commit

    def _listeners(self, config: Config) -> Sequence[Listen]:
        listeners = self.options.plan(config)
        addresses = [format_address(address) for address, _ in config.interface.addresses]
        return inside_each(listeners, addresses) if self.interface else listeners

    async def _prepare_answering(self, config: Config, undo: contextlib.ExitStack) -> Callable[[], None]:
        if isinstance(self.answering, Leading):
            return await self.answering.prepare(by_sockets(config), undo)
        return await self.answering.prepare(config.server_tunnels, undo)


async def run(config: Config, options: Options) -> None:
    """Serve until INT or TERM.  Raises what Daemon.run does, and NoTun."""
    stop = stop_event(hangup=config.stdio_tunnel is not None)
    interface = None
    if tuple(options.tun) != (USERSPACE,):
        interface = await _open_interface(config, options, stop)
    try:
        if not stop.is_set():
            await Daemon(config, options, interface, stop).run()
    finally:
        if interface is not None:
            await interface.close()


async def _open_interface(config: Config, options: Options, stop: asyncio.Event) -> Interface | None:
    """None also where it is to stop meanwhile: what was begun is taken back.  Raises NoTun."""
    mtu = config.interface.mtu or DEFAULT_MTU
    opening = asyncio.ensure_future(open_first(options.tun, config, mtu, hooks=options.run_hooks))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    opening.cancel()
    await asyncio.wait((opening, stopping))
    return None if opening.cancelled() else opening.result()
