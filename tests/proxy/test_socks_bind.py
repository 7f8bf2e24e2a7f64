"""BIND (RFC 1928 section 4, and SOCKS4's): two replies with true addresses, one peer, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import io
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import socks

from proxy.accesslog import AccessLog
from proxy.client import Client as Whose
from proxy.client import Terms
from proxy.routes import HostNet, Route
from proxy.rules import Rules
from proxy.server import Proxy
from proxy.session import Limits
from proxy.socks.bind import Rendezvous
from tests.proxy.support import Bench, Client, LoopNet, bench, serving, until
from tests.proxy.test_socks4_handler import REJECTED, request4
from tests.proxy.test_socks_handler import CREDENTIALS, DIALS, HELLO, LOGIN, answer, request
from usernet.config import access

BIND = 2
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def reply5(client: Client) -> tuple[str, int]:
    """The address in a reply that says success."""
    head = await client.exactly(4)
    assert head[:3] == b"\x05\0\0"
    packed = await client.exactly(16 if head[3] == 4 else 4)
    return socket.inet_ntop(socket.AF_INET6 if head[3] == 4 else socket.AF_INET, packed), int.from_bytes(
        await client.exactly(2)
    )


async def reply4(client: Client) -> tuple[str, int]:
    assert await client.exactly(2) == b"\0\x5a"
    port = int.from_bytes(await client.exactly(2))
    return socket.inet_ntoa(await client.exactly(4)), port


async def begun(made: Bench, host: str | bytes = "127.0.0.1", trailing: bytes = b"") -> tuple[Client, tuple[str, int]]:
    """A client whose first reply has come, and the address in it."""
    client = await made.client()
    await client.send(HELLO + request(host, 0, BIND) + trailing)
    await client.expect(b"\x05\0")
    return client, await reply5(client)


@contextlib.asynccontextmanager
async def peer_of(address: tuple[str, int], source: str | None = None) -> AsyncIterator[Peer]:
    local = (source, 0) if source is not None else None
    reader, writer = await asyncio.open_connection(*address, local_addr=local)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def heard(peer: Peer, count: int) -> bytes:
    return await asyncio.wait_for(peer[0].readexactly(count), 10)


async def assert_nobody_listens(address: tuple[str, int]) -> None:
    with pytest.raises(ConnectionError):
        async with peer_of(address) as peer:
            await heard(peer, 1)  # it may have been accepted just before the end, and reset then


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("destination", "host"), [("127.0.0.1", "127.0.0.1"), (b"origin.test", "127.0.0.1"), (b"127.0.0.1", "127.0.0.1"),
                              ("::1", "::1"), (b"v6.test", "::1")],
)  # fmt: skip
async def test_a_peer_comes(version: int, destination: str | bytes, host: str) -> None:
    async with bench() as made:
        client = await made.client()
        if version == 4:
            if host == "::1":  # it cannot say where the peer is to connect
                data = request4(destination if isinstance(destination, bytes) else destination.encode(), 0, BIND)
                assert await client.exchange(data) == REJECTED
                return
            await client.send(request4(destination, 21, BIND) + b"early")
            address = await reply4(client)
        else:
            await client.send(HELLO + request(destination, 21, BIND) + b"early")
            await client.expect(b"\x05\0")
            address = await reply5(client)
        assert address[0] == host
        async with peer_of(address) as peer:
            named = await (reply4 if version == 4 else reply5)(client)
            assert named == peer[1].get_extra_info("sockname")[:2]
            assert await heard(peer, 5) == b"early"
            peer[1].write(b"from the peer")
            await client.expect(b"from the peer")
            client.end()
            assert await peer[0].read() == b""
            peer[1].write(b"after its end")
            peer[1].write_eof()
            assert await client.rest() == b"after its end"
        assert made.net.dialled == []
        await assert_nobody_listens(address)


@pytest.mark.parametrize("login", [False, True])
async def test_every_cut(login: bool) -> None:
    async with bench(credentials=CREDENTIALS if login else None) as made:
        whole = (LOGIN if login else HELLO) + request("127.0.0.1", 0, BIND) + b"trailing"
        for cuts in [[], list(range(1, len(whole))), *([at] for at in range(1, len(whole)))]:
            client = await made.client()
            await client.send(whole, cuts=cuts)
            await client.expect(b"\x05\x02\x01\0" if login else b"\x05\0")
            async with peer_of(await reply5(client)) as peer:
                assert await reply5(client) == peer[1].get_extra_info("sockname")
                assert await heard(peer, 8) == b"trailing"
            await client.close()


async def test_only_the_peer_that_was_named() -> None:
    async with bench() as made:
        client, address = await begun(made)
        for _ in range(3):
            async with peer_of(address, "127.0.0.2") as stranger:
                with pytest.raises(ConnectionResetError):
                    await heard(stranger, 1)
        async with peer_of(address) as peer:
            assert await reply5(client) == peer[1].get_extra_info("sockname")
            await assert_nobody_listens(address)
            await client.send(b"hello")
            assert await heard(peer, 5) == b"hello"
        assert made.proxy.statistics().refused == {"bind-stranger": 3}


async def test_any_address_of_a_name() -> None:
    async with bench() as made:
        made.net.names["many.test"] = ["127.0.0.3", "127.0.0.4", "169.254.1.1"]
        client, address = await begun(made, b"many.test")
        async with peer_of(address, "127.0.0.4") as peer:
            assert await reply5(client) == peer[1].get_extra_info("sockname")


async def test_the_next_family_where_one_cannot_listen() -> None:
    async with bench() as made:
        made.net.names["both.test"] = ["2001:db8::1", "127.0.0.1"]
        listen = made.net.create_datagram_endpoint

        async def only_ipv4(factory: Any, *, remote_addr: tuple[str, int]) -> Any:
            if ":" in remote_addr[0]:
                raise OSError(101, "x")
            return await listen(factory, remote_addr=remote_addr)

        made.net.create_datagram_endpoint = only_ipv4  # type: ignore[method-assign, assignment]
        _, address = await begun(made, b"both.test")
        assert address[0] == "127.0.0.1"


async def test_two_at_once() -> None:
    async with bench() as made:
        first, one = await begun(made, trailing=b"first")
        second, two = await begun(made, trailing=b"other")
        assert one != two
        async with peer_of(two) as right, peer_of(one) as left:
            assert await heard(left, 5) == b"first"
            assert await heard(right, 5) == b"other"
            assert await reply5(first) == left[1].get_extra_info("sockname")
            assert await reply5(second) == right[1].get_extra_info("sockname")


@pytest.mark.parametrize("version", [4, 5])
async def test_nobody_comes(version: int) -> None:
    """The second reply says that it took too long."""
    async with bench(limits=Limits(bind_timeout=0.05)) as made:
        if version == 5:
            client, address = await begun(made)
            assert await client.rest() == answer(6, b"")
        else:
            client = await made.client()
            await client.send(request4("127.0.0.1", 0, BIND))
            address = await reply4(client)
            assert await client.rest() == REJECTED
        await assert_nobody_listens(address)
        assert made.proxy.statistics().refused == {"connection_timeout": 1}


@pytest.mark.parametrize("way", ["end", "close", "reset"])
async def test_it_dies_with_its_client(way: str) -> None:
    async with bench() as made:
        client, address = await begun(made)
        if way == "end":
            client.end()
            assert await client.rest() == b""
        else:
            if way == "reset":
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await client.close()
        await until(lambda: made.proxy.statistics().connections == 0)
        await assert_nobody_listens(address)


async def test_it_dies_with_the_proxy() -> None:
    async with bench() as made:
        _, address = await begun(made)
        await made.proxy.close()
        await assert_nobody_listens(address)


async def test_a_client_that_leaves_while_the_port_is_opened() -> None:
    """The listener comes too late for anybody: it is closed."""
    async with bench() as made:
        asked, gate, servers = asyncio.Event(), asyncio.Event(), list[asyncio.Server]()
        create = made.net.create_server

        async def slow(*arguments: Any, backlog: int) -> asyncio.Server:
            asked.set()
            await gate.wait()
            servers.append(await create(*arguments, backlog=backlog))
            return servers[0]

        made.net.create_server = slow  # type: ignore[method-assign, assignment]
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", 0, BIND))
        await client.expect(b"\x05\0")
        await asked.wait()
        await client.close()
        await until(lambda: made.proxy.statistics().connections == 0)
        gate.set()
        await until(lambda: bool(servers) and not servers[0].is_serving())


async def test_the_peer_is_gone_at_once() -> None:
    """A failure or a reset; or the wait goes on, where the loop cannot tell any more who it was (uvloop)."""
    async with bench(limits=Limits(bind_timeout=0.2)) as made:
        client, address = await begun(made)
        with socket.create_connection(address) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(ConnectionResetError):
            assert (await client.rest())[:2] in (b"\x05\0", b"\x05\x01", b"\x05\x06")
        await until(lambda: made.proxy.statistics().connections == 0)
        await assert_nobody_listens(address)


class Fresh:
    """As much of a transport as a rendezvous looks at."""

    def __init__(self, peer: str | None) -> None:
        self.peer = peer
        self.calls: list[str] = []

    def get_extra_info(self, name: str) -> Any:
        return (self.peer, 4000, 0, 7) if name == "peername" and self.peer is not None else None

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def abort(self) -> None:
        self.calls.append("abort")


async def test_one_peer_and_it_is_held_still() -> None:
    """Two that were accepted in one turn; one that nobody can name; one that comes as its client goes."""
    async with bench() as made:
        context = made.proxy._context
        places = await context.dialer.locate(Whose(Terms(), "127.0.0.1", 1, None), "127.0.0.1", 0)
        meeting = Rendezvous(context, places)
        await meeting.listen(made.net, "127.0.0.1")
        nameless, mapped, second = Fresh(None), Fresh("::ffff:127.0.0.1"), Fresh("127.0.0.1")
        for transport in (nameless, mapped, second):
            meeting.arrived(transport)  # type: ignore[arg-type]
        assert [transport.calls for transport in (nameless, mapped, second)] == [["abort"], ["pause"], ["abort"]]
        assert await meeting.peer() is mapped  # type: ignore[comparison-overlap]
        late = Rendezvous(context, places)
        await late.listen(made.net, "127.0.0.1")
        waiting = asyncio.ensure_future(late.peer())
        await asyncio.sleep(0)
        transport = Fresh("127.0.0.1")
        late.arrived(transport)  # type: ignore[arg-type]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert transport.calls == ["pause", "abort"]


REFUSED = [
    ("unspecified", request("0.0.0.0", 0, BIND), answer(2)),
    ("cloud metadata", request("169.254.169.254", 0, BIND), answer(2)),
    ("multicast", request("ff02::1", 0, BIND), answer(2)),
    ("localhost", request(b"localhost", 0, BIND), answer(2)),
    ("name not found", request(b"nowhere.test", 0, BIND), answer(4)),
    ("no name", request(b"a b", 0, BIND), answer(1)),
]


@pytest.mark.parametrize(("data", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refused(data: bytes, expected: bytes) -> None:
    async with bench() as made:
        assert await (await made.client()).exchange(HELLO + data) == expected


@pytest.mark.parametrize(("error", "code"), DIALS, ids=[f"{e!r}" for e, _ in DIALS])
async def test_answer_names_the_cause(error: BaseException, code: int) -> None:
    async def fail(*_: object, **__: object) -> Any:
        raise error

    async with bench() as made:
        made.net.create_server = fail  # type: ignore[method-assign]
        assert await (await made.client()).exchange(HELLO + request("127.0.0.1", 0, BIND)) == answer(code)
        assert await (await made.client()).exchange(request4("127.0.0.1", 0, BIND)) == REJECTED


class Upstream:
    """A net that does no more than the least."""

    create_connection = LoopNet.create_connection

    async def resolve(self, name: str) -> list[str]:
        raise AssertionError


@pytest.mark.parametrize("command", [BIND, 0xF0, 0xF1])
async def test_a_route_that_cannot(command: int) -> None:
    rules = Rules([access.rule("up .up.test 192.0.2.0/24"), access.rule("refuse 198.51.100.0/24")])
    proxy = Proxy(LoopNet(), rules=rules, routes={"up": Route("up", Upstream(), takes_names=True)})
    [listener] = await proxy.listen("127.0.0.1", 0, terms=Terms())
    made = Bench(LoopNet(), proxy, listener.port)
    try:
        for host in ("192.0.2.1", b"192.0.2.1", b"www.up.test"):
            code = 8 if (command, host) == (0xF1, b"www.up.test") else 7
            if (command, host) in [(0xF0, "192.0.2.1"), (0xF0, b"192.0.2.1")]:
                continue  # a literal needs nobody
            assert await (await made.client()).exchange(HELLO + request(host, 0, command)) == answer(code)
        assert await (await made.client()).exchange(HELLO + request("198.51.100.1", 0, command)) == answer(2)
    finally:
        await made.close()


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := sock.recv(count - len(data))):
        data += piece
    return data


async def test_by_the_route_of_a_rule() -> None:
    """Directly, and the tunnel hears nothing of it; the access log says which way."""
    lines: list[str] = []
    net = Upstream()
    rules = Rules([access.rule("direct 127.0.0.0/8")])
    log = AccessLog(lines.append, as_json=False)
    proxy = Proxy(net, rules=rules, routes={"direct": Route("direct", HostNet())}, access_log=log)
    [listener] = await proxy.listen("127.0.0.1", 0, terms=Terms())
    made = Bench(LoopNet(), proxy, listener.port)
    try:
        client, address = await begun(made)
        assert address[0] == "127.0.0.1"
        async with peer_of(address) as peer:
            assert await reply5(client) == peer[1].get_extra_info("sockname")
            client.end()
            assert await peer[0].read() == b""
        assert await client.rest() == b""
        await until(lambda: bool(lines))
        assert '"SOCKS5 BIND" 127.0.0.1:0 direct up=0 down=0' in lines[0]
        assert lines[0].endswith(" ok")
    finally:
        await made.close()


class ActiveFtp(ftplib.FTP):
    """The standard library's client, in active mode, behind SOCKS: PORT names a port of the proxy's."""

    def __init__(self, proxy_port: int) -> None:
        super().__init__(timeout=10)
        self.proxy_port = proxy_port
        self.set_pasv(False)

    def open(self, port: int) -> None:
        self.sock = socks.create_connection(
            ("127.0.0.1", port), timeout=10, proxy_type=socks.SOCKS5, proxy_addr="127.0.0.1", proxy_port=self.proxy_port
        )
        self.af = socket.AF_INET
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()

    def makeport(self) -> Any:
        sock = socket.create_connection(("127.0.0.1", self.proxy_port), timeout=10)
        sock.sendall(HELLO + request("127.0.0.1", self.sock.getpeername()[1], BIND))  # type: ignore[union-attr]
        said = exactly(sock, 12)
        assert said[:6] == b"\x05\0\x05\0\0\x01"
        self.sendport(socket.inet_ntoa(said[6:10]), int.from_bytes(said[10:]))

        class Waiting:
            def __enter__(self) -> Waiting:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def accept(self) -> tuple[socket.socket, None]:
                assert exactly(sock, 10)[:4] == b"\x05\0\0\x01"
                return sock, None

            def settimeout(self, _: float) -> None:
                pass

        return Waiting()


async def test_ftp_in_active_mode() -> None:
    blob = os.urandom(1 << 20)
    stored = io.BytesIO()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        port = 0
        while line := (await reader.readline()).decode().split():
            if line[0] == "PORT":
                numbers = list(map(int, line[1].split(",")))
                port = numbers[4] << 8 | numbers[5]
            if line[0] in ("RETR", "STOR"):
                writer.write(b"150 coming\r\n")
                async with peer_of(("127.0.0.1", port)) as peer:
                    if line[0] == "RETR":
                        peer[1].write(blob)
                    else:
                        stored.write(await peer[0].read())
                writer.write(b"226 done\r\n")
            else:
                writer.write(b"221 bye\r\n" if line[0] == "QUIT" else b"200 well\r\n")
            if line[0] == "QUIT":
                break

    def fetch_and_store(proxy_port: int, port: int) -> bytes:
        got = io.BytesIO()
        ftp = ActiveFtp(proxy_port)
        ftp.open(port)
        ftp.retrbinary("RETR blob", got.write)
        ftp.storbinary("STOR blob", io.BytesIO(blob[::-1]))
        ftp.quit()
        return got.getvalue()

    async with serving(server) as port, bench() as made:
        assert await asyncio.to_thread(fetch_and_store, made.port, port) == blob
        assert stored.getvalue() == blob[::-1]
        await until(lambda: made.proxy.statistics().connections == 0)
