"""A network of plain sockets under the proxy, real servers behind it, and a client that says exact bytes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from proxy.accesslog import AccessLog
from proxy.auth import Users
from proxy.certificate import Certificate
from proxy.client import Terms
from proxy.http.own import OwnPages
from proxy.routes import HostNet, Route
from proxy.rules import Rules
from proxy.server import Proxy
from proxy.session import Limits
from usernet.config import access
from usernet.errors import NameNotFound

LOCAL = ("127.0.0.0/8", "::1/128")
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def to_tunnel(networks: Sequence[str]) -> Rules:
    """Rules that name these, so that special addresses among them may be reached."""
    return Rules([access.rule("tunnel " + " ".join(networks))] if networks else [])


class LoopNet(HostNet):
    """The proxy's network, over the loop's own sockets.  `names` are all the names there are; `fail` raises instead."""

    def __init__(self) -> None:
        super().__init__()
        self.reverse_names: dict[str, list[str]] = {"127.0.0.1": ["origin.test"]}
        self.names: dict[str, list[str]] = {"origin.test": ["127.0.0.1"], "v6.test": ["::1"]}
        self.fail: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.pause: Callable[[], Awaitable[object]] | None = None  # between a connection and its use
        self.names_gate: asyncio.Event | None = None
        self.dialled: list[tuple[str, int]] = []
        self.cancelled = 0
        self.transports: list[asyncio.Transport] = []
        self.endpoints: list[asyncio.DatagramTransport] = []
        self.resolved: list[str] = []

    async def resolve(self, name: str) -> Sequence[str]:
        self.resolved.append(name)
        try:
            if self.names_gate is not None:
                await self.names_gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        try:
            return self.names[name]
        except KeyError:
            raise NameNotFound("there is no such name") from None

    async def reverse(self, address: str) -> Sequence[str]:
        if self.fail is not None:
            raise self.fail
        try:
            return self.reverse_names[address]
        except KeyError:
            raise NameNotFound("it has no name") from None

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], **kwargs: Any
    ) -> tuple[Any, Any]:
        if self.fail is not None:
            raise self.fail
        made = await super().create_datagram_endpoint(protocol_factory, **kwargs)
        self.endpoints.append(made[0])
        return made

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        self.dialled.append((host, port))
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fail is not None:
            raise self.fail
        transport, protocol = await asyncio.get_running_loop().create_connection(protocol_factory, host, port)
        if self.pause is not None:
            await self.pause()
        self.transports.append(transport)
        return transport, protocol


@contextlib.asynccontextmanager
async def serving(handle: Handle, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A real server; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(run, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back; end after the client's end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end, then say the SHA-256."""
    total = hashlib.sha256()
    while data := await reader.read(65536):
        total.update(data)
    writer.write(total.hexdigest().encode())
    await writer.drain()


class Client:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, *, cuts: Sequence[int] = ()) -> None:
        """Send, each piece between two cuts as a segment of its own."""
        at = 0
        for cut in [*cuts, len(data)]:
            self.writer.write(data[at:cut])
            await self.writer.drain()
            for _ in range(4):  # turns in which the proxy, in the same loop, reads this piece
                await asyncio.sleep(0)
            at = cut

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), 10)

    async def expect(self, data: bytes) -> None:
        got = await asyncio.wait_for(self.reader.readexactly(len(data)), 10)
        assert got == data

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    async def rest(self) -> bytes:
        """All until the end."""
        return await asyncio.wait_for(self.reader.read(), 10)

    async def exchange(self, data: bytes, *, cuts: Sequence[int] = ()) -> bytes:
        """Say this, and hear everything until the proxy closes; a reset counts as the end."""
        heard = b""
        with contextlib.suppress(ConnectionError):
            await self.send(data, cuts=cuts)
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(self.reader.read(65536), 10):
                heard += piece
        return heard

    def end(self) -> None:
        with contextlib.suppress(OSError):  # it may be reset already
            self.writer.write_eof()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Bench:
    """A proxy over plain sockets, and the clients that a test made."""

    def __init__(self, net: LoopNet, proxy: Proxy, port: int) -> None:
        self.net = net
        self.proxy = proxy
        self.port = port
        self._clients: list[Client] = []

    async def client(
        self, *, host: str = "127.0.0.1", port: int | None = None, receive_buffer: int | None = None
    ) -> Client:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, (host, port or self.port))
        client = Client(*await asyncio.open_connection(sock=sock, limit=1 << 16))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        await self.proxy.close()
        assert self.proxy.statistics().connections == 0


@contextlib.asynccontextmanager
async def bench(
    *,
    credentials: Users | None = None,
    limits: Limits = Limits(),  # noqa: B008
    allow: Sequence[str] = LOCAL,
    dial_timeout: float = 10.0,
    protocols: Sequence[str] = ("socks5", "http"),
    access_log: AccessLog | None = None,
    rules: Sequence[str] = (),
    routes: Mapping[str, Route] | None = None,
    allow_from: Sequence[str] = (),
    certificate: Certificate | None = None,
    pages: OwnPages | None = None,
    net: LoopNet | None = None,
) -> AsyncIterator[Bench]:
    """A proxy that listens."""
    net = net or LoopNet()
    proxy = Proxy(
        net,
        routes=routes,
        rules=Rules([access.rule(line) for line in rules]) if rules else to_tunnel(allow),
        limits=limits,
        dial_timeout=dial_timeout,
        access_log=access_log,
        pages=pages,
    )
    [listener] = await proxy.listen(
        "127.0.0.1",
        0,
        protocols=protocols,
        terms=Terms(credentials, tuple(map(ip_network, allow_from)), certificate=certificate),
    )
    made = Bench(net, proxy, listener.port)
    try:
        yield made
    finally:
        await made.close()


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until the condition holds; a wait in vain ends here, since uvloop swallows the test's own limit."""
    async with asyncio.timeout(50):
        while not condition():
            await asyncio.sleep(0.001)
