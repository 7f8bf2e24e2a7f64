"""TCP through two whole hosts: opening, both directions, listeners, resets, errors, loss."""

from __future__ import annotations

import errno
import gc
import random

import pytest

from tests.support.stack import A4, A6, B4, B6, MTU, Path, Station, World, burst_of, cut, pair
from usernet.errors import HostUnreachable, NetworkUnreachable
from usernet.stack.connections import MAX_TIME_WAIT
from usernet.stack.events import Accepted, Stalled
from usernet.stack.ports import EPHEMERAL_FIRST, EPHEMERAL_LAST
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings
from usernet.tcp.state import CLOSED, ESTABLISHED, SYN_SENT, TIME_WAIT
from usernet.tcp.tcb import CONNECTED, OVER, WRITABLE
from usernet.wire.icmp import Kind, packet_too_big_for, unreachable_for
from usernet.wire.ip import pack_address
from usernet.wire.packet import parse_packet
from usernet.wire.tcp import ACK, FIN, RST, SYN, TcpSegment, encode_segment, parse_segment

FAMILIES = [(A4, B4), (A6, B6)]


def data_of(size: int, seed: int = 9) -> bytes:
    return random.Random(seed).randbytes(size)


def connect(world: World, a: Station, b: Station, remote: bytes = B4, port: int = 80) -> tuple[Connection, Connection]:
    """An established connection, as both ends have it."""
    if not any(isinstance(event, Accepted) for event in b.events):
        b.host.listen(port)
    before = len(b.accepted)
    client = a.host.connect(remote, port, world.now)
    assert world.run(30, until=lambda: len(b.accepted) > before and client.state is ESTABLISHED)
    return client, b.accepted[before]


def segment_of(packet: bytes) -> TcpSegment:
    parsed = parse_packet(packet)
    return parse_segment(memoryview(packet), parsed.payload, parsed.end)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("remote", [B4, B6])
def test_both_directions_at_once(remote: bytes, whole: bool) -> None:
    world, a, b = pair(Path(whole=whole))
    client, server = connect(world, a, b, remote)
    assert a.readiness[client] & CONNECTED
    up, down = data_of(3_000_000), data_of(2_000_000, 8)
    a.write(client, up, world.now, shut=True)
    b.write(server, down, world.now, shut=True)
    assert world.run(60, until=lambda: client.at_eof and server.at_eof)
    assert bytes(b.received[server]) == up
    assert bytes(a.received[client]) == down
    world.run(2)
    assert a.host.statistics().connections.keys() | b.host.statistics().connections.keys() <= {"TIME-WAIT"}
    world.run(61)
    for station in (a, b):
        statistics = station.host.statistics()
        assert statistics.connections == {}
        assert statistics.timers == 0
        assert statistics.senders_waiting == 0
        assert station.host.next_timeout() is None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_through_loss_reordering_and_duplicates(seed: int) -> None:
    bad = Path(loss=0.03, duplicate=0.02, reorder=0.05)
    world, a, b = pair(bad, seed=seed)
    client, server = connect(world, a, b)
    up, down = data_of(300_000), data_of(200_000, 8)
    a.write(client, up, world.now, shut=True)
    b.write(server, down, world.now, shut=True)
    assert world.run(600, until=lambda: client.at_eof and server.at_eof)
    assert bytes(b.received[server]) == up
    assert bytes(a.received[client]) == down
    resent = a.host.statistics().segments_resent
    assert resent == client.segments_resent > 0
    world.run(300, until=lambda: not a.host.statistics().connections and not b.host.statistics().connections)
    assert a.host.statistics().segments_resent >= resent, "those of connections that are gone count, too"


def test_what_was_written_and_has_left_is_told_once() -> None:
    world, a, b = pair()
    client, _ = connect(world, a, b)
    client.write(b"some")
    a.host.changed(client, world.now)
    client.write(b"more")
    a.host.changed(client, world.now)
    assert a.host.ready == []
    a.host.take(10_000, world.now)
    a.host.take(10_000, world.now)
    assert a.host.ready == [client]
    assert client.readiness & WRITABLE


def test_half_close() -> None:
    world, a, b = pair()
    client, server = connect(world, a, b)
    a.write(client, b"question", world.now, shut=True)
    assert world.run(5, until=lambda: server.at_eof)
    world.run(10)
    b.write(server, b"answer", world.now, shut=True)
    assert world.run(5, until=lambda: client.at_eof)
    assert bytes(a.received[client]) == b"answer"


