"""HTTP through a real listener: what is refused and how, CONNECT, credentials, and the answers to a failed dial."""

from __future__ import annotations

import asyncio
import base64
import errno

import pytest

from proxy.auth import Users
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

BAD: list[tuple[str, bytes, tuple[int, ...]]] = [
    ("origin-form", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("https", b"GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("no scheme", b"GET //x/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("empty host", b"GET http:/// HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("fragment", b"GET http://192.0.2.1/#a HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("fragment in the authority", b"GET http://192.0.2.1#/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("userinfo", b"GET http://u:p@192.0.2.1/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("port 0 in a URL", b"GET http://192.0.2.1:0/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("backslash", b"GET http://192.0.2.1\\@x/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("CL and TE", POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    ("chunked, gzip", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", (400, 501)),
    ("gzip", POST + b"Transfer-Encoding: gzip\r\n\r\n", (400, 501)),
    ("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", (400, 501)),
    ("chunked twice", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", (400, 501)),
    ("two TE fields", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", (400, 501)),
    ("empty TE", POST + b"Transfer-Encoding: \r\n\r\n", (400, 501)),
    ("TE with vertical tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", (400, 501)),
    ("TE on HTTP/1.0", b"POST http://192.0.2.1/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    ("CL +5", POST + b"Content-Length: +5\r\n\r\nhello", (400,)),
    ("CL -1", POST + b"Content-Length: -1\r\n\r\n", (400,)),
    ("CL empty", POST + b"Content-Length:\r\n\r\n", (400,)),
    ("CL 5,6", POST + b"Content-Length: 5,6\r\n\r\nhello", (400,)),
    ("CL 5, 5", POST + b"Content-Length: 5, 5\r\n\r\nhello", (400,)),
    ("CL twice", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", (400,)),
    ("CL 1_0", POST + b"Content-Length: 1_0\r\n\r\nhello", (400,)),
    ("CL 0x5", POST + b"Content-Length: 0x5\r\n\r\nhello", (400,)),
    ("CL in Unicode digits", POST + "Content-Length: \u0665\r\n\r\nhello".encode(), (400,)),
    ("CL in Latin-1 superscripts", POST + b"Content-Length: \xb2\r\n\r\nhello", (400,)),
    ("CL of 20 digits", POST + b"Content-Length: 00000000000000000005\r\n\r\nhello", (400,)),
    ("CL of 400 digits", POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\nhello", (400,)),
    ("space before the colon", GET + HOST + b"Name : x\r\n\r\n", (400,)),
    ("leading space", GET + b" Host: x\r\n\r\n", (400,)),
    ("obs-fold", GET + HOST + b"A: b\r\n c\r\n\r\n", (400,)),
    ("obs-fold with a tab", GET + HOST + b"A: b\r\n\tc\r\n\r\n", (400,)),
    ("empty name", GET + HOST + b": x\r\n\r\n", (400,)),
    ("no colon", GET + HOST + b"name\r\n\r\n", (400,)),
    ("NUL", GET + HOST + b"A: b\0c\r\n\r\n", (400,)),
    ("NUL in the target", b"GET http://192.0.2.1/\0 HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("bare CR", GET + HOST + b"A: b\rc\r\n\r\n", (400,)),
    ("bare LF", GET + b"Host: 192.0.2.1\nA: b\r\n\r\n", (400,)),
    ("only bare LF", b"GET http://192.0.2.1/ HTTP/1.1\nHost: x\n\n", (400,)),
    ("non-ASCII name", GET + HOST + b"N\xe4me: x\r\n\r\n", (400,)),
    ("control character", GET + HOST + b"A: \x01\r\n\r\n", (400,)),
    ("no Host", GET + b"\r\n", (400,)),
    ("two Hosts", GET + HOST + HOST + b"\r\n", (400,)),
    ("bad Host", GET + b"Host: a b\r\n\r\n", (400,)),
    ("Host with userinfo", GET + b"Host: a@b\r\n\r\n", (400,)),
    ("two spaces", b"GET  http://192.0.2.1/ HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("tab for a space", b"GET\thttp://192.0.2.1/ HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("non-ASCII target", b"GET http://192.0.2.1/\xe4 HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("101 fields", GET + HOST + b"A: b\r\n" * 100 + b"\r\n", (431,)),
    ("70 KiB", GET + HOST + b"A: " + b"b" * 71680 + b"\r\n\r\n", (431,)),
    ("64 KiB without an end", GET + HOST + b"A: " + b"b" * 65536, (431,)),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    ("HTTP/0.9", b"GET http://192.0.2.1/\r\n\r\n", (400, 505)),
    ("HTTP/1.2", b"GET http://192.0.2.1/ HTTP/1.2\r\n" + HOST + b"\r\n", (505,)),
    ("HTTP/1.10", b"GET http://192.0.2.1/ HTTP/1.10\r\n" + HOST + b"\r\n", (400,)),
    ("HTTP/3.0", b"GET http://192.0.2.1/ HTTP/3.0\r\n" + HOST + b"\r\n", (505,)),
    ("lower-case http", b"GET http://192.0.2.1/ http/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("only a method", b"GET\r\n\r\n", (400,)),
]

BAD_CONNECT = [
    b"host", b"/", b"http://192.0.2.1:80", b"192.0.2.1:0", b"192.0.2.1:65536", b"192.0.2.1:4294967739", b"192.0.2.1:",
    b"192.0.2.1:+80", b"192.0.2.1:8_0", b":80", b"u:p@192.0.2.1:80", b"u@192.0.2.1:80", b"192.0.2.1:80#", b"#:80",
    b"a#b:80", b"[fe80::1%25lo]:80", b"[fe80::1%lo]:80", b"2001:db8::1:80", b"[2001:db8::1]", b"[192.0.2.1]:80",
    b"[host]:80", b"[2001:db8::1:80", b"192.0.2.1:80/", b"192.0.2.1:80?a", b"*", b"-a:80", b"a..b:80", b"[]:80",
    b"a" * 64 + b".test:80", b"192.0.2.1:80:80", b"%31:80", b"192.0.2.1\\:80",
]  # fmt: skip


def status_of(heard: bytes) -> int:
    assert heard.startswith(b"HTTP/1.1 "), heard
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.count(b"\n") == 1, "one line"
    return int(heard[9:12])


@pytest.mark.parametrize(("data", "statuses"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_refused(data: bytes, statuses: tuple[int, ...]) -> None:
    """The same answer however it is cut; no dial; nothing of the request in the answer; and the end."""
    answers = set()
    async with bench() as made:
        step = max(1, len(data) // 150)
        for cuts in ([], list(range(1, len(data), step)), [len(data) // 2]):
            client = await made.client()
            heard = await client.exchange(data, cuts=cuts)
            assert status_of(heard) in statuses
            assert b"192.0.2.1" not in heard
            answers.add(heard)
        assert made.net.dialled == []
    assert len(answers) == 1


@pytest.mark.parametrize("target", BAD_CONNECT)
async def test_bad_connect(target: bytes) -> None:
    async with bench() as made:
        client = await made.client()
        assert status_of(await client.exchange(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == 400
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
        assert b"\r\nProxy-Status: usernet; error=" + token + b"\r\n" in heard
        assert b"secret" not in heard
        assert b"path" not in heard
        assert made.net.dialled == [("192.0.2.1", 80)]


async def test_answer_to_head_has_no_body() -> None:
    async with bench(credentials=Users([("a", "b")])) as made:
        heard = await (await made.client()).exchange(GET.replace(b"GET", b"HEAD") + HOST + b"\r\n")
        assert heard.startswith(b"HTTP/1.1 407 ")
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
            heard.append(await client.exchange(line + b" HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n"))
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
