"""Requests in absolute-form to real origins that record what they hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from proxy.session import Limits
from tests.proxy.support import Bench, Client, bench, serving, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Script:
    """An origin that answers request number n with `answers[n]`, and records heads and bodies."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.rest = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.answers:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            lower = head.lower()
            body = b""
            if b"transfer-encoding: chunked" in lower:
                while not body.endswith(b"0\r\n\r\n") and b"\r\n0\r\n" not in body:
                    body += await reader.readuntil(b"\r\n")
                if not body.endswith(b"0\r\n\r\n"):
                    while not body.endswith(b"\r\n\r\n"):
                        body += await reader.readuntil(b"\r\n")
            elif b"content-length: " in lower:
                length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
            self.bodies.append(body)
            writer.write(self.answers.pop(0))
            await writer.drain()
            if self.close:
                return
        self.rest = await reader.read()

    def fields(self, at: int = 0) -> dict[bytes, bytes]:
        lines = self.heads[at].split(b"\r\n")[1:-2]
        pairs = [line.split(b": ", 1) for line in lines]
        assert len({name.lower() for name, _ in pairs}) == len(pairs), "a field twice"
        return {name.lower(): value for name, value in pairs}


@asynccontextmanager
async def forwarding(script: Script, limits: Limits = Limits()) -> AsyncIterator[tuple[Bench, Client, int]]:  # noqa: B008
    async with serving(script) as port, bench(limits=limits) as made:
        yield made, await made.client(), port


def line(method: bytes, port: int, path: bytes = b"/", version: bytes = b"1.1") -> bytes:
    return b"%b http://origin.test:%d%b HTTP/%b\r\nHost: ignored.test\r\n" % (method, port, path, version)


async def response(client: Client, size: int = 2) -> tuple[bytes, bytes]:
    head = await client.head()
    return head, await client.exactly(size)


@pytest.mark.parametrize(
    "method", [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"x-y"]
)
async def test_every_method(method: bytes) -> None:
    script = Script(OK)
    async with forwarding(script) as (_, client, port):
        await client.send(line(method, port, b"/a?b=http://c/") + b"\r\n")
        head, body = await response(client)
        assert body == b"ok"
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert script.heads[0].startswith(method + b" /a?b=http://c/ HTTP/1.1\r\n")
        assert script.fields()[b"host"] == b"origin.test:%d" % port


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [(b"GET", b"", b"/"), (b"OPTIONS", b"", b"*"), (b"GET", b"?q", b"/?q"), (b"OPTIONS", b"/", b"/")],
)
async def test_targets(method: bytes, path: bytes, sent: bytes) -> None:
    script = Script(OK)
    async with forwarding(script) as (_, client, port):
        await client.send(line(method, port, path) + b"\r\n")
        await response(client)
        assert script.heads[0].startswith(method + b" " + sent + b" HTTP/1.1\r\n")


