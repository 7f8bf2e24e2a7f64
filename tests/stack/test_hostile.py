"""Packets nobody honest sends: nothing is raised, everything dropped is counted, memory stays bounded."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from tests.support.mutation import mutate, repair
from tests.support.stack import A4, A6, B4, B6, Station, World, burst_of, cut, pair
from usernet.burst.packets import CHECKSUM_OK, PacketBurst, SuperPacket
from usernet.stack.outbox import REPLY_BYTES
from usernet.stack.reassembly import CAPACITY_V4, CAPACITY_V6
from usernet.tcp.connection import Connection
from usernet.tcp.settings import Flow, TcpSettings
from usernet.tcp.state import ESTABLISHED
from usernet.wire.icmp import Echo, Kind, encode_echo_packet, packet_too_big_for, unreachable_for
from usernet.wire.ip import TCP, UDP
from usernet.wire.packet import encode_packet, fragment, parse_packet
from usernet.wire.tcp import ACK, FIN, PSH, RST, SYN, encode_options, encode_segment
from usernet.wire.udp import UdpDatagram

FAMILIES = [(A4, B4), (A6, B6)]


def target() -> tuple[World, Station, list[bytes]]:
    """A station with one of everything, and honest packets from its only friend."""
    world, a, b = pair()
    b.echoes = True
    b.host.listen(80, backlog=8)
    b.host.open_udp(port=53)
    b.host.open_udp(port=54, remote=(A4, 1000))
    packets: list[bytes] = []
    world.tap = lambda sender, packet: packets.append(packet) if sender == 0 else None
    clients = [a.host.connect(remote, 80, world.now) for remote in (B4, B6)]
    assert world.run(5, until=lambda: len(b.accepted) == 2)
    for client in clients:
        a.write(client, bytes(20_000), world.now)
    world.run(0.025)
    options = encode_options(1000, 7, True, (), (1, 2))
    for own, remote in FAMILIES:
        for flags in (SYN, ACK, FIN | ACK, RST, SYN | ACK, PSH | ACK):
            packets.append(encode_segment(own, remote, 999, 80, 5, 6, flags, 1000, options, b"data"))
        datagram = UdpDatagram(1000, 53, bytes(3000)).encode(own, remote)
        packets += fragment(own, remote, UDP, datagram, 1280, 9)
        packets.append(encode_packet(own, remote, UDP, UdpDatagram(1000, 54, b"hi").encode(own, remote)))
        packets.append(encode_echo_packet(own, remote, Echo(False, 1, 2, b"echo")))
        packets.append(encode_packet(own, remote, 60, bytes([UDP, 0, 1, 4, 0, 0, 0, 0]) + datagram[:100]))
        for server in b.accepted:
            if server.flow.local == remote:
                sent = encode_segment(remote, own, 80, server.flow.remote_port, 7, 8, ACK, 9)
                packets += [error for error in (unreachable_for(sent, Kind.HOST_UNREACHABLE),) if error]
                packets += [error for error in (packet_too_big_for(sent, 100),) if error]
    world.tap = None
    return world, b, packets


def bounded(station: Station) -> None:
    statistics = station.host.statistics()
    assert statistics.half_open <= 64
    assert sum(statistics.connections.values()) <= 64 + 3
    assert statistics.fragment_bytes <= CAPACITY_V4 + CAPACITY_V6
    assert statistics.timers <= 64 + 3 + 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("repairing", [False, True])
def test_mutated_packets(seed: int, repairing: bool) -> None:
    world, b, packets = target()
    rand = random.Random(seed)
    finish: Callable[[bytes], bytes] = repair if repairing else bytes
    replied = 0
    for _ in range(84):
        burst = burst_of([finish(mutate(rand.choice(packets), rand)) for _ in range(30)])
        b.host.receive_packets(burst, world.now)
        b.look(world.now)
        world.now += rand.random()
        b.host.handle_timeout(world.now)
        b.look(world.now)
        for packet in b.host.take(1 << 20, world.now):
            for data in cut(packet):
                parse_packet(data)
                replied += 1
        bounded(b)
    assert replied > 0
    assert sum(b.host.statistics().drops.values()) > 1000


def test_random_bytes() -> None:
    station = Station(A4, A6)
    rand = random.Random(7)
    for _ in range(300):
        packets = [rand.choice((b"\x45", b"\x60", b"")) + rand.randbytes(rand.randrange(120)) for _ in range(20)]
        station.host.receive_packets(burst_of(list(packets)), 1.0)
    statistics = station.host.statistics()
    assert sum(statistics.drops.values()) == statistics.rows_in == 6000
    assert station.host.take(1 << 20, 1.0) == []


def test_rows_whose_checksum_was_verified_but_whose_segment_is_nonsense() -> None:
    world, _, packets = target()
    b = world.stations[1]
    rand = random.Random(3)
    tcp = [packet for packet in packets if parse_packet(packet).protocol == TCP]
    for _ in range(3000):
        data = bytearray(rand.choice(tcp))
        plain = 20 if data[0] >> 4 == 4 else 40
        for _ in range(3):
            data[rand.randrange(plain, len(data))] = rand.randrange(256)
        del data[plain + rand.randrange(4, len(data) - plain + 1) :]
        burst = PacketBurst(0)
        burst.buf += data
        burst.rows.append((0, len(data), rand.choice((0, 1000)), 1, plain, CHECKSUM_OK))
        b.host.receive_packets(burst, world.now)
        b.look(world.now)
        bounded(b)


def test_a_fragment_flood_is_bounded() -> None:
    station = Station(B4, B6)
    rand = random.Random(1)
    for round_number in range(60):
        packets = []
        for _ in range(200):
            own, remote = rand.choice(FAMILIES)
            payload = bytes(2600)
            packets.append(fragment(own, remote, UDP, payload, 1280, rand.getrandbits(32))[rand.randrange(2)])
        station.host.receive_packets(burst_of(list(packets)), round_number * 0.01)
        bounded(station)
    assert station.host.statistics().drops["fragment-evicted"] > 100
    station.host.handle_timeout(100.0)
    statistics = station.host.statistics()
    assert statistics.fragment_bytes == 0
    assert statistics.timers == 0


@pytest.mark.parametrize(("family", "limit", "seconds"), [(0, 4 << 20, 30.0), (1, 3 << 20, 60.0)])
@pytest.mark.parametrize("size", [8, 1200])
def test_fragments_weigh_no_more_than_their_limit(family: int, limit: int, seconds: float, size: int) -> None:
    """Objects and all, whatever their size; and they go when their time is over."""
    own, remote = FAMILIES[family]
    mtu = size + (20, 48)[family]
    station = Station(B4, B6)
    bursts = [
        burst_of([fragment(own, remote, UDP, bytes(3 * size), mtu, ident)[0] for ident in range(at, at + 500)])
        for at in range(0, 6500, 500)
    ]
    tracemalloc.start()
    try:
        for burst in bursts:
            station.host.receive_packets(burst, 1.0)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert limit * 0.6 < held < limit
    assert limit * 0.9 < station.host.statistics().fragment_bytes <= limit
    assert station.host.statistics().drops["fragment-evicted"] > 500
    station.host.handle_timeout(1.0 + seconds - 0.1)
    assert station.host.statistics().fragment_bytes > limit * 0.9
    station.host.handle_timeout(1.0 + seconds + 0.1)
    assert station.host.statistics().fragment_bytes == 0


def test_what_we_owe_others_is_bounded() -> None:
    station = Station(B4)
    segment = encode_segment(A4, B4, 999, 81, 5, 6, ACK, 1000)
    for _ in range(100):
        station.host.receive_packets(burst_of([segment] * 100), 1.0)
    owed = sum(len(packet.header) for packet in station.host.take(1 << 30, 1.0))
    assert REPLY_BYTES - 100 < owed <= REPLY_BYTES


def test_an_idle_connection_costs_the_stack_less_than_a_kibibyte() -> None:
    station = Station(A4)
    settings = TcpSettings(keepalive_idle=7200)

    def measure(make: Callable[[int], object]) -> float:
        kept = [make(0)]
        before = tracemalloc.get_traced_memory()[0]
        kept += [make(number) for number in range(1, 1001)]
        return (tracemalloc.get_traced_memory()[0] - before) / 1000

    def through_the_host(number: int) -> Connection:
        connection = station.host.connect(B4, 80, 1000.0 + number, local_port=number + 1)
        station.host.take(10_000, 1000.0 + number)
        return connection

    def alone(number: int) -> Connection:
        flow = Flow(A4, number + 1, B4, 80)
        now = 1000.0 + number
        connection = Connection.connect(flow, settings, mtu=1420, isn=number, timestamp_offset=number, now=now)
        connection.take(10_000, now)
        return connection

    tracemalloc.start()
    try:
        assert measure(through_the_host) - measure(alone) < 1024
    finally:
        tracemalloc.stop()


def test_the_target_still_serves_after_all_that() -> None:
    world, b, packets = target()
    rand = random.Random(11)
    for _ in range(100):
        world.inject(1, *[repair(mutate(rand.choice(packets), rand)) for _ in range(20)])
        world.run(0.05)
    client = world.stations[0].host.connect(B4, 80, world.now)
    world.stations[0].write(client, b"still there?", world.now, shut=True)
    assert world.run(30, until=lambda: client.at_eof)
    assert bytes(world.stations[0].received[client]) == b"still there?"
    assert client.state is not ESTABLISHED
    assert not b.host.ready


def test_fragments_within_fragments_are_refused() -> None:
    """Each of these completes the next, as deep as anybody likes to send them."""
    station = Station(B6)
    last = bytes(8)
    packets: list[bytes | SuperPacket] = []
    for ident in range(2000):
        inner = struct.pack("!BBHI", 60, 0, 8, ident + 1)
        first = struct.pack("!BBHI", 44, 0, 1, ident) + inner
        packets.append(encode_packet(A6, B6, 44, first))
    packets.append(encode_packet(A6, B6, 44, struct.pack("!BBHI", 44, 0, 8, 0) + last))
    station.host.receive_packets(burst_of(packets), 1.0)
    assert station.host.statistics().drops["fragment-nested"] == 1
