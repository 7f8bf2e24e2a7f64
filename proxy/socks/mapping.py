"""Where an association's datagrams go, and whose answers come back: NAT behaviour, in RFC 4787's words.

- Mapping is endpoint-independent (REQ-1): one socket for each route and address family, whatever the destination, so
  that QUIC, STUN and games see one address and port of themselves.
- Filtering is address-dependent (REQ-8): answers are let in from every port of an address that the client has sent to,
  and from nowhere else.  Some servers answer from another port (TFTP does), which address-and-port-dependent filtering
  would break; endpoint-independent filtering would let the whole network behind the peer write to a client that asked
  nobody.
- A destination is forgotten when the client has not sent to it for `Limits.mapping_timeout` (REQ-5, REQ-6: only what
  goes out refreshes), and the sockets with the last of them.

`Table` is the memory, without I/O; `Mapping` finds out what a new destination means (rules, names, policy: the dialer's
`locate`) while a few of its datagrams wait, and owns the sockets.  Rules are by destination, so a route that has no
datagrams costs the datagrams for it, never the association.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from proxy.client import Client
from proxy.dialer import Place
from proxy.policy import Forbidden
from proxy.routes import let_in
from proxy.session import Context, log
from proxy.socks.datagram import encode_header, parse_destination
from usernet.errors import NameNotFound, NameServerFailed, NoRoute, WireError

DESTINATIONS: Final = 1024  # in each of a table's two generations
LOOK_UPS: Final = 32  # destinations of one association that are being found out at once
WAITING_DATAGRAMS: Final = 64  # for each of those: what one turn of the relay reads
WAITING_BYTES: Final = 256 << 10  # for all of them
REFUSED_SECONDS: Final = 5.0  # before it is found out again
SOCKET_BYTES: Final = 1 << 20
UNSENT_BYTES: Final = 256 << 10  # what a socket of the host's does not take at once waits in asyncio, up to here

SocketName = tuple[Any, ...]  # address and port, and for IPv6 two numbers more


def enlarge(sock: socket.socket) -> None:
    """As far as the machine allows: the usual 208 KiB hold three datagrams of 60 KB."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)


class Target(NamedTuple):
    transport: asyncio.DatagramTransport
    address: tuple[str, int]


class Refusal(NamedTuple):
    reason: str
    until: float


class NoDatagrams(OSError):
    """The route carries connections only."""


class _Generation:
    __slots__ = ("entries", "headers", "hosts")

    def __init__(self) -> None:
        self.entries: dict[bytes, Target | Refusal] = {}  # by what stands in the client's datagrams
        self.hosts: set[str] = set()  # who may answer
        self.headers: dict[SocketName, bytes] = {}  # for answers, by who sent them


