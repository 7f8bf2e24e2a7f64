"""What every stream transport does, whoever made it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import weakref
from typing import Any

import pytest

from tests.conformance.arena import Arena, Buffered, Echo, HalfOpen, Recorder, deviates

BIG = 4 << 20


def noise(count: int) -> bytes:
    return os.urandom(1 << 16) * (count >> 16)


# Being made


async def test_connection_made_comes_first_and_once(arena: Arena) -> None:
    client, server = await arena.pair()
    client.transport.write(b"hello")
    await server.until_received(5)
    assert client.calls == ["made"]
    assert server.calls[0] == "made"
    assert server.calls.count("made") == 1


async def test_get_protocol_and_set_protocol(arena: Arena) -> None:
    client, server = await arena.pair()
    assert client.transport.get_protocol() is client
    other = Recorder()
    server.transport.set_protocol(other)
    assert server.transport.get_protocol() is other
    client.transport.write(b"for the other")
    assert await other.until_received(13) == b"for the other"
    assert not server.received


async def test_write_in_connection_made(arena: Arena) -> None:
    class Greeter(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"220 welcome")

    client, server = await arena.pair(Greeter, Greeter)
    assert await client.until_received(11) == b"220 welcome"
    assert await server.until_received(11) == b"220 welcome"


async def test_close_in_connection_made(arena: Arena) -> None:
    class Rude(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    client, server = await arena.pair(Recorder, Rude)
    assert await client.until_lost() is None
    assert await server.until_lost() is None
    assert client.calls[:2] == ["made", "eof"]


async def test_nobody_listens(arena: Arena) -> None:
    server, port = await arena.create_server(Recorder)
    server.close()
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await arena.create_connection(Recorder, port)


# Names


async def test_names_of_both_ends(arena: Arena) -> None:
    client, server = await arena.pair()
    assert client.transport.get_extra_info("peername") == server.transport.get_extra_info("sockname")
    assert client.transport.get_extra_info("sockname") == server.transport.get_extra_info("peername")
    assert client.transport.get_extra_info("peername")[0] == arena.host


async def test_names_outlive_the_connection(arena: Arena) -> None:
    client, _ = await arena.pair()
    before = client.transport.get_extra_info("peername")
    client.transport.close()
    await client.until_lost()
    assert client.transport.get_extra_info("peername") == before


async def test_unknown_extra_info(arena: Arena) -> None:
    client, _ = await arena.pair()
    assert client.transport.get_extra_info("no such thing") is None
    assert client.transport.get_extra_info("no such thing", 7) == 7
    assert client.transport.get_extra_info("sslcontext") is None
    assert client.transport.get_extra_info(None, 7) == 7


# Writing


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_kinds_of_data(arena: Arena, kind: type) -> None:
    client, server = await arena.pair()
    client.transport.write(kind(b"some bytes"))
    assert await server.until_received(10) == b"some bytes"


async def test_data_may_change_after_the_write(arena: Arena) -> None:
    deviates(arena, "keeps a bytearray by reference")
    client, server = await arena.pair()
    data = bytearray(noise(BIG))
    expected = bytes(data)
    client.transport.write(data)
    data[:] = bytes(len(data))
    assert await server.until_received(BIG) == expected


@pytest.mark.parametrize("bad", ["text", 5, None, [b"list"]])
async def test_data_that_is_none(arena: Arena, bad: object) -> None:
    deviates(arena, "takes None for nothing")
    client, _ = await arena.pair()
    with pytest.raises(TypeError):
        client.transport.write(bad)


async def test_an_empty_write_is_nothing(arena: Arena) -> None:
    client, server = await arena.pair()
    client.transport.write(b"")
    client.transport.write(b"x")
    await server.until_received(1)
    assert server.calls == ["made", "data"]


async def test_writelines(arena: Arena) -> None:
    client, server = await arena.pair()
    client.transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three")])
    assert await server.until_received(13) == b"one two three"


async def test_writelines_writes_nothing_where_one_is_no_data(arena: Arena) -> None:
    deviates(arena, "writes what comes before it")
    client, server = await arena.pair()
    with pytest.raises(TypeError):
        client.transport.writelines([b"good", "bad"])
    client.transport.write(b"after")
    assert await server.until_received(5) == b"after"


async def test_order_of_many_small_writes(arena: Arena) -> None:
    client, server = await arena.pair()
    expected = b"".join(b"%d;" % number for number in range(5000))
    for number in range(5000):
        client.transport.write(b"%d;" % number)
    assert await server.until_received(len(expected)) == expected


async def test_a_large_write_arrives_whole(arena: Arena) -> None:
    client, server = await arena.pair()
    data = noise(BIG)
    client.transport.write(data)
    assert hashlib.sha256(await server.until_received(BIG)).digest() == hashlib.sha256(data).digest()


async def test_large_writes_in_both_directions(arena: Arena) -> None:
    client, server = await arena.pair()
    there, back = noise(BIG), noise(BIG)
    client.transport.write(there)
    server.transport.write(back)
    assert await server.until_received(BIG) == there
    assert await client.until_received(BIG) == back


async def test_echo(arena: Arena) -> None:
    client, _ = await arena.pair(Recorder, Echo)
    data = noise(1 << 20)
    client.transport.write(data)
    assert await client.until_received(1 << 20) == data


# Flow control of writing


async def test_default_write_limits(arena: Arena) -> None:
    deviates(arena, "has a default low limit of 16 bytes")
    client, _ = await arena.pair()
    low, high = client.transport.get_write_buffer_limits()
    assert (low, high) == (16 << 10, 64 << 10)


async def test_setting_write_limits(arena: Arena) -> None:
    client, _ = await arena.pair()
    transport = client.transport
    transport.set_write_buffer_limits(high=1000)
    assert transport.get_write_buffer_limits() == (250, 1000)
    transport.set_write_buffer_limits(low=100)
    assert transport.get_write_buffer_limits() == (100, 400)
    transport.set_write_buffer_limits(high=70, low=7)
    assert transport.get_write_buffer_limits() == (7, 70)
    transport.set_write_buffer_limits()
    assert transport.get_write_buffer_limits() == (16 << 10, 64 << 10)


@pytest.mark.parametrize(("high", "low"), [(1, 2), (5, -1), (-1, -1)])
async def test_impossible_write_limits(arena: Arena, high: int, low: int) -> None:
    client, _ = await arena.pair()
    with pytest.raises(ValueError, match="must be >= "):
        client.transport.set_write_buffer_limits(high=high, low=low)


async def test_pause_and_resume_writing(arena: Arena) -> None:
    client, server = await arena.pair()
    server.transport.pause_reading()
    total = 0
    while "pause" not in client.calls:
        client.transport.write(bytes(1 << 20))
        total += 1 << 20
        assert total < 256 << 20
        await asyncio.sleep(0)
    assert client.transport.get_write_buffer_size() > 64 << 10
    assert client.calls == ["made", "pause"]
    server.transport.resume_reading()
    await client.until_called("resume")
    assert client.calls == ["made", "pause", "resume"]
    assert client.transport.get_write_buffer_size() <= 16 << 10
    await server.until_received(total)


async def test_a_reader_that_stops_stops_the_writer(arena: Arena) -> None:
    """And the writer's buffer holds what it was given after that, and not more."""
    client, server = await arena.pair()
    server.transport.pause_reading()
    sent = 0
    while "pause" not in client.calls:
        client.transport.write(bytes(256 << 10))
        sent += 256 << 10
        await asyncio.sleep(0)
    assert client.transport.get_write_buffer_size() <= (64 << 10) + (256 << 10)
    assert not server.received
    server.transport.resume_reading()
    await server.until_received(sent)
    assert len(server.received) == sent


