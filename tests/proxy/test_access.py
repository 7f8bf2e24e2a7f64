"""The [Access] section at a real listener: logins by slow hashes, where clients come from, and the access log."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import threading
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from proxy.accesslog import AccessLog
from proxy.auth import Users
from proxy.client import Terms
from proxy.passwords import make_hash
from proxy.server import Proxy
from proxy.session import Limits
from tests.proxy.support import bench, echo, serving, until
from tests.proxy.test_socks_handler import HELLO, answer, request
from tests.support.networks import LEFT, RIGHT, udp_pair

HASHED = Users([("alice", make_hash(b"pa:ss")), ("bob", "plain")])
OUTSIDE = "{} is not let in: AllowFrom does not have it"


def login(name: str, word: str) -> bytes:
    return b"\x05\x01\x02\x01" + bytes([len(name)]) + name.encode() + bytes([len(word)]) + word.encode()


def basic(name: str, word: str) -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{name}:{word}".encode()) + b"\r\n"


@pytest.mark.parametrize("cuts", [(), tuple(range(1, 30))])
@pytest.mark.parametrize(("name", "word"), [("alice", "pa:ss"), ("bob", "plain")])
async def test_socks_login_by_hash(name: str, word: str, cuts: Sequence[int]) -> None:
    async with serving(echo) as port, bench(credentials=HASHED) as made:
        client = await made.client()
        await client.send(login(name, word) + request("127.0.0.1", port) + b"early", cuts=cuts)
        await client.expect(b"\x05\x02\x01\x00\x05\x00\x00\x01")
        await client.exactly(6)
        await client.expect(b"early")


@pytest.mark.parametrize(("name", "word"), [("alice", "plain"), ("bob", "pa:ss"), ("carol", "plain"), ("alice", "x")])
async def test_wrong_login_by_hash(name: str, word: str) -> None:
    async with bench(credentials=HASHED) as made:
        heard = await (await made.client()).exchange(login(name, word) + request("127.0.0.1", 9) + b"early")
        assert heard == b"\x05\x02\x01\x01"
        heard = await (await made.client()).exchange(
            b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n"
            + basic(name, word)
            + b"\r\n"
        )
        assert heard.startswith(b"HTTP/1.1 407 ")
        assert made.net.dialled == []
        assert made.proxy.statistics().refused["wrong-credentials"] == 2


async def test_http_login_by_hash_on_one_connection() -> None:
    async with serving(echo) as port, bench(credentials=HASHED) as made:
        client = await made.client()
        await client.send(
            b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n" % port + basic("alice", "pa:ss") + b"\r\nearly"
        )
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        await client.expect(b"early")


async def test_a_client_that_leaves_while_it_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read meanwhile, so it is the deadline that ends it."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def verify(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    monkeypatch.setattr(Users, "verify", verify)
    users = Users([("alice", make_hash(b"pa:ss"))])
    async with bench(credentials=users, limits=Limits(handshake_timeout=0.1)) as made:
        client = await made.client()
        await client.send(login("alice", "pa:ss") + request("127.0.0.1", 9))
        await asyncio.wait_for(begun.wait(), 10)
        client.writer.transport.abort()
        await until(lambda: made.proxy.statistics().connections == 0)
        await asyncio.wait_for(cancelled.wait(), 10)


SAID = (
    login("alice", "pa:ss") + request("127.0.0.1", 9),
    b"GET http://origin.test/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + basic("alice", "pa:ss") + b"\r\n",
)


@pytest.mark.parametrize("said", SAID)
async def test_a_check_that_fails_lets_nobody_in(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise MemoryError

    monkeypatch.setattr("proxy.auth.matches", fail)
    async with bench(credentials=Users([("alice", make_hash(b"pa:ss"))])) as made:
        heard = await (await made.client()).exchange(said)
        assert heard == b"\x05\x02\x01\x01" or heard.startswith(b"HTTP/1.1 407 ")
        assert made.net.dialled == []


@pytest.mark.parametrize("said", SAID)
async def test_nobody_waits_for_a_check_for_ever(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("proxy.auth.matches", lambda *_: go_on.wait(20))
    users = Users([("alice", make_hash(b"pa:ss"))])
    try:
        async with bench(credentials=users, limits=Limits(handshake_timeout=0.1)) as made:
            client = await made.client()
            await client.send(said)
            await until(lambda: made.proxy.statistics().handshakes == 1)
            await client.rest()
            assert made.proxy.statistics().refused == {"handshake-timeout": 1}
            await until(lambda: made.proxy.statistics().connections == 0)
    finally:
        go_on.set()


async def test_who_has_ended_and_is_refused_is_not_waited_for() -> None:
    """The last of its requests has no login; the one before was answered after the client's end."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader, writer) -> None:  # type: ignore[no-untyped-def]
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with serving(slow) as web, bench(credentials=HASHED, limits=Limits(head_timeout=60.0)) as made:
        line = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n" % web
        client = await made.client()
        await client.send(line + basic("bob", "plain") + b"\r\n" + line + b"\r\n")
        client.end()
        await reached.wait()
        go_on.set()
        heard = await client.rest()
        assert heard.startswith(b"HTTP/1.1 204 ")
        assert heard.count(b"HTTP/1.1 407 ") == 1
        assert b"408" not in heard