class Table:
    """Destinations and answerers.

    Two generations bound both number and age with no time kept for any entry: what is used moves to the young one, and
    `age` drops the old one.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young = _Generation()
        self._old = _Generation()

    def find(self, key: bytes) -> Target | Refusal | None:
        entry = self._young.entries.get(key)
        if entry is None:
            entry = self._old.entries.get(key)
            if entry is not None:
                self.enter(key, entry)
        return entry

    def enter(self, key: bytes, entry: Target | Refusal) -> None:
        if len(self._young.entries) >= DESTINATIONS:
            self.age()
        self._young.entries[key] = entry
        if isinstance(entry, Target):
            self._young.hosts.add(entry.address[0])

    def header(self, name: SocketName) -> bytes | None:
        """What stands before an answer from there; None where the client has not sent to that address."""
        young = self._young
        header = young.headers.get(name)
        if header is None:
            host = name[0]
            if host not in young.hosts and host not in self._old.hosts:
                return None
            header = encode_header(host, name[1])
            if len(young.headers) < DESTINATIONS:
                young.headers[name] = header
        return header

    def age(self) -> bool:
        """Forget what was not used since the last time.  Whether anything is left."""
        self._old, self._young = self._young, _Generation()
        return bool(self._old.entries)


class _Exit(asyncio.DatagramProtocol):
    """A socket in the network of one of the routes."""

    __slots__ = ("_mapping", "revoke", "transport")

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self.revoke: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:  # the host's: a tunnel's has none
            enlarge(sock)

    def datagram_received(self, data: bytes, addr: SocketName) -> None:
        self._mapping.answered(data, addr)

    def error_received(self, exc: Exception) -> None:
        self._mapping.refuse(reason_of(exc))  # an ICMP error is about one destination, and the others still answer

    def connection_lost(self, exc: Exception | None) -> None:
        if self.revoke is not None:
            self.revoke()
        self._mapping.exit_lost(exc)


class Mapping:
    """`answered(data, name)` is called with what comes back, `lost()` when a network is closed."""

    __slots__ = ("_client", "_context", "_exits", "_lock", "_look_ups", "_lost", "_waiting_bytes", "answered", "table")

    def __init__(
        self, context: Context, client: Client, answered: Callable[[bytes, SocketName], None], lost: Callable[[], None]
    ) -> None:
        self._context = context
        self._client = client
        self.answered = answered
        self._lost = lost
        self.table = Table()
        self._exits: dict[tuple[str, bool], _Exit] = {}
        self._lock = asyncio.Lock()  # so that two destinations do not open two sockets
        self._look_ups: dict[bytes, tuple[asyncio.Task[None], list[bytes]]] = {}
        self._waiting_bytes = 0

    def send(self, key: bytes, data: bytes) -> None:
        """Send it, keep it until its destination is known, or drop and count it."""
        entry = self.table.find(key)
        if isinstance(entry, Target):
            self._send(entry, data)
        elif entry is None or entry.until <= self._context.loop.time():
            self._wait(key, data)
        else:
            self.refuse(entry.reason)

    def refuse(self, reason: str) -> None:
        self._context.counters.refuse(reason)

    def age(self) -> bool:
        """`Limits.mapping_timeout` has passed.  Whether this mapping is still of use."""
        return self.table.age() or bool(self._look_ups)

    def close(self) -> None:
        for task, _ in self._look_ups.values():
            task.cancel()
        exits, self._exits = self._exits, {}
        for exit_ in exits.values():
            exit_.transport.close()

    def exit_lost(self, error: Exception | None) -> None:
        if self._exits:
            log.debug("a relay's socket is lost: %s", error)
            self._lost()

    def _send(self, target: Target, data: bytes) -> None:
        transport = target.transport
        if transport.get_write_buffer_size() > UNSENT_BYTES:  # type: ignore[attr-defined]
            self.refuse("udp-queue-full")
        else:
            transport.sendto(data, target.address)

    # -- a new destination --

    def _wait(self, key: bytes, data: bytes) -> None:
        found = self._look_ups.get(key)
        if found is None:
            if len(self._look_ups) >= LOOK_UPS:
                self.refuse("udp-too-many-look-ups")
                return
            found = self._look_ups[key] = (self._context.loop.create_task(self._look_up(key)), [])
        waiting = found[1]
        if len(waiting) >= WAITING_DATAGRAMS or self._waiting_bytes + len(data) > WAITING_BYTES:
            self.refuse("udp-waiting-full")
            return
        waiting.append(data)
        self._waiting_bytes += len(data)

    async def _look_up(self, key: bytes) -> None:
        entry: Target | Refusal
        try:
            async with asyncio.timeout(self._context.dialer.timeout):
                entry = await self._find(*parse_destination(key))
        except Exception as error:  # noqa: BLE001  (whatever it was, its datagrams are dropped)
            if not isinstance(error, OSError | WireError):
                log.error("a datagram's destination could not be found", exc_info=error)
            entry = Refusal(reason_of(error), self._context.loop.time() + REFUSED_SECONDS)
        self.table.enter(key, entry)
        _, waiting = self._look_ups.pop(key)
        for data in waiting:
            self._waiting_bytes -= len(data)
            if isinstance(entry, Target):
                self._send(entry, data)
            else:
                self.refuse(entry.reason)

    async def _find(self, host: str, port: int) -> Target:
        # The first address: nothing answers a datagram on behalf of UDP itself, so there is no race to run.
        place = (await self._context.dialer.locate(self._client, host, port))[0]
        exit_ = await self._exit(place)
        self._client.route = place.route.name
        return Target(exit_.transport, (place.host, place.port))

    async def _exit(self, place: Place) -> _Exit:
        """The socket towards a place, opened where there is none yet."""
        open_endpoint = getattr(place.route.net, "create_datagram_endpoint", None)
        if open_endpoint is None:
            raise NoDatagrams
        is_v6 = ":" in place.host
        key = (place.route.name, is_v6)
        async with self._lock:
            if key not in self._exits:
                made = await open_endpoint(lambda: _Exit(self), local_addr=("::" if is_v6 else "0.0.0.0", 0))
                # A packet filter knows the latest flows, by port; who may answer here is the table's to say.
                made[1].revoke = let_in(place.route.net, "udp", made[0].get_extra_info("sockname")[1])
                self._exits[key] = made[1]
            return self._exits[key]


REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (  # the first that fits
    (Forbidden, "udp-forbidden"),
    (NoDatagrams, "udp-no-datagrams"),
    (NoRoute, "udp-no-route"),
    (NameNotFound, "udp-no-name"),
    (NameServerFailed, "udp-no-name-server"),
    (ConnectionRefusedError, "udp-refused"),
    (TimeoutError, "udp-timeout"),
)


def reason_of(error: BaseException) -> str:
    """A counter's slug."""
    if isinstance(error, WireError):
        return error.reason
    if isinstance(error, OSError) and error.errno == errno.EMSGSIZE:
        return "udp-too-large"
    return next((reason for kind, reason in REASONS if isinstance(error, kind)), "udp-failed")