@pytest.mark.parametrize("remote", [B4, B6])
def test_refused(remote: bytes) -> None:
    world, a, b = pair()
    client = a.host.connect(remote, 81, world.now)
    assert world.run(5, until=lambda: client.state is CLOSED)
    assert isinstance(client.error, ConnectionRefusedError)
    assert a.readiness[client] & OVER
    assert b.host.statistics().drops == {"tcp-no-connection": 1}
    assert a.host.statistics().connections == {}


def test_reset() -> None:
    world, a, b = pair()
    client, server = connect(world, a, b)
    client.abort(world.now)
    a.host.changed(client, world.now)
    assert world.run(5, until=lambda: server.state is CLOSED)
    assert isinstance(server.error, ConnectionResetError)
    assert a.host.statistics().connections == b.host.statistics().connections == {}


def test_nobody_answers() -> None:
    world, a, _ = pair(Path(loss=1.0), settings=TcpSettings(syn_retries=3))
    client = a.host.connect(B4, 80, world.now)
    assert world.run(100, until=lambda: client.state is CLOSED)
    assert isinstance(client.error, TimeoutError)
    assert a.events.count(Stalled(B4)) >= 1
    assert a.host.statistics().connections == {}


def test_an_open_with_a_time_limit() -> None:
    world, a, b = pair(settings=TcpSettings(keepalive_idle=None))
    b.host.listen(80)
    answered = a.host.connect(B4, 80, world.now, timeout=2.5)
    unanswered = a.host.connect(pack_address("192.0.2.99"), 80, world.now, timeout=2.5)
    begin = world.now
    assert world.run(10, until=lambda: unanswered.state is CLOSED)
    assert isinstance(unanswered.error, TimeoutError)
    assert world.now - begin == pytest.approx(2.5, abs=0.02)
    world.run(60)
    assert answered.state is ESTABLISHED


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.HOST_UNREACHABLE, HostUnreachable),
        (Kind.NETWORK_UNREACHABLE, NetworkUnreachable),
        (Kind.PROHIBITED, HostUnreachable),
        (Kind.PORT_UNREACHABLE, ConnectionRefusedError),
    ],
)
@pytest.mark.parametrize("remote", [B4, B6])
def test_unreachable_ends_a_connection_that_is_opening(remote: bytes, kind: Kind, expected: type[Exception]) -> None:
    world, a, _ = pair()
    client = a.host.connect(remote, 80, world.now)
    (packet,) = a.host.take(10_000, world.now)
    syn = cut(packet)[0]
    parsed = parse_packet(syn)
    forged = bytearray(syn)
    forged[parsed.payload + 7] ^= 1  # another sequence number
    for quoted in (bytes(forged), syn):
        assert client.state is SYN_SENT
        error = unreachable_for(quoted, kind)
        assert error is not None
        world.inject(0, error)
    assert client.state is CLOSED
    assert isinstance(client.error, expected)
    assert a.readiness[client] & OVER


def test_unreachable_does_not_end_one_that_is_open() -> None:
    world, a, b = pair()
    client, server = connect(world, a, b)
    a.write(client, b"x" * 1000, world.now)
    (packet,) = a.host.take(10_000, world.now)
    error = unreachable_for(cut(packet)[0], Kind.HOST_UNREACHABLE)
    assert error is not None
    world.inject(0, error)
    assert client.state is ESTABLISHED
    assert world.run(5, until=lambda: bool(b.received.get(server)))


@pytest.mark.parametrize(("local", "remote"), FAMILIES)
def test_packet_too_big_makes_segments_smaller(local: bytes, remote: bytes) -> None:
    world, a, b = pair()
    client, server = connect(world, a, b, remote)
    sizes: list[int] = []
    world.tap = lambda sender, packet: sizes.append(len(packet)) if sender == 0 else None
    a.write(client, data_of(50_000), world.now)
    packet = a.host.take(10_000, world.now)[0]
    assert len(cut(packet)[0]) == MTU
    error = packet_too_big_for(cut(packet)[0], 1300)
    assert error is not None
    world.inject(0, error)
    assert world.run(20, until=lambda: bytes(b.received.get(server, b"")) == data_of(50_000))
    assert max(sizes) == 1300


