"""One WireGuard tunnel at work: its outer socket, the pump, where its peers are, and what is known of all of them.

What lies inside is a PacketLink: the userspace stack (`network.py`), or the kernel's own.  Whoever makes that one
derives from Engine, and says what `inside.py` asks for.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from usernet.aio.capture import SNAPLEN, Tap
from usernet.aio.device import Device
from usernet.aio.inlet import inlet_of
from usernet.aio.inside import Inside
from usernet.aio.peers import Memory, Peers
from usernet.aio.reach import Reach
from usernet.aio.resolver import Resolver
from usernet.aio.runtime import Tasks, boottime, log
from usernet.aio.sealer import second_core
from usernet.aio.sockets import close_sockets
from usernet.aio.statistics import UdpStatistics
from usernet.aio.udp import UdpLink
from usernet.burst import default_kernel
from usernet.burst.packets import Address
from usernet.config.changes import Changes, compare
from usernet.errors import NetworkClosed
from usernet.links import DatagramLink
from usernet.wire.ip import TCP, UDP, format_address, pack_address
from usernet.wireguard.events import TunnelEvent
from usernet.wireguard.statistics import PeerStatistics, TunnelStatistics
from usernet.wireguard.timers import Timing
from usernet.wireguard.tunnel import Tunnel

if TYPE_CHECKING:
    from usernet.config import Config
    from usernet.filter import FilterStatistics, PacketFilter

DEFAULT_MTU: Final = 1420
DIAL_TIMEOUT: Final = 10.0
REBIND_RETRY: Final = 1.0  # s


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """A snapshot of the tunnel, of the socket outside and of the packet filter."""

    tunnel: TunnelStatistics
    udp: UdpStatistics | None  # without a socket of its own there is none
    filter: FilterStatistics | None  # where there is one


class Engine(Inside):
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
        self._started = False
        self._closed = False

    # The beginning and the end

    async def start(self) -> None:
        """Open the outer socket and start.  Raises OSError when its port is taken.  No handshake is waited for."""
        await self.open()
        self.begin()

    def begin(self) -> None:
        """Speak to the peers, and hear them."""
        self._device.start()

    async def open(self) -> None:
        """The first half of `start`, for who has more to open that may fail: a handshake takes the session of whoever
        has our key already, so none leaves before `begin`.  Raises OSError."""
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
        given = self._datagram_link
        outer = UdpLink.open(loop, self.listen_port, self._mark(), inlet_of(kernel)) if given is None else given
        self._datagram_link = outer
        self._peers = Peers(self._tasks, self._tunnel, self._memory, self._on_reachable)
        self._reach = Reach(self.config, self._tunnel, self._peers.endpoints, self._wake)
        self._resolver = Resolver(self._ways(), self._tasks)
        self._resolver.learn(self.config)
        try:
            link = await self._open_inside(loop)
        except BaseException:
            outer.close()
            self._datagram_link = given
            raise
        if self.packet_filter is not None:
            from usernet.aio.filtered import filtered  # few have one

            link = filtered(link, self.packet_filter, self._own())
        self._started = True
        self.listen_port = outer.port
        sealer = second_core(loop, self._tunnel, outer, kernel)
        self._device = Device(loop, self._tunnel, outer, link, self._on_event, sealer)
        self._peers.begin(self.config)

    async def close(self) -> None:
        """Abort what is open, give what was closed a second to leave, and close the socket.  Idempotent."""
        if not self._started or self._closed:
            return
        self._closed = True
        self._reach.close()
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
        return tuple(map(format_address, self._own()))

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
        return self._peers.memory() if self._started else self._memory

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(self._tunnel.statistics(), self._udp_statistics(), self._filter_statistics())

    def peers(self) -> tuple[PeerStatistics, ...]:
        """Of `statistics`, what costs next to nothing."""
        return self._tunnel.statistics().peers

    def endpoint_trouble(self, public_key: bytes) -> str:
        """Why the name of a peer's endpoint does not resolve, or ''."""
        return self._peers.endpoints.trouble(public_key)

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
        self._peers.request_handshakes()
        self._device.wake()

    async def reach(self, addresses: Sequence[str]) -> None:
        """Return once there is a session with the peer of one of these IP literals.

        Raises NoHandshake; NoRoute where their last peer is taken away meanwhile; NetworkClosed.
        """
        packed = list(map(pack_address, addresses))
        try:
            async with asyncio.timeout(self.dial_timeout):
                await self._reach.session(packed)
        except TimeoutError:
            raise self._reach.too_late(addresses[0], packed, self.dial_timeout) from None

    def doubt(self, address: str) -> None:
        """Something at this IP literal does not answer: have its peer asked for a new session, at most every 5 s."""
        self._reach.doubt(pack_address(address))

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
        self._peers.endpoints.path_changed()
        self._moved()

    def _renew(self, link: UdpLink) -> None:
        if self._closed:  # it was in the middle of a turn
            return
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

        Initiations are at least 5 s apart, so it may have to wait before it begins.  Raises NetworkClosed.
        """
        return await self._reach.shake_hands(public_key, seconds)

    def captured(self, write: Callable[[bytes], None], snaplen: int = SNAPLEN) -> AbstractContextManager[None]:
        """While the block lasts `write` is given all that goes through the tunnel: see usernet/aio/capture.py."""
        return self._device.tapped(Tap(write, snaplen))

    # Another configuration

    async def reconfigure(self, config: Config) -> Changes:
        """Be what `config` says from now on, all of it or nothing; false where it says nothing new.

        Streams go on: only those of an address that is gone end.  Sessions survive, too, but for another private key.
        Raises OSError, with everything as before, where the port is taken or the inside cannot be changed, and
        NetworkClosed.
        """
        self._check_open()
        changes = compare(self.config, config)
        if not changes:
            return changes
        port = self._port_of(config)
        link = self._datagram_link if port != self._port_of(self.config) else None
        prepared = link.prepare(port) if isinstance(link, UdpLink) else []  # what may fail comes first
        try:
            await self._change_inside(config, changes)
            self._check_open()
        except BaseException:
            close_sockets(prepared)
            raise
        self._apply(config, changes)
        if isinstance(link, UdpLink):
            self._device.rebind(lambda: self._move(link, port, prepared))
            self.listen_port = link.port
            self._moved()
        self._on_reachable()
        return changes

    def _check_open(self) -> None:
        if self._closed:
            raise NetworkClosed

    def _move(self, link: UdpLink, port: int, prepared: list[list[socket.socket]]) -> None:
        if self._closed:  # as in _renew
            close_sockets(prepared)
        else:
            link.move(port, prepared)

    def _apply(self, config: Config, changes: Changes) -> None:
        """What cannot fail."""
        self.config = config
        if changes.mtu:
            self._tunnel.set_mtu(self.mtu)
        if self.packet_filter is not None:
            self.packet_filter.readdress(self._own())
        self._peers.apply(config, changes)
        self._reach.learn(config)
        self._resolver.learn(config)

    def _own(self) -> list[bytes]:
        return [address for address, _ in self.config.interface.addresses]

    def _port_of(self, config: Config) -> int:
        return self._own_port if self._own_port is not None else config.interface.listen_port or 0

    # The packet filter

    def let_in(self, transport: Literal["tcp", "udp"], port: int) -> Callable[[], None]:
        """Let everybody in at one port of our own addresses until what this returns is called, whatever the rules are.

        Without a packet filter there is nothing to do.
        """
        if self.packet_filter is None:
            return lambda: None
        return self.packet_filter.permit(TCP if transport == "tcp" else UDP, port)

    # From the tunnel

    def _wake(self) -> None:
        self._device.wake()

    def _on_event(self, event: TunnelEvent) -> None:
        self._peers.endpoints.on_event(event)
        self._reach.on_event(event)
        for callback in self._callbacks:
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - whoever watches does not stop the tunnel
                log.exception("a callback for events of the tunnel failed")

    def _on_reachable(self) -> None:
        self._reach.wake_waiters()
        self._device.wake()