async def test_limits_of_zero_pause_until_all_has_left(arena: Arena) -> None:
    client, server = await arena.pair()
    server.transport.pause_reading()
    client.transport.set_write_buffer_limits(high=0)
    total = 0
    while "pause" not in client.calls:
        client.transport.write(bytes(1 << 20))
        total += 1 << 20
        await asyncio.sleep(0)
    server.transport.resume_reading()
    await client.until_called("resume")
    assert client.transport.get_write_buffer_size() == 0
    await server.until_received(total)


# Flow control of reading


async def test_paused_reading_holds_data_back(arena: Arena) -> None:
    client, server = await arena.pair()
    server.transport.pause_reading()
    client.transport.write(b"held back")
    client.transport.write_eof()
    server.transport.write(b"x")
    await client.until_received(1)
    assert server.calls == ["made"]
    server.transport.resume_reading()
    assert server.calls == ["made"], "resume_reading itself calls nobody back"
    assert await server.until_received(9) == b"held back"
    await server.until_called("eof")


async def test_is_reading(arena: Arena) -> None:
    client, _ = await arena.pair()
    transport = client.transport
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    transport.pause_reading()
    transport.resume_reading()
    assert transport.is_reading()
    transport.resume_reading()
    assert transport.is_reading()
    transport.close()
    assert not transport.is_reading()