@pytest.mark.parametrize(("allowed", "served"), [(["127.0.0.0/8"], True), (["192.0.2.0/24", "::1/128"], False)])
async def test_where_clients_come_from(allowed: list[str], served: bool) -> None:
    async with serving(echo) as port, bench(allow_from=allowed) as made:
        client = await made.client()
        if served:
            await client.send(HELLO + request("127.0.0.1", port))
            await client.expect(b"\x05\x00\x05\x00")
        else:
            assert await client.exchange(HELLO) == b""
            assert made.proxy.statistics().refused == {"source-not-allowed": 1}


async def test_who_may_not_come_in_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "usernet")
    async with bench(allow_from=["192.0.2.0/24"]) as made:
        for _ in range(3):
            assert await (await made.client()).exchange(HELLO) == b""
        assert made.proxy.statistics().refused == {"source-not-allowed": 3}
    assert [record.getMessage() for record in caplog.records] == [OUTSIDE.format("127.0.0.1")] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]  # INFO: with --verbose


async def test_a_peer_that_may_not_come_in_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async with udp_pair() as pair:
        proxy = Proxy(pair.right)
        terms = Terms(allow_from=(ip_network("192.0.2.0/24"),))
        [listener] = await proxy.listen_inside(pair.right, RIGHT, 0, terms=terms)
        for _ in range(2):
            reader, writer = await pair.left.open_connection(RIGHT, listener.port)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        assert proxy.statistics().refused == {"source-not-allowed": 2}
        await proxy.close()
    assert caplog.messages == [OUTSIDE.format(LEFT)]


async def origin(reader, writer) -> None:  # type: ignore[no-untyped-def]
    while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def test_access_log(unused_port: int) -> None:
    lines: list[str] = []
    log = AccessLog(lines.append, as_json=True)
    async with serving(echo) as port, serving(origin) as web, bench(credentials=HASHED, access_log=log) as made:
        client = await made.client()
        await client.send(login("bob", "plain") + request(b"origin.test", port) + b"12345")
        await client.exactly(4 + 10 + 5)
        client.end()
        assert await client.rest() == b""
        await client.close()
        await until(lambda: len(lines) == 1)
        await (await made.client()).exchange(login("bob", "plain") + request("127.0.0.1", unused_port))
        await (await made.client()).exchange(login("bob", "no"))
        http = await made.client()
        for _ in range(2):
            line = b"GET http://127.0.0.1:%d/path?secret=1 HTTP/1.1\r\n" % web
            await http.send(line + b"Host: x\r\n" + basic("bob", "plain") + b"\r\n")
            await http.head()
            await http.expect(b"hello")
        await http.exchange(b"GET / HTTP/1.1\r\n\r\n")
        await (await made.client()).close()  # a probe: no line
        await until(lambda: len(lines) == 6)
    seen = [json.loads(line) for line in lines]
    keys = ("user", "method", "destination", "route", "bytes_up", "outcome")
    assert [tuple(entry[key] for key in keys) for entry in seen] == [
        ("bob", "SOCKS5 CONNECT", f"origin.test:{port}", "tunnel", 5, "ok"),
        ("bob", "SOCKS5 CONNECT", f"127.0.0.1:{unused_port}", "tunnel", 0, "connection_refused"),
        (None, "SOCKS5", None, None, 0, "wrong-credentials"),
        ("bob", "GET", f"127.0.0.1:{web}", "tunnel", 0, "200"),
        ("bob", "GET", f"127.0.0.1:{web}", "tunnel", 0, "200"),
        ("bob", "HTTP", None, None, 0, "400"),
    ]
    assert seen[0]["bytes_down"] == 5
    assert all(entry["client"].startswith("127.0.0.1:") and entry["duration"] >= 0 for entry in seen)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"]) for entry in seen)
    assert "secret" not in "".join(lines)


