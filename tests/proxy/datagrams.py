"""UDP under the tests of UDP ASSOCIATE: servers behind the proxy, and a client that says exact datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.proxy.support import Bench, Client
from tests.proxy.test_socks_handler import HELLO, request

Address = tuple[str, int]
Reply = Callable[[bytes], bytes]


def header(host: str | bytes, port: int) -> bytes:
    """As a client writes it before its data."""
    return b"\0\0\0" + request(host, port)[3:]


class Peer(asyncio.DatagramProtocol):
    """A UDP socket: what it heard waits in `heard`; with a `reply` it answers, from `through` if that is another."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.heard: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.reply = reply
        self.through: Peer = self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        with contextlib.suppress(OSError, AttributeError):  # a tunnel's has no socket
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 1 << 20)

    @property
    def port(self) -> int:
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.reply is None:
            self.heard.put_nowait((data, addr))
        else:
            self.through.transport.sendto(self.reply(data), addr)

    async def next(self) -> tuple[bytes, Any]:
        return await asyncio.wait_for(self.heard.get(), 10)


@contextlib.asynccontextmanager
async def peer(host: str = "127.0.0.1", reply: Reply | None = None, *, net: Any = None) -> AsyncIterator[Peer]:
    """On the loop's own network, or another."""
    with contextlib.ExitStack() as held:
        if net is None:
            loop = asyncio.get_running_loop()
            transport, made = await loop.create_datagram_endpoint(
                lambda: Peer(reply), sock=unlike_any_proxy(host, held)
            )
        else:
            transport, made = await net.create_datagram_endpoint(lambda: Peer(reply), local_addr=(host, 0))
        try:
            yield made
        finally:
            transport.close()


def unlike_any_proxy(host: str, held: contextlib.ExitStack) -> socket.socket:
    """A UDP socket on a port that is nobody's over TCP as long as the stack lasts: a proxy refuses its own address and
    port, whatever the protocol.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        datagrams, streams = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
        datagrams.bind((host, 0))
        try:
            streams.bind(datagrams.getsockname())
        except OSError:
            datagrams.close()
            streams.close()
            continue
        held.callback(streams.close)
        datagrams.setblocking(False)
        return datagrams


def echo(data: bytes) -> bytes:
    return data


class Associated(Peer):
    """A client with its association."""

    def __init__(self, control: Client, relay: Address) -> None:
        super().__init__()
        self.control = control
        self.relay = relay

    def send(self, host: str | bytes, port: int, data: bytes) -> None:
        self.transport.sendto(header(host, port) + data, self.relay)

    async def expect(self, host: str, port: int, data: bytes) -> None:
        """The next datagram is this one, from there."""
        got, source = await self.next()
        assert source[:2] == self.relay
        assert got[: len(header(host, port))] == header(host, port)
        assert got[len(header(host, port)) :] == data

    async def expect_nothing(self, host: str, port: int) -> None:
        """What was to be dropped was: a datagram sent after it, to an echo, is answered before."""
        self.send(host, port, b"and then?")
        await self.expect(host, port, b"and then?")
        assert self.heard.empty()


async def read_reply(control: Client) -> Address:
    """BND of a successful reply."""
    head = await control.exactly(4)
    assert head[:3] == b"\x05\x00\x00"
    family, size = (socket.AF_INET, 4) if head[3] == 1 else (socket.AF_INET6, 16)
    bound = await control.exactly(size + 2)
    return socket.inet_ntop(family, bound[:size]), int.from_bytes(bound[size:])


@contextlib.asynccontextmanager
async def associated(
    made: Bench, hello: bytes = HELLO, *, said_port: int | None = None, host: str = "127.0.0.1", port: int | None = None
) -> AsyncIterator[Associated]:
    """`said_port`: DST.PORT of the request, None for 0 and -1 for the client's real one."""
    control = await made.client(host=host, port=port)
    loop = asyncio.get_running_loop()
    transport, mine = await loop.create_datagram_endpoint(lambda: Associated(control, ("", 0)), local_addr=(host, 0))
    try:
        told = mine.port if said_port == -1 else said_port or 0
        await control.send(hello + request("0.0.0.0", told, 3))
        await control.exactly(2 if hello == HELLO else 4)
        mine.relay = await read_reply(control)
        yield mine
    finally:
        transport.close()
        await control.close()
