"""UDP sockets between two hosts, and what bounds them."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.stack import A4, A6, B4, B6, Path, Station, World, burst_of, cut, pair
from usernet.errors import NetworkUnreachable
from usernet.stack.udp import RECEIVE_BYTES, SEND_BYTES, UdpSocket
from usernet.tcp.pathmtu import MAX_PATHS
from usernet.tcp.tcb import READABLE, WRITABLE
from usernet.wire.icmp import packet_too_big_for
from usernet.wire.ip import UDP, pack_address
from usernet.wire.packet import encode_packet
from usernet.wire.udp import MAX_PAYLOAD_BYTES_V4, UdpDatagram

FAMILIES = [(A4, B4), (A6, B6)]


def exchange(world: World, a: Station, b: Station, remote: bytes, data: bytes) -> bytes:
    """Send to an echoing socket and return what comes back."""
    server = b.host.open_udp(port=7)
    client = a.host.open_udp(remote=(remote, 7))
    b.echoes = True
    client.send(data, None, world.now)
    assert world.run(5, until=lambda: bool(a.datagrams))
    socket, answer, source = a.datagrams.pop()
    assert (socket, source) == (client, (remote, 7))
    server.close()
    client.close()
    return answer


@pytest.mark.parametrize("remote", [B4, B6])
@pytest.mark.parametrize("size", [0, 1, 1000, 1500, 60_000, 65_507])
def test_echo(remote: bytes, size: int) -> None:
    world, a, b = pair()
    data = os.urandom(size)
    assert exchange(world, a, b, remote, data) == data
    assert b.host.statistics().udp_sockets == 0
    assert b.host.statistics().fragment_bytes == 0


def test_echo_of_fragments_out_of_order_and_twice() -> None:
    world, a, b = pair(Path(reorder=0.4, duplicate=0.2), seed=5)
    data = os.urandom(60_000)
    assert exchange(world, a, b, B4, data) == data


def test_a_lost_fragment_loses_the_datagram_and_its_memory() -> None:
    world, a, b = pair(Path(loss=0.3), seed=3)
    b.host.open_udp(port=7)
    client = a.host.open_udp()
    for _ in range(2):
        client.send(bytes(60_000), (B4, 7), world.now)
        client.send(bytes(60_000), (B6, 7), world.now)
    world.run(5)
    assert b.host.statistics().fragment_bytes > 0
    world.run(61)
    statistics = b.host.statistics()
    assert statistics.fragment_bytes == 0
    assert statistics.drops["fragment-timeout"] == 4
    assert b.datagrams == []


def test_too_large_or_to_nowhere() -> None:
    _, a, _ = pair()
    socket = a.host.open_udp()
    with pytest.raises(OSError, match="at most 65507") as caught:
        socket.send(bytes(MAX_PAYLOAD_BYTES_V4 + 1), (B4, 7), 0)
    assert caught.value.errno == errno.EMSGSIZE
    with pytest.raises(OSError, match="destination") as caught:
        socket.send(b"", None, 0)
    assert caught.value.errno == errno.EDESTADDRREQ
    with pytest.raises(NetworkUnreachable):
        socket.send(b"", (pack_address("224.0.0.1"), 7), 0)
    only_v4 = Station(A4)
    with pytest.raises(NetworkUnreachable, match="no IPv6 address"):
        only_v4.host.open_udp().send(b"", (B6, 7), 0)
    with pytest.raises(NetworkUnreachable):
        a.host.open_udp(address=A4).send(b"", (B6, 7), 0)
    socket.close()
    socket.close()
    assert socket.is_closed
    with pytest.raises(OSError, match="closed") as caught:
        socket.send(b"", (B4, 7), 0)
    assert caught.value.errno == errno.EBADF


def test_ports_are_taken_and_released() -> None:
    _, a, _ = pair()
    socket = a.host.open_udp(port=53)
    with pytest.raises(OSError, match="in use") as caught:
        a.host.open_udp(port=53, address=A4)
    assert caught.value.errno == errno.EADDRINUSE
    socket.close()
    on_v4, on_v6 = a.host.open_udp(port=53, address=A4), a.host.open_udp(port=53, address=A6)
    with pytest.raises(OSError, match="in use"):
        a.host.open_udp(port=53)
    with pytest.raises(OSError, match="not an address"):
        a.host.open_udp(address=B4)
    on_v4.close()
    on_v6.close()
    first = a.host.open_udp(port=1000, remote=(B4, 1))
    second = a.host.open_udp(port=1000, remote=(B4, 2))
    with pytest.raises(OSError, match="in use"):
        a.host.open_udp(port=1000, remote=(B4, 2))
    first.close()
    second.close()
    assert a.host.statistics().udp_sockets == 0


def test_a_connected_socket_hears_its_peer_only() -> None:
    world, a, b = pair()
    client = a.host.open_udp(port=1000, remote=(B4, 7))
    other = b.host.open_udp(port=8)
    other.send(b"not for you", (A4, 1000), world.now)
    world.run(1)
    assert a.datagrams == []
    assert a.host.statistics().drops == {"udp-no-socket": 1}
    b.host.open_udp(port=7).send(b"for you", (A4, 1000), world.now)
    world.run(1)
    assert a.datagrams == [(client, b"for you", (B4, 7))]


@pytest.mark.parametrize(("local", "remote"), FAMILIES)
def test_a_closed_port_refuses_a_connected_socket(local: bytes, remote: bytes) -> None:
    world, a, _ = pair()
    connected, free = a.host.open_udp(remote=(remote, 9)), a.host.open_udp()
    connected.send(b"x", None, world.now)
    free.send(b"x", (remote, 9), world.now)
    world.run(1)
    assert isinstance(connected.error, ConnectionRefusedError)
    assert a.readiness[connected] == READABLE
    assert free.error is None


def test_a_receive_queue_is_bounded() -> None:
    world, _, b = pair()
    server = b.host.open_udp(port=7)
    for payload in (bytes(1000), b""):
        packet = encode_packet(A4, B4, UDP, UdpDatagram(5, 7, payload).encode(A4, B4))
        for _ in range(3000):
            b.host.receive_packets(burst_of([packet]), world.now)
    count = 0
    while server.receive() is not None:
        count += 1
    assert RECEIVE_BYTES / 1200 <= count < RECEIVE_BYTES / 1200 + 1000
    assert b.host.statistics().drops["udp-queue-full"] == 6000 - count
    b.host.receive_packets(burst_of([packet]), world.now)
    assert server.receive() == (b"", (A4, 5))


def test_a_send_queue_is_bounded_and_tells_when_it_has_room() -> None:
    world, a, b = pair()
    server = b.host.open_udp(port=7)
    client = a.host.open_udp(remote=(B4, 7))
    sent = 0
    while client.send(bytes(1000), None, world.now):
        sent += 1
    assert SEND_BYTES / 1300 < sent < SEND_BYTES / 1000
    assert a.host.statistics().drops == {"udp-send-queue-full": 1}
    world.run(1)
    assert a.readiness[client] == WRITABLE
    assert len(b.datagrams) == sent
    assert client.send(b"again", None, world.now)
    assert not server.is_closed


def test_closing_lets_go_what_was_sent() -> None:
    world, a, b = pair()
    server = b.host.open_udp(port=7)
    client = a.host.open_udp(port=1000)
    client.send(b"last words", (B4, 7), world.now)
    client.close()
    world.run(1)
    assert b.datagrams == [(server, b"last words", (A4, 1000))]


@pytest.mark.parametrize(("local", "remote"), FAMILIES)
def test_packet_too_big_makes_fragments_of_that_size(local: bytes, remote: bytes) -> None:
    world, a, b = pair()
    server = b.host.open_udp(port=7)
    client = a.host.open_udp(remote=(remote, 7))
    sizes: list[int] = []
    world.tap = lambda sender, packet: sizes.append(len(packet)) if sender == 0 else None
    client.send(bytes(1372), None, world.now)
    (packet,) = a.host.take(1 << 20, world.now)
    for mtu in (1300, 100, 9000):  # below the floor it is raised, upward it is not believed
        too_big = packet_too_big_for(cut(packet)[0], mtu)
        assert too_big is not None
        world.inject(0, too_big)
    client.send(bytes(1372), None, world.now)
    world.run(1)
    assert len(sizes) > 1
    assert max(sizes) <= (576 if len(local) == 4 else 1280)
    assert b.datagrams == [(server, bytes(1372), b.datagrams[0][2])]
    world.run(601)
    sizes.clear()
    client.send(bytes(1372), None, world.now)
    world.run(1)
    assert sizes == [1372 + (28 if len(local) == 4 else 48)]


def test_path_mtus_are_bounded() -> None:
    world, a, _ = pair()
    client = a.host.open_udp()
    counts = []
    others = (pack_address("10.1.0.0")[:2] + number.to_bytes(2, "big") for number in range(MAX_PATHS))
    for remote in (B4, *others, B4):
        client.send(bytes(1300), (remote, 7), world.now)
        packets = a.host.take(1 << 20, world.now)
        counts.append(len(packets))
        too_big = packet_too_big_for(cut(packets[0])[0], 1000)
        assert too_big is not None
        world.inject(0, too_big)
    assert set(counts) == {1}  # the last of the others displaced the first


def test_packet_too_big_for_a_flow_we_do_not_have_is_nothing() -> None:
    world, a, _ = pair()
    client = a.host.open_udp(port=1000)
    forged = encode_packet(A4, B4, UDP, UdpDatagram(1001, 7, bytes(1000)).encode(A4, B4))
    too_big = packet_too_big_for(forged, 600)
    assert too_big is not None
    world.inject(0, too_big)
    assert a.host.statistics().drops == {"icmp-no-flow": 1}
    client.send(bytes(1300), (B4, 7), world.now)
    assert len(a.host.take(1 << 20, world.now)) == 1


@pytest.mark.parametrize(("own", "size"), [(A4, 10), (A6, 10), (A4, 60_000)])
def test_hairpin(own: bytes, size: int) -> None:
    world, a, _ = pair()
    server = a.host.open_udp(port=7)
    client = a.host.open_udp(remote=(own, 7))
    client.send(bytes(size), None, world.now)
    world.run(1)
    assert [(socket, len(data)) for socket, data, _ in a.datagrams] == [(server, size)]
    assert world.carried == 0


def test_bulk_datagrams_share_with_others() -> None:
    _, a, _ = pair()
    sockets: list[UdpSocket] = [a.host.open_udp(port=port, remote=(B4, 7)) for port in (1000, 1001)]
    for socket in sockets:
        for _ in range(100):
            socket.send(bytes(1300), None, 0)
    packets = [cut(packet)[0] for packet in a.host.take(200_000, 0)]
    counts = [sum(packet[20:22] == port.to_bytes(2, "big") for packet in packets) for port in (1000, 1001)]
    assert min(counts) > 40
