"""What the tunnel reaches: which addresses it carries, over which peer, and why one did not answer."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from usernet.aio.endpoints import Endpoints
from usernet.aio.runtime import Waiters, boottime
from usernet.errors import EndpointUnresolved, NetworkClosed, NoHandshake, NoRoute
from usernet.wire.ip import format_address, pack_address
from usernet.wireguard.events import HandshakeCompleted, HandshakeStarted, TunnelEvent
from usernet.wireguard.tunnel import Tunnel

if TYPE_CHECKING:
    from usernet.config import Config

DOUBTFUL = 0.4  # s; a connection is stalled 0.6 s after what it sent first, at the soonest
EVERY_ADDRESS = ("", "0.0.0.0", "::")


class Reach:
    """Answers from the tunnel's allowed IPs and sessions."""

    def __init__(self, config: Config, tunnel: Tunnel, endpoints: Endpoints, wake: Callable[[], None]) -> None:
        self._tunnel = tunnel
        self._endpoints = endpoints
        self._wake = wake
        self._waiters = Waiters()
        self._watching: list[Callable[[TunnelEvent], None]] = []
        self._is_over = False
        self.learn(config)

    def close(self) -> None:
        """Whoever waits, or comes later, is told NetworkClosed."""
        self._is_over = True
        self._endpoints.close()
        self.wake_waiters()

    def check_open(self) -> None:
        """Raises NetworkClosed."""
        if self._is_over:
            raise NetworkClosed

    def learn(self, config: Config) -> None:
        """What follows from the configuration alone."""
        self.servers = [pack_address(server) for server in config.interface.dns]  # whom names are asked of
        self.own = frozenset(address for address, _ in config.interface.addresses)
        theirs = {len(address) for peer in config.peers for address, _ in peer.allowed_ips}
        ours = {len(address) for address in self.own}
        # What a name is asked for: the families we have an address of and some peer carries; the favoured one first.
        order = (4, 6) if config.resolve_strategy == "ipv4" else (6, 4)
        sizes = {4: 4, 6: 16}
        self.families = tuple(family for family in order if sizes[family] in ours and sizes[family] in theirs)

    def carries(self, address: bytes) -> bool:
        """Whether it is our own address or a peer's."""
        if address in self.own:
            return True
        return not is_local(address) and self._tunnel.route(address) is not None

    def check(self, address: bytes, host: str) -> None:
        """Raise NoRoute if it is not; `host` is how the user wrote it."""
        if not self.carries(address):
            text = format_address(address)
            raise NoRoute(f"no peer's allowed IPs cover {host if host == text else f'{host} ({text})'}")

    def carried(self, names: Sequence[str], host: str) -> list[bytes]:
        """Those of a host's addresses that the tunnel carries, at least one; else NoRoute."""
        addresses = [pack_address(name) for name in names]
        carried = [address for address in addresses if self.carries(address)]
        if not carried:
            self.check(addresses[0], host)
        return carried

    def own_address(self, host: str | None) -> bytes | None:
        """One of our own addresses, or None for all of them.  Raises OSError for anything else."""
        if not host or host in EVERY_ADDRESS:
            return None
        address = pack_address(host)
        if address not in self.own:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of this tunnel")
        return address

    def _peer(self, address: bytes) -> bytes | None:
        """The public key of the peer for an address; our own addresses are looped back inside and need none."""
        return None if address in self.own else self._tunnel.route(address)

    def is_prepared(self, address: bytes) -> bool:
        """False while the name of the peer's endpoint is being resolved; else ask for a session where there is none.

        Raises NetworkClosed.
        """
        self.check_open()
        public_key = self._peer(address)
        if public_key is not None:
            if not self._endpoints.is_known(public_key):
                return False
            self._request(public_key)
        return True

    async def prepare(self, address: bytes) -> None:
        """Wait until it is so."""
        while not self.is_prepared(address):
            public_key = self._peer(address)
            if public_key is not None:
                await self._endpoints.known(public_key)

    def _request(self, public_key: bytes) -> bool:
        """Whether there is a session; if not, ask for one."""
        now = boottime()
        if self._tunnel.has_session(public_key, now):
            return True
        self._tunnel.request_handshake(public_key, now)
        self._wake()
        return False

    async def session(self, addresses: Sequence[bytes]) -> None:
        """Return once there is a session with the peer of one of these, or at once if none of them is a peer's.

        Raises NetworkClosed; NoRoute where the last such peer is taken away meanwhile.
        """
        self.check_open()
        public_keys = self._peers(addresses)
        while public_keys and not any(map(self._request, public_keys)):
            await self._waiters.wait()
            self.check_open()
            public_keys = self._peers(addresses)
            if not public_keys:
                self.check(addresses[0], format_address(addresses[0]))

    def _peers(self, addresses: Sequence[bytes]) -> set[bytes]:
        return set(filter(None, map(self._peer, addresses)))

    def doubt(self, address: bytes) -> None:
        """Something there does not answer: have its peer asked for a new session, at most every 5 s.

        Not where the peer has just been heard: then it is the host behind it that is silent.
        """
        public_key = self._tunnel.route(address)
        if public_key is None:
            return
        now, silent = boottime(), self._tunnel.unanswered_since(public_key)
        if silent is not None and now - silent >= DOUBTFUL:
            self._tunnel.request_handshake(public_key, now)
            self._wake()

    async def shake_hands(self, public_key: bytes, seconds: float) -> float | None:
        """The seconds that a new handshake with the peer took, or None where none completed within this time.

        Raises NetworkClosed.
        """
        self.check_open()
        began = ended = boottime()
        done = False

        def heard(event: TunnelEvent) -> None:
            nonlocal began, ended, done
            if event.public_key != public_key:
                return
            if isinstance(event, HandshakeStarted):
                began = boottime()
            elif isinstance(event, HandshakeCompleted):
                ended = boottime()
                done = True

        self._watching.append(heard)
        try:
            async with asyncio.timeout(seconds):
                await self._endpoints.known(public_key)
                self.check_open()
                self._tunnel.request_handshake(public_key, boottime())
                self._wake()
                while not done:
                    await self._waiters.wait()
                    self.check_open()
        except (TimeoutError, KeyError):  # KeyError: it was taken away meanwhile
            return None
        finally:
            self._watching.remove(heard)
        return ended - began

    def on_event(self, event: TunnelEvent) -> None:
        for heard in self._watching:
            heard(event)
        if isinstance(event, HandshakeCompleted):
            self.wake_waiters()

    def wake_waiters(self) -> None:
        """Have everybody in session() look and ask again."""
        self._waiters.wake()

    def too_late(self, host: str, addresses: Iterable[bytes], seconds: float) -> OSError:
        """What a dial towards these addresses that ran out of time died of."""
        now = boottime()
        for public_key in filter(None, map(self._peer, addresses)):
            if not self._tunnel.has_session(public_key, now):
                trouble = self._endpoints.trouble(public_key)
                if trouble:
                    return EndpointUnresolved(trouble)
                return NoHandshake(f"no handshake with the peer for {host} within {seconds:g} s")
        return TimeoutError(errno.ETIMEDOUT, f"{host} did not answer within {seconds:g} s")


def is_local(address: bytes) -> bool:
    """Loopback and link-local: never captured by a tunnel, not even by 0.0.0.0/0."""
    if len(address) == 4:
        return address[0] == 127 or address[:2] == b"\xa9\xfe"
    return address == bytes(15) + b"\1" or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