async def test_head_has_no_body() -> None:
    script = Script(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", OK)
    async with forwarding(script) as (_, client, port):
        await client.send(line(b"HEAD", port) + b"\r\n")
        assert b"content-length: 5000" in (await client.head()).lower()
        await client.send(line(b"GET", port) + b"\r\n")
        assert (await response(client))[1] == b"ok"


BODIES = [
    (b"Content-Length: 5\r\n\r\nhello", b"hello"),
    (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: CHUNKED\r\n\r\n2;x=y\r\nhe\r\n003\r\nllo\r\n0\r\n\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 9\r\n\r\n", b"5\r\nhello\r\n0\r\nX-Sum: 9\r\n\r\n"),
]


@pytest.mark.parametrize(("tail", "sent"), BODIES)
async def test_request_bodies_cut_everywhere(tail: bytes, sent: bytes) -> None:
    """Every single cut of the body, a byte at a time, and two requests in one piece."""
    script = Script(*[OK] * 1000)
    async with forwarding(script) as (made, client, port):
        whole = line(b"POST", port) + tail
        for cuts in [[at] for at in range(len(whole) - len(tail) + 20, len(whole))] + [list(range(1, len(whole)))]:
            await client.send(whole, cuts=cuts)
            assert (await response(client))[1] == b"ok"
        await client.send(whole + whole)
        assert (await response(client))[1] == b"ok"
        assert (await response(client))[1] == b"ok"
        joined = [body.replace(b"\r\n", b"") if b"0\r\n" not in body else body for body in script.bodies]
        assert {unchunk(body) for body in joined} == {unchunk(sent)}
        assert script.connections == 1, "the origin's connection is reused"
        assert made.proxy.statistics().accepted == 1, "and so is the client's"


def unchunk(body: bytes) -> tuple[bytes, bytes]:
    """Content and trailers: where a chunk ends is nobody's business."""
    if not body.endswith(b"\r\n\r\n"):
        return body, b""
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return content, body
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 9\r\n\r\n", b"hello"),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b""),
    (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x"),
]


@pytest.mark.parametrize(("said", "content"), RESPONSES)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_responses_cut_everywhere(said: bytes, content: bytes, version: bytes) -> None:
    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            for at in range(len(said)) if b"/all" in head else range(0):
                writer.write(said[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
            if b"/cut" in head:
                at = int(head.split(b"/cut")[1].split()[0])
                writer.write(said[:at])
                await writer.drain()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                writer.write(said[at:])

    async with serving(origin) as port, bench() as made:
        heard = set()
        for path in [b"/all", *[b"/cut%d" % at for at in range(1, len(said), 4)]]:
            client = await made.client()
            request = line(b"GET", port, path, version).replace(b"Host", b"Connection: close\r\nHost")
            got = await client.exchange(request + b"\r\n")
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(said[:12])
            chunked = b"transfer-encoding: chunked" in head.lower()
            assert not (chunked and version == b"1.0")
            assert b"connection: close" in head.lower()
            assert (unchunk(body) if chunked else (body, b""))[0] == content
            if chunked:
                assert unchunk(body)[1] == b"X-Sum: 9\r\n\r\n"
            heard.add(head)
        assert len(heard) == 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_body_until_close(version: bytes) -> None:
    script = Script(b"HTTP/1.1 200 OK\r\n\r\nhello", close=True)
    async with forwarding(script) as (_, client, port):
        await client.send(line(b"GET", port, version=version) + b"\r\n")
        head = await client.head()
        if version == b"1.1":
            await client.expect(b"5\r\nhello\r\n0\r\n\r\n")
        else:
            assert await client.rest() == b"hello"
            assert b"connection: close" in head.lower()


async def test_hop_by_hop_fields_end_here() -> None:
    script = Script(
        b"HTTP/1.1 200 OK\r\nConnection: X-Response, close\r\nX-Response: 1\r\nKeep-Alive: 5\r\n"
        b"Proxy-Authenticate: x\r\nUpgrade: h2c\r\nProxy-Status: a\r\nContent-Length: 2\r\nSet-Cookie: b\r\n\r\nok"
    )
    async with forwarding(script) as (_, client, port):
        await client.send(
            line(b"POST", port)
            + b"Connection: X-Mine, x-other, content-length, HOST\r\nConnection: third\r\nX-Mine: 1\r\n"
            b"X-Other: 2\r\n"
            b"Third: 3\r\nKeep-Alive: 300\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n"
            b"Proxy-Foo: bar\r\nTE: trailers\r\nTrailer: X-T\r\nUpgrade: h2c\r\nX-Kept: yes\r\n"
            b"Content-Length: 1\r\n\r\nx"
        )
        head, _ = await response(client)
        fields = script.fields()
        assert set(fields) == {b"host", b"x-kept", b"content-length", b"te", b"connection"}
        assert (fields[b"te"], fields[b"connection"]) == (b"trailers", b"TE"), "ours, and not the client's"
        names = {field.split(b":")[0].lower() for field in head.split(b"\r\n")[1:-2]}
        assert names == {b"proxy-status", b"content-length", b"set-cookie"}


async def test_informational_responses() -> None:
    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"Expect: 100-continue" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(5)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        for _ in range(2):
            await client.send(line(b"PUT", port) + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            early = await client.head()
            assert early.startswith(b"HTTP/1.1 103 ")
            assert b"</a>" in early
            assert (await client.head()).startswith(b"HTTP/1.1 100 ")
            await client.send(b"hello")
            assert (await response(client, 5))[1] == b"hello"


@pytest.mark.parametrize("cut", [True, False])
async def test_upgrade(cut: bool) -> None:
    """101, with bytes right behind it on both ways, and half-close after it."""

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\n" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\nfirst")
        while data := await reader.read(100):
            writer.write(data)

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        request = line(b"GET", port) + b"Connection: keep-alive, Upgrade\r\nUpgrade: echo/1\r\n\r\n"
        await client.send(request + b"GET / early", cuts=list(range(1, len(request))) if cut else [])
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nconnection: upgrade\r\nupgrade: echo/1\r\n" in head.lower()
        client.end()
        assert await client.rest() == b"firstGET / early"


async def test_upgrade_refused_by_the_origin() -> None:
    script = Script(OK, OK)
    async with forwarding(script) as (_, client, port):
        for _ in range(2):
            await client.send(line(b"GET", port) + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n")
            assert (await response(client))[1] == b"ok"
        assert script.connections == 1


BROKEN = [
    b"",
    b"HTTP/1.1 200 OK\r\n",
    b"garbage\r\n\r\n",
    b"HTTP/1.1 103 Hint\r\n\r\n",
]  # and those of test_http_table.py


@pytest.mark.parametrize("said", BROKEN, ids=range(len(BROKEN)))
async def test_broken_response_is_502(said: bytes) -> None:
    script = Script(said, close=True)
    async with forwarding(script) as (_, client, port):
        await client.send(line(b"POST", port) + b"Content-Length: 0\r\n\r\n")
        heard = await client.rest()
        heard = heard[heard.index(b"HTTP/1.1 502 ") :]
        assert b"\r\nProxy-Status: usernet; error=http_" in heard
        assert b"garbage" not in heard


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("piece", [b"HTTP/1.1 103 Hint\r\n\r\n", b"\r\n"])
async def test_flood_before_the_response_is_502(piece: bytes, version: bytes) -> None:
    """An origin that never comes to the point costs little."""

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while True:
            writer.write(piece * 5000)
            await writer.drain()

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        await client.send(line(b"GET", port, version=version) + b"\r\n")
        heard = await client.rest()
        assert b"HTTP/1.1 502 " in heard
        assert heard.count(b"HTTP/1.1 103 ") <= 32


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_no_framing_where_there_is_no_body(field: bytes) -> None:
    """RFC 9110 section 8.6, RFC 9112 section 6.1: a reader might wait for what never comes."""
    said = b"HTTP/1.1 103 Hint\r\n%b\r\n\r\nHTTP/1.1 204 No Content\r\n%b\r\n\r\n" % (field, field)
    async with forwarding(Script(said)) as (_, client, port):
        await client.send(line(b"GET", port) + b"\r\n")
        for status in (b"103", b"204"):
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 " + status)
            assert field[:8].lower() not in head.lower()


async def test_client_that_leaves_an_answered_request_unfinished() -> None:
    """The origin is told, though the response was complete."""
    told = asyncio.Event()

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        try:
            await reader.read()
        finally:
            told.set()

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        await client.send(line(b"PUT", port) + b"Content-Length: 10\r\n\r\n01234")
        assert (await response(client))[1] == b"ok"
        client.end()
        assert await client.rest() == b""
        await told.wait()
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_upload_that_is_given_up_leaves_nothing_behind() -> None:
    """Also where the origin never reads: what it was still to get is thrown away."""
    go = asyncio.Event()

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        await client.send(line(b"PUT", port) + b"Content-Length: %d\r\n\r\n" % (32 << 20))
        await until(lambda: bool(made.net.transports))
        while not made.net.transports[0].get_write_buffer_size():
            await client.send(bytes(16384))
        client.writer.transport.abort()
        await until(lambda: made.proxy.statistics().connections == 0)
        assert made.net.transports[0].get_write_buffer_size() == 0
        go.set()


CUT_SHORT = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0x5\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
]


@pytest.mark.parametrize("said", CUT_SHORT, ids=range(len(CUT_SHORT)))
async def test_broken_body_is_no_clean_end(said: bytes) -> None:
    async with forwarding(Script(said, close=True)) as (_, client, port):
        await client.send(line(b"GET", port) + b"\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_next_origin_and_pipeline() -> None:
    one, two = Script(OK, OK), Script(OK)
    async with serving(one) as first, serving(two) as second, bench() as made:
        client = await made.client()
        get = [line(b"GET", port) + b"\r\n" for port in (first, second, first)]
        await client.send(b"".join(get))
        for _ in range(3):
            assert (await response(client))[1] == b"ok"
        assert (one.connections, two.connections) == (1, 1)
        assert made.proxy.statistics().http_forward == 3


async def test_connect_after_a_forwarded_request() -> None:
    script = Script(OK)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())

    async with serving(script) as port, serving(echo) as other, bench() as made:
        client = await made.client()
        await client.send(line(b"GET", port) + b"\r\n")
        await response(client)
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nabc" % other)
        await client.expect(b"HTTP/1.1 200 Connection established\r\n\r\n")
        client.end()
        assert await client.rest() == b"abc"


async def test_connection_close_of_the_client() -> None:
    async with forwarding(Script(OK, OK)) as (_, client, port):
        heard = await client.exchange(line(b"GET", port) + b"Connection: close\r\n\r\n")
        assert heard.endswith(b"\r\n\r\nok")
        assert b"connection: close" in heard.lower()


async def test_client_may_end_its_half_after_the_request() -> None:
    async with forwarding(Script(OK, OK)) as (_, client, port):
        await client.send(line(b"GET", port) + b"\r\n")
        client.end()
        assert (await client.rest()).endswith(b"ok")


async def test_all_of_a_pipeline_is_answered_after_its_end() -> None:
    """Half a request at the end of it is none."""
    script = Script(OK, OK, OK)
    async with forwarding(script) as (_, client, port):
        await client.send((line(b"GET", port) + b"\r\n") * 3 + b"GET http://")
        client.end()
        assert (await client.rest()).count(b"\r\n\r\nok") == 3
        assert script.connections == 1


async def test_origin_that_closed_meanwhile_is_dialled_again() -> None:
    """A safe request meets a connection that the origin ends at that moment: once more, on a fresh one."""

    class Leaving(Script):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
            with_more = await reader.read(1)  # the next request has come; leave without a word
            assert with_more in (b"G", b"")

    script = Leaving()
    async with forwarding(script) as (_, client, port):
        for _ in range(4):
            await client.send(line(b"GET", port) + b"\r\n")
            assert (await response(client))[1] == b"ok"
        assert script.connections == 4


async def test_origin_that_speaks_out_of_turn_is_dropped() -> None:
    script = Script(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", OK)
    async with forwarding(script) as (_, client, port):
        for _ in range(2):
            await client.send(line(b"GET", port) + b"\r\n")
            assert (await response(client))[1] == b"ok"
        assert script.connections == 2


async def test_early_response_to_an_unfinished_request() -> None:
    """A final answer before the body is complete goes through; the rest of the body is not lost on the origin."""

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        assert await reader.readexactly(10) == b"0123456789"
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        await client.send(line(b"PUT", port) + b"Content-Length: 10\r\n\r\n01234")
        assert (await response(client))[1] == b"ok"
        await client.send(b"56789" + line(b"GET", port) + b"\r\n")
        assert (await response(client))[1] == b"ok"


async def test_early_refusal_and_close() -> None:
    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        await client.send(line(b"PUT", port) + b"Content-Length: 1000000\r\n\r\n0")
        assert (await client.rest()).endswith(b"\r\n\r\nno")


async def test_early_response_and_then_a_word_out_of_turn() -> None:
    """The origin is dropped, and the rest of the request has nowhere to go: so ends the client's connection."""
    heard = asyncio.Event()

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await heard.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        await client.send(line(b"PUT", port) + b"Content-Length: 10\r\n\r\n01234")
        assert (await response(client))[1] == b"ok"
        heard.set()
        assert await client.rest() == b""


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
async def test_max_forwards(method: bytes) -> None:
    script = Script(OK)
    async with forwarding(script) as (_, client, port):
        await client.send(line(method, port) + b"Max-Forwards: 3\r\n\r\n")
        await response(client)
        assert script.fields()[b"max-forwards"] == b"2"
        heard = await client.exchange(line(method, port) + b"Max-Forwards: 0\r\nX-Secret: y\r\n\r\n")
        assert heard.startswith(b"HTTP/1.1 ")
        assert b"Secret" not in heard
        assert len(script.heads) == 1


@pytest.mark.parametrize(("value", "sent"), [(b"1" + b"0" * 9, b"99999999"), (b"0" * 30 + b"2", b"1")])
async def test_max_forwards_of_many_digits(value: bytes, sent: bytes) -> None:
    script = Script(OK)
    async with forwarding(script) as (_, client, port):
        await client.send(line(b"TRACE", port) + b"Max-Forwards: " + value + b"\r\n\r\n")
        await response(client)
        assert script.fields()[b"max-forwards"] == sent


async def test_max_forwards_that_is_no_number() -> None:
    script = Script(OK)
    async with forwarding(script) as (_, client, port):
        await client.send(line(b"TRACE", port) + b"Max-Forwards: 5\r\nMax-Forwards: x\r\n\r\n")
        await response(client)
        assert b"Max-Forwards: 4\r\nMax-Forwards: x\r\n" in script.heads[0]


async def test_pipeline_beyond_what_is_held() -> None:
    script = Script(*[OK] * 50)
    async with forwarding(script, Limits(held_bytes=100)) as (_, client, port):
        chunked = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: " + b"9" * 300 + b"\r\n\r\n"
        piece = line(b"GET", port) + b"\r\n" + line(b"POST", port) + chunked
        await client.send(piece * 25, cuts=range(90, 25 * len(piece), 90))
        for _ in range(50):
            assert (await response(client))[1] == b"ok"


async def test_keepalive_ends_in_silence() -> None:
    async with forwarding(Script(OK, OK), Limits(keepalive_timeout=0.05)) as (_, client, port):
        await client.send(line(b"GET", port) + b"\r\n")
        await response(client)
        assert await client.rest() == b""


Transfer = Callable[[Client, int], Awaitable[None]]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_slow_client_bounds_the_response(framing: str) -> None:
    """Backpressure from the client to the origin; then everything arrives."""
    size = 24 << 20
    sent = 0

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        extra = {"length": b"Content-Length: %d\r\n" % size, "chunked": b"Transfer-Encoding: chunked\r\n", "close": b""}
        writer.write(b"HTTP/1.1 200 OK\r\n" + extra[framing] + b"\r\n")
        block = bytes(65536)
        for _ in range(size // len(block)):
            writer.write(b"10000\r\n" + block + b"\r\n" if framing == "chunked" else block)
            await writer.drain()
            sent += len(block)
        if framing == "chunked":
            writer.write(b"0\r\n\r\n")

    async with serving(origin) as port, bench() as made:
        client = await made.client(receive_buffer=8192)
        await client.send(line(b"GET", port, version=b"1.0") + b"\r\n")
        await client.head()
        await until(lambda: not made.net.transports[0].is_reading())
        assert sent < 16 << 20
        assert buffered(made) < 1 << 20
        left = size
        while left:
            left -= len(await client.reader.readexactly(min(left, 65536)))
        assert await client.rest() == b""


async def test_slow_origin_bounds_the_request() -> None:
    size = 24 << 20
    go = asyncio.Event()

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        left = size
        while left:
            left -= len(await reader.readexactly(min(left, 65536)))
        writer.write(OK)

    async with serving(origin) as port, bench() as made:
        client = await made.client()
        await client.send(line(b"PUT", port) + b"Content-Length: %d\r\n\r\n" % size)
        sending = asyncio.ensure_future(client.send(bytes(size)))
        await until(lambda: any(not s.transport.is_reading() for s in made.proxy._context.sessions))  # type: ignore[attr-defined]
        assert made.proxy.statistics().bytes_up < 16 << 20
        assert buffered(made) < 2 << 20
        assert not sending.done()
        go.set()
        await sending
        assert (await response(client))[1] == b"ok"


def buffered(made: Bench) -> int:
    """Bytes the proxy itself holds, both ways."""
    held = sum(t.get_write_buffer_size() for t in made.net.transports)
    for session in made.proxy._context.sessions:
        held += len(getattr(session, "held", b"")) + session.transport.get_write_buffer_size()  # type: ignore[attr-defined]
    return held
