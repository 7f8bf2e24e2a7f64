"""HTTP through a real listener: what is refused and how, CONNECT, credentials, and the answers to a failed dial."""

from __future__ import annotations

import asyncio
import base64
import errno

import pytest

from proxy.auth import Users
from proxy.replies import reply_for
from proxy.session import Limits
from tests.proxy.support import bench, echo, serving, until
from usernet.errors import (
    HostUnreachable,
    NameNotFound,
    NameServerFailed,
    NetworkUnreachable,
    NoHandshake,
    NoRoute,
)

GET = b"GET http://192.0.2.1/ HTTP/1.1\r\n"
HOST = b"Host: 192.0.2.1\r\n"
POST = b"POST http://192.0.2.1/ HTTP/1.1\r\n" + HOST


def status_of(heard: bytes) -> int:
    assert heard.startswith(b"HTTP/1.1 "), heard
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.count(b"\n") == 1 or b"not a web site" in body, "one line"
    return int(heard[9:12])


@pytest.mark.parametrize("data", [GET + b"\r\n", b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", GET + b"A: " + b"b" * 70000])
async def test_refused(data: bytes) -> None:
    """Over a real socket the answer arrives, then the end; the rows are those of test_http_table.py."""
    async with bench() as made:
        for cuts in ([], list(range(1, len(data), max(1, len(data) // 150)))):
            assert status_of(await (await made.client()).exchange(data, cuts=cuts)) in (400, 431)
        assert made.net.dialled == []


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_connect_with_a_body(field: bytes) -> None:
    async with bench() as made:
        client = await made.client()
        data = b"CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\nhello"
        assert status_of(await client.exchange(data)) == 400


@pytest.mark.parametrize(
    ("target", "host"),
    [(b"127.0.0.1", "127.0.0.1"), (b"[::1]", "::1"), (b"origin.test", "127.0.0.1"), (b"Origin.Test.", "127.0.0.1")],
)
async def test_connect_cut_everywhere(target: bytes, host: str) -> None:
    async with serving(echo, host) as port, bench() as made:
        made.net.names["origin.test."] = ["127.0.0.1"]
        whole = b"CONNECT %b:%d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nearly" % (target, port)
        for cuts in [[at] for at in range(1, len(whole), 3)] + [list(range(1, len(whole))), []]:
            client = await made.client()
            await client.send(whole, cuts=cuts)
            client.end()
            assert await client.rest() == b"HTTP/1.1 200 Connection established\r\n\r\nearly"
            await client.close()
        assert set(made.net.dialled) == {(host, port)}


async def test_connect_http_1_0_without_host() -> None:
    async with serving(echo) as port, bench() as made:
        client = await made.client()
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.0\r\n\r\n" % port)
        await client.expect(b"HTTP/1.1 200 Connection established\r\n\r\n")
        client.end()


DIALS: list[tuple[BaseException, int, bytes]] = [
    (ConnectionRefusedError(), 502, b"connection_refused"),
    (NameNotFound("secret"), 502, b"dns_error"),
    (NameServerFailed("secret"), 502, b"dns_error"),
    (TimeoutError(), 504, b"connection_timeout"),
    (NoHandshake("secret"), 503, b"destination_unavailable"),
    (NoRoute("secret"), 502, b"destination_ip_unroutable"),
    (HostUnreachable("secret"), 502, b"destination_ip_unroutable"),
    (NetworkUnreachable("secret"), 502, b"destination_ip_unroutable"),
    (ConnectionResetError("secret"), 502, b"connection_terminated"),
    (OSError(errno.EMFILE, "secret"), 503, b"connection_limit_reached"),
    (OSError(errno.EHOSTUNREACH, "secret"), 502, b"destination_ip_unroutable"),
]


@pytest.mark.parametrize(("error", "status", "token"), DIALS, ids=[f"{e!r}" for e, _, _ in DIALS])
@pytest.mark.parametrize("method", [b"CONNECT", b"GET"])
async def test_answer_names_the_cause(method: bytes, error: BaseException, status: int, token: bytes) -> None:
    """And what came after a failed CONNECT is never taken for a request."""
    target = b"192.0.2.1:80" if method == b"CONNECT" else b"http://192.0.2.1/path"
    async with bench() as made:
        made.net.fail = error
        client = await made.client()
        again = b"GET http://192.0.2.7/ HTTP/1.1\r\nHost: x\r\n\r\n"
        heard = await client.exchange(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n" + again)
        assert status_of(heard) == status
        assert b"\r\nProxy-Status: usernet; error=" + token + b'; details="' in heard
        assert b"secret" not in heard
        assert b"path" not in heard
        reply = reply_for(error)
        assert heard.endswith(f"\r\n\r\n{reply.reason}; {reply.remedy}\n".encode())
        assert made.net.dialled == [("192.0.2.1", 80)]


async def test_answer_to_head_has_no_body() -> None:
    async with bench(credentials=Users([("a", "b")])) as made:
        head = GET.replace(b"GET", b"HEAD") + HOST
        for last in (b"", b"Connection: close\r\n"):
            heard = await (await made.client()).exchange(head + b"\r\n" + head + last + b"Connection: close\r\n\r\n")
            assert heard.count(b"HTTP/1.1 407 ") == heard.count(b"\r\n\r\n") == 2
            assert heard.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "target", [b"127.0.0.1", b"[::1]", b"0.0.0.0", b"169.254.169.254", b"[64:ff9b::a9fe:a9fe]", b"[::ffff:127.0.0.1]",
               b"localhost", b"x.localhost.", b"[ff02::1]", b"inside.test"]
)  # fmt: skip
async def test_forbidden(target: bytes) -> None:
    async with bench(allow=()) as made:
        made.net.names["inside.test"] = ["127.0.0.1", "::1"]
        for data in (b"CONNECT %b:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET http://%b/ HTTP/1.1\r\nHost: x\r\n\r\n"):
            client = await made.client()
            assert status_of(await client.exchange(data % target)) == 403
        assert made.net.dialled == []


# -- credentials --

CREDENTIALS = Users([("alice", "pa:ss")])


def basic(pair: bytes) -> bytes:
    return b"Basic " + base64.b64encode(pair)


WRONG = [
    None, b"", b"Basic", b"Basic ", b"Basic !!!", b"Bearer abc", basic(b""), basic(b":"), basic(b"alice"),
    basic(b"alice:"), basic(b":pa:ss"), basic(b"alice:pa"), basic(b"alice:pa:ss "), basic(b"Alice:pa:ss"),
    basic(b"bob:pa:ss"), basic(b"alice:wrong"), basic(b"pa:ss:alice"), basic(b"alice:alice"), basic(b"pa:ss:pa:ss"),
    basic(b"alice:pa:ss") + b"x", b"Digest " + basic(b"alice:pa:ss")[6:], basic(b"alice:pa:ss")[:-2],
]  # fmt: skip


@pytest.mark.parametrize("value", WRONG)
async def test_wrong_credentials(value: bytes | None) -> None:
    """Always the same 407, and never a dial; CONNECT and forwarding alike."""
    field = b"" if value is None else b"Proxy-Authorization: " + value + b"\r\n"
    async with bench(credentials=CREDENTIALS) as made:
        heard = []
        for line in (b"CONNECT 192.0.2.1:80", GET[:-11]):
            client = await made.client()
            last = b"Connection: close\r\n\r\n"
            heard.append(await client.exchange(line + b" HTTP/1.1\r\nHost: x\r\n" + field + last))
        assert heard[0] == heard[1]
        assert status_of(heard[0]) == 407
        assert b'\r\nProxy-Authenticate: Basic realm="usernet"' in heard[0]
        assert made.net.dialled == []
        reference = await (await made.client()).exchange(b"CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert heard[0] == reference


async def test_right_credentials() -> None:
    """Each request is asked anew: nobody inherits the login of an address or of a connection."""
    async with serving(echo) as port, bench(credentials=CREDENTIALS) as made:
        client = await made.client()
        field = b"proxy-authorization: basic " + base64.b64encode(b"alice:pa:ss")
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (port, field))
        await client.expect(b"HTTP/1.1 200 Connection established\r\n\r\n")
        other = await made.client()
        assert status_of(await other.exchange(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)) == 407
        client.end()


# -- time --


async def test_slow_head() -> None:
    async with bench(limits=Limits(head_timeout=0.05)) as made:
        client = await made.client()
        assert status_of(await client.exchange(GET + HOST)) == 408


async def test_nothing_is_said_before_the_dial_ends() -> None:
    async with serving(echo) as port, bench() as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nheld" % port)
        await until(lambda: bool(made.net.dialled))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        client.end()
        made.net.gate.set()
        assert (await client.rest()).endswith(b"\r\n\r\nheld")


async def test_refusal_arrives_though_the_client_goes_on_sending() -> None:
    """A body under way must not make the answer a reset."""
    async with bench(credentials=CREDENTIALS) as made:
        client = await made.client()
        head = POST + b"Content-Length: 4000000\r\n\r\n"
        heard, _ = await asyncio.gather(client.rest(), client.send(head + bytes(4_000_000)))
        assert status_of(heard) == 407
