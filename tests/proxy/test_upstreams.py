"""Upstream proxies: microsocks, tinyproxy and sshd, and answers that no good proxy gives, cut everywhere."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.policy import Forbidden
from proxy.routes import HostNet, UpstreamFailed
from proxy.upstreams import UpstreamNet, upstream_routes
from tests.proxy.support import bench, echo, serving
from tests.proxy.test_socks_handler import HELLO, answer, request
from usernet.config import Upstream, access
from usernet.errors import HostUnreachable, NameNotFound, NetworkUnreachable

BLOB = bytes(range(256)) * 4096


@contextlib.asynccontextmanager
async def running(port: int, *command: str) -> AsyncIterator[None]:
    """A server, once its port answers."""
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                break
            assert process.returncode is None
            await asyncio.sleep(0.01)
        yield
    finally:
        process.terminate()
        await process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.asynccontextmanager
async def upstream(kind: str, directory: Path) -> AsyncIterator[Upstream]:
    port = free_port()
    if kind == "socks5":
        async with running(port, "microsocks", "-i", "127.0.0.1", "-p", str(port), "-u", "me", "-P", "pass"):
            yield access.upstream(f"office socks5://me:pass@127.0.0.1:{port} through direct")
    else:
        file = directory / "tinyproxy.conf"
        file.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nBasicAuth me pass\n")
        async with running(port, "tinyproxy", "-d", "-c", str(file)):
            yield access.upstream(f"office http://me:pass@127.0.0.1:{port} through direct")


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that speaks first, much, and then listens."""
    writer.write(BLOB)
    await writer.drain()
    await echo(reader, writer)


@pytest.mark.parametrize("kind", ["socks5", "http"])
async def test_a_far_end_that_speaks_first(kind: str, tmp_path: Path) -> None:
    async with serving(greet) as port, upstream(kind, tmp_path) as one:
        routes = upstream_routes([one], {"direct": HostNet(), "tunnel": HostNet()})
        async with bench(rules=["office 127.0.0.0/8"], routes=routes) as made:
            client = await made.client()
            await client.send(HELLO + request("127.0.0.1", port) + b"hello")
            await client.expect(b"\x05\x00\x05\x00\x00\x01")
            await client.exactly(6)
            await client.expect(BLOB + b"hello")
            client.end()
            assert await client.rest() == b""
            assert made.net.dialled == []


@pytest.mark.parametrize("kind", ["socks5", "http"])
async def test_a_wrong_password_and_a_refused_destination(kind: str, tmp_path: Path, unused_port: int) -> None:
    async with upstream(kind, tmp_path) as one:
        for login in ("me:wrong", None):
            url = f"office {kind}://{login + '@' if login else ''}127.0.0.1:{one.address[1]}"
            with pytest.raises(UpstreamFailed):
                await UpstreamNet(access.upstream(url), HostNet()).create_connection(
                    asyncio.Protocol, "127.0.0.1", unused_port
                )
        refused = ConnectionRefusedError if kind == "socks5" else UpstreamFailed  # tinyproxy: 500 for every cause
        with pytest.raises(refused):
            await UpstreamNet(one, HostNet()).create_connection(asyncio.Protocol, "127.0.0.1", unused_port)


async def test_an_upstream_that_is_not_there(unused_port: int) -> None:
    for url in (f"127.0.0.1:{unused_port}", "nowhere.invalid:1080"):
        net = UpstreamNet(access.upstream(f"x socks5://{url}"), HostNet())
        with pytest.raises(UpstreamFailed, match=r"cannot be reached|does not resolve"):
            await net.create_connection(asyncio.Protocol, "192.0.2.1", 80)
    with pytest.raises(UpstreamFailed):
        await net.resolve("a.test")


class Talker:
    """Answers each of what it is sent by the next of `answers`, in pieces of `size`, and remembers what it heard."""

    def __init__(self, answers: list[bytes], size: int) -> None:
        self.answers = answers
        self.size = size
        self.heard: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for said in self.answers:
            self.heard.append(await reader.read(4096))
            for at in range(0, len(said), self.size):
                writer.write(said[at : at + self.size])
                await writer.drain()
                await asyncio.sleep(0)
        await reader.read(1)


