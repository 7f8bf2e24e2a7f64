"""HTTP inside TLS: handshakes, split and broken; ends; backpressure; curl, with TLS to the origin inside as well."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.certificate import Certificate
from proxy.session import Limits
from tests.proxy.support import Bench, Client, Handle, bench, digest, echo, serving, until
from tests.proxy.test_curl import CREDENTIALS, curl, origin, unhurried
from tests.proxy.test_relay import buffered, make_reset
from tests.support.certificates import Authority
from tests.support.skipping import needs

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def trusting(authority: Authority, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TlsClient:
    """TLS in memory over a client's exact bytes, with a half-close."""

    def __init__(self, client: Client, context: ssl.SSLContext) -> None:
        self.client = client
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self.ended = False

    async def _more(self) -> None:
        await self.flush()
        data = await asyncio.wait_for(self.client.reader.read(65536), 10)
        if not data:
            raise ConnectionResetError("the end of TCP without close_notify")
        self._incoming.write(data)

    async def flush(self, *, cuts: Sequence[int] = ()) -> None:
        if self._outgoing.pending:
            await self.client.send(self._outgoing.read(), cuts=cuts)

    async def shake_hands(self, *, each_byte: bool = False) -> None:
        while True:
            try:
                return self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                if each_byte:
                    await self.flush(cuts=range(1, self._outgoing.pending))
                await self._more()
            finally:
                await self.flush()

    async def send(self, data: bytes, *, each_byte: bool = False) -> None:
        view = memoryview(data)
        while view:
            view = view[self.ssl.write(view[:65536]) :]
            await self.flush(cuts=range(1, self._outgoing.pending) if each_byte else ())

    async def read(self) -> bytes:
        """A piece; nothing at close_notify."""
        while True:
            try:
                return self.ssl.read(65536)
            except ssl.SSLWantReadError:
                await self._more()
            except ssl.SSLZeroReturnError:
                return b""

    async def rest(self) -> bytes:
        heard = bytearray()
        while piece := await self.read():
            heard += piece
        return bytes(heard)

    async def expect(self, data: bytes) -> None:
        got = b""
        while len(got) < len(data):
            piece = (
                self.ssl.read(len(data) - len(got)) if self.ssl.pending() else await self._piece(len(data) - len(got))
            )
            assert piece, got
            got += piece
        assert got == data

    async def _piece(self, count: int) -> bytes:
        while True:
            try:
                return self.ssl.read(count)
            except ssl.SSLWantReadError:
                await self._more()

    async def end(self, after: bytes = b"") -> None:
        """close_notify, and what should not follow it; reading goes on."""
        unread = self._incoming.read()
        with pytest.raises(ssl.SSLWantReadError):
            self.ssl.unwrap()
        self._incoming.write(unread)
        self._outgoing.write(after)
        await self.flush()


async def connected(made: Bench, authority: Authority, version: ssl.TLSVersion | None = None) -> TlsClient:
    client = TlsClient(await made.client(), trusting(authority, version))
    await client.shake_hands()
    return client


@asynccontextmanager
async def relayed(
    handle: Handle, authority: Authority, certificate: Certificate, version: ssl.TLSVersion | None = None
) -> AsyncIterator[tuple[Bench, TlsClient]]:
    """A client that is through to a server."""
    async with serving(handle) as port, bench(certificate=certificate) as made:
        client = await connected(made, authority, version)
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)
        await client.expect(ESTABLISHED)
        yield made, client


# -- handshakes --