async def test_access_log_as_text() -> None:
    lines: list[str] = []
    async with bench(access_log=AccessLog(lines.append, as_json=False)) as made:
        assert await (await made.client()).exchange(HELLO + request("::1", 9)) == answer(5)
    pattern = r'\S+Z 127\.0\.0\.1:\d+ - "SOCKS5 CONNECT" \[::1\]:9 tunnel up=0 down=0 \d\.\d{3}s connection_refused'
    assert re.fullmatch(pattern, lines[0])


@pytest.mark.parametrize("as_json", [False, True])
async def test_no_client_can_make_a_long_line(as_json: bool) -> None:
    """Of a head of 64 KiB, in whatever part of it."""
    lines: list[str] = []
    users = Users([("\N{SNOWMAN}" * 85, "word")])  # the longest name there can be, and each of its letters escaped
    log = AccessLog(lines.append, as_json=as_json)
    host, long = ".".join(["a" * 61] * 4), b"A" * 60_000
    async with serving(origin) as web, bench(credentials=users, access_log=log) as made:
        name = basic("\N{SNOWMAN}" * 85, "word")
        for head in (
            b"%b http://%b:%d/ HTTP/1.1\r\nHost: x\r\n" % (long, host.encode(), web) + name,
            b"%b http://%b:%d/ HTTP/1.1\r\nHost: x\r\n" % (long, b"127.0.0.1", web) + name,
            b"%b http://x/ HTTP/1.1\r\nHost: x\r\n" % long + basic("a" * 3000, "word"),  # no login
            b"GET http://%b/ HTTP/1.1\r\nHost: x\r\n" % long + name,
            b"CONNECT %b:80 HTTP/1.1\r\nHost: x\r\n" % long + name,
            b"GET http://%b:%d/%b HTTP/1.1\r\nHost: x\r\n" % (host.encode(), web, long) + name,
            b"GET / HTTP/1.1\r\nHost: %b\r\n" % long + name,
        ):
            client = await made.client()
            await client.send(head + b"\r\n")
            client.end()
            await client.rest()
        await until(lambda: len(lines) == 7)
    assert max(map(len, lines)) < 1200
    assert ["A" * 33 in line for line in lines] == [False] * 7
    assert ["A" * 32 + "..." in line for line in lines] == [True] * 3 + [False] * 4


async def refusing(reader, writer) -> None:  # type: ignore[no-untyped-def]
    """Answer before the body has come, and go."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "fields", "outcome"),
    [(b"PUT", b"Content-Length: 5\r\n", "401"), (b"PUT", b"Content-Length: 5\r\nExpect: 100-continue\r\n", "401"),
     (b"OPTIONS", b"Max-Forwards: 0\r\n", "200"), (b"TRACE", b"Max-Forwards: 0\r\n", "405"),
     (b"PUT", b"Content-Length: 5\r\nExpect: more\r\n", "417"),
     (b"PUT", b"Transfer-Encoding: chunked\r\n\r\nno size\r\n", "400")],
)  # fmt: skip
async def test_a_request_that_ends_before_its_body_has_its_line(
    request_line: bytes, fields: bytes, outcome: str
) -> None:
    lines: list[str] = []
    async with serving(refusing) as web, bench(access_log=AccessLog(lines.append, as_json=True)) as made:
        line = b"%b http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n" % (request_line, web)
        client = await made.client()
        await client.send(line + fields + b"\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 " + outcome.encode())
        await client.close()
        await until(lambda: made.proxy.statistics().connections == 0)
    assert [json.loads(line)["outcome"] for line in lines] == [outcome]


async def test_another_user_on_the_same_connection_goes_their_own_way() -> None:
    """The connection to an origin is kept, but not for whom a rule sends elsewhere, or nowhere."""
    users = Users([("alice", "a"), ("bob", "b")])
    async with (
        serving(origin) as web,
        bench(credentials=users, rules=["tunnel 127.0.0.0/8 user alice", "refuse * user bob"]) as made,
    ):
        client = await made.client()
        for name, word, status in (("alice", "a", b"200"), ("alice", "a", b"200"), ("bob", "b", b"403")):
            await client.send(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n" % web + basic(name, word) + b"\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 " + status)
            if status == b"200":
                await client.expect(b"hello")
        assert len(made.net.dialled) == 1