class Collector(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()
        self.enough = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data.endswith(b"!"):
            self.enough.set()


SOCKS5_OK = [b"\x05\x00", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38first!"]
SOCKS5_NAME = [b"\x05\x00", b"\x05\x00\x00\x03\x05b.tld\x04\x38first!"]
SOCKS4_OK = [b"\x00\x5a\x04\x38\x7f\x00\x00\x01first!"]
HTTP_OK = [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nVia: \r\r\n\r\n".replace(b"\r\r", b"\r") + b"first!"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 4096])
@pytest.mark.parametrize(
    ("scheme", "answers"), [("socks5", SOCKS5_OK), ("socks5", SOCKS5_NAME), ("socks4", SOCKS4_OK), ("http", HTTP_OK)]
)
async def test_not_a_byte_is_lost_wherever_the_answer_is_cut(scheme: str, answers: list[bytes], size: int) -> None:
    talker = Talker(answers, size)
    async with serving(talker) as port:
        net = UpstreamNet(access.upstream(f"x {scheme}://127.0.0.1:{port}"), HostNet())
        transport, protocol = await net.create_connection(Collector, "far.test", 443)
        transport.resume_reading()
        await asyncio.wait_for(protocol.enough.wait(), 10)
        assert bytes(protocol.data) == b"first!"
        transport.close()
    assert b"far.test" in talker.heard[-1], "the name goes as it is: nobody here resolves it"


class Slow(HostNet):
    """A connection is used only when `spoken`, and what the far end had to say is there."""

    def __init__(self) -> None:
        super().__init__()
        self.spoken = asyncio.Event()

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        made = await super().create_connection(protocol_factory, host, port)
        await self.spoken.wait()
        for _ in range(4):  # turns in which the loop reads it, where it does not pause
            await asyncio.sleep(0)
        return made


async def test_an_upstream_that_answers_before_it_is_asked() -> None:
    base = Slow()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst!")
        base.spoken.set()
        await reader.read()

    async with serving(talk) as port:
        net = UpstreamNet(access.upstream(f"x http://127.0.0.1:{port}"), base)
        transport, protocol = await net.create_connection(Collector, "far.test", 443)
        transport.resume_reading()
        await asyncio.wait_for(protocol.enough.wait(), 10)
        assert bytes(protocol.data) == b"first!"
        transport.close()


@pytest.mark.parametrize("scheme", ["socks5", "http"])
async def test_an_upstream_that_ends_before_it_is_asked(scheme: str) -> None:
    base = Slow()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        base.spoken.set()

    async with serving(talk) as port:
        net = UpstreamNet(access.upstream(f"x {scheme}://127.0.0.1:{port}"), base)
        with pytest.raises(UpstreamFailed, match="ended the connection"):
            await asyncio.wait_for(net.create_connection(Collector, "far.test", 443), 10)


@pytest.mark.parametrize(
    ("scheme", "answers", "error"),
    [
        ("socks5", [b"\x05\xff"], UpstreamFailed), ("socks5", [b"\x04\x00"], UpstreamFailed),
        ("socks5", [b"\x05\x02"], UpstreamFailed), ("socks5", [b"HTTP/1.1 400 no"], UpstreamFailed),
        ("socks5", [b"\x05\x00", b"\x05\x01\x00"], UpstreamFailed),
        ("socks5", [b"\x05\x00", b"\x05\x02\x00"], Forbidden),
        ("socks5", [b"\x05\x00", b"\x05\x03\x00"], NetworkUnreachable),
        ("socks5", [b"\x05\x00", b"\x05\x04\x00"], HostUnreachable),
        ("socks5", [b"\x05\x00", b"\x05\x05\x00"], ConnectionRefusedError),
        ("socks5", [b"\x05\x00", b"\x05\x06\x00"], TimeoutError),
        ("socks5", [b"\x05\x00", b"\x05\x63\x00"], UpstreamFailed),
        ("socks5", [b"\x05\x00", b"\x05\x00\x00\x09"], UpstreamFailed),
        ("socks4", [b"\x00\x5b" + bytes(6)], UpstreamFailed), ("socks4", [b"\x04\x5a" + bytes(6)], UpstreamFailed),
        ("http", [b"HTTP/1.1 403 No\r\n\r\n"], Forbidden), ("http", [b"HTTP/1.1 504 No\r\n\r\n"], TimeoutError),
        ("http", [b"HTTP/1.1 407 No\r\n\r\n"], UpstreamFailed), ("http", [b"HTTP/1.1 502 No\r\n\r\n"], UpstreamFailed),
        ("http", [b"HTTP/2 200\r\n\r\n"], UpstreamFailed), ("http", [b"SSH-2.0-x\r\n\r\n"], UpstreamFailed),
        ("http", [b"HTTP/1.1 200 OK\nX: y\n\n\r\n\r\n"], UpstreamFailed),
        ("http", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000], UpstreamFailed),
    ],
)  # fmt: skip
async def test_the_true_cause(scheme: str, answers: list[bytes], error: type[Exception]) -> None:
    async with serving(Talker(answers, 4096)) as port:
        net = UpstreamNet(access.upstream(f"x {scheme}://127.0.0.1:{port}"), HostNet())
        with pytest.raises(error):
            await net.create_connection(asyncio.Protocol, "192.0.2.1", 443)


@pytest.mark.parametrize("length", range(9))
async def test_an_upstream_that_hangs_up(length: int) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00"[:length])

    for scheme in ("socks5", "socks4", "http"):
        async with serving(hang_up) as port:
            net = UpstreamNet(access.upstream(f"x {scheme}://127.0.0.1:{port}"), HostNet())
            with pytest.raises(UpstreamFailed):
                await net.create_connection(asyncio.Protocol, "192.0.2.1", 443)


async def test_login_of_http() -> None:
    talker = Talker([b"HTTP/1.1 200 OK\r\n\r\n"], 4096)
    async with serving(talker) as port:
        net = UpstreamNet(access.upstream(f"x http://me:p%3A%40ss@127.0.0.1:{port}"), HostNet())
        transport, _ = await net.create_connection(asyncio.Protocol, "2001:db8::1", 443)
        transport.close()
    assert talker.heard[0] == (
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nProxy-Authorization: Basic "
        + base64.b64encode(b"me:p:@ss")
        + b"\r\n\r\n"
    )


async def test_the_client_hears_that_it_was_the_upstream(unused_port: int) -> None:
    routes = upstream_routes(
        [access.upstream(f"office http://127.0.0.1:{unused_port} through direct")], {"direct": HostNet()}
    )
    async with bench(rules=["office *"], routes=routes) as made:
        assert await (await made.client()).exchange(HELLO + request("192.0.2.1", 443)) == answer(1)
        heard = await (await made.client()).exchange(b"GET http://far.test/ HTTP/1.1\r\nHost: far.test\r\n\r\n")
        assert heard.startswith(b"HTTP/1.1 502 ")
        assert b"upstream proxy" in heard


async def test_host_net_says_why() -> None:
    with pytest.raises(NameNotFound):
        await HostNet().resolve("nowhere.invalid")
    assert "127.0.0.1" in await HostNet().resolve("localhost")
