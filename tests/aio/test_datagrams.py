"""UDP inside the tunnel: asyncio's datagram endpoint, and the object to await on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest

from tests.support.networks import LEFT, LEFT6, RIGHT, RIGHT6, memory_pair
from usernet.errors import NoRoute


class Recorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self._waiter: asyncio.Future[None] | None = None

    def _note(self, call: Any) -> None:
        self.calls.append(call)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.calls) < count:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._note((data, addr))

    def error_received(self, exc: Exception) -> None:
        self._note(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._note(("lost", exc))


@pytest.mark.parametrize(("server_host", "client_host"), [(RIGHT, LEFT), (RIGHT6, LEFT6)])
async def test_endpoints(server_host: str, client_host: str) -> None:
    async with memory_pair() as pair:
        server_transport, server = await pair.right.create_datagram_endpoint(Recorder, local_addr=(server_host, 5353))
        client_transport, client = await pair.left.create_datagram_endpoint(Recorder, remote_addr=(server_host, 5353))
        assert client_transport.get_extra_info("peername")[:2] == (server_host, 5353)
        assert client_transport.get_extra_info("sockname")[0] == client_host
        assert server_transport.get_extra_info("peername") is None
        assert server_transport.get_extra_info("socket", "none") == "none"
        client_transport.sendto(b"question")
        await server.until(2)
        data, address = server.calls[1]
        assert data == b"question"
        assert address == client_transport.get_extra_info("sockname")
        server_transport.sendto(bytearray(b"answer"), address)
        await client.until(2)
        assert client.calls[1] == (b"answer", server_transport.get_extra_info("sockname"))
        client_transport.close()
        client_transport.close()
        assert client_transport.is_closing()
        assert len(client.calls) == 2, "connection_lost is not called from within close()"
        await client.until(3)
        client_transport.sendto(b"too late")
        assert client.calls == ["made", client.calls[1], ("lost", None)]


async def test_large_datagrams_are_cut_and_put_together() -> None:
    async with memory_pair() as pair:
        _, server = await pair.right.create_datagram_endpoint(Recorder, local_addr=(None, 7))
        client_transport, _ = await pair.left.create_datagram_endpoint(Recorder)
        for host in (RIGHT, RIGHT6):
            client_transport.sendto(bytes(range(256)) * 200, (host, 7))
        await server.until(3)
        assert [len(call[0]) for call in server.calls[1:]] == [51200, 51200]
        client_transport.sendto(bytes(70_000), (RIGHT, 7))


async def test_wrong_uses() -> None:
    async with memory_pair() as pair:
        connected, protocol = await pair.left.create_datagram_endpoint(Recorder, remote_addr=(RIGHT, 7))
        free, free_protocol = await pair.left.create_datagram_endpoint(Recorder)
        with pytest.raises(TypeError):
            free.sendto("text", (RIGHT, 7))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="address"):
            free.sendto(b"to whom?")
        with pytest.raises(ValueError, match="Invalid address"):
            connected.sendto(b"x", (RIGHT, 8))
        connected.sendto(b"x", (RIGHT, 7))
        free.sendto(b"x", ("192.0.2.99", 7))
        assert isinstance(free_protocol.calls[-1], NoRoute)
        free.sendto(bytes(70_000), (RIGHT, 7))
        assert isinstance(free_protocol.calls[-1], OSError)
        assert connected.get_protocol() is protocol
        other = Recorder()
        connected.set_protocol(other)
        connected.abort()
        await other.until(1)
        with pytest.raises(OSError, match="not an address of this tunnel"):
            await pair.left.create_datagram_endpoint(Recorder, local_addr=(RIGHT, 7))


async def test_a_failing_protocol_factory_is_the_callers() -> None:
    def factory() -> asyncio.DatagramProtocol:
        raise KeyError("no protocol today")

    async with memory_pair() as pair:
        with pytest.raises(KeyError):
            await pair.left.create_datagram_endpoint(factory)
        assert pair.left.statistics().host.udp_sockets == 0


async def test_nobody_there() -> None:
    async with memory_pair() as pair:
        transport, protocol = await pair.left.create_datagram_endpoint(Recorder, remote_addr=(RIGHT, 9))
        transport.sendto(b"anybody?")
        await protocol.until(2)
        assert isinstance(protocol.calls[1], ConnectionRefusedError)
        async with await pair.left.open_datagrams(remote_addr=(RIGHT, 9)) as datagrams:
            datagrams.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await datagrams.receive()


async def test_an_error_leaves_nothing_for_the_collector() -> None:
    def errors() -> int:
        return sum(isinstance(thing, ConnectionRefusedError) for thing in gc.get_objects())

    async with memory_pair() as pair, await pair.left.open_datagrams(remote_addr=(RIGHT, 9)) as datagrams:
        gc.collect()
        before = errors()
        gc.disable()
        try:
            datagrams.send(b"anybody?")
            with contextlib.suppress(ConnectionRefusedError):
                await datagrams.receive()
            assert errors() == before
        finally:
            gc.enable()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_whatever_holds_bytes_is_sent(kind: type) -> None:
    async with (
        memory_pair() as pair,
        await pair.right.open_datagrams(local_addr=(None, 9)) as there,
        await pair.left.open_datagrams(remote_addr=(RIGHT, 9)) as here,
    ):
        here.send(kind(b"hello"))
        assert (await there.receive())[0] == b"hello"


async def collect_reports() -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    return reports


async def test_a_protocol_that_fails_keeps_its_socket() -> None:
    """And each failure is reported by itself: what has arrived behind that datagram is not held up."""

    class Broken(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"bad":
                raise ArithmeticError("cannot take it")

        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise ArithmeticError("an error too many")

    reports = await collect_reports()
    async with memory_pair() as pair:
        server_transport, server = await pair.right.create_datagram_endpoint(Broken, local_addr=(None, 7))
        client_transport, client = await pair.left.create_datagram_endpoint(Broken, remote_addr=(RIGHT, 7))
        for data in (b"bad", b"good", b"bad", b"good"):
            client_transport.sendto(data)
        await server.until(5)
        assert [call[0] for call in server.calls[1:]] == [b"bad", b"good", b"bad", b"good"]
        server_transport.close()
        client_transport.sendto(b"anybody?")
        await client.until(2)
    assert [report["message"] for report in reports] == [
        *["protocol.datagram_received() failed"] * 2, "protocol.error_received() failed"
    ]  # fmt: skip
    assert all(isinstance(report["exception"], ArithmeticError) for report in reports)


async def test_connection_made_fails() -> None:
    class Broken(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise ArithmeticError("not made for this")

    reports = await collect_reports()
    async with memory_pair() as pair:
        transport, server = await pair.right.create_datagram_endpoint(Broken, local_addr=(None, 7))
        assert isinstance(reports[0]["exception"], ArithmeticError)
        client_transport, _ = await pair.left.create_datagram_endpoint(Recorder, remote_addr=(RIGHT, 7))
        client_transport.sendto(b"all the same")
        await server.until(2)
        assert server.calls[1][0] == b"all the same"
        transport.close()
        (await pair.right.open_datagrams(local_addr=(None, 7))).close()


async def test_datagrams() -> None:
    async with memory_pair() as pair:
        async with (
            await pair.right.open_datagrams(local_addr=(None, 5000)) as server,
            await pair.left.open_datagrams(remote_addr=(RIGHT, 5000)) as client,
        ):
            assert server.local_address == ("::", 5000, 0, 0)
            for number in range(5):
                client.send(b"%d" % number)
            for number in range(5):
                data, (host, port, *_) = await server.receive()
                assert data == b"%d" % number
                assert (host, port) == client.local_address[:2]
                server.send(b"re " + data, (host, port))
            assert [(await client.receive())[0] for _ in range(5)] == [b"re %d" % number for number in range(5)]
            with pytest.raises(NoRoute):
                server.send(b"x", ("192.0.2.99", 7))
            with pytest.raises(ValueError, match="address"):
                server.send(b"to whom?")
        with pytest.raises(OSError, match="closed"):
            client.send(b"x")
        with pytest.raises(OSError, match="closed"):
            await client.receive()


async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    async with memory_pair() as pair:
        server = await pair.right.open_datagrams(local_addr=(None, 5000))
        client = await pair.left.open_datagrams(remote_addr=(RIGHT, 5000))
        waiting = asyncio.ensure_future(server.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        client.send(b"for whoever comes next")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(10):
            assert (await server.receive())[0] == b"for whoever comes next"


async def test_closing_wakes_whoever_waits() -> None:
    async with memory_pair() as pair:
        datagrams = await pair.left.open_datagrams()
        waiting = [asyncio.ensure_future(datagrams.receive()) for _ in range(2)]
        await asyncio.sleep(0)
        datagrams.close()
        datagrams.close()
        for task in waiting:
            with pytest.raises(OSError, match="closed"):
                await task


async def test_closing_the_network_ends_both_kinds() -> None:
    async with memory_pair() as pair:
        _, protocol = await pair.left.create_datagram_endpoint(Recorder)
        datagrams = await pair.left.open_datagrams()
        await pair.left.close()
        assert isinstance(protocol.calls[-1][1], ConnectionAbortedError)
        with pytest.raises(OSError, match="closed"):
            await datagrams.receive()
