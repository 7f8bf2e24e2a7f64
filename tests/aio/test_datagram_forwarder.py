"""UDP flows from inside the tunnel to real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

import usernet
from tests.support.networks import RIGHT, RIGHT6, memory_pair
from usernet.aio.forwarder import Inbound
from usernet.aio.network import Network

Factory = Callable[[], Any]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


class Echo(asyncio.DatagramProtocol):
    """Sends back what comes, and remembers from whom."""

    def __init__(self) -> None:
        self.clients: set[Any] = set()

    async def __aenter__(self) -> Echo:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.address = self.transport.get_extra_info("sockname")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.clients.add(addr)
        self.transport.sendto(data, addr)

    async def dial(self, factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_datagram_endpoint(factory, remote_addr=self.address)


def nothing_left(net: Network) -> bool:
    return not net._link._owners and not net.statistics().host.udp_sockets


@pytest.mark.parametrize("host", [RIGHT, RIGHT6])
async def test_each_client_has_a_backend_of_its_own(host: str) -> None:
    async with memory_pair() as pair, Echo() as echo:
        seen: list[Inbound] = []

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            seen.append(inbound)
            return await echo.dial(factory, inbound)

        async with await pair.right.create_datagram_forwarder(dial, None, 5300) as forwarder:
            clients = [await pair.left.open_datagrams(remote_addr=(host, 5300)) for _ in range(3)]
            for size in (1, 1000, 5000):
                for number, client in enumerate(clients):
                    client.send(bytes([number]) * size)
                    data, source = await client.receive()
                    assert (data, source[:2]) == (bytes([number]) * size, (host, 5300))
            assert len(echo.clients) == 3
            assert forwarder.statistics() == usernet.DatagramForwarderStatistics(3, 3, 0, 0)
            assert {inbound.destination[:2] for inbound in seen} == {(host, 5300)}
            assert {inbound.client for inbound in seen} == {client.local_address for client in clients}
        assert forwarder.statistics().open == 0
        assert nothing_left(pair.right)
        clients[0].send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            await clients[0].receive()
        for client in clients:
            client.close()


async def test_a_backend_that_is_down_is_a_port_unreachable() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()

    async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_datagram_endpoint(factory, remote_addr=address)

    async with memory_pair() as pair:
        await pair.right.create_datagram_forwarder(dial, None, 5300)
        async with await pair.left.open_datagrams(remote_addr=(RIGHT, 5300)) as client:
            for _ in range(2):
                client.send(b"anybody?")
                with pytest.raises(ConnectionRefusedError):
                    await client.receive()


async def test_a_dial_that_fails_ends_the_flow() -> None:
    async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        raise OSError("no more sockets")

    async with memory_pair() as pair:
        forwarder = await pair.right.create_datagram_forwarder(dial, None, 5300)
        async with await pair.left.open_datagrams(remote_addr=(RIGHT, 5300)) as client:
            client.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await client.receive()
            assert forwarder.statistics() == usernet.DatagramForwarderStatistics(0, 1, 1, 0)
            assert nothing_left(pair.right)


async def test_what_comes_while_dialling_is_not_lost() -> None:
    gate = asyncio.Event()
    async with memory_pair() as pair, Echo() as echo:

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            await gate.wait()
            return await echo.dial(factory, inbound)

        forwarder = await pair.right.create_datagram_forwarder(dial, None, 5300)
        async with await pair.left.open_datagrams(remote_addr=(RIGHT, 5300)) as client:
            for number in range(5):
                client.send(b"%d" % number)
            await until(lambda: pair.right.statistics().host.packets_in >= 5)
            gate.set()
            assert sorted([(await client.receive())[0] for _ in range(5)]) == [b"0", b"1", b"2", b"3", b"4"]
            assert forwarder.statistics().begun == 1


async def test_a_client_that_is_gone_ends_the_flow() -> None:
    async with memory_pair() as pair, Echo() as echo:
        forwarder = await pair.right.create_datagram_forwarder(echo.dial, None, 5300)
        client = await pair.left.open_datagrams(remote_addr=(RIGHT, 5300))
        client.send(b"x")
        await client.receive()
        client.close()
        (backend,) = echo.clients
        echo.transport.sendto(b"one more", backend)
        await until(lambda: not forwarder.statistics().open)
        assert nothing_left(pair.right)


async def test_an_idle_flow_closes_its_backend() -> None:
    async with memory_pair() as pair, Echo() as echo:
        forwarder = await pair.right.create_datagram_forwarder(echo.dial, None, 53)
        async with await pair.left.open_datagrams(remote_addr=(RIGHT, 53)) as client:
            client.send(b"x")
            await client.receive()
            link, (relay,) = pair.right._link, forwarder.relays
            for _ in range(10):  # as the wheel would every few seconds
                link.host.flows.look(relay._flow.look, 0.0)
                link._dispatch()
                if not forwarder.statistics().open:
                    break
            assert relay._transport.is_closing()
            assert nothing_left(pair.right)


async def test_closing_the_network_ends_dials_and_flows() -> None:
    async def never(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with memory_pair() as pair, Echo() as echo:
        waiting = await pair.right.create_datagram_forwarder(never, None, 1)
        forwarder = await pair.right.create_datagram_forwarder(echo.dial, None, 2)
        async with (
            await pair.left.open_datagrams(remote_addr=(RIGHT, 1)) as one,
            await pair.left.open_datagrams(remote_addr=(RIGHT, 2)) as two,
        ):
            one.send(b"x")
            two.send(b"x")
            await two.receive()
            await until(lambda: waiting.statistics().open)
            await pair.right.close()
            assert waiting.statistics().open == forwarder.statistics().open == 0


async def test_a_backend_that_is_made_behind_the_close_is_closed() -> None:
    """As by uvloop, of whose endpoint only the waiting can be cancelled."""

    class Late(asyncio.DatagramTransport):
        closed = False

        def close(self) -> None:
            self.closed = True

    late, dialled = Late(), asyncio.Event()

    async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        protocol = factory()
        forwarder.close()
        protocol.connection_made(late)
        dialled.set()
        return late, protocol

    async with memory_pair() as pair:
        forwarder = await pair.right.create_datagram_forwarder(dial, None, 5300)
        async with await pair.left.open_datagrams(remote_addr=(RIGHT, 5300)) as client:
            client.send(b"x")
            await dialled.wait()
            assert late.closed


async def test_a_backend_that_takes_nothing_more_loses_datagrams_and_no_memory() -> None:
    class Stuck(asyncio.DatagramTransport):
        sent = 0

        def get_write_buffer_size(self) -> int:
            return self.sent

        def sendto(self, data: Any, addr: Any = None) -> None:
            self.sent += len(data)

        def close(self) -> None:
            """Nothing is open."""

    stuck = Stuck()

    async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        protocol = factory()
        protocol.connection_made(stuck)
        return stuck, protocol

    async with memory_pair() as pair:
        forwarder = await pair.right.create_datagram_forwarder(dial, None, 5300)
        async with await pair.left.open_datagrams(remote_addr=(RIGHT, 5300)) as client:
            for sent in range(20, 501, 20):
                for _ in range(20):
                    client.send(bytes(1200))
                await until(lambda sent=sent: pair.right.statistics().host.packets_in >= sent)  # type: ignore[misc]
            await until(lambda: forwarder.statistics().dropped)
            assert stuck.sent < 300_000
