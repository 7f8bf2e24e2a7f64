"""What the proxy opens inside the tunnel, a packet filter without a single rule lets in: as long as it is open."""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.routes import HostNet, let_in
from proxy.udpforward import UdpForward
from tests.proxy.support import until
from tests.support.networks import LEFT, memory_pair
from usernet.filter import PacketFilter
from usernet.filter.core import UDP_FLOWS


class Heard(asyncio.DatagramProtocol):
    """A socket, and what has come to it from where."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Any]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))


async def test_more_clients_of_a_forward_than_a_filter_remembers() -> None:
    """Who asked first, and only listens since, still gets his answers."""
    loop = asyncio.get_running_loop()
    made = PacketFilter()
    made.set_rules([])
    count = UDP_FLOWS + 50
    async with memory_pair(right_filter=made) as pair:
        _, server = await pair.left.create_datagram_endpoint(Heard, local_addr=(LEFT, 5353))
        local, forward = await loop.create_datagram_endpoint(
            lambda: UdpForward(pair.right, (LEFT, 5353)), local_addr=("127.0.0.1", 0)
        )
        name = local.get_extra_info("sockname")
        clients = [(await loop.create_datagram_endpoint(Heard, remote_addr=name))[1] for _ in range(count)]
        for number, client in enumerate(clients):
            client.transport.sendto(b"%d" % number)
            await until(lambda number=number: len(server.received) > number)  # type: ignore[misc]
        assert made.statistics().udp_flows == UDP_FLOWS
        assert made.statistics().permits == count
        for data, whence in server.received:
            server.transport.sendto(data, whence[:2])
        for number, client in enumerate(clients):
            await until(lambda client=client: client.received)  # type: ignore[misc]
            assert client.received[0][0] == b"%d" % number
        assert not made.statistics().drops
        local.close()
        await until(lambda: not forward.flows and not made.statistics().permits)
        for client in clients:
            client.transport.close()
    await asyncio.sleep(0)


def test_a_net_without_a_filter_needs_nothing() -> None:
    let_in(HostNet(), "tcp", 1)()
