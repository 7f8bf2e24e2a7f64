"""The composition root: a configuration and flags -> a tunnel, a proxy in front of it, forwards, and what is said.

The stages of `run`: tunnel up -> listeners and forwards open -> hello -> wait for a signal -> these, then the tunnel,
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import usernet
from proxy.accesslog import AccessLog
from proxy.certificate import Certificate
from proxy.daemon.alive import Alive
from proxy.daemon.draining import Drain
from proxy.daemon.forwarding import BoundForward, forward, forward_into, shown
from proxy.daemon.hints import pac_url, shell_lines
from proxy.daemon.listeners import Listen
from proxy.daemon.narrator import Line, Narrator, format_endpoint, short_key
from proxy.daemon.pac import PacPage
from proxy.daemon.process import freeze_garbage, log, raise_descriptor_limit, stop_event
from proxy.daemon.serving import Bound, Caps, refusal, serve
from proxy.http.own import OwnPages
from proxy.replies import reason
from proxy.stdio import PIECE, join
from usernet.config import Config, Peer, StdioTunnel, format_network
from usernet.errors import UsernetError
from usernet.monitor import Change, Monitor
from usernet.wire.ip import format_address
from usernet.wireguard.events import TunnelEvent

STOP_WITHIN = 0.8  # s for the tunnel, after the proxy has had one of the 2 s that are promised
SHOWN_ALLOWED_IPS = 4


class StartError(UsernetError):
    """The daemon cannot start; the text says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags, in the shapes that the parts take."""

    listeners: Sequence[Listen]
    port: int | None = None  # outer UDP; None: the file's ListenPort
    dial_timeout: float = 10.0  # s
    allow_anyone: bool = False  # listen beyond this machine without credentials
    access_log: AccessLog | None = None
    via: str | None = None  # the name for Via fields
    info: tuple[str, int] | None = None  # where /readyz and /metrics are
    certificate: Certificate | None = None  # HTTP is spoken inside TLS as well
    hostnames: Sequence[str] = ()  # of the proxy, besides its addresses
    caps: Caps | None = None  # None: the defaults
    drain: float = 0.0  # s that connections have to finish when the process is told to stop


async def run(config: Config, options: Options) -> None:
    """Serve until INT or TERM."""
    raise_descriptor_limit()
    stop = stop_event(hangup=config.stdio_tunnel is not None)
    port = config.interface.listen_port if options.port is None else options.port
    network = usernet.open_tunnel(config, port=port, dial_timeout=options.dial_timeout)
    teller = Teller(asyncio.get_running_loop())
    network.on_event(teller.event)
    try:
        await network.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"UDP port {port} is in use; end what uses it, or choose another with --port") from None
        where = f" on UDP port {port}" if port else ""
        raise StartError(f"the tunnel cannot start{where}: {error.strerror or error}") from error
    pac = PacPage(config)
    pages = OwnPages({b"/proxy.pac": pac, b"/wpad.dat": pac}, options.hostnames)
    drain = Drain(options.drain)
    try:
        async with (
            serve(
                network,
                options.listeners,
                config.access,
                dial_timeout=options.dial_timeout,
                allow_anyone=options.allow_anyone,
                access_log=options.access_log,
                via=options.via,
                certificate=options.certificate,
                pages=pages,
                caps=options.caps,
                drain=drain,
            ) as bound,
            forward(network, config.server_tunnels, drain),
            forward_into(network, config.client_tunnels, access_log=options.access_log, drain=drain) as forwards,
            contextlib.AsyncExitStack() as stack,
        ):
            alive = Alive(network, config.interface.check_alive, config.interface.check_alive_interval)
            await stack.enter_async_context(for_as_long(alive.run()))
            for line in hello(config, network, bound, forwards):
                log.info("%s", line)
            if options.info is not None:
                log.info("info: %s", await informing(stack, *options.info, config, network, alive))
            stack.enter_context(monitored(network))
            network.request_handshakes()
            freeze_garbage()
            if config.stdio_tunnel is None:
                await stop.wait()
            else:
                await join_stdio(network, config.stdio_tunnel, stop)
            await drain.wait()
    finally:
        teller.close()
        await close(network)


@contextlib.asynccontextmanager
async def for_as_long(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do it while the block lasts."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


@contextlib.contextmanager
def monitored(network: usernet.Network) -> Iterator[None]:
    """While the block lasts the tunnel follows this machine from network to network."""

    def changed(change: Change) -> None:
        if change.major:
            network.rebind()
            log.info("network changed (%s): UDP port %d bound anew", ", ".join(change.reasons), network.listen_port)
        else:
            network.path_changed()
            log.debug("network changed (%s)", ", ".join(change.reasons))

    monitor = Monitor(asyncio.get_running_loop(), changed, network.endpoints)
    monitor.start()
    try:
        yield
    finally:
        monitor.close()


async def informing(
    stack: contextlib.AsyncExitStack, host: str, port: int, config: Config, network: usernet.Network, alive: Alive
) -> str:
    """Where, once it does.  ListenError where it cannot."""
    from proxy.daemon.info import inform, pages_of  # seldom asked for, and it brings an HTTP parser

    try:
        where = await stack.enter_async_context(inform(host, port, pages_of(config, network, alive)))
    except OSError as error:
        raise refusal(error, host or "every address") from None
    return "http://" + format_endpoint(where)


async def join_stdio(network: usernet.Network, tunnel: StdioTunnel, stop: asyncio.Event) -> None:
    """Until the end of both directions, or the stop.  StartError where there is no connection, or it breaks."""
    where = format_endpoint(tunnel.target)

    async def joined() -> None:
        try:
            streams = await network.open_connection(*tunnel.target, limit=PIECE)
        except OSError as error:
            raise StartError(f"cannot connect to {where}: {reason(error)}") from None
        try:
            await join(*streams)
        except ConnectionError as error:
            raise StartError(f"the connection to {where} broke: {reason(error)}") from None

    joining, stopping = asyncio.ensure_future(joined()), asyncio.ensure_future(stop.wait())
    await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if joining.done():
        joining.result()
    joining.cancel()
    await asyncio.wait((joining, stopping))


async def close(network: usernet.Network) -> None:
    """Close it, but never hang: a process that was told to stop stops."""
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await network.close()
    except TimeoutError:
        log.warning("the tunnel took longer than %g s to close; left as it is", STOP_WITHIN)


class Teller:
    """Puts a Narrator's lines into the log, and calls it when it wants to be."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._narrator = Narrator()
        self._timer: asyncio.TimerHandle | None = None

    def event(self, event: TunnelEvent) -> None:
        self._tell(self._narrator.event(event, time.monotonic()))

    def _tell(self, lines: Sequence[Line]) -> None:
        for line in lines:
            (log.warning if line.warning else log.debug if line.detail else log.info)("%s", line.text)
        self._arm()

    def _arm(self) -> None:
        self.close()
        deadline = self._narrator.next_timeout()
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._tell(self._narrator.handle_timeout(time.monotonic()))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def hello(
    config: Config, network: usernet.Network, bound: Sequence[Bound], forwards: Sequence[BoundForward] = ()
) -> Iterator[str]:
    """What there is, and what to do with it."""
    yield f"tunnel: {', '.join(network.addresses)}, MTU {network.mtu}, UDP port {network.listen_port}"
    for peer in config.peers:
        yield f"peer {short_key(peer.public_key)}: {_endpoint(peer)}, {_allowed(peer)}"
    for tunnel in config.server_tunnels:
        yield shown(tunnel)
    for forwarded in forwards:
        yield str(forwarded)
    for one in bound:
        yield f"proxy: {one}"
    if bound:
        yield "to use it from a shell, paste:"
        for line in shell_lines(bound, _example_url(config)):
            yield f"  {line}"
    url = pac_url(bound)
    if url is not None:
        yield f"to use it from a browser, automatic proxy configuration (PAC): {url}"


def _endpoint(peer: Peer) -> str:
    return "endpoint " + format_endpoint(peer.endpoint) if peer.endpoint else "no endpoint: it has to speak first"


def _allowed(peer: Peer) -> str:
    nets = [format_network(net) for net in peer.allowed_ips[:SHOWN_ALLOWED_IPS]]
    more = len(peer.allowed_ips) - len(nets)
    return "allowed IPs " + (", ".join(nets) or "none") + (f" and {more} more" if more else "")


def _example_url(config: Config) -> str:
    """A first thing to fetch: anything where a peer takes everything, else the first host of the first network."""
    nets = [net for peer in config.peers for net in peer.allowed_ips]
    if not nets or any(length == 0 for _, length in nets):
        return "https://example.org/"
    packed, length = nets[0]
    first = int.from_bytes(packed, "big") + (0 if length == len(packed) * 8 else 1)
    address = format_address(first.to_bytes(len(packed), "big"))
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"
