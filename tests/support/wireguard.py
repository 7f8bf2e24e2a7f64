"""Tunnels joined in memory through virtual time: whole cores, no sockets, no waiting."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, TypeVar

from usernet.burst.packets import Address, DatagramBurst, PacketBurst, SuperPacket
from usernet.burst.reference import ReferenceKernel
from usernet.wire.ip import pack_address
from usernet.wire.packet import encode_packet
from usernet.wireguard.cookies import CookieJar
from usernet.wireguard.crypto import tai64n
from usernet.wireguard.events import TunnelEvent
from usernet.wireguard.handshake import Identity, RemoteStatic, create_initiation
from usernet.wireguard.timers import Timing
from usernet.wireguard.tunnel import PeerSettings, Rejected, Tunnel

START = 1000.0  # CLOCK_BOOTTIME
WALL_NS = 1_700_000_000 * 10**9  # wall time at START
STRIDE = 2048
EXPERIMENTAL = 253  # a protocol number (RFC 3692)

INITIATION, RESPONSE, COOKIE_REPLY, DATA = 1, 2, 3, 4

# From a source to a destination: when a datagram arrives, in seconds from now; nothing is loss, two are a duplicate.
Fate = Callable[[Address, Address, bytes], Iterable[float]]
E = TypeVar("E")


def private_key(number: int) -> bytes:
    return Random(number).randbytes(32)


def public_key(number: int) -> bytes:
    return Identity(private_key(number)).public_key


def inner_packet(source: str, destination: str, payload: bytes = b"payload") -> bytes:
    """A whole IP packet; it has no transport."""
    return encode_packet(pack_address(source), pack_address(destination), EXPERIMENTAL, payload)


def burst_of(datagrams: list[bytes], source: Address, tos: int = 0, local: bytes = b"") -> DatagramBurst:
    """Datagrams as the outer link gives them."""
    buf = bytearray(STRIDE * len(datagrams))
    for number, datagram in enumerate(datagrams):
        buf[number * STRIDE : number * STRIDE + len(datagram)] = datagram
    return DatagramBurst(source, memoryview(buf), STRIDE, list(map(len, datagrams)), tos, local)


class Node:
    """One tunnel, where it is, and what has come out of it."""

    def __init__(self, world: World, number: int, address: Address, timing: Timing, mtu: int) -> None:
        self.world = world
        self.number = number
        self.address = address
        self.wall_skew = 0.0  # s
        self.packets: list[bytes] = []
        self.seen: list[TunnelEvent] = []
        self.restart(timing, mtu)

    def restart(self, timing: Timing | None = None, mtu: int = 1420, timestamp_floor_ns: int = 0) -> None:
        """A new process with the same key; peers are gone."""
        self.tunnel = Tunnel(
            private_key(self.number),
            kernel=ReferenceKernel(),
            random=self.world.random.randbytes,
            wall_ns=lambda: WALL_NS + int((self.world.now - START + self.wall_skew) * 1e9),
            mtu=mtu,
            timing=timing if timing is not None else Timing(),
            timestamp_floor_ns=timestamp_floor_ns,
        )

    @property
    def key(self) -> bytes:
        return self.tunnel.public_key

    @property
    def drops(self) -> dict[str, int]:
        return self.tunnel.statistics().drops

    def add(self, other: Node, *networks: str, endpoint: bool = True, **settings: Any) -> None:
        """Make the other node a peer: networks are 'address/length'."""
        allowed = []
        for network in networks:
            address, _, length = network.partition("/")
            allowed.append((pack_address(address), int(length)))
        self.tunnel.add_peer(
            PeerSettings(
                other.key, allowed_ips=tuple(allowed), endpoint=other.address if endpoint else None, **settings
            ),
            self.world.now,
        )

    def send(self, *packets: bytes | SuperPacket) -> list[Rejected]:
        """Hand inner packets to the tunnel; they are on the wire when the world runs."""
        rejected = self.send_only(*packets)
        self.world.collect(self)
        return rejected

    def send_only(self, *packets: bytes | SuperPacket) -> list[Rejected]:
        """The same, but what is ready stays in the tunnel."""
        supers = [SuperPacket(packet) if isinstance(packet, bytes) else packet for packet in packets]
        return self.tunnel.seal(supers, self.world.now)

    def receive(self, datagrams: list[bytes], source: Address, tos: int = 0, local: bytes = b"") -> None:
        out = PacketBurst(STRIDE * (len(datagrams) + 1) + 65536)
        self.tunnel.receive_datagrams(burst_of(datagrams, source, tos, local), out, self.world.now)
        self.packets += [bytes(out.buf[row[0] : row[0] + row[1]]) for row in out.rows]

    def work(self) -> None:
        """All the handshakes that wait."""
        while self.tunnel.process_handshake(self.world.now):
            pass

    def take(self, kind: type[E]) -> list[E]:
        """Events of one type since the last `take` or `forget`."""
        self.seen += self.tunnel.events()
        found: list[E] = [event for event in self.seen if isinstance(event, kind)]
        self.seen = [event for event in self.seen if not isinstance(event, kind)]
        return found

    def connected_to(self, other: Node) -> bool:
        return self.tunnel.has_session(other.key, self.world.now)


class World:
    """Nodes, time and the wire between them."""

    def __init__(self, seed: int = 0, fate: Fate | None = None) -> None:
        self.random = Random(seed)
        self.now = START
        self.nodes: list[Node] = []
        self.fate: Fate = fate if fate is not None else lambda source, destination, datagram: (0.0,)
        self.log: list[tuple[float, Address, Address, bytes]] = []  # an eavesdropper's: all that was sent
        self.tos: list[int] = []  # the same for the outer TOS
        self._flight: list[tuple[float, int, Address, Address, bytes]] = []

    def node(self, number: int, address: Address, timing: Timing | None = None, mtu: int = 1420) -> Node:
        node = Node(self, number, address, timing if timing is not None else Timing(), mtu)
        self.nodes.append(node)
        return node

    def collect(self, node: Node) -> None:
        """Put on the wire what a node has ready."""
        for burst in node.tunnel.datagrams_to_send(self.now):
            for at in range(0, len(burst.buf), burst.segment_size):
                self.log.append((self.now, node.address, burst.address, bytes(burst.buf[at : at + burst.segment_size])))
                self.tos.append(burst.tos)
                self.throw(*self.log[-1][1:])

    def throw(self, source: Address, destination: Address, datagram: bytes) -> None:
        for delay in self.fate(source, destination, datagram):
            heapq.heappush(self._flight, (self.now + delay, len(self.log), source, destination, datagram))

    def roundtrip(self) -> None:
        """Until nothing more happens at this instant."""
        while True:
            for node in self.nodes:
                node.work()
                self.collect(node)
            if not self._flight or self._flight[0][0] > self.now:
                return
            self._deliver()

    def _deliver(self) -> None:
        """What has arrived by now, in bursts of one source each."""
        arrived: list[tuple[Address, Address, bytes]] = []
        while self._flight and self._flight[0][0] <= self.now:
            arrived.append(heapq.heappop(self._flight)[2:])
        while arrived:
            source, destination, _ = arrived[0]
            count = 1
            while count < len(arrived) and arrived[count][:2] == (source, destination):
                count += 1
            for node in self.nodes:
                if node.address == destination:
                    node.receive([datagram for _, _, datagram in arrived[:count]], source)
            del arrived[:count]

    def run(self, seconds: float) -> None:
        """Let time pass, doing everything when it is due."""
        self.run_until(self.now + seconds)

    def run_until(self, end: float) -> None:
        while True:
            self.roundtrip()
            due = min([self._flight[0][0] if self._flight else end, *self._timeouts(), end])
            if due >= end:
                break
            self.now = max(self.now, due)
            for node in self.nodes:
                node.tunnel.handle_timeout(self.now)
        self.now = end
        for node in self.nodes:
            node.tunnel.handle_timeout(self.now)
        self.roundtrip()

    def _timeouts(self) -> list[float]:
        found = [node.tunnel.next_timeout() for node in self.nodes]
        return [at for at in found if at is not None]

    def sent(self, kind: int, source: Node | None = None, since: float = 0.0) -> list[float]:
        """When datagrams of a type were sent."""
        return [
            at
            for at, origin, _, datagram in self.log
            if datagram[0] == kind and at >= since and (source is None or origin == source.address)
        ]


def pair(
    seed: int = 0, *, timing: Timing | None = None, fate: Fate | None = None, **settings: Any
) -> tuple[World, Node, Node]:
    """Two nodes that know each other: 10.0.0.1 and fd00::1 talk to 10.0.0.2 and fd00::2.  Settings are a's of b."""
    world = World(seed, fate)
    a = world.node(1, ("192.0.2.1", 51820), timing)
    b = world.node(2, ("192.0.2.2", 51820), timing)
    a.add(b, "10.0.0.2/32", "fd00::2/128", **settings)
    b.add(a, "10.0.0.1/32", "fd00::1/128")
    return world, a, b


def connected(seed: int = 0, **options: Any) -> tuple[World, Node, Node]:
    """The same with a session that a initiated and b has seen used."""
    world, a, b = pair(seed, **options)
    a.tunnel.request_handshake(b.key, world.now)
    world.roundtrip()
    return world, a, b


def craft_initiation(world: World, sender: int, receiver: bytes, jar: CookieJar | None = None) -> bytes:
    """An initiation of whoever has this private key, without a tunnel: as many and as fast as one likes."""
    identity = Identity(private_key(sender))
    wall_ns = WALL_NS + int((world.now - START) * 1e9)
    remote = RemoteStatic(identity, receiver)
    index = int.from_bytes(world.random.randbytes(4), "little")
    _, message = create_initiation(identity, remote, index, tai64n(wall_ns), world.random.randbytes)
    return (jar if jar is not None else CookieJar(receiver)).add_macs(message, world.now)
