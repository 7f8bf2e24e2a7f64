"""UDP flows for somebody behind us: begun, answered, refused, idle, in numbers."""

from __future__ import annotations

import errno

import pytest

from tests.support.stack import A4, A6, B4, B6, Station, World, pair
from usernet.stack.events import FlowBegun, FlowEnded
from usernet.stack.udpflow import UdpFlow, UdpForwarder
from usernet.stack.udpflows import DNS_IDLE_SECONDS, FLOWS_MAX, IDLE_SECONDS
from usernet.wire.ip import UDP, pack_address
from usernet.wire.packet import fragment
from usernet.wire.udp import UdpDatagram

FAMILIES = [(A4, B4), (A6, B6)]
BEHIND = pack_address("192.168.7.9")


def forwarding(port: int = 5300) -> tuple[World, Station, Station, UdpForwarder]:
    world, a, b = pair()
    return world, a, b, b.host.flows.open(None, port)


def flows(b: Station) -> list[UdpFlow]:
    return [event.flow for event in b.events if isinstance(event, FlowBegun)]


def ended(b: Station) -> list[UdpFlow]:
    return [event.flow for event in b.events if isinstance(event, FlowEnded)]


def datagram(port: int, data: bytes = b"x", *, source: bytes = A4, to: int = 5300) -> bytes:
    payload = UdpDatagram(port, to, data).encode(source, B4)
    (packet,) = fragment(source, B4, UDP, payload, 1420, 0)
    return packet


@pytest.mark.parametrize(("own", "remote"), FAMILIES)
def test_there_and_back(own: bytes, remote: bytes) -> None:
    world, a, b, forwarder = forwarding()
    client = a.host.open_udp(remote=(remote, 5300))
    client.send(b"one", None, world.now)
    client.send(b"two", None, world.now)
    world.run(1)
    (flow,) = flows(b)
    assert flow.forwarder is forwarder
    assert (flow.local, flow.remote) == ((remote, 5300), (own, client.local[1]))
    got = [data for socket, data, _ in b.datagrams if socket is flow]
    while (received := flow.receive()) is not None:
        got.append(received[0])
    assert sorted(got) == [b"one", b"two"]
    flow.send(b"answer", None, world.now)
    assert world.run(1, until=lambda: [data for _, data, _ in a.datagrams] == [b"answer"])
    assert b.host.statistics().udp_flows == 1


def test_each_client_and_destination_is_a_flow() -> None:
    world, _, b, _ = forwarding(port=0)
    world.inject(1, datagram(1000), datagram(1000), datagram(1001), datagram(1000, to=99))
    assert [(flow.remote, flow.local[1]) for flow in flows(b)] == [
        ((A4, 1000), 5300),
        ((A4, 1001), 5300),
        ((A4, 1000), 99),
    ]


@pytest.mark.parametrize(("port", "idle"), [(5300, IDLE_SECONDS), (53, DNS_IDLE_SECONDS)])
def test_idle_flows_end(port: int, idle: float) -> None:
    world, _, b, _ = forwarding(port)
    world.inject(1, datagram(1000, to=port))
    (flow,) = flows(b)
    world.run(idle - 1)
    assert not ended(b)
    world.inject(1, datagram(1000, to=port))
    world.run(idle - 1)
    flow.send(b"what is sent counts as well", None, world.now)
    world.run(idle - 1)
    assert not ended(b)
    world.run(idle / 2)
    assert ended(b) == [flow]
    assert flow.is_closed
    assert_nothing_left(b)
    world.inject(1, datagram(1000, to=port))
    assert len(flows(b)) == 2, "and it begins anew"


def test_a_backend_that_refuses() -> None:
    world, a, b, _ = forwarding()
    for number, remote in enumerate((B4, B6)):
        client = a.host.open_udp(remote=(remote, 5300))
        client.send(b"anybody?", None, world.now)
        world.run(1)
        b.host.flows.unreachable(flows(b)[number], world.now)
        world.run(1)
        assert isinstance(client.error, ConnectionRefusedError)


def test_a_client_that_is_gone() -> None:
    world, a, b, _ = forwarding()
    client = a.host.open_udp(remote=(B4, 5300))
    client.send(b"x", None, world.now)
    world.run(1)
    client.close()
    (flow,) = flows(b)
    flow.send(b"too late", None, world.now)
    assert world.run(1, until=lambda: flow.error is not None)
    assert isinstance(flow.error, ConnectionRefusedError)
    flow.close()
    b.host.flows.unreachable(flow, world.now)
    assert_nothing_left(b)


def test_one_client_leaves_room_for_others() -> None:
    world, _, b, _ = forwarding()
    for at in range(1, 4001, 100):
        world.inject(1, *[datagram(port) for port in range(at, at + 100)])
    share = FLOWS_MAX * 2 // 3
    assert b.host.statistics().udp_flows == share
    assert b.host.statistics().drops["udp-client-flows-full"] == 4000 - share
    for number in range(2000):
        world.inject(1, datagram(9, source=A4[:2] + (300 + number).to_bytes(2, "big")))
    assert b.host.statistics().udp_flows == FLOWS_MAX
    assert b.host.statistics().drops["udp-flows-full"] == share + 2000 - FLOWS_MAX
    flows(b)[0].close()
    world.inject(1, datagram(4001, source=A4[:2] + b"\x55\x55"))
    assert b.host.statistics().udp_flows == FLOWS_MAX, "room again"
    world.run(IDLE_SECONDS * 1.5)
    assert_nothing_left(b)


def test_what_waits_for_the_backend_is_bounded() -> None:
    world, _, b, forwarder = forwarding()
    world.inject(1, *[datagram(1000, bytes(1000))] * 50)
    waiting = len(b.datagrams)
    assert 5 < waiting < 20
    assert b.host.statistics().drops["udp-queue-full"] == 50 - waiting
    (flow,) = flows(b)
    flow.begin()
    world.inject(1, *[datagram(1000, bytes(1000))] * 50)
    assert len(b.datagrams) == waiting + 50
    forwarder.close()
    assert_nothing_left(b)


def test_a_socket_of_ours_goes_first_and_ports_are_taken_once() -> None:
    world, _, b, forwarder = forwarding(port=0)
    socket = b.host.open_udp(port=7)
    world.inject(1, datagram(1000, to=7))
    assert not flows(b)
    assert b.datagrams[0][0] is socket
    for port in (7, 0):
        with pytest.raises(OSError, match=r"forwarded|in use") as caught:
            b.host.flows.open(None, port)
        assert caught.value.errno == errno.EADDRINUSE
    b.host.flows.open(None, 8)
    with pytest.raises(OSError, match="8 is in use"):
        b.host.open_udp(port=8)
    forwarder.close()
    forwarder.close()


def test_hosts_behind_us() -> None:
    world, a, b = pair()
    b.host.flows.open([(BEHIND, 32)], 0)
    client = a.host.open_udp(remote=(BEHIND, 123))
    client.send(b"time?", None, world.now)
    assert world.run(1, until=lambda: bool(flows(b)))
    flows(b)[0].send(b"now", None, world.now)
    assert world.run(1, until=lambda: [data for _, data, _ in a.datagrams] == [b"now"])


def assert_nothing_left(b: Station) -> None:
    statistics = b.host.statistics()
    assert statistics.udp_flows == statistics.udp_sockets == statistics.timers == 0
