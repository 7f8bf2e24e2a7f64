"""The table of HTTP: what is refused and how, what is changed on the way, whole, byte by byte and cut at every place.

Each case is told to the handler between two transports in memory (memory.py).  What depends on sockets, time or real
servers is in test_http_handler.py, test_forward.py and tests/interop.
"""

from __future__ import annotations

import base64

import pytest

from proxy.auth import Users
from proxy.session import Limits
from tests.proxy.memory import Dialogue, cuts, dialogue
from tests.proxy.support import until

GET = b"GET http://192.0.2.1/ HTTP/1.1\r\n"
HOST = b"Host: 192.0.2.1\r\n"
POST = b"POST http://192.0.2.1/ HTTP/1.1\r\n" + HOST
CONNECT = b"CONNECT 192.0.2.1:80 HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

BAD: list[tuple[str, bytes, tuple[int, ...]]] = [
    # origin-form or `*`
    ("origin-form", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("https", b"GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("no scheme", b"GET //x/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("empty host", b"GET http:/// HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("backslash", b"GET http://192.0.2.1\\@x/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    # targets: no userinfo, fragment, port 0
    ("fragment", b"GET http://192.0.2.1/#a HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("fragment in the authority", b"GET http://192.0.2.1#/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("userinfo", b"GET http://u:p@192.0.2.1/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("port 0 in a URL", b"GET http://192.0.2.1:0/ HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    ("NUL in the target", b"GET http://192.0.2.1/\0 HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("non-ASCII target", b"GET http://192.0.2.1/\xe4 HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    # Content-Length with Transfer-Encoding
    ("CL and TE", POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    ("TE and CL", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", (400,)),
    # transfer codings
    ("chunked, gzip", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", (400, 501)),
    ("gzip", POST + b"Transfer-Encoding: gzip\r\n\r\n", (400, 501)),
    ("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", (400, 501)),
    ("chunked twice", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", (400, 501)),
    ("two TE fields", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", (400, 501)),
    ("empty TE", POST + b"Transfer-Encoding: \r\n\r\n", (400, 501)),
    ("TE with vertical tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", (400, 501)),
    ("TE on HTTP/1.0", b"POST http://192.0.2.1/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    ("identity", POST + b"Transfer-Encoding: identity\r\n\r\n", (501,)),
    ("chunked with a parameter", POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n", (501,)),
    ("quoted chunked", POST + b'Transfer-Encoding: "chunked"\r\n\r\n', (501,)),
    # Content-Length
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
    # fields
    ("space before the colon", GET + HOST + b"Name : x\r\n\r\n", (400,)),
    ("leading space", GET + b" Host: x\r\n\r\n", (400,)),
    ("obs-fold", GET + HOST + b"A: b\r\n c\r\n\r\n", (400,)),
    ("obs-fold with a tab", GET + HOST + b"A: b\r\n\tc\r\n\r\n", (400,)),
    ("empty name", GET + HOST + b": x\r\n\r\n", (400,)),
    ("no colon", GET + HOST + b"name\r\n\r\n", (400,)),
    ("NUL", GET + HOST + b"A: b\0c\r\n\r\n", (400,)),
    ("bare CR", GET + HOST + b"A: b\rc\r\n\r\n", (400,)),
    ("bare LF", GET + b"Host: 192.0.2.1\nA: b\r\n\r\n", (400,)),
    ("only bare LF", b"GET http://192.0.2.1/ HTTP/1.1\nHost: x\n\n", (400,)),
    ("non-ASCII name", GET + HOST + b"N\xe4me: x\r\n\r\n", (400,)),
    ("control character", GET + HOST + b"A: \x01\r\n\r\n", (400,)),
    ("obs-fold onto Host", GET + b"Host: 192.0.2.1\r\n .evil.test\r\n\r\n", (400,)),
    ("Content_Length", POST + b"Content_Length: 5\r\n\r\nhello", (400,)),
    ("TRANSFER_ENCODING", POST + b"TRANSFER_ENCODING: chunked\r\n\r\n", (400,)),
    # Host
    ("no Host", GET + b"\r\n", (400,)),
    ("two Hosts", GET + HOST + HOST + b"\r\n", (400,)),
    ("bad Host", GET + b"Host: a b\r\n\r\n", (400,)),
    ("Host with userinfo", GET + b"Host: a@b\r\n\r\n", (400,)),
    # request line
    ("two spaces", b"GET  http://192.0.2.1/ HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("tab for a space", b"GET\thttp://192.0.2.1/ HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("lower-case http", b"GET http://192.0.2.1/ http/1.1\r\n" + HOST + b"\r\n", (400,)),
    ("only a method", b"GET\r\n\r\n", (400,)),
    # sizes
    ("101 fields", GET + HOST + b"A: b\r\n" * 100 + b"\r\n", (431,)),
    ("70 KiB", GET + HOST + b"A: " + b"b" * 71680 + b"\r\n\r\n", (431,)),
    ("64 KiB without an end", GET + HOST + b"A: " + b"b" * 65536, (431,)),
    # versions
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    ("HTTP/0.9", b"GET http://192.0.2.1/\r\n\r\n", (400, 505)),
    ("HTTP/1.2", b"GET http://192.0.2.1/ HTTP/1.2\r\n" + HOST + b"\r\n", (505,)),
    ("HTTP/1.10", b"GET http://192.0.2.1/ HTTP/1.10\r\n" + HOST + b"\r\n", (400,)),
    ("HTTP/3.0", b"GET http://192.0.2.1/ HTTP/3.0\r\n" + HOST + b"\r\n", (505,)),
    # methods and expectations
    ("TRACE with a body", b"TRACE http://192.0.2.1/ HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx", (400,)),
    ("another expectation", POST + b"Expect: tea\r\nContent-Length: 1\r\n\r\nx", (417,)),
    ("two expectations", POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n", (417,)),
    # CONNECT has no body
    ("CONNECT with CL", CONNECT + b"Content-Length: 5\r\n\r\nhello", (400,)),
    ("CONNECT with TE", CONNECT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
]

BAD_CONNECT = [
    b"host", b"/", b"http://192.0.2.1:80", b"192.0.2.1:0", b"192.0.2.1:65536", b"192.0.2.1:4294967739", b"192.0.2.1:",
    b"192.0.2.1:+80", b"192.0.2.1:8_0", b":80", b"u:p@192.0.2.1:80", b"u@192.0.2.1:80", b"192.0.2.1:80#", b"#:80",
    b"a#b:80", b"[fe80::1%25lo]:80", b"[fe80::1%lo]:80", b"2001:db8::1:80", b"[2001:db8::1]", b"[192.0.2.1]:80",
    b"[host]:80", b"[2001:db8::1:80", b"192.0.2.1:80/", b"192.0.2.1:80?a", b"*", b"-a:80", b"a..b:80", b"[]:80",
    b"a" * 64 + b".test:80", b"192.0.2.1:80:80", b"%31:80", b"192.0.2.1\\:80",
]  # fmt: skip


BAD_CHUNKS = [
    b"0x5\r\nhello\r\n0\r\n\r\n", b"0_5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n",
    b"8000000000000000\r\nhello", b"ffffffffffffffffff\r\nhello", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n", b"5;" + b"e" * 300 + b"\r\nhello\r\n0\r\n\r\n", b"5;\0\r\nhello\r\n", b"\r\nhello\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\nHost: x\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent_Length: 5\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n", b"5\r\nhello\r\n0\r\nA: b\n\n", b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
    b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 101 + b"\r\n", b"5\r\nhello\r\n0\r\nA: " + b"b" * 9000, b"x\r\n",
    b"5;a=b\nc\r\nhello\r\n0\r\n\r\n", b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
]  # fmt: skip


def status_of(heard: bytes) -> int:
    """Of an answer by the proxy itself: the last on its connection, one line that says why, for people and programs."""
    assert heard.startswith(b"HTTP/1.1 "), heard
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.count(b"\n") == 1 or b"not a web site" in body, "one line"
    assert b"\r\nProxy-Status: usernet; error=http_request_" in head
    assert b'; details="' + body[:-1].partition(b".  ")[0] + b'"\r\n' in head
    return int(heard[9:12])


@pytest.mark.parametrize(("data", "statuses"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_refused(data: bytes, statuses: tuple[int, ...]) -> None:
    """The same answer however it is cut; no dial; nothing of the request in the answer; and the end."""
    answers = set()
    for pieces in cuts(data):
        async with dialogue() as made:
            await made.say(pieces)
            assert made.dialled == []
            assert made.client.ended
            answers.add(made.client.said)
    assert len(answers) == 1
    [heard] = answers
    assert status_of(heard) in statuses
    assert b"192.0.2.1" not in heard
    assert b"hello" not in heard


@pytest.mark.parametrize("target", BAD_CONNECT)
async def test_bad_connect(target: bytes) -> None:
    data = b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    for pieces in cuts(data):
        async with dialogue() as made:
            await made.say(pieces)
            assert status_of(made.client.said) == 400
            assert made.dialled == []


@pytest.mark.parametrize("body", BAD_CHUNKS, ids=range(len(BAD_CHUNKS)))
async def test_bad_chunks(body: bytes) -> None:
    """The origin has had a part of it, and is cut off; it never gets an end that looks like one."""
    for pieces in cuts(CHUNKED + body, most=120):
        async with dialogue() as made:
            await made.say(pieces)
            assert status_of(made.client.said) in (400, 431)
            assert made.origin.cut
            assert not made.origin.said.endswith(b"0\r\n\r\n")


GOOD: list[tuple[str, bytes, bytes]] = [  # what the client says, what the origin hears
    ("absolute-form", GET + HOST, b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("Host is the target's", GET + b"Host: evil.test\r\n", b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("no path", b"GET http://192.0.2.1?q HTTP/1.1\r\n" + HOST, b"GET /?q HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("OPTIONS", b"OPTIONS http://192.0.2.1 HTTP/1.1\r\n" + HOST, b"OPTIONS * HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("IPv6, port", b"GET HTTP://[2001:DB8::1]:81/ HTTP/1.1\r\n" + HOST,
     b"GET / HTTP/1.1\r\nHost: [2001:DB8::1]:81\r\n\r\n"),
    ("ws", b"GET ws://192.0.2.1/ HTTP/1.1\r\n" + HOST, b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("HTTP/1.0", b"GET http://192.0.2.1/ HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("hop by hop", GET + HOST + b"Connection: X, , y\r\nX: 1\r\nY: 2\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\n"
     b"Proxy-X: b\r\nProxy-Authorization: Basic c\r\nTE: gzip\r\nTrailer: d\r\nUpgrade: e\r\nZ: 3\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\nZ: 3\r\n\r\n"),
    ("never Host or framing", POST + b"Connection: host, content-length\r\nContent-Length: 0\r\n",
     b"POST / HTTP/1.1\r\nHost: 192.0.2.1\r\nContent-Length: 0\r\n\r\n"),
    ("upgrade", GET + HOST + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    ("upgrade with a body", POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
     b"POST / HTTP/1.1\r\nHost: 192.0.2.1\r\nContent-Length: 5\r\n\r\n"),
    ("upgrade unsaid", GET + HOST + b"Upgrade: websocket\r\n", b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("upgrade in HTTP/1.0", b"GET http://192.0.2.1/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("TE: trailers", GET + HOST + b"TE: gzip;q=0.5, Trailers\r\nConnection: TE\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\nTE: trailers\r\nConnection: TE\r\n\r\n"),
    ("both", GET + HOST + b"TE: trailers\r\nConnection: TE, Upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\nUpgrade: a, b\r\nTE: trailers\r\nConnection: Upgrade, TE\r\n\r\n"),
    ("expectation", POST + b"Expect: 100-Continue\r\nContent-Length: 5\r\n",
     b"POST / HTTP/1.1\r\nHost: 192.0.2.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"),
    ("expectation of nothing", GET + HOST + b"Expect: 100-continue\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("expectation in HTTP/1.0", b"POST http://192.0.2.1/ HTTP/1.0\r\nExpect: tea\r\nContent-Length: 5\r\n",
     b"POST / HTTP/1.1\r\nHost: 192.0.2.1\r\nContent-Length: 5\r\n\r\n"),
    ("Max-Forwards", b"TRACE http://192.0.2.1/ HTTP/1.1\r\n" + HOST + b"Max-Forwards: 1\r\n",
     b"TRACE / HTTP/1.1\r\nHost: 192.0.2.1\r\nMax-Forwards: 0\r\n\r\n"),
    ("Max-Forwards of others", GET + HOST + b"Max-Forwards: 0\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\nMax-Forwards: 0\r\n\r\n"),
    ("underscores and bytes", GET + HOST + b"a_b: \x80\xff \t\r\nc:\r\n",
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\na_b: \x80\xff\r\nc: \r\n\r\n"),
    ("empty lines before it", b"\r\n\r\n" + GET + HOST, b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"),
    ("100 fields", GET + HOST + b"A: b\r\n" * 99,
     b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n" + b"A: b\r\n" * 99 + b"\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "heard"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
async def test_forwarded(said: bytes, heard: bytes) -> None:
    for pieces in cuts(said + b"\r\n"):
        async with dialogue() as made:
            await made.say(pieces)
            assert made.origin.said == heard
            assert made.client.said == b""


BODY = b"2;x=y\r\nhe\r\n003\r\nllo\r\n0\r\nX-Sum: 9\r\nProxy-X: 1\r\n\r\n"


async def test_chunks_and_trailers_both_ways() -> None:
    """Content and trailers arrive whatever the cuts; extensions (RFC 9112 section 7.1.1) and Proxy-* end here."""
    for pieces in cuts(CHUNKED + BODY):
        async with dialogue() as made:
            await made.say(pieces)
            assert unchunk(made.origin.said.partition(b"\r\n\r\n")[2]) == (b"hello", b"X-Sum: 9\r\n")
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY
    for pieces in cuts(said):
        async with dialogue() as made:
            await made.say([GET + HOST + b"\r\n"])
            for piece in pieces:
                made.origin.hear(piece)
            head, _, body = made.client.said.partition(b"\r\n\r\n")
            assert head == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"
            assert unchunk(body) == (b"hello", b"X-Sum: 9\r\n")
            assert not made.origin.closed, "it can be used again"


def unchunk(body: bytes) -> tuple[bytes, bytes]:
    """Content and trailers."""
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return content, body.removesuffix(b"\r\n")
        content += body[: int(size, 16)]
        assert body[int(size, 16) :].startswith(b"\r\n")
        body = body[int(size, 16) + 2 :]


BAD_RESPONSES = [
    b"garbage\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.2 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 O\0K\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 00000000000000000002\r\n\r\nok", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000 + b"\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nName : x\r\n\r\n",
    b"\x15\x03\x01\0\x02\x02\n",
    b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\n\r\n", b"HTTP/1.1 200 OK\r\nN\xe4me: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("said", BAD_RESPONSES, ids=range(len(BAD_RESPONSES)))
async def test_bad_response(said: bytes) -> None:
    for pieces in cuts(said):
        async with dialogue() as made:
            await made.say([GET + HOST + b"\r\n"])
            for piece in pieces:
                made.origin.hear(piece)
            made.origin.end()
            head, _, body = made.client.said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 502 ")
            assert b"\r\nProxy-Status: usernet; error=http_" in head
            assert body.count(b"\n") == 1
            assert b"garbage" not in body
            assert made.client.ended
            assert made.origin.closed


async def test_bad_chunks_in_a_response() -> None:
    """A head is on its way already: what follows is cut off by a reset, so that it does not look whole."""
    for body in BAD_CHUNKS:
        for pieces in cuts(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, most=40):
            async with dialogue() as made:
                await made.say([GET + HOST + b"\r\n"])
                for piece in pieces:
                    made.origin.hear(piece)
                made.origin.end()
                assert made.client.said.startswith(b"HTTP/1.1 200 ")
                assert not made.client.said.endswith(b"0\r\n\r\n")
                assert made.client.cut
                assert made.origin.closed


async def test_connect_at_every_cut() -> None:
    """What came after the head is held, and follows the dial; nothing of it is taken for a request."""
    early = b"GET http://192.0.2.7/ HTTP/1.1\r\nHost: x\r\n\r\n"
    for pieces in cuts(CONNECT + b"\r\n" + early):
        async with dialogue() as made:
            await made.say(pieces)
            assert made.client.said == b"HTTP/1.1 200 Connection established\r\n\r\n"
            assert made.origin.said == early
            assert made.dialled == [("192.0.2.1", 80)]


# -- credentials --

CREDENTIALS = Users([("alice", "pa:ss")])


def basic(pair: bytes) -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(pair) + b"\r\n"


RIGHT = basic(b"alice:pa:ss")


async def log_in(made: Dialogue, field: bytes, *, method: bytes = b"GET") -> bytes:
    before = len(made.client.said)
    await made.say([method + GET[3:] + HOST + field + b"\r\n"])
    return made.client.said[before:]


async def test_several_tries() -> None:
    """On one connection: a login that fails leaves nothing behind, nor does one that succeeds."""
    async with dialogue(CREDENTIALS) as made:
        refusals = {await log_in(made, field) for field in (b"", basic(b"alice:x"), basic(b"bob:pa:ss"), RIGHT + RIGHT)}
        assert len(refusals) == 1
        [refusal] = refusals
        assert refusal.startswith(b"HTTP/1.1 407 ")
        assert b'\r\nProxy-Authenticate: Basic realm="usernet"' in refusal
        assert b"onnection:" not in refusal
        assert made.dialled == []
        assert await log_in(made, RIGHT) == b""
        made.origin.hear(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert made.client.said.endswith(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert await log_in(made, b"") == refusal
        assert await log_in(made, b"", method=b"HEAD") == refusal.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert await log_in(made, RIGHT) == b""
        assert made.origin.said.count(b"GET /") == 2
        assert b"Basic" not in made.origin.said


async def test_who_is_refused_does_not_stay_long() -> None:
    """Not as long as a client that has logged in may say nothing."""
    async with dialogue(CREDENTIALS, limits=Limits(head_timeout=0.02)) as made:
        assert await log_in(made, b"")
        await until(lambda: made.client.closed)


async def test_tries_are_counted() -> None:
    async with dialogue(CREDENTIALS) as made:
        for _ in range(7):
            assert b"onnection: close" not in await log_in(made, b"")
        assert b"\r\nConnection: close\r\n" in await log_in(made, b"")
        assert await log_in(made, RIGHT) == b""
        assert made.dialled == []


@pytest.mark.parametrize(
    "said",
    [
        CONNECT,
        POST + b"Content-Length: 5\r\n",
        POST + b"Transfer-Encoding: chunked\r\n",
        GET + HOST + b"Connection: close\r\n",
    ],
)
async def test_refused_for_good(said: bytes) -> None:
    """Where what comes next may be no request, the connection ends with its 407, and nothing more is read from it."""
    for pieces in cuts(said + b"\r\n" + GET + HOST + RIGHT + b"\r\n"):
        async with dialogue(CREDENTIALS) as made:
            await made.say(pieces)
            assert made.client.said.count(b"HTTP/1.1 ") == 1
            assert status_of(made.client.said) == 407
            assert made.dialled == []


# -- Expect (RFC 9110 section 10.1.1) --

EXPECT = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
NO = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno"


async def test_continue() -> None:
    async with dialogue() as made:
        await made.say([EXPECT])
        for interim in (
            b"HTTP/1.1 102 Processing\r\n\r\n",
            b"HTTP/1.1 103 \r\nLink: </a>\r\n\r\n",
            b"HTTP/1.1 100 Go\r\n\r\n",
        ):
            made.origin.hear(interim)
            assert made.client.said.endswith(interim)
        await made.say([b"hel", b"lo"])
        assert made.origin.said.endswith(b"\r\n\r\nhello")
        made.origin.hear(NO)
        assert made.client.said.endswith(NO), "as it came"
        await made.say([GET + HOST + b"\r\n"])
        assert made.origin.said.endswith(b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n")
        assert len(made.origins) == 1


@pytest.mark.parametrize("answer", [NO, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
async def test_early_answer_to_an_expectation(answer: bytes) -> None:
    """Nobody can say whether the body or another request comes next: the client is told to go, and both ends close."""
    following = b"GET http://192.0.2.7/ HTTP/1.1\r\nHost: x\r\n\r\n"
    for pieces in cuts(answer):
        for after in ([following], [b"hello" + following], [b"hello", following]):
            async with dialogue() as made:
                await made.say([EXPECT])
                for piece in pieces:
                    made.origin.hear(piece)
                assert b"\r\nConnection: close\r\n" in made.client.said
                assert made.client.ended
                assert made.origin.cut
                said = made.client.said
                await made.say(after)
                assert made.client.said == said
                assert b"192.0.2.7" not in made.origin.said
                assert made.dialled == [("192.0.2.1", 80)]


async def test_early_answer_after_a_100() -> None:
    """The client was told to send its body, so that comes next."""
    async with dialogue() as made:
        await made.say([EXPECT])
        made.origin.hear(b"HTTP/1.1 100 Continue\r\n\r\n" + NO)
        assert made.client.said.endswith(NO), "with no word of closing"
        await made.say([b"hello" + GET + HOST + b"\r\n"])
        assert made.origin.said.endswith(b"\r\n\r\nhelloGET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n")


async def test_body_that_does_not_wait() -> None:
    """A client that has begun with its body will send all of it: nothing is unclear."""
    for pieces in ([EXPECT + b"h", b"ello"], [EXPECT, b"h", b"ello"]):
        async with dialogue() as made:
            await made.say(pieces[:-1])
            made.origin.hear(NO)
            await made.say(pieces[-1:])
            assert made.client.said == NO
            assert made.origin.said.endswith(b"hello")
            assert not made.client.ended


# -- Upgrade (RFC 9110 section 7.8) --

UPGRADE = GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_upgrade_at_every_cut() -> None:
    for pieces in cuts(SWITCHED + b"first\n\0"):
        async with dialogue() as made:
            await made.say([UPGRADE, b"early\r\n\0"])
            for piece in pieces:
                made.origin.hear(piece)
            assert made.client.said == SWITCHED + b"first\n\0"
            assert made.origin.said.endswith(b"\r\n\r\nearly\r\n\0")


async def test_upgrade_required() -> None:
    async with dialogue() as made:
        await made.say([GET + HOST + b"\r\n"])
        made.origin.hear(
            b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: a/1\r\nContent-Length: 0\r\n\r\n"
        )
        assert b"\r\nConnection: Upgrade\r\nUpgrade: a/1\r\n" in made.client.said


# -- Via (RFC 9110 section 7.6.3), where a name was given for it --


async def test_via() -> None:
    async with dialogue(via=b"here") as made:
        await made.say([GET + HOST + b"Via: 1.0 fred, 1.1 hereby (here)\r\n\r\n"])
        assert made.origin.said.endswith(b"\r\nVia: 1.0 fred, 1.1 hereby (here)\r\nVia: 1.1 here\r\n\r\n")
        made.origin.hear(b"HTTP/1.0 204 No Content\r\nVia: 1.1 there\r\n\r\n")
        assert b"\r\nVia: 1.1 there\r\nVia: 1.0 here\r\n" in made.client.said


async def test_via_of_an_old_client() -> None:
    async with dialogue(via=b"here") as made:
        await made.say([b"GET http://192.0.2.1/ HTTP/1.0\r\n\r\n"])
        assert made.origin.said.endswith(b"\r\nVia: 1.0 here\r\n\r\n")


@pytest.mark.parametrize(
    "field", [b"1.1 here", b"1.0 fred, HTTP/1.1  Here (x)", b"1.1 a\r\nVia: 1.1 here", b",1.1\there,"]
)
async def test_loop(field: bytes) -> None:
    async with dialogue(via=b"here") as made:
        await made.say([GET + HOST + b"Via: " + field + b"\r\n\r\n"])
        assert made.dialled == []
        assert made.client.said.startswith(b"HTTP/1.1 502 ")
        assert b"\r\nProxy-Status: usernet; error=proxy_loop_detected; " in made.client.said


async def test_no_via_unless_asked() -> None:
    async with dialogue() as made:
        await made.say([GET + HOST + b"Via: 1.1 here\r\n\r\n"])
        assert made.origin.said.count(b"Via") == 1