async def test_the_other_protocols_of_the_port_stay(authority: Authority, certificate: Certificate) -> None:
    async with bench(certificate=certificate) as made:
        plain = await (await made.client()).exchange(b"GET * HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.startswith(b"HTTP/1.1 400 ")
        assert await (await made.client()).exchange(b"\x05\x00") == b"\x05\xff"
        client = await connected(made, authority)
        await client.send(b"GET * HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.rest() == plain
        client = await connected(made, authority)
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"curl -x https://x:443 " in await client.rest()
        client = await connected(made, authority)
        await client.send(b"\x05\x01\x00")  # TLS has HTTP in it
        assert await client.rest() == b""


async def test_byte_by_byte(authority: Authority, certificate: Certificate) -> None:
    async with serving(echo) as port, bench(certificate=certificate) as made:
        client = TlsClient(await made.client(), trusting(authority))
        await client.shake_hands(each_byte=True)
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nearly" % port, each_byte=True)
        await client.expect(ESTABLISHED + b"early")
        await client.end()
        assert await client.rest() == b""


async def test_a_request_in_the_segment_of_the_handshakes_last_word(
    authority: Authority, certificate: Certificate
) -> None:
    async with serving(echo) as port, bench(certificate=certificate) as made:
        client = TlsClient(await made.client(), trusting(authority, ssl.TLSVersion.TLSv1_3))
        with pytest.raises(ssl.SSLWantReadError):
            client.ssl.do_handshake()
        await client._more()
        client.ssl.do_handshake()  # its last word is not sent yet
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nx" % port)
        await client.expect(ESTABLISHED + b"x")
        await client.end()


async def test_versions_and_alpn(authority: Authority, certificate: Certificate) -> None:
    async with bench(certificate=certificate) as made:
        for version in VERSIONS:
            context = trusting(authority, version)
            context.set_alpn_protocols(["h2", "http/1.1"])
            client = TlsClient(await made.client(), context)
            await client.shake_hands()
            assert client.ssl.selected_alpn_protocol() == "http/1.1"


def old_hello() -> bytes:
    """A client's first words that know TLS 1.1 only (RFC 4346)."""
    suites = bytes.fromhex("c013002f")
    body = b"\x03\x02" + bytes(32) + b"\0" + len(suites).to_bytes(2, "big") + suites + b"\1\0"
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize(
    ("words", "alert"),
    [(old_hello(), 70), (b"\x16\x03\x01\x00\x04junk", None), (b"\x16GET / HTTP/1.1\r\n\r\n", None)],
)
async def test_a_failed_handshake(certificate: Certificate, words: bytes, alert: int | None) -> None:
    async with bench(certificate=certificate) as made:
        client = await made.client()
        heard = await client.exchange(words)
        assert heard[:1] in (b"", b"\x15")  # a record of alerts at most
        if alert is not None:
            assert heard[5:] == bytes((2, alert))  # fatal, protocol_version
        assert made.proxy.statistics().refused == {"tls-handshake": 1}
        await client.close()
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_a_slow_handshake_ends(certificate: Certificate) -> None:
    async with bench(certificate=certificate, limits=Limits(handshake_timeout=0.1)) as made:
        client = await made.client()
        await client.send(old_hello()[:20])
        assert await client.rest() == b""
        assert made.proxy.statistics().refused == {"handshake-timeout": 1}
        assert made.proxy.statistics().handshakes == 0


async def test_silence_after_the_handshake_ends(authority: Authority, certificate: Certificate) -> None:
    async with bench(certificate=certificate, limits=Limits(sniff_timeout=0.2)) as made:
        client = await connected(made, authority)
        assert await client.rest() == b""
        assert made.proxy.statistics().refused == {"sniff-timeout": 1}


async def test_limit_per_client(authority: Authority, certificate: Certificate) -> None:
    async with bench(certificate=certificate, limits=Limits(connections_per_client=1)) as made:
        for _ in range(3):
            client = await connected(made, authority)
            assert await (await made.client()).exchange(b"\x05\x00") == b""
            await client.client.close()
            await until(lambda: made.proxy.statistics().connections == 0)
        assert made.proxy._context.clients == {}


async def test_a_renewed_certificate_is_used(authority: Authority, certificate: Certificate) -> None:
    async with bench(certificate=certificate) as made:
        before = (await connected(made, authority)).ssl.getpeercert(True)
        authority.issue()
        assert (await connected(made, authority)).ssl.getpeercert(True) != before


# -- ends --


@pytest.mark.parametrize("version", VERSIONS)
async def test_client_ends_first(authority: Authority, certificate: Certificate, version: ssl.TLSVersion) -> None:
    """The upload's end is told, and the answer that needs it comes back."""
    data = os.urandom(4 << 20)
    async with relayed(digest, authority, certificate, version) as (made, client):
        await client.send(data)
        await client.end()
        assert await client.rest() == hashlib.sha256(data).hexdigest().encode()
        await client.client.close()
        await until(lambda: made.proxy.statistics().connections == 0)
        assert made.proxy.statistics().bytes_up == len(data)
        assert made.proxy.statistics().bytes_down == 64


@pytest.mark.parametrize("version", VERSIONS)
async def test_server_ends_first(authority: Authority, certificate: Certificate, version: ssl.TLSVersion) -> None:
    """Its end is told, and what the client sends after that still arrives."""
    heard = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        heard.set_result(await reader.read())

    data = os.urandom(4 << 20)
    async with relayed(server, authority, certificate, version) as (made, client):
        assert await client.rest() == b"bye"
        await client.send(data)
        client.ssl.unwrap()
        await client.flush()
        assert await heard == data
        await client.client.close()
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_the_end_of_tcp_alone_is_a_reset(authority: Authority, certificate: Certificate) -> None:
    """It could be anybody's; what came before it is delivered."""
    heard = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(4)
        try:
            await reader.read()
        except ConnectionResetError:
            heard.set_result(data)

    async with relayed(server, authority, certificate) as (made, client):
        await client.send(b"half")
        client.client.end()
        assert await heard == b"half"
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_a_reset_by_the_client_is_a_reset(authority: Authority, certificate: Certificate) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            ended.set_result(None)

    async with relayed(server, authority, certificate) as (_, client):
        make_reset(client.client.writer)
        await ended


async def test_a_reset_by_the_server_is_no_clean_end(authority: Authority, certificate: Certificate) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        await reader.readexactly(1)
        make_reset(writer)

    async with relayed(server, authority, certificate) as (_, client):
        await client.expect(b"half")
        await client.send(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_broken_record_is_a_reset(authority: Authority, certificate: Certificate) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            ended.set_result(None)

    async with relayed(server, authority, certificate) as (made, client):
        await client.client.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await ended
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_what_follows_close_notify_is_ignored(authority: Authority, certificate: Certificate) -> None:
    async with relayed(digest, authority, certificate) as (made, client):
        await client.send(b"abc")
        await client.end(after=b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await client.rest() == hashlib.sha256(b"abc").hexdigest().encode()
        await client.client.close()
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_refusals_arrive_whole(authority: Authority, certificate: Certificate) -> None:
    async with bench(certificate=certificate) as made:
        made.net.fail = ConnectionRefusedError(111, "refused")
        client = await connected(made, authority)
        await client.send(b"CONNECT origin.test:1 HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(50_000))
        heard = await client.rest()
        assert heard.startswith(b"HTTP/1.1 502 ")
        assert heard.endswith(b"see that a server listens on that port there\n")


# -- a lot of data --


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_ways_at_once(authority: Authority, certificate: Certificate, version: ssl.TLSVersion) -> None:
    data = os.urandom(4 << 20)
    async with relayed(echo, authority, certificate, version) as (_, client):
        heard = bytearray()

        async def upload() -> None:
            await client.send(data)

        async def download() -> None:
            while len(heard) < len(data):
                piece = await client.read()
                assert piece
                heard.extend(piece)

        await asyncio.gather(download(), upload())
        assert bytes(heard) == data
        await client.end()
        assert await client.rest() == b""


async def test_a_slow_client_stops_the_server(authority: Authority, certificate: Certificate) -> None:
    """Little is held; and when the client reads on, all of it comes."""
    data = os.urandom(16 << 20)
    stuck = asyncio.Event()

    async def server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(data), 1 << 16):
            writer.write(data[at : at + (1 << 16)])
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                stuck.set()
                await writer.drain()

    async with relayed(server, authority, certificate) as (made, client):
        await stuck.wait()
        assert buffered(made) < 1 << 20
        assert hashlib.sha256(await client.rest()).digest() == hashlib.sha256(data).digest()


async def test_a_slow_server_stops_the_client(authority: Authority, certificate: Certificate) -> None:
    """The read side pauses and goes on without losing a byte, and what it held is delivered though nothing follows."""
    data = os.urandom(16 << 20)
    go = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await digest(reader, writer)

    async with relayed(server, authority, certificate) as (made, client):
        sending = asyncio.ensure_future(client.send(data))
        paused = lambda: any(not s.transport.is_reading() for s in made.proxy._context.sessions)  # type: ignore[attr-defined]  # noqa: E731
        await until(paused)
        assert buffered(made) < 1 << 20
        go.set()
        await sending
        await client.end()
        assert await client.rest() == hashlib.sha256(data).hexdigest().encode()


# -- curl --


@pytest.mark.parametrize("extra", [(), ("-p",)])
@pytest.mark.parametrize("login", [False, True])
async def test_curl_through_an_https_proxy(
    authority: Authority, certificate: Certificate, extra: tuple[str, ...], login: bool, tmp_path: Path
) -> None:
    needs("curl")
    blob = os.urandom(5 << 20)
    (tmp_path / "blob").write_bytes(blob)
    credentials = CREDENTIALS if login else None
    async with origin(blob) as port, bench(credentials=credentials, certificate=certificate) as made:
        who = "alice:pa%3Ass@" if login else ""
        proxy = ("--proxy", f"https://{who}127.0.0.1:{made.port}", "--proxy-cacert", str(authority.file), *extra)
        for path in ("blob", "chunked"):
            assert await curl(*proxy, f"http://origin.test:{port}/{path}") == (0, blob)
        expected = (0, hashlib.sha256(blob).hexdigest().encode())
        assert await curl(*proxy, "-T", str(tmp_path / "blob"), f"http://origin.test:{port}/") == expected
        assert await unhurried(made)


async def test_tls_in_tls(authority: Authority, certificate: Certificate) -> None:
    needs("curl")
    blob = os.urandom(5 << 20)
    pair = authority.issue("origin", ("origin.test",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    async with origin(blob, context) as port, bench(certificate=certificate) as made:
        trust = ("--cacert", str(authority.file), "--proxy-cacert", str(authority.file))
        proxy = ("--proxy", f"https://127.0.0.1:{made.port}")
        assert await curl(*trust, *proxy, f"https://origin.test:{port}/blob") == (0, blob)
        assert await unhurried(made)
        status, said = await curl(*trust[:2], *proxy, f"https://origin.test:{port}/blob")
        assert status == 60, said  # the proxy's certificate is not trusted
