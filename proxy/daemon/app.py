"""The composition root: a configuration and flags -> a tunnel, a proxy in front of it, forwards, and what is said.

The stages of `Daemon.run`: tunnel up -> listeners and forwards open -> hello -> serve, through any number of `reload`s,
until a signal -> the listeners, then the tunnel, closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import usernet
from proxy.accesslog import AccessLog
from proxy.certificate import Certificate
from proxy.daemon import admitting
from proxy.daemon.alive import Alive
from proxy.daemon.answering import Answering, by_sockets
from proxy.daemon.commands import Commands
from proxy.daemon.controls import Controls, Tunnel, Where
from proxy.daemon.draining import Drain
from proxy.daemon.hello import hello
from proxy.daemon.joining import join_stdio
from proxy.daemon.keeping import Keeper, remembered
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
from proxy.daemon.sdnotify import NOBODY, Notifier
from proxy.daemon.serving import Caps, Serving
from proxy.daemon.teller import Teller
from proxy.daemon.wakeups import Wakeups
from proxy.daemon.watchdog import Watchdog
from proxy.http.own import OwnPages
from proxy.state.store import Store
from proxy.status.history import StreamRates
from proxy.status.snapshot import Status
from usernet.aio.engine import DEFAULT_MTU, Engine
from usernet.config import Config
from usernet.config.changes import Changes
from usernet.errors import ConfigError, UsernetError
from usernet.filter import PacketFilter
from usernet.monitor import Change, Monitor, source_of
from usernet.tun.candidates import USERSPACE, open_first
from usernet.wire.ip import format_address

if TYPE_CHECKING:
    from usernet.tun.interface import Interface
    from usernet.tun.network import KernelNetwork

STOP_WITHIN = 0.8  # s for the tunnel, after the proxy has had one of the 2 s that are promised


class ReloadError(UsernetError):
    """Nothing has changed; the text says why."""


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

    def __init__(self, config: Config, options: Options, interface: Interface | None = None) -> None:
        """`config`: what `options.read()` has given.  `interface`: the kernel's, which ends with this.

        Belongs to the event loop that runs when it is made.
        """
        self.options = options
        self.started = time.time()
        self.stop: asyncio.Event = asyncio.Event()
        self.packet_filter = PacketFilter()  # drops everything until there are listeners
        self._mark = interface.mark if interface is not None else 0
        self.network = _tunnel(config, options, interface, self.packet_filter)
        self.interface = interface.name if interface is not None else ""
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
        self._outside = Outside(self.network, options.notifier, options.bird)
        self._reloading = asyncio.Lock()
        self.controls = Controls(options.admin, options.name, Tunnel(self.network, self.change))
        self.controls.admin.register("reload", self._asked_to_reload, changes=True)
        Commands(self)

    @property
    def config(self) -> Config:
        """What holds now."""
        return self.network.config

    async def run(self) -> None:
        """Serve until INT or TERM.  Raises StartError, ListenError, StoreError."""
        raise_descriptor_limit()
        self.controls.claim()
        try:
            with self.watchdog:
                await self._run()
        finally:
            await self.controls.close()

    async def _run(self) -> None:
        self.stop = stop_event(hangup=self.config.stdio_tunnel is not None)
        wakeups = Wakeups(self.network)
        self.network.on_event(wakeups.event)
        if self.keeper is not None:
            await self.keeper.begin()
        await self._start_network()
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
                await close(self.network)

    async def _start_network(self) -> None:
        port = self.network.listen_port
        try:
            await self.network.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StartError(
                    f"UDP port {port} is in use; end what uses it, or choose another with --port"
                ) from None
            where = f" on UDP port {port}" if port else ""
            raise StartError(f"the tunnel cannot start{where}: {error.strerror or error}") from error

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        """Listen, say so, and have done what goes on beside."""
        stack.push_async_callback(self.controls.close)  # after all listeners, and before the tunnel it tells about
        for part in (self.serving.proxy.close, self.answering.close, self.leading.close):
            stack.push_async_callback(part)
        with contextlib.ExitStack() as undo:
            commit = await self._prepare(self.config, undo)
            undo.pop_all()
        commit()
        await stack.enter_async_context(for_as_long(self.alive.run()))
        if self.keeper is not None:
            stack.push_async_callback(self.keeper.close)
            await stack.enter_async_context(for_as_long(self.keeper.run()))
        for line in hello(self.config, self.network, self.serving.bound, self.leading.bound):
            log.info("%s", line, extra=UNLIMITED)
        if any((self.options.info, self.options.debug, self.options.local_addr)):
            from proxy.daemon.showing import show  # few want it, and it brings an HTTP parser

            await show(self, stack)
        stack.enter_context(monitored(self.network, self._network_changed, self._mark))
        await self.controls.open()
        if self.config.stdio_tunnel is None:
            stack.enter_context(on_hangup(self._hung_up))
        await stack.enter_async_context(self._outside.told(lambda: self.serving.proxy.statistics().connections))

    async def _serve(self) -> None:
        self.network.request_handshakes()
        freeze_garbage()
        if self.config.stdio_tunnel is None:
            await self.stop.wait()
        else:
            await join_stdio(self.network, self.config.stdio_tunnel, self.stop)
        self.options.notifier.stopping(self.options.drain)
        await self._drain.wait()

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

    async def _prepare(self, config: Config, undo: contextlib.ExitStack) -> Callable[[], None]:
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

    async def reload(self) -> Changes:
        """Read the file again and be what it says, all of it or nothing.  Connections go on.

        Raises UsernetError (ConfigError, ListenError, ReloadError), and OSError where the file cannot be read.
        """
        async with self._reloading:
            with self.options.notifier.reloading():
                config = await asyncio.to_thread(self.options.read)
                return await self.reconfigure(config)

    async def change(self, alter: Callable[[Config], Config]) -> Changes:
        """Be what `alter` makes of the present configuration, all of it or nothing; the file stays as it is.

        Raises what `alter` does, and UsernetError.
        """
        async with self._reloading:
            return await self.reconfigure(alter(self.config))

    async def reconfigure(self, config: Config) -> Changes:
        """Be this from now on, all of it or nothing."""
        if config.stdio_tunnel != self.config.stdio_tunnel:
            raise ReloadError("[STDIOTunnel] cannot come, go or change while it runs; start usernet anew")
        with contextlib.ExitStack() as undo:
            commit = await self._prepare(config, undo)
            try:
                with self.watchdog.call("reconfigure"):
                    changes = await self.network.reconfigure(config)
            except OSError as error:
                raise ReloadError(error.strerror or str(error)) from error
            undo.pop_all()
        commit()
        self._outside.reconfigured()
        return changes

    async def _hung_up(self) -> None:
        """SIGHUP."""
        try:
            changes = await self.reload()
        except (UsernetError, OSError) as error:
            for problem in error.problems if isinstance(error, ConfigError) else ():
                log.error("%s", problem, extra=UNLIMITED)
            log.error("not reloaded, everything is as before: %s", said(error))
        else:
            log.info("reloaded: %s", changes)

    async def _asked_to_reload(self, args: dict[str, Any]) -> str:
        """What has changed."""
        changes = str(await self.reload())
        log.info("reloaded: %s", changes)
        return changes


async def run(config: Config, options: Options) -> None:
    """Serve until INT or TERM.  Raises what Daemon.run does, and NoTun."""
    interface = None
    if tuple(options.tun) != (USERSPACE,):
        interface = await open_first(options.tun, config, config.interface.mtu or DEFAULT_MTU, hooks=options.run_hooks)
    try:
        await Daemon(config, options, interface).run()
    finally:
        if interface is not None:
            await interface.close()


def _tunnel(
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


def said(error: Exception) -> str:
    """Of a reload that failed, for a person: one line."""
    if isinstance(error, ConfigError):
        count = len(error.problems)
        return f"{count} problem{'' if count == 1 else 's'} in the file"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)


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
