"""The proxy in front of a real tunnel: what a network of ours does at the relay's two ends, and why a dial fails."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Sequence

import pytest

from proxy.server import Proxy
from proxy.session import Limits
from tests.proxy.support import Bench, Client, Handle, LoopNet, digest, echo, until
from tests.proxy.test_socks4_handler import REJECTED, request4
from tests.proxy.test_socks_bind import reply4, reply5
from tests.proxy.test_socks_handler import HELLO, answer, request
from tests.support.nameserver import NameServer
from tests.support.networks import LEFT, LEFT6, RIGHT, RIGHT6, RIGHT_OUTER, Pair, config_of, key_pair, udp_pair
from usernet.aio.memory import Impairment, memory_links
from usernet.aio.network import Network

SECOND = "10.7.0.3"


class Through(Bench):
    """Clients of a proxy in front of `net`."""

    def __init__(self, net: Network, proxy: Proxy, port: int) -> None:
        super().__init__(LoopNet(), proxy, port)
        self.network = net


@contextlib.asynccontextmanager
async def proxied(net: Network, *, dial_timeout: float = 10.0) -> AsyncIterator[Through]:
    proxy = Proxy(net, dial_timeout=dial_timeout, limits=Limits(connections=100))
    [listener] = await proxy.listen("127.0.0.1", 0)
    made = Through(net, proxy, listener.port)
    try:
        yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def through(handle: Handle, hosts: Sequence[str] = (RIGHT, RIGHT6)) -> AsyncIterator[tuple[Pair, Through, int]]:
    """A server on the far side; the proxy on the near one."""
    async with udp_pair() as pair, proxied(pair.left) as made:
        first = await pair.right.start_server(handle, hosts[0], 0)
        for host in hosts[1:]:
            await pair.right.start_server(handle, host, first.port)
        yield pair, made, first.port


async def connected(made: Bench, host: str | bytes, port: int) -> Client:
    client = await made.client()
    await client.send(HELLO + request(host, port))
    head = await client.exactly(6)
    assert head[:4] == b"\x05\x00\x05\x00"
    await client.exactly(18 if head[5] == 4 else 6)
    return client


@pytest.mark.parametrize("host", [RIGHT, RIGHT6])
async def test_upload_then_digest(host: str) -> None:
    data = os.urandom(4 << 20)
    async with through(closing(digest)) as (_, made, port):
        client = await connected(made, host, port)
        await client.send(data)
        client.end()
        assert await client.rest() == hashlib.sha256(data).hexdigest().encode()


def closing(handle: Handle) -> Handle:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle(reader, writer)
        writer.close()

    return run


async def test_client_that_closes_after_its_upload() -> None:
    heard = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read())
        writer.close()

    data = os.urandom(4 << 20)
    async with through(server) as (_, made, port):
        client = await connected(made, RIGHT, port)
        await client.send(data)
        await client.close()
        assert await heard == data


async def test_server_ends_first_and_goes_on_listening() -> None:
    heard = asyncio.get_running_loop().create_future()
    data = os.urandom(2 << 20)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    async with through(server) as (_, made, port):
        client = await connected(made, RIGHT, port)
        assert await client.rest() == data
        await client.send(data)
        client.end()
        assert await heard == data


async def test_slow_client_is_backpressure() -> None:
    """It reaches the far server through the tunnel: what is unread waits there."""
    size = 24 << 20
    sent = 0

    async def server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while sent < size:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
        writer.close()

    async with through(server) as (_, made, port):
        client = await made.client(receive_buffer=8192)
        await client.send(HELLO + request(RIGHT, port))
        await client.exactly(12)
        [session] = made.proxy._context.sessions
        tunnel = session.other.transport  # type: ignore[attr-defined]
        while tunnel.is_reading():
            await asyncio.sleep(0.001)
        assert session.transport.get_write_buffer_size() < 1 << 20  # type: ignore[attr-defined]
        assert sent < size
        assert len(await client.rest()) == size


async def test_reset_by_the_far_server() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async with through(server) as (_, made, port):
        client = await connected(made, RIGHT, port)
        await client.send(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_http() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(5)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)
        writer.close()

    async with through(server) as (_, made, port):
        client = await made.client()
        for host in (RIGHT.encode(), b"[%b]" % RIGHT6.encode(), RIGHT.encode()):
            await client.send(b"PUT http://%b:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" % (host, port))
            assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")
            await client.expect(b"hello")


def left_config(peer_addresses: tuple[str, ...], dns: tuple[str, ...] = ()) -> Network:
    link, _ = memory_links(asyncio.get_running_loop(), there=Impairment(loss=1.0))
    config = config_of(key_pair()[0], (LEFT, LEFT6), key_pair()[1], peer_addresses, RIGHT_OUTER, dns=dns)
    return Network(config, datagram_link=link, dial_timeout=0.2)


async def test_why_a_dial_fails() -> None:
    """Refused, no route, no handshake: SOCKS and HTTP say each."""

    async def get(made: Bench, target: str) -> bytes:
        data = f"GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n"
        return (await (await made.client()).exchange(data.encode()))[:12]

    async with through(closing(echo)) as (_, made, _):
        assert await (await made.client()).exchange(HELLO + request(RIGHT, 9)) == answer(5)
        assert await (await made.client()).exchange(HELLO + request("198.51.100.1", 80)) == answer(3)
        assert await (await made.client()).exchange(HELLO + request("127.0.0.1", 80)) == answer(2)
        assert await get(made, f"{RIGHT}:9") == b"HTTP/1.1 502"
        assert await get(made, "198.51.100.1") == b"HTTP/1.1 502"
    async with left_config((RIGHT,)) as net, proxied(net, dial_timeout=0.2) as made:
        assert await (await made.client()).exchange(HELLO + request(RIGHT, 80)) == answer(6)
        assert await get(made, RIGHT) == b"HTTP/1.1 503"


@contextlib.asynccontextmanager
async def named(zone: dict[str, dict[str, list[str]]]) -> AsyncIterator[tuple[Pair, Through]]:
    """The far side has a second address and a name server with this zone."""
    (left_key, left_public), (right_key, right_public) = key_pair(), key_pair()
    links = memory_links(asyncio.get_running_loop())
    theirs = (RIGHT, RIGHT6, SECOND)
    left_end = config_of(left_key, (LEFT, LEFT6), right_public, theirs, RIGHT_OUTER, dns=(RIGHT,))
    right_end = config_of(right_key, theirs, left_public, (LEFT, LEFT6), None)
    async with (
        Network(left_end, datagram_link=links[0]) as left,
        Network(right_end, datagram_link=links[1]) as right,
        proxied(left) as made,
    ):
        await NameServer(zone).serve(right, RIGHT)
        yield Pair(left, right), made


async def test_names_are_resolved_inside() -> None:
    zone = {"www.test": {"A": [RIGHT], "AAAA": [RIGHT6]}, "evil.test": {"A": ["127.0.0.1"]}}
    async with named(zone) as (pair, made):
        server = await pair.right.start_server(closing(echo), RIGHT, 0)
        client = await connected(made, b"www.test", server.port)  # nothing listens on IPv6: the other family gets it
        await client.send(b"hello")
        client.end()
        assert await client.rest() == b"hello"
        for name, code in ((b"nowhere.test", 4), (b"evil.test", 2), (b"localhost", 2)):
            assert await (await made.client()).exchange(HELLO + request(name, 80)) == answer(code)


@pytest.mark.parametrize(("host", "own", "peer"), [
    (RIGHT, LEFT, RIGHT), (RIGHT6, LEFT6, RIGHT6), (b"www.test", LEFT6, RIGHT6), (b"four.test", LEFT, RIGHT),
])  # fmt: skip
async def test_bind(host: str | bytes, own: str, peer: str) -> None:
    """A port of the tunnel's own address, of the peer's family; the second reply names who came."""
    async with named({"www.test": {"A": [RIGHT], "AAAA": [RIGHT6]}, "four.test": {"A": [RIGHT]}}) as (pair, made):
        client = await made.client()
        await client.send(HELLO + request(host, 0, 2) + b"early")
        await client.expect(b"\x05\0")
        address, port = await reply5(client)
        assert address == own
        reader, writer = await pair.right.open_connection(address, port)
        assert await reply5(client) == writer.get_extra_info("sockname")[:2]
        assert writer.get_extra_info("sockname")[0] == peer
        assert await reader.readexactly(5) == b"early"
        data = os.urandom(1 << 20)
        writer.write(data)
        writer.write_eof()
        assert await client.rest() == data
        with pytest.raises(ConnectionRefusedError):
            await pair.right.open_connection(address, port)
        client.end()
        assert await reader.read() == b""
        writer.close()


async def test_bind_by_socks4() -> None:
    async with named({"www.test": {"A": [RIGHT], "AAAA": [RIGHT6]}}) as (pair, made):
        client = await made.client()
        await client.send(request4(b"www.test", 0, 2))
        address, port = await reply4(client)
        assert address == LEFT
        _, writer = await pair.right.open_connection(address, port)
        assert await reply4(client) == writer.get_extra_info("sockname")
        writer.close()
        assert await (await made.client()).exchange(request4(RIGHT6.encode(), 0, 2)) == REJECTED


async def test_bind_refuses_strangers_and_ends_with_its_client() -> None:
    async with named({}) as (pair, made):
        client = await made.client()
        await client.send(HELLO + request(SECOND, 0, 2))
        await client.expect(b"\x05\0")
        address, port = await reply5(client)
        reader, writer = await pair.right.open_connection(address, port)  # from RIGHT, its first address
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        assert made.proxy.statistics().refused == {"bind-stranger": 1}
        await client.close()
        await until(lambda: made.proxy.statistics().connections == 0)
        with pytest.raises(ConnectionRefusedError):
            await pair.right.open_connection(address, port)
        assert await (await made.client()).exchange(HELLO + request("198.51.100.1", 0, 2)) == answer(3)


async def test_lookups() -> None:
    zone = {
        "www.test": {"A": [RIGHT], "AAAA": [RIGHT6]},
        "2.0.7.10.in-addr.arpa": {"CNAME": ["2.sub.test."]},
        "2.sub.test": {"PTR": ["www.test."]},
        "3.0.7.10.in-addr.arpa": {"PTR": ["a\\010b.test."]},
    }
    async with named(zone) as (_, made):

        async def ask(command: int, host: str | bytes) -> bytes:
            return (await (await made.client()).exchange(HELLO + request(host, 0, command)))[2:]

        assert await ask(0xF0, b"www.test") == b"\x05\0\0\x01\x0a\x07\0\x02\0\0"
        assert await ask(0xF1, RIGHT) == b"\x05\0\0\x03\x08www.test\0\0"
        assert await ask(0xF1, SECOND) == answer(4, b"")  # a line feed in a name
        assert await ask(0xF1, LEFT) == answer(4, b"")
        assert await ask(0xF0, b"nowhere.test") == answer(4, b"")


async def test_the_own_address_is_told() -> None:
    async with through(closing(echo)) as (_, made, port):
        for host, own in ((RIGHT, LEFT), (RIGHT6, LEFT6)):
            client = await made.client()
            await client.send(HELLO + request(host, port))
            await client.expect(b"\x05\0")
            told = await reply5(client)
            [session] = made.proxy._context.sessions
            assert told == session.other.transport.get_extra_info("sockname")[:2]  # type: ignore[attr-defined]
            assert told[0] == own
            client.end()
            assert await client.rest() == b""
            await until(lambda: made.proxy.statistics().connections == 0)
