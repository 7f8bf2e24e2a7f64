"""Connections from inside the tunnel to real backends on loopback: let in, refused, given up, ended, slow."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import hashlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import usernet
from tests.support.networks import LEFT, LEFT_OUTER, RIGHT, RIGHT6, RIGHT_OUTER, config_of, key_pair, memory_pair
from usernet.aio import network
from usernet.aio.forwarder import Inbound
from usernet.aio.memory import Impairment, memory_links
from usernet.aio.network import Network
from usernet.aio.runtime import Tasks
from usernet.aio.transports import HIGH_WATER
from usernet.tcp.settings import TcpSettings

Factory = Callable[[], Any]
BEHIND = "192.168.7.9"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


class Backend:
    """A TCP server on loopback whose connections a test drives."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.port = 0

    async def __aenter__(self) -> Backend:
        self._server = await asyncio.start_server(lambda *streams: self.streams.put_nowait(streams), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()

    async def dial(self, factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", self.port)


async def refuse(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
    raise ConnectionRefusedError


class EagerTasks(Tasks):
    """As with asyncio.eager_task_factory, which came with Python 3.12: a task makes its first step when it is made."""

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        def step(callback: Callable[[], None], *, context: contextvars.Context) -> None:
            del vars(self._loop)["call_soon"]
            context.run(callback)

        vars(self._loop)["call_soon"] = step
        return super().start(coroutine, name)


def nothing_left(net: Network) -> bool:
    statistics = net.statistics().host
    return not net._link._owners and not statistics.pending_forwards


@pytest.mark.parametrize("host", [RIGHT, RIGHT6])
async def test_both_ways_and_half_closed(host: str) -> None:
    async with memory_pair() as pair, Backend() as backend:
        seen: list[Inbound] = []

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            seen.append(inbound)
            return await backend.dial(factory, inbound)

        forwarder = await pair.right.create_forwarder(dial, None, 80)
        reader, writer = await pair.left.open_connection(host, 80)
        theirs, answer = await backend.streams.get()
        assert seen[0].destination[:2] == (host, 80)
        assert seen[0].client == writer.get_extra_info("sockname")
        up, down = os.urandom(3 << 20), os.urandom(2 << 20)
        writer.write(up)
        writer.write_eof()
        assert hashlib.sha256(await theirs.read()).digest() == hashlib.sha256(up).digest()
        assert forwarder.statistics().open == 1, "half of it"
        answer.write(down)
        answer.close()
        assert hashlib.sha256(await reader.read()).digest() == hashlib.sha256(down).digest()
        writer.close()
        await until(lambda: nothing_left(pair.right))
        assert forwarder.statistics() == usernet.ForwarderStatistics(0, 0, 1, 0, 0)


async def test_the_backend_speaks_first_and_ends_first() -> None:
    """Before the client's handshake is over, what it says waits."""
    async with memory_pair(Impairment(delay=0.05)) as pair, Backend() as backend:
        await pair.right.create_forwarder(backend.dial, RIGHT, 80)
        client = asyncio.create_task(pair.left.open_connection(RIGHT, 80))
        theirs, answer = await backend.streams.get()
        answer.write(b"220 welcome")
        answer.write_eof()
        assert not client.done()
        reader, writer = await client
        assert await reader.read() == b"220 welcome"
        writer.write(b"thanks")
        writer.write_eof()
        assert await theirs.read() == b"thanks"
        answer.close()


async def test_what_the_backend_says_while_dialling_is_kept() -> None:
    async with memory_pair() as pair, Backend() as backend:

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            transport, protocol = await backend.dial(factory, inbound)
            await until(lambda: protocol.ended)  # a Dial may shake hands of its own
            return transport, protocol

        await pair.right.create_forwarder(dial, RIGHT, 80)
        client = asyncio.create_task(pair.left.open_connection(RIGHT, 80))
        theirs, answer = await backend.streams.get()
        answer.write(b"220 welcome")
        answer.write_eof()
        reader, writer = await client
        assert await reader.read() == b"220 welcome"
        writer.write(b"thanks")
        writer.close()
        assert await theirs.read() == b"thanks"
        answer.close()
        await until(lambda: nothing_left(pair.right))


async def test_what_the_backend_says_too_early_stays_with_it() -> None:
    said, kept = os.urandom(1 << 20), 0
    async with memory_pair() as pair, Backend() as backend:

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            nonlocal kept
            transport, protocol = await backend.dial(factory, inbound)
            await until(lambda: protocol.ended or (protocol.early and not transport.is_reading()))
            kept = len(protocol.early)
            return transport, protocol

        await pair.right.create_forwarder(dial, RIGHT, 80)
        client = asyncio.create_task(pair.left.open_connection(RIGHT, 80))
        theirs, answer = await backend.streams.get()
        answer.write(said)
        answer.write_eof()
        reader, writer = await client
        assert await reader.read() == said
        assert kept < 512 << 10
        writer.close()
        assert await theirs.read() == b""
        answer.close()


async def test_a_client_that_reads_nothing_stops_a_backend_that_was_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said early is more than the write limit, and it is written in the turn in which the two are joined."""
    small = functools.partial(TcpSettings, receive_buffer=8 << 10, receive_buffer_max=8 << 10)
    monkeypatch.setattr(network, "TcpSettings", small)
    said, dialled = os.urandom(1 << 20), []
    async with memory_pair() as pair, Backend() as backend:

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            transport, protocol = await backend.dial(factory, inbound)
            dialled.append(transport)
            await until(lambda: len(protocol.early) > HIGH_WATER)
            return transport, protocol

        forwarder = await pair.right.create_forwarder(dial, RIGHT, 80)
        client = asyncio.create_task(pair.left.open_connection(RIGHT, 80, limit=1024))
        _, answer = await backend.streams.get()
        answer.write(said)
        reader, writer = await client
        await until(lambda: forwarder.statistics().accepted)
        assert not dialled[0].is_reading()
        assert await reader.readexactly(len(said)) == said
        for end in (writer, answer):
            end.transport.abort()


async def test_no_backend_is_a_refusal_at_connect() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        port = unused.getsockname()[1]

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            return await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)

        async with memory_pair() as pair:
            forwarder = await pair.right.create_forwarder(dial, None, 80)
            with pytest.raises(ConnectionRefusedError):
                await pair.left.open_connection(RIGHT, 80)
            assert forwarder.statistics().refused == 1
            assert nothing_left(pair.right)


async def test_a_dial_that_fails_at_once_in_an_eager_task_is_a_refusal() -> None:
    async with memory_pair() as pair:
        forwarder = await pair.right.create_forwarder(refuse, None, 80)
        forwarder._tasks = EagerTasks(asyncio.get_running_loop())
        with pytest.raises(ConnectionRefusedError):
            await pair.left.open_connection(RIGHT, 80)
        assert forwarder.statistics() == usernet.ForwarderStatistics(0, 0, 0, 1, 0)
        assert nothing_left(pair.right)


async def test_a_backend_that_does_not_answer_is_a_refusal_in_time() -> None:
    async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with memory_pair() as pair:
        pair.right.dial_timeout = 0.2
        forwarder = await pair.right.create_forwarder(dial, None, 80)
        with pytest.raises(ConnectionRefusedError):
            await pair.left.open_connection(RIGHT, 80)
        assert forwarder.statistics().refused == 1


async def test_a_dial_that_is_wrong_refuses_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        raise ZeroDivisionError

    async with memory_pair() as pair:
        await pair.right.create_forwarder(dial, None, 80)
        with pytest.raises(ConnectionRefusedError):
            await pair.left.open_connection(RIGHT, 80)
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_hangs_up_cancels_the_dial() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        raise AssertionError

    async with memory_pair() as pair:
        forwarder = await pair.right.create_forwarder(dial, None, 80)
        client = asyncio.create_task(pair.left.open_connection(RIGHT, 80, local_port=5555))
        await began.wait()
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)
        # A kernel that has given up says so when it is next spoken to; ours does here.
        link, host = pair.right._link, pair.right._host
        (asking,) = host.forwards._pending.values()
        assert forwarder.statistics().dialling == 1
        host.forwards.hang_up(asking.key, asking.syn)
        link._dispatch()
        async with asyncio.timeout(5):  # sooner than the dial would end by itself
            await cancelled.wait()
        await until(lambda: forwarder.statistics() == usernet.ForwarderStatistics(0, 0, 0, 0, 1))
        assert nothing_left(pair.right)


async def test_a_client_that_is_gone_when_it_is_let_in() -> None:
    """The backend that was dialled for it hears of it."""
    async with memory_pair() as pair, Backend() as backend:
        gate = asyncio.Event()

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            await gate.wait()
            return await backend.dial(factory, inbound)

        forwarder = await pair.right.create_forwarder(dial, None, 80)
        client = asyncio.create_task(pair.left.open_connection(RIGHT, 80))
        await until(lambda: forwarder.statistics().dialling)
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)
        gate.set()
        theirs, answer = await backend.streams.get()
        with pytest.raises(ConnectionResetError):
            await theirs.read()
        answer.close()
        await until(lambda: forwarder.statistics().abandoned == 1)
        assert nothing_left(pair.right)


@pytest.mark.parametrize("whose", ["client", "backend"])
async def test_a_reset_is_a_reset(whose: str) -> None:
    async with memory_pair() as pair, Backend() as backend:
        forwarder = await pair.right.create_forwarder(backend.dial, None, 80)
        reader, writer = await pair.left.open_connection(RIGHT, 80)
        theirs, answer = await backend.streams.get()
        if whose == "client":
            writer.transport.abort()
            hears = theirs
        else:
            answer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            answer.transport.abort()
            hears = reader
        with pytest.raises(ConnectionResetError):
            await hears.read()
        await until(lambda: nothing_left(pair.right) and not forwarder.statistics().open)
        for end in (writer, answer):
            end.close()


@pytest.mark.parametrize("slow", ["backend", "client"])
async def test_a_slow_reader_slows_the_writer(slow: str) -> None:
    """What nobody reads stays with whoever sends: a few buffers, never all of it."""
    async with memory_pair() as pair, Backend() as backend:
        await pair.right.create_forwarder(backend.dial, None, 80)
        reader, writer = await pair.left.open_connection(RIGHT, 80)
        theirs, answer = await backend.streams.get()
        source, sink = (writer, theirs) if slow == "backend" else (answer, reader)
        block, wanted, sent = bytes(1 << 20), 64, 0
        with contextlib.suppress(TimeoutError):
            while sent < wanted << 20:
                source.write(block)
                sent += len(block)
                async with asyncio.timeout(0.5):
                    await source.drain()
        assert sent < wanted << 20
        got = 0
        while got < sent:
            got += len(await sink.read(1 << 20))
        assert got == sent
        for end in (writer, answer):
            end.transport.abort()


async def test_hosts_behind_us() -> None:
    links = memory_links(asyncio.get_running_loop(), addresses=(LEFT_OUTER, RIGHT_OUTER))
    (left_key, left_public), (right_key, right_public) = key_pair(), key_pair()
    reached = (RIGHT, "192.168.7.0/24")
    async with (
        Network(config_of(left_key, (LEFT,), right_public, reached, RIGHT_OUTER), datagram_link=links[0]) as left,
        Network(config_of(right_key, (RIGHT,), left_public, (LEFT,), LEFT_OUTER), datagram_link=links[1]) as right,
        Backend() as backend,
    ):
        seen: list[Inbound] = []

        async def dial(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
            seen.append(inbound)
            return await backend.dial(factory, inbound)

        await right.create_forwarder(dial, "192.168.7.0/24", None)
        for port in (443, 8080):
            reader, writer = await left.open_connection(BEHIND, port)
            theirs, answer = await backend.streams.get()
            writer.write(b"hello\n")
            assert await theirs.readline() == b"hello\n"
            answer.write(b"from behind")
            answer.close()
            assert await reader.read() == b"from behind"
            writer.close()
        assert [inbound.destination for inbound in seen] == [(BEHIND, 443), (BEHIND, 8080)]
        with pytest.raises(ConnectionRefusedError):
            await left.open_connection(RIGHT, 443)


async def test_closing_ends_dials_and_keeps_what_is_joined() -> None:
    async with memory_pair() as pair, Backend() as backend:
        async with await pair.right.create_forwarder(backend.dial, None, 80) as forwarder:
            reader, writer = await pair.left.open_connection(RIGHT, 80)
            theirs, answer = await backend.streams.get()

            async def never(factory: Factory, inbound: Inbound) -> tuple[Any, Any]:
                await asyncio.get_running_loop().create_future()
                raise AssertionError

            forwarder._dial = never
            waiting = asyncio.create_task(pair.left.open_connection(RIGHT, 80))
            await until(lambda: forwarder.statistics().dialling)
        with pytest.raises(ConnectionRefusedError):
            await waiting
        with pytest.raises(ConnectionRefusedError):
            await pair.left.open_connection(RIGHT, 80)
        writer.write(b"still here\n")
        assert await theirs.readline() == b"still here\n"
        writer.close()
        assert await theirs.read() == b""
        answer.close()
        assert await reader.read() == b""
        await until(lambda: nothing_left(pair.right))


async def test_closing_the_network_ends_everything() -> None:
    async with Backend() as backend, memory_pair() as pair:
        await pair.right.create_forwarder(backend.dial, None, 80)
        _, writer = await pair.left.open_connection(RIGHT, 80)
        theirs, answer = await backend.streams.get()
        await pair.right.close()
        with pytest.raises(ConnectionResetError):
            await theirs.read()
        for end in (writer, answer):
            end.transport.abort()


@pytest.mark.parametrize(("host", "port"), [(None, 0), ("nonsense", 80), ("10.0.0.0/33", 80)])
async def test_what_cannot_be_forwarded(host: str | None, port: int) -> None:
    async with memory_pair() as pair:
        with pytest.raises(ValueError, match=r"\d|nonsense"):
            await pair.right.create_forwarder(refuse, host, port)


async def test_many_at_once() -> None:
    async with memory_pair() as pair, Backend() as backend:
        forwarder = await pair.right.create_forwarder(backend.dial, None, 80)

        async def one(number: int) -> None:
            reader, writer = await pair.left.open_connection(RIGHT, 80)
            writer.write(b"%d" % number)
            writer.write_eof()
            assert await reader.read() == b"%d" % number
            writer.close()

        async def echo() -> None:
            while True:
                theirs, answer = await backend.streams.get()
                answer.write(await theirs.read())
                answer.close()

        task = asyncio.create_task(echo())
        await asyncio.gather(*map(one, range(200)))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: nothing_left(pair.right))
        assert forwarder.statistics() == usernet.ForwarderStatistics(0, 0, 200, 0, 0)