def test_what_one_hears_of_a_path_all_know() -> None:
    """Another connection sends again at once, a new one and UDP begin with it, and in ten minutes it is forgotten."""
    world, a, b = pair()
    first, _ = connect(world, a, b)
    second, _ = connect(world, a, b)
    elsewhere, _ = connect(world, a, b, B6)
    a.write(second, data_of(5000), world.now)
    a.host.take(10_000, world.now)
    a.write(first, data_of(5000), world.now)
    packet = a.host.take(10_000, world.now)[0]
    error = packet_too_big_for(cut(packet)[0], 1300)
    assert error is not None
    world.inject(0, error)
    statistics = a.host.statistics()
    assert (statistics.narrow_paths, statistics.path_mtu_reductions) == (1, 1)
    assert [connection.mtu for connection in (first, second, elsewhere)] == [1300, 1300, MTU]
    assert sorted(packet.mss for packet in a.host.take(20_000, world.now)) == [1248, 1248]
    third, _ = connect(world, a, b)
    assert third.mtu == 1300
    socket = a.host.open_udp(remote=(B4, 7))
    socket.send(bytes(1350), None, world.now)
    assert len(a.host.take(10_000, world.now)) == 2
    world.run(601)
    assert a.host.connect(B4, 80, world.now).mtu == MTU


def test_a_full_backlog_keeps_what_it_has() -> None:
    world, _, b = pair()
    listener = b.host.listen(80, backlog=1)
    for port in range(1000, 1014):
        world.inject(1, encode_segment(A4, B4, port, 80, 7, 0, SYN, 1000))
    assert [key[8:10] for key in listener.half_open] == [port.to_bytes(2, "big") for port in range(1000, 1008)]
    assert b.host.statistics().half_open == 8
    assert b.host.statistics().syn_cookies_sent == 6
    listener.close()
    listener.close()
    assert listener.is_closed
    assert b.host.statistics().connections == {}
    assert b.accepted == []


def test_a_good_client_connects_during_a_flood() -> None:
    world, a, b = pair()
    b.host.listen(80, backlog=16)
    b.echoes = True
    client = a.host.connect(B4, 80, world.now)
    a.write(client, b"hello", world.now, shut=True)
    rand = random.Random(4)
    for _ in range(100):
        flood = [
            encode_segment(pack_address("10.9.0.1"), B4, rand.randrange(1, 65_536), 80, rand.getrandbits(32), 0, SYN, 9)
            for _ in range(10)
        ]
        world.inject(1, *flood)
        world.run(0.002)
    assert world.run(5, until=lambda: client.at_eof)
    assert bytes(a.received[client]) == b"hello"
    assert b.host.statistics().half_open <= 128


def test_a_syn_flood_is_bounded() -> None:
    world, _, b = pair()
    b.host.listen(80, backlog=10)
    rand = random.Random(4)
    for _ in range(100):
        flood = [
            encode_segment(rand.randbytes(4), B4, rand.randrange(1, 65_536), 80, rand.getrandbits(32), 0, SYN, 9)
            for _ in range(50)
        ]
        b.host.receive_packets(burst_of(list(flood)), world.now)
    statistics = b.host.statistics()
    assert sum(statistics.connections.values()) == statistics.half_open == 80
    assert statistics.timers <= 80
    assert b.host.events() == []
    assert b.host.ready == []
    while b.host.take(1 << 20, world.now):
        pass
    assert b.host.statistics().senders_waiting == 0
    world.run(200)
    assert b.host.statistics().connections == {}


def test_a_half_open_connection_that_is_reset_is_told_to_nobody() -> None:
    world, _, b = pair()
    b.host.listen(80)
    world.inject(1, encode_segment(A4, B4, 1000, 80, 7, 0, SYN, 1000))
    world.inject(1, encode_segment(A4, B4, 1000, 80, 8, 0, RST, 0))
    assert b.host.statistics().connections == {}
    assert b.events == []
    assert b.readiness == {}


def test_resets_fit_what_they_answer_and_a_reset_is_never_answered() -> None:
    station = Station(B4)
    station.host.receive_packets(
        burst_of(
            [
                encode_segment(A4, B4, 1000, 80, 100, 0, SYN, 9),
                encode_segment(A4, B4, 1000, 80, 100, 555, ACK, 9, payload=b"data"),
                encode_segment(A4, B4, 1000, 80, 100, 0, FIN, 9, payload=b"data"),
                encode_segment(A4, B4, 1000, 80, 100, 555, RST | ACK, 9),
                encode_segment(A4, B4, 1000, 80, 100, 0, RST, 9),
            ]
        ),
        1.0,
    )
    answers = [segment_of(packet.header) for packet in station.host.take(10_000, 1.0)]
    assert [(answer.flags, answer.seq, answer.ack) for answer in answers] == [
        (RST | ACK, 0, 101),
        (RST, 555, 0),
        (RST | ACK, 0, 105),
    ]