async def test_pausing_within_data_received(arena: Arena) -> None:
    class Sipper(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.pause_reading()
            super().data_received(data)

    client, server = await arena.pair(Recorder, Sipper)
    data = noise(1 << 20)
    client.transport.write(data)
    while len(server.received) < len(data):
        before = len(server.calls)
        await server.until(lambda before=before: len(server.calls) > before or not server.transport.is_reading())
        got = len(server.received)
        await asyncio.sleep(0)
        assert len(server.received) == got, "nothing comes while reading is paused"
        server.transport.resume_reading()
        if len(server.received) < len(data):
            await server.until_received(got + 1)
    assert bytes(server.received) == data


async def test_pausing_in_connection_made(arena: Arena) -> None:
    deviates(arena, "begins to read whatever connection_made said", asyncio_before=(3, 11, 7))

    class Late(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    client, server = await arena.pair(Recorder, Late)
    client.transport.write(b"early")
    server.transport.write(b"x")
    await client.until_received(1)
    assert server.calls == ["made"]
    server.transport.resume_reading()
    assert await server.until_received(5) == b"early"


# End of file


async def test_half_close(arena: Arena) -> None:
    client, server = await arena.pair(Recorder, HalfOpen)
    client.transport.write(b"question")
    client.transport.write_eof()
    await server.until_called("eof")
    assert bytes(server.received) == b"question"
    assert not server.lost
    answer = noise(1 << 20)
    server.transport.write(answer)
    assert await client.until_received(1 << 20) == answer
    server.transport.close()
    assert await client.until_lost() is None
    assert await server.until_lost() is None


async def test_half_close_by_the_server(arena: Arena) -> None:
    client, server = await arena.pair(HalfOpen, Recorder)
    server.transport.write_eof()
    await client.until_called("eof")
    client.transport.write(b"still here")
    assert await server.until_received(10) == b"still here"
    client.transport.close()
    assert await server.until_lost() is None


async def test_write_eof_follows_the_data(arena: Arena) -> None:
    client, server = await arena.pair(Recorder, HalfOpen)
    data = noise(BIG)
    client.transport.write(data)
    client.transport.write_eof()
    await server.until_called("eof")
    assert bytes(server.received) == data
    assert server.calls[-1] == "eof"


async def test_write_eof_from_both_ends(arena: Arena) -> None:
    client, server = await arena.pair(HalfOpen, HalfOpen)
    client.transport.write_eof()
    server.transport.write_eof()
    await client.until_called("eof")
    await server.until_called("eof")
    assert not client.lost
    client.transport.close()
    server.transport.close()
    assert await client.until_lost() is None
    assert await server.until_lost() is None


async def test_eof_closes_unless_told_otherwise(arena: Arena) -> None:
    client, server = await arena.pair()
    client.transport.write_eof()
    assert await server.until_lost() is None
    assert server.calls == ["made", "eof", "lost"]
    assert server.transport.is_closing()
    assert await client.until_lost() is None


async def test_write_after_write_eof(arena: Arena) -> None:
    client, _ = await arena.pair()
    client.transport.write_eof()
    client.transport.write_eof()
    with pytest.raises(RuntimeError):
        client.transport.write(b"too late")


async def test_can_write_eof(arena: Arena) -> None:
    client, _ = await arena.pair()
    assert client.transport.can_write_eof()


# Closing


async def test_close(arena: Arena) -> None:
    client, server = await arena.pair()
    assert not client.transport.is_closing()
    client.transport.close()
    assert client.transport.is_closing()
    assert not client.lost, "connection_lost is never called from within close()"
    assert await client.until_lost() is None
    assert await server.until_lost() is None
    client.transport.close()
    client.transport.abort()
    await asyncio.sleep(0)
    assert client.calls.count("lost") == 1


async def test_close_flushes(arena: Arena) -> None:
    client, server = await arena.pair()
    data = noise(BIG)
    client.transport.write(data)
    client.transport.close()
    assert await client.until_lost() is None
    await server.until_called("eof")
    assert bytes(server.received) == data
    assert await server.until_lost() is None


async def test_close_waits_for_a_reader_that_has_stopped(arena: Arena) -> None:
    client, server = await arena.pair()
    server.transport.pause_reading()
    total = 0
    while "pause" not in client.calls:
        client.transport.write(bytes(1 << 20))
        total += 1 << 20
        await asyncio.sleep(0)
    client.transport.close()
    server.transport.resume_reading()
    await server.until_called("eof")
    assert len(server.received) == total
    assert await client.until_lost() is None


async def test_no_data_after_close(arena: Arena) -> None:
    class Once(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    client, server = await arena.pair(Recorder, Once)
    client.transport.write(noise(BIG))
    await server.until_lost()
    assert server.calls == ["made", "data", "lost"]
    await client.until_lost()


async def test_writing_after_close_is_ignored(arena: Arena) -> None:
    deviates(arena, "raises after the connection is lost")
    client, server = await arena.pair()
    client.transport.write(b"last words")
    client.transport.close()
    await client.until_lost()
    client.transport.write(b"unheard")
    await server.until_lost()
    assert bytes(server.received) == b"last words"


async def test_pausing_and_resuming_after_close(arena: Arena) -> None:
    deviates(arena, "raises after the connection is lost")
    client, _ = await arena.pair()
    client.transport.close()
    client.transport.pause_reading()
    client.transport.resume_reading()
    await client.until_lost()
    client.transport.resume_reading()
    client.transport.write_eof()
    assert client.calls == ["made", "lost"]


async def test_abort(arena: Arena) -> None:
    client, server = await arena.pair()
    server.transport.pause_reading()
    while "pause" not in client.calls:
        client.transport.write(bytes(1 << 20))
        await asyncio.sleep(0)
    client.transport.abort()
    assert client.transport.is_closing()
    assert not client.lost
    assert await client.until_lost() is None
    assert client.calls.count("lost") == 1
    server.transport.resume_reading()
    await server.until_lost()


async def test_abort_after_close_ends_the_wait(arena: Arena) -> None:
    client, server = await arena.pair()
    server.transport.pause_reading()
    while "pause" not in client.calls:
        client.transport.write(bytes(1 << 20))
        await asyncio.sleep(0)
    client.transport.close()
    await asyncio.sleep(0)
    assert not client.lost
    client.transport.abort()
    assert await client.until_lost() is None


async def test_the_peers_reset(arena: Arena) -> None:
    client, server = await arena.pair()
    arena.reset(server.transport)
    assert isinstance(await client.until_lost(), ConnectionResetError)
    assert "eof" not in client.calls
    assert client.transport.is_closing()


async def test_a_reset_ends_a_writer(arena: Arena) -> None:
    deviates(arena, "raises after the connection is lost")
    client, server = await arena.pair()
    server.transport.pause_reading()
    while "pause" not in client.calls:
        client.transport.write(bytes(1 << 20))
        await asyncio.sleep(0)
    arena.reset(server.transport)
    error = await client.until_lost()
    assert isinstance(error, ConnectionResetError | BrokenPipeError)
    client.transport.write(b"no one")


# Protocols that fail


async def collect_reports() -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    return reports


async def test_connection_made_fails(arena: Arena) -> None:
    deviates(arena, "fails create_connection")

    class Broken(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise ArithmeticError("not made for this")

    reports = await collect_reports()
    client, server = await arena.pair(Broken, Broken)
    assert isinstance(reports[0]["exception"], ArithmeticError)
    client.transport.write(b"all the same")
    assert await server.until_received(12) == b"all the same"


async def test_data_received_fails(arena: Arena) -> None:
    class Broken(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ArithmeticError("cannot take it")

    reports = await collect_reports()
    client, server = await arena.pair(Recorder, Broken)
    client.transport.write(b"data")
    assert isinstance(await server.until_lost(), ArithmeticError)
    assert isinstance(reports[0]["exception"], ArithmeticError)
    await client.until_lost()


async def test_eof_received_fails(arena: Arena) -> None:
    class Broken(Recorder):
        def eof_received(self) -> bool:
            raise ArithmeticError("cannot end")

    reports = await collect_reports()
    client, server = await arena.pair(Recorder, Broken)
    client.transport.write_eof()
    assert isinstance(await server.until_lost(), ArithmeticError)
    assert isinstance(reports[0]["exception"], ArithmeticError)


async def test_pause_writing_fails(arena: Arena) -> None:
    class Broken(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            raise ArithmeticError("will not pause")

    reports = await collect_reports()
    client, server = await arena.pair(Broken, Recorder)
    server.transport.pause_reading()
    total = 0
    while "pause" not in client.calls:
        client.transport.write(bytes(1 << 20))
        total += 1 << 20
        await asyncio.sleep(0)
    assert isinstance(reports[0]["exception"], ArithmeticError)
    assert not client.lost
    server.transport.resume_reading()
    await server.until_received(total)


# BufferedProtocol


async def test_buffered_protocol(arena: Arena) -> None:
    client, server = await arena.pair(Recorder, Buffered)
    data = noise(1 << 20)
    client.transport.write(data)
    assert await server.until_received(1 << 20) == data
    client.transport.write_eof()
    await server.until_lost()
    assert server.calls[-2:] == ["eof", "lost"]


async def test_buffered_protocol_pauses(arena: Arena) -> None:
    class Sipper(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            self.transport.pause_reading()
            super().buffer_updated(nbytes)

    client, server = await arena.pair(Recorder, Sipper)
    data = noise(1 << 16)
    client.transport.write(data)
    got = 0
    while got < len(data):
        await server.until_received(got + 1)
        got = len(server.received)
        await asyncio.sleep(0)
        assert len(server.received) == got
        server.transport.resume_reading()
    assert bytes(server.received) == data


async def test_an_empty_buffer(arena: Arena) -> None:
    class Empty(Buffered):
        size = 0

    reports = await collect_reports()
    client, server = await arena.pair(Recorder, Empty)
    client.transport.write(b"data")
    assert isinstance(await server.until_lost(), RuntimeError)
    assert reports


async def test_get_buffer_fails(arena: Arena) -> None:
    deviates(arena, "hides the error")

    class Broken(Buffered):
        def get_buffer(self, sizehint: int) -> bytearray:
            raise ArithmeticError("no buffer")

    reports = await collect_reports()
    client, server = await arena.pair(Recorder, Broken)
    client.transport.write(b"data")
    assert isinstance(await server.until_lost(), ArithmeticError)
    assert reports


async def test_from_streaming_to_buffered(arena: Arena) -> None:
    class Switching(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            buffered.transport = self.transport
            self.transport.set_protocol(buffered)

    buffered = Buffered()
    client, server = await arena.pair(Recorder, Switching)
    client.transport.write(b"first")
    await server.until_received(5)
    client.transport.write(b"second")
    assert await buffered.until_received(6) == b"second"
    assert bytes(server.received) == b"first"


# Servers


async def test_many_connections(arena: Arena) -> None:
    _, port = await arena.create_server(Echo)
    connections = [await arena.create_connection(Recorder, port) for _ in range(100)]
    arena.transports += [transport for transport, _ in connections]
    for number, (transport, _) in enumerate(connections):
        transport.write(b"number %03d" % number)
    for number, (_, protocol) in enumerate(connections):
        assert await protocol.until_received(10) == b"number %03d" % number


async def test_connections_outlive_their_server(arena: Arena) -> None:
    server, port = await arena.create_server(Echo)
    transport, protocol = await arena.create_connection(Recorder, port)
    arena.transports.append(transport)
    transport.write(b"1")
    await protocol.until_received(1)
    server.close()
    assert not server.is_serving()
    transport.write(b"2")
    assert await protocol.until_received(2) == b"12"


async def test_a_server_serves_within_its_context(arena: Arena) -> None:
    server, port = await arena.create_server(Echo)
    async with server:
        assert server.is_serving()
        transport, protocol = await arena.create_connection(Recorder, port)
        transport.write(b"1")
        await protocol.until_received(1)
        transport.close()
        await protocol.until_lost()
    assert not server.is_serving()
    await server.wait_closed()


async def test_serve_forever_ends_with_its_task(arena: Arena) -> None:
    server, _ = await arena.create_server(Echo)
    task = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()


# Rubbish


async def test_nothing_is_left_for_the_collector(arena: Arena) -> None:
    client, server = await arena.pair()
    client.transport.write(b"data")
    await server.until_received(4)
    client.transport.close()
    await client.until_lost()
    await server.until_lost()
    arena.forget()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone = [weakref.ref(client), weakref.ref(server)]
    gc.collect()
    gc.disable()
    try:
        del client, server
        left = [ref() for ref in gone]
    finally:
        gc.enable()
    assert left == [None, None]
