"""The demo's parts, each without a tunnel: content, web server, client, name server, show."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import dns.message
import dns.rcode
import pytest

from proxy.daemon.listeners import Listen
from proxy.daemon.serving import serve
from proxy.demo import content
from proxy.demo.client import Address, DemoError, Via, _exchange, request
from proxy.demo.nameserver import NameServer
from proxy.demo.show import PlainShow, speed
from proxy.demo.website import Website


def test_content_is_as_long_as_asked_and_never_repeats() -> None:
    for size in (0, 1, content.PIECE, content.PIECE + 1, 3 * content.PIECE - 1):
        data = b"".join(content.pieces(size))
        assert len(data) == size
        assert content.digest(size) == hashlib.sha256(data).hexdigest()
    assert len(set(content.pieces(8 * content.PIECE))) == 8


class ToSite:
    """A network in which every host is the one web server."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_connection(protocol_factory, "127.0.0.1", self._port)

    async def resolve(self, name: str) -> Sequence[str]:
        return ["192.0.2.1"]


@pytest.fixture
async def proxy() -> AsyncIterator[Address]:
    """A proxy in front of the demo's web server."""
    server = await asyncio.start_server(Website().serve, "127.0.0.1", 0)
    async with server, serve(ToSite(server.sockets[0].getsockname()[1]), [Listen("127.0.0.1", 0, True, True)]) as bound:
        yield bound[0].client_address


@pytest.mark.parametrize("via", ["SOCKS5", "HTTP"])
async def test_pages(proxy: Address, via: Via) -> None:
    page = bytearray()
    await request(via, proxy, "hello.test", "/", sink=page.extend)
    assert b"You came through the tunnel" in page
    picture = bytearray()
    await request(via, proxy, "hello.test", "/picture.png", sink=picture.extend)
    assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize("via", ["SOCKS5", "HTTP"])
async def test_down_and_up(proxy: Address, via: Via) -> None:
    size = 3 * content.PIECE + 5
    down = bytearray()
    await request(via, proxy, "hello.test", f"/down?{size}", sink=down.extend)
    assert hashlib.sha256(down).hexdigest() == content.digest(size)
    answer = bytearray()
    await request(via, proxy, "hello.test", "/up", body=content.pieces(size), length=size, sink=answer.extend)
    assert answer.decode() == f"{size} {content.digest(size)}\n"


async def test_refusals(proxy: Address) -> None:
    with pytest.raises(DemoError, match=r"hello\.test/none answered 404"):
        await request("SOCKS5", proxy, "hello.test", "/none", sink=bytes)
    with pytest.raises(DemoError, match="answered 405"):
        await request("SOCKS5", proxy, "hello.test", "/", length=0, sink=bytes)
    with pytest.raises(DemoError, match="refused localhost:80 with reply 2"):
        await request("SOCKS5", proxy, "localhost", "/", sink=bytes)


async def test_nobody_there() -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    async with server:
        with pytest.raises(DemoError, match="through SOCKS5: "):
            await request("SOCKS5", address, "hello.test", "/", sink=bytes)
    with pytest.raises(DemoError, match="through HTTP: "):
        await request("HTTP", address, "hello.test", "/", sink=bytes)


class Sent:
    """A datagram transport that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[object, ...]]] = []

    def sendto(self, data: bytes, addr: tuple[object, ...]) -> None:
        self.sent.append((data, addr))


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("hello.test.", "A", ["10.66.0.1"]),
        ("HELLO.test.", "AAAA", ["fd66::1"]),
        ("hello.test.", "TXT", []),
    ],
)
def test_name_server(name: str, kind: str, expected: list[str]) -> None:
    answer = ask(dns.message.make_query(name, kind).to_wire())
    assert answer is not None
    assert answer.rcode() == dns.rcode.NOERROR
    assert [str(record) for found in answer.answer for record in found] == expected


def test_name_server_knows_one_name_and_survives_noise() -> None:
    answer = ask(dns.message.make_query("other.test.", "A").to_wire())
    assert answer is not None
    assert answer.rcode() == dns.rcode.NXDOMAIN
    query = dns.message.make_query("hello.test.", "A")
    for cut in range(len(query.to_wire()) - 1):
        ask(query.to_wire()[:cut])
    query.flags |= dns.flags.QR
    assert ask(query.to_wire()) is None  # an answer is not answered


def ask(query: bytes) -> dns.message.Message | None:
    server, transport = NameServer({"hello.test.": ("10.66.0.1", "fd66::1")}), Sent()
    server.connection_made(transport)  # type: ignore[arg-type]
    server.datagram_received(query, ("10.66.0.2", 5353))
    return dns.message.from_wire(transport.sent[0][0]) if transport.sent else None


def test_plain_show(capsys: pytest.CaptureFixture[str]) -> None:
    show = PlainShow()
    show.say("[a] word")
    with show.transfer("down", 1 << 20) as advance:
        advance(1 << 20)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "[a] word"
    assert second.startswith("down: 1 MiB in ")
    assert speed(64 << 20, 2.0) == "64 MiB in 2.0 s, 33.6 MB/s"


class Sink:
    """What a client writes to, and nobody reads."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


async def test_a_stop_is_heard_while_data_flows() -> None:
    """A cancellation that comes while the next piece is there already is not lost."""
    reader = asyncio.StreamReader(limit=1 << 20)
    reader.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + bytes(3 << 20))
    loop = asyncio.get_running_loop()

    def stop(piece: bytes) -> None:
        pieces.append(piece)
        if len(pieces) == 1:  # once, as a signal is
            loop.call_soon(task.cancel)

    pieces: list[bytes] = []

    task = asyncio.create_task(_exchange(reader, Sink(), "hello.test", "/", (), None, stop))  # type: ignore[arg-type]
    await asyncio.wait([task], timeout=5)
    heard = task.cancelled()
    task.cancel()
    assert heard