def test_a_listener_takes_a_syn_only() -> None:
    world, _, b = pair()
    b.host.listen(80)
    for flags in (ACK, SYN | ACK, SYN | FIN, FIN, 0):
        world.inject(1, encode_segment(A4, B4, 1000, 80, 7, 9, flags, 1000))
    assert b.host.statistics().connections == {}


def test_listening_ports() -> None:
    _, a, _ = pair()
    any_port = a.host.listen(0)
    assert any_port.port >= 32_768
    a.host.listen(80, address=A4)
    a.host.listen(80, address=A6).close()
    for address in (A4, None):
        with pytest.raises(OSError, match="in use") as caught:
            a.host.listen(80, address=address)
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match="not an address"):
        a.host.listen(81, address=B4)
    with pytest.raises(OSError, match="in use"):
        a.host.connect(B4, 1, 0, local_port=80)
    a.host.connect(B4, 1, 0, local_port=1000)
    a.host.connect(B4, 2, 0, local_port=1000)
    with pytest.raises(OSError, match="in use"):
        a.host.connect(B4, 1, 0, local_port=1000)


def test_ports_run_out() -> None:
    _, a, _ = pair()
    count = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1
    ports = {a.host.connect(B4, 80, 0).flow.local_port for _ in range(count)}
    assert ports == set(range(EPHEMERAL_FIRST, EPHEMERAL_LAST + 1))
    with pytest.raises(OSError, match="no port is free") as caught:
        a.host.connect(B4, 80, 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    a.host.connect(B4, 81, 0)


def test_choosing_a_port_leaves_nothing_for_the_collector() -> None:
    _, a, _ = pair()
    gc.collect()
    gc.disable()
    try:
        a.host.connect(B4, 80, 0)
        a.host.listen(0)
        a.host.open_udp()
        a.host.open_udp(remote=(B4, 7))
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_destinations_that_cannot_be_reached() -> None:
    only_v4 = Station(A4)
    with pytest.raises(NetworkUnreachable, match="no IPv6 address"):
        only_v4.host.connect(B6, 80, 0)
    with pytest.raises(NetworkUnreachable, match="not the address of one host"):
        only_v4.host.connect(pack_address("224.0.0.1"), 80, 0)


@pytest.mark.parametrize("own", [A4, A6])
def test_hairpin(own: bytes) -> None:
    world, a, _ = pair()
    a.host.listen(80)
    client = a.host.connect(own, 80, world.now)
    assert world.run(5, until=lambda: bool(a.accepted) and client.state is ESTABLISHED)
    (server,) = a.accepted
    a.write(client, data_of(2_000_000), world.now, shut=True)
    assert world.run(30, until=lambda: server.at_eof)
    assert bytes(a.received[server]) == data_of(2_000_000)
    assert world.carried == 0
    refused = a.host.connect(own, 81, world.now)
    assert world.run(5, until=lambda: refused.state is CLOSED)
    assert isinstance(refused.error, ConnectionRefusedError)


def test_nobody_outside_speaks_into_a_hairpin() -> None:
    world, a, _ = pair()
    a.host.listen(80)
    client = a.host.connect(A4, 80, world.now)
    assert world.run(5, until=lambda: client.state is ESTABLISHED)
    flow = client.flow
    before = a.host.statistics().drops.get("own-source", 0)
    world.inject(0, encode_segment(A4, A4, 80, flow.local_port, 0, 0, RST, 0))
    assert a.host.statistics().drops["own-source"] == before + 1
    assert client.state is ESTABLISHED


def test_a_new_connection_ends_time_wait() -> None:
    world, a, b = pair()
    b.host.listen(80)
    for _ in range(3):
        client = a.host.connect(B4, 80, world.now, local_port=1000)
        assert world.run(5, until=lambda: bool(b.accepted))
        server = b.accepted.pop()
        server.close(world.now)  # the server closes first, so TIME-WAIT is its
        b.host.changed(server, world.now)
        assert world.run(5, until=lambda client=client: client.at_eof)  # type: ignore[misc]
        client.close(world.now)
        a.host.changed(client, world.now)
        assert world.run(5, until=lambda server=server: server.state is TIME_WAIT)  # type: ignore[misc]
        world.run(0.1)
    assert b.host.statistics().connections == {"TIME-WAIT": 1}


def test_time_wait_is_bounded() -> None:
    world, a, b = pair()
    b.host.listen(80)
    for _ in range(MAX_TIME_WAIT // 512 + 1):
        clients = [a.host.connect(B4, 80, world.now) for _ in range(512)]
        assert world.run(5, until=lambda: len(b.accepted) == 512)
        for station, connections in ((a, clients), (b, b.accepted)):
            for connection in connections:
                connection.close(world.now)
                station.host.changed(connection, world.now)
            world.run(0.1)
        b.accepted.clear()
    assert a.host.statistics().connections == {"TIME-WAIT": MAX_TIME_WAIT}
    assert a.host.statistics().timers == MAX_TIME_WAIT
    assert b.host.statistics().connections == {}
    world.run(61)
    assert a.host.statistics().connections == {}


def test_stalled_connections_ask_for_help_and_try_when_the_path_returns() -> None:
    world, a, b = pair(Path(loss=0.0))
    client, server = connect(world, a, b)
    world.paths = (Path(loss=1.0), Path())
    a.write(client, b"anybody there", world.now)
    world.run(20)
    assert client.stalled
    assert Stalled(B4) in a.events
    world.paths = (Path(), Path())
    before = world.now
    a.host.path_changed(world.now)
    assert world.run(20, until=lambda: bool(b.received.get(server)))
    assert world.now - before < 0.05
    world.run(1)
    assert not client.stalled


def test_a_silent_path_is_probed_by_one_connection_every_half_second() -> None:
    world, a, b = pair()
    b.host.listen(80)
    clients = [a.host.connect(B4, 80, world.now) for _ in range(5)]
    assert world.run(5, until=lambda: len(b.accepted) == 5)
    world.paths = (Path(loss=1.0), Path(loss=1.0))
    for client in clients:
        a.write(client, b"anybody there", world.now)
    world.run(15)
    assert all(client.stalled for client in clients)
    seen: list[float] = []
    world.tap = lambda sender, packet: seen.append(world.now) if sender == 0 else None
    world.run(10)
    assert 20 <= len(seen) <= 28  # the probes, and what back-off brings
    world.paths = (Path(), Path())
    before = world.now
    assert world.run(20, until=lambda: len(b.received) >= 1)
    assert world.now - before < 0.6
    world.run(100)
    assert len(b.received) == 5


def test_sixty_four_flows_share_evenly() -> None:
    world, a, b = pair(Path(rate=20e6), Path(), seed=2)
    b.host.listen(80)
    clients = [a.host.connect(B4, 80, world.now) for _ in range(64)]
    assert world.run(10, until=lambda: len(b.accepted) == 64)
    for client in clients:
        a.write(client, bytes(4_000_000), world.now)
    world.run(1.5)
    shares = [len(data) for data in b.received.values()]
    assert len(shares) == 64
    assert sum(shares) > 10_000_000
    assert sum(shares) ** 2 / (64 * sum(share**2 for share in shares)) >= 0.976  # Jain's index


def test_an_interactive_flow_goes_ahead_of_bulk() -> None:
    world, a, b = pair(Path(rate=5e6), Path())
    b.host.listen(80)
    b.echoes = True
    bulk = [a.host.connect(B4, 80, world.now) for _ in range(8)]
    key = a.host.connect(B4, 80, world.now)
    assert world.run(10, until=lambda: len(b.accepted) == 9)
    for client in bulk:
        a.write(client, bytes(4_000_000), world.now)
    world.run(1)
    before = world.now
    a.write(key, b"k", world.now)
    assert world.run(5, until=lambda: bool(a.received.get(key)))
    assert world.now - before < 0.02 + 0.06  # the round trip and a turn of each


def test_statistics_are_a_snapshot() -> None:
    world, a, b = pair()
    client, _ = connect(world, a, b)
    a.write(client, bytes(100_000), world.now)
    world.run(5)
    statistics = a.host.statistics()
    assert statistics.connections == {"ESTABLISHED": 1}
    assert statistics.packets_out > 70
    assert statistics.super_packets_out < statistics.packets_out
    assert statistics.bytes_out > 100_000
    assert statistics.rows_in > 3
    assert b.host.statistics().packets_in >= statistics.packets_out
    with pytest.raises(AttributeError):
        statistics.rows_in = 0  # type: ignore[misc]
