"""One WireGuard tunnel at work: its outer socket, the pump, where its peers are, and what is known of all of them.

What lies inside is a PacketLink: the userspace stack (`network.py`), or the kernel's own.  Whoever makes that one
derives from Engine, and gives it the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from usernet.aio.capture import SNAPLEN, Tap
from usernet.aio.device import Device
from usernet.aio.endpoints import Endpoints
from usernet.aio.reach import Reach
from usernet.aio.resolver import Resolver
from usernet.aio.runtime import Tasks, boottime, log
from usernet.aio.sealer import second_core
from usernet.aio.udp import UdpLink, UdpStatistics
from usernet.burst import default_kernel
from usernet.burst.packets import Address
from usernet.config.changes import Changes, compare
from usernet.links import DatagramLink, PacketLink
from usernet.wire.ip import TCP, UDP, format_address, pack_address
from usernet.wireguard.events import HandshakeCompleted, HandshakeStarted, TunnelEvent
from usernet.wireguard.peer import PeerStatistics
from usernet.wireguard.timers import Timing
from usernet.wireguard.tunnel import PeerSettings, Tunnel, TunnelStatistics

if TYPE_CHECKING:
    from usernet.aio.nameserver import Ways
    from usernet.config import Config, Peer
    from usernet.filter import FilterStatistics, PacketFilter, Verdict

DEFAULT_MTU: Final = 1420
DIAL_TIMEOUT: Final = 10.0
REBIND_RETRY: Final = 1.0  # s


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """A snapshot of the tunnel, of the socket outside and of the packet filter."""

    tunnel: TunnelStatistics
    udp: UdpStatistics | None  # without a socket of its own there is none
    filter: FilterStatistics | None  # where there is one


@dataclass(frozen=True, slots=True)
class Memory:
    """What is worth keeping for the next start."""

    timestamp_ns: int = 0  # the greatest that a handshake of ours has carried: none may be below
    endpoints: Mapping[bytes, Address] = field(default_factory=dict)  # of peers with whom a handshake has completed


class Engine:
    """config: what a wg-quick file says.  port: the outer UDP port, 0 = any, None = as configured.  dial_timeout (s)
    bounds every dial, names and handshake included.  datagram_link: used instead of a UDP socket of its own.
    packet_filter: what it lets in comes in from the tunnel; None: everything, of which the stack answers what is asked
    of a listener of its own.
    """

    def __init__(
        self,
        config: Config,
        *,
        port: int | None = None,
        dial_timeout: float = DIAL_TIMEOUT,
        datagram_link: DatagramLink | None = None,
        timing: Timing | None = None,
        packet_filter: PacketFilter | None = None,
        memory: Memory | None = None,
    ) -> None:
        """`memory`: what an earlier one has left behind."""
        self._memory = memory or Memory()
        self.packet_filter = packet_filter
        self.dial_timeout = dial_timeout
        self.config = config
        self._own_port = port
        self.listen_port = self._port_of(config)
        self._datagram_link = datagram_link
        self._timing = timing or Timing()
        self._callbacks: list[Callable[[TunnelEvent], None]] = []
        self._asked_early: set[bytes] = set()  # peers to be asked for a session once their names are resolved
        self._started = False
        self._closed = False

    # What whoever derives from this provides

    async def _open_inside(self, loop: asyncio.AbstractEventLoop) -> PacketLink:
        """Make what lies inside.  Raises OSError; then nothing is left of it."""
        raise NotImplementedError

    async def _change_inside(self, config: Config, changes: Changes) -> None:
        """Give it other addresses or another MTU, routes and so on.  Raises OSError; then it is as before."""
        raise NotImplementedError

    def _mark(self) -> int:
        """What outer packets carry for the kernel's rules; 0 is nothing."""
        return 0

    async def _leave(self) -> None:
        """End what is open inside, with a moment for what is on its way."""

    async def _close_inside(self) -> None:
        """The pump has stopped: nothing is left of it."""
        raise NotImplementedError

    def _ways(self) -> Ways:
        """How name servers inside are spoken to."""
        raise NotImplementedError

    # The beginning and the end

    async def start(self) -> None:
        """Open the outer socket and start.  Raises OSError when its port is taken.  No handshake is waited for."""
        if self._started:
            raise RuntimeError("the network has been started already")
        loop = asyncio.get_running_loop()
        kernel = default_kernel()
        self._tasks = Tasks(loop)
        self._tunnel = Tunnel(
            self.config.interface.private_key,
            kernel=kernel,
            random=os.urandom,
            wall_ns=time.time_ns,
            mtu=self.mtu,
            timing=self._timing,
            timestamp_floor_ns=self._memory.timestamp_ns,
        )
        if self._datagram_link is None:
            self._datagram_link = UdpLink.open(loop, self.listen_port, self._mark())
        self._endpoints = Endpoints(self._tasks, self._on_endpoint)
        self._reach = Reach(self.config, self._tunnel, self._endpoints, self._wake)
        self._resolver = Resolver(self._ways(), self._tasks)
        self._learn_names(self.config)
        try:
            link = await self._open_inside(loop)
        except BaseException:
            self._datagram_link.close()
            raise
        if self.packet_filter is not None:
            link = self._filtered(link, self.packet_filter)
        self._started = True
        self.listen_port = self._datagram_link.port
        sealer = second_core(loop, self._tunnel, self._datagram_link, kernel)
        self._device = Device(loop, self._tunnel, self._datagram_link, link, self._on_event, sealer)
        for peer in self.config.peers:
            self._add_peer(peer)
        self._device.start()

    async def close(self) -> None:
        """Abort what is open, give what was closed a second to leave, and close the socket.  Idempotent."""
        if not self._started or self._closed:
            return
        self._closed = True
        try:
            await self._tasks.close()
            await self._leave()
        finally:
            self._device.close()
            await self._close_inside()
            if self._datagram_link is not None:
                self._datagram_link.close()
        await asyncio.sleep(0)  # connection_lost of what was open

    # What is known

    @property
    def addresses(self) -> tuple[str, ...]:
        """Our own, inside."""
        return tuple(format_address(address) for address, _ in self.config.interface.addresses)

    @property
    def mtu(self) -> int:
        """Of inner packets."""
        return self.config.interface.mtu or DEFAULT_MTU

    def covers(self, address: str) -> bool:
        """Whether an address (an IP literal) is our own or some peer's; never so for loopback and link-local."""
        try:
            return self._reach.carries(pack_address(address))
        except ValueError:
            return False

    def endpoints(self) -> list[Address]:
        """Where the peers are, as far as it is known: (host, port), or (host, port, flow, scope) for IPv6."""
        return self._tunnel.endpoints()

    @property
    def latest_timestamp_ns(self) -> int:
        """Of `memory`, what costs nothing."""
        return self._tunnel.latest_timestamp_ns

    def memory(self) -> Memory:
        """For the next start."""
        if not self._started:
            return self._memory
        peers = self._tunnel.statistics().peers
        found = {peer.public_key: peer.endpoint for peer in peers if peer.last_handshake is not None}
        good = {key: address for key, address in found.items() if address is not None}
        configured = {peer.public_key for peer in self.config.peers}
        earlier = {key: address for key, address in self._memory.endpoints.items() if key in configured}
        return Memory(self._tunnel.latest_timestamp_ns, {**earlier, **good})

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(self._tunnel.statistics(), self._udp_statistics(), self._filter_statistics())

    def peers(self) -> tuple[PeerStatistics, ...]:
        """Of `statistics`, what costs next to nothing."""
        return self._tunnel.statistics().peers

    def endpoint_trouble(self, public_key: bytes) -> str:
        """Why the name of a peer's endpoint does not resolve, or ''."""
        return self._endpoints.trouble(public_key)

    def name_server_troubles(self) -> dict[str, str]:
        """Of servers inside that were asked of late, and that nothing has come from since."""
        return self._resolver.troubles()

    def _udp_statistics(self) -> UdpStatistics | None:
        link = self._datagram_link
        return link.statistics() if isinstance(link, UdpLink) else None

    def _filter_statistics(self) -> FilterStatistics | None:
        return None if self.packet_filter is None else self.packet_filter.statistics()

    def on_event(self, callback: Callable[[TunnelEvent], None]) -> None:
        """Call back with each event of the tunnel: handshakes, endpoints that moved."""
        self._callbacks.append(callback)

    # What can be asked of it

    def request_handshakes(self) -> None:
        """Ask every peer that has an endpoint for a session now, instead of with the first packet for it.

        Whoever starts a tunnel learns so at once whether it works.  A peer whose name is still being resolved is asked
        when that is done.
        """
        now, own = boottime(), self._tunnel.public_key
        for peer in self.config.peers:
            if peer.public_key == own or peer.endpoint is None:
                continue
            if self._endpoints.is_known(peer.public_key):
                self._tunnel.request_handshake(peer.public_key, now)
            else:
                self._asked_early.add(peer.public_key)
        self._device.wake()

    async def reach(self, addresses: Sequence[str]) -> None:
        """Return once there is a session with the peer of one of these IP literals.  Raises NoHandshake."""
        packed = list(map(pack_address, addresses))
        try:
            async with asyncio.timeout(self.dial_timeout):
                await self._reach.session(packed)
        except TimeoutError:
            raise self._reach.too_late(addresses[0], packed, self.dial_timeout) from None

    def doubt(self, address: str) -> None:
        """Something at this IP literal does not answer: have its peer asked for a new session, at most every 5 s."""
        self._on_stalled(pack_address(address))

    async def resolve(self, name: str, *, family: int = 0) -> list[str]:
        """The addresses of a name, by the configuration's DNS servers; `family` is 4, 6, or 0 for all we carry."""
        return await self._resolver.resolve(name, (family,) if family else self._reach.families)

    async def reverse(self, address: str) -> list[str]:
        """The names of an IP literal, by the configuration's DNS servers; at least one.  They are remote bytes."""
        return await self._resolver.reverse(address)

    def path_changed(self) -> None:
        """Something about this machine's network is different: what has stalled tries at once."""
        self._device.path_changed()

    def rebind(self) -> None:
        """This machine's own address, or its way out, is another one, or it has slept.  See `usernet.monitor`.

        A new outer socket, on the same port where that is possible; endpoint names are resolved anew; and every peer
        that we have a session with hears from us at once, since only then does it know where we are.  Nothing is
        closed.
        """
        if self._closed:
            return
        link = self._datagram_link
        if isinstance(link, UdpLink):
            self._device.rebind(lambda: self._renew(link))
        self._endpoints.path_changed()
        self._moved()

    def _renew(self, link: UdpLink) -> None:
        try:
            link.rebind()
        except OSError as error:
            log.warning("there is no new UDP socket: %s; trying again", error.strerror or error)
            asyncio.get_running_loop().call_later(REBIND_RETRY, self.rebind)
        else:
            self.listen_port = link.port

    def _moved(self) -> None:
        self._tunnel.path_changed(boottime())
        self._device.path_changed()

    async def shake_hands(self, public_key: bytes, seconds: float) -> float | None:
        """The seconds that a new handshake with the peer took, or None where none completed within this time.

        Initiations are at least 5 s apart, so it may have to wait before it begins.
        """
        done = asyncio.Event()
        began = ended = boottime()

        def heard(event: TunnelEvent) -> None:
            nonlocal began, ended
            if event.public_key != public_key:
                return
            if isinstance(event, HandshakeStarted):
                began = boottime()
            elif isinstance(event, HandshakeCompleted):
                ended = boottime()
                done.set()

        self._callbacks.append(heard)
        try:
            async with asyncio.timeout(seconds):
                await self._endpoints.known(public_key)
                self._tunnel.request_handshake(public_key, boottime())
                self._device.wake()
                await done.wait()
        except (TimeoutError, KeyError):  # KeyError: it was taken away meanwhile
            return None
        finally:
            self._callbacks.remove(heard)
        return ended - began

    @contextlib.contextmanager
    def captured(self, write: Callable[[bytes], None], snaplen: int = SNAPLEN) -> Iterator[None]:
        """While the block lasts `write` is given all that goes through the tunnel: see usernet/aio/capture.py."""
        tap = Tap(write, snaplen)
        self._device.tap(tap)
        try:
            yield
        finally:
            self._device.untap(tap)

    # Another configuration

    async def reconfigure(self, config: Config) -> Changes:
        """Be what `config` says from now on, all of it or nothing; false where it says nothing new.

        Streams go on: only those of an address that is gone end.  Sessions survive, too, but for another private key.
        Raises OSError, with everything as before, where the port is taken or the inside cannot be changed.
        """
        changes = compare(self.config, config)
        if not changes:
            return changes
        port = self._port_of(config)
        link = self._datagram_link if port != self._port_of(self.config) else None
        prepared = link.prepare(port) if isinstance(link, UdpLink) else []  # what may fail comes first
        try:
            await self._change_inside(config, changes)
        except BaseException:
            for sock in prepared:
                sock.close()
            raise
        self._apply(config, changes)
        if isinstance(link, UdpLink):
            self._device.rebind(lambda: link.move(port, prepared))
            self.listen_port = link.port
            self._moved()
        self._reach.wake_waiters()
        self._device.wake()
        return changes

    def _apply(self, config: Config, changes: Changes) -> None:
        """What cannot fail."""
        now = boottime()
        known = {peer.public_key: peer for peer in self.config.peers}
        self.config = config
        if changes.mtu:
            self._tunnel.set_mtu(self.mtu)
        if self.packet_filter is not None:
            self.packet_filter.readdress(address for address, _ in config.interface.addresses)
        for public_key in changes.removed:
            self._asked_early.discard(public_key)
            self._endpoints.forget(public_key)
            self._tunnel.remove_peer(public_key)
        if changes.private_key:
            self._tunnel.set_private_key(config.interface.private_key, now)
        # In the file's order, and all of them: a network that two peers claimed may be the other's now
        peers_differ = changes.added or changes.removed or changes.altered or changes.private_key
        for peer in config.peers if peers_differ else ():
            self._add_peer(peer, known.get(peer.public_key))
        self._reach.learn(config)
        self._learn_names(config)

    def _learn_names(self, config: Config) -> None:
        domains: dict[str, list[str]] = {}
        for one in config.access.name_servers:
            for domain in one.domains:
                domains.setdefault(domain, []).append(one.server)
        self._resolver.ask_of(config.interface.dns, config.interface.dns_search, domains)

    def _add_peer(self, peer: Peer, known: Peer | None = None) -> None:
        """`known`: what was configured before.  An endpoint that is the same there stays where it has moved to."""
        if peer.public_key == self._tunnel.public_key:
            return  # as the tunnel does
        endpoint = None
        if peer.endpoint is not None and (known is None or known.endpoint != peer.endpoint):
            self._endpoints.forget(peer.public_key)
            endpoint = self._endpoints.add(
                peer.public_key, *peer.endpoint, remembered=self._memory.endpoints.get(peer.public_key)
            )
        elif peer.endpoint is None and known is None:
            endpoint = self._memory.endpoints.get(peer.public_key)
        settings = PeerSettings(
            public_key=peer.public_key,
            preshared_key=peer.preshared_key,
            allowed_ips=peer.allowed_ips,
            endpoint=endpoint,
            persistent_keepalive=peer.persistent_keepalive,
            reserved=peer.reserved,
        )
        self._tunnel.add_peer(settings, boottime())

    def _port_of(self, config: Config) -> int:
        return self._own_port if self._own_port is not None else config.interface.listen_port or 0

    # The packet filter

    def let_in(self, transport: Literal["tcp", "udp"], port: int) -> Callable[[], None]:
        """Let everybody in at one port of our own addresses until what this returns is called, whatever the rules are.

        Without a packet filter there is nothing to do.
        """
        if self.packet_filter is None:
            return _nothing
        return self.packet_filter.permit(TCP if transport == "tcp" else UDP, port)

    def _filtered(self, link: PacketLink, packet_filter: PacketFilter) -> PacketLink:
        from usernet.filter import FilteredLink  # few have one

        packet_filter.readdress(address for address, _ in self.config.interface.addresses)
        return FilteredLink(link, packet_filter, self._on_verdict)

    def _on_verdict(self, verdict: Verdict) -> None:
        more = f", and {verdict.unsaid} before it that are not told of" if verdict.unsaid else ""
        if verdict.accepted:
            log.debug("packet filter: %s let in%s", verdict, more)
        else:
            log.info("packet filter: %s dropped (%s)%s", verdict, verdict.reason.removeprefix("filter-"), more)

    # From the tunnel

    def _wake(self) -> None:
        self._device.wake()

    def _on_event(self, event: TunnelEvent) -> None:
        self._endpoints.on_event(event)
        self._reach.on_event(event)
        for callback in self._callbacks:
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - whoever watches does not stop the tunnel
                log.exception("a callback for events of the tunnel failed")

    def _on_stalled(self, remote: bytes) -> None:
        public_key = self._tunnel.route(remote)
        if public_key is not None:
            self._tunnel.request_handshake(public_key, boottime())
            self._device.wake()

    def _on_endpoint(self, public_key: bytes, address: Address) -> None:
        self._tunnel.set_endpoint(public_key, address)
        if public_key in self._asked_early:
            self._asked_early.discard(public_key)
            self._tunnel.request_handshake(public_key, boottime())
        self._reach.wake_waiters()
        self._device.wake()


def _nothing() -> None:
    """There is no packet filter."""
