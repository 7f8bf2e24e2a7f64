"""SOCKS5 through a real listener to real servers: RFC 1928 and RFC 1929, cut everywhere; every answer to a dial."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

import pytest

from proxy.auth import Users
from proxy.routes import HostNet, Route
from proxy.rules import Rules
from proxy.server import Proxy
from proxy.session import Limits
from proxy.upstreams import UpstreamNet
from tests.proxy.support import Bench, LoopNet, bench, echo, serving, until
from usernet.config import access
from usernet.errors import (
    EndpointUnresolved,
    HostUnreachable,
    NameNotFound,
    NameServerFailed,
    NetworkUnreachable,
    NoHandshake,
    NoRoute,
)

HELLO = b"\x05\x01\x00"
LOGIN = b"\x05\x01\x02" + b"\x01\x05alice\x07pa:ss:w"
CREDENTIALS = Users([("alice", "pa:ss:w")])


def request(host: str | bytes, port: int, command: int = 1) -> bytes:
    if isinstance(host, bytes):
        address = b"\x03" + bytes([len(host)]) + host
    elif ":" in host:
        address = b"\x04" + socket.inet_pton(socket.AF_INET6, host)
    else:
        address = b"\x01" + socket.inet_aton(host)
    return b"\x05" + bytes([command, 0]) + address + port.to_bytes(2)


def answer(code: int, data: bytes = b"\x05\x00") -> bytes:
    return data + b"\x05" + bytes([code]) + b"\x00\x01" + bytes(6)


@pytest.mark.parametrize(
    ("destination", "host"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), (b"origin.test", "127.0.0.1"), (b"ORIGIN.test", "127.0.0.1"),
     (b"127.0.0.1", "127.0.0.1"), (b"::1", "::1"), (b"v6.test", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")],
)  # fmt: skip
async def test_connects(destination: str | bytes, host: str) -> None:
    async with serving(echo, host) as port, bench() as made:
        client = await made.client()
        await client.send(HELLO + request(destination, port) + b"early")
        assert await client.exactly(4) == b"\x05\x00\x05\x00"
        kind = await client.exactly(2)
        bound = await client.exactly(16 if kind[1] == 4 else 4)
        bound_port = int.from_bytes(await client.exactly(2))
        name = made.net.transports[0].get_extra_info("sockname")
        assert kind[1] == (4 if ":" in host else 1)
        assert socket.inet_ntop(socket.AF_INET6 if kind[1] == 4 else socket.AF_INET, bound) == name[0]
        assert bound_port == name[1]
        client.end()
        assert await client.rest() == b"early"
        assert made.net.dialled == [(host, port)]


async def test_the_longest_name() -> None:
    name = "a" * 63 + ("." + "b" * 62) * 3
    assert len(name) == 252
    async with serving(echo) as port, bench() as made:
        for longest in (name, name + "c", name + "."):
            made.net.names[longest] = ["127.0.0.1"]
            client = await made.client()
            await client.send(HELLO + request(longest.encode(), port) + b"early")
            await client.expect(b"\x05\0\x05\0\0\x01\x7f\0\0\x01")
            client.end()
            assert (await client.rest())[2:] == b"early"


@pytest.mark.parametrize("login", [False, True])
async def test_every_cut(login: bool) -> None:
    """The answer does not depend on how the dialogue was cut, and what follows the request is delivered."""
    async with serving(echo) as port, bench(credentials=CREDENTIALS if login else None) as made:
        whole = (LOGIN if login else HELLO) + request(b"origin.test", port) + b"trailing"
        expected = b"\x05\x02\x01\x00" if login else b"\x05\x00"
        cuts: list[list[int]] = [[at] for at in range(1, len(whole))]
        for cut in [*cuts, list(range(1, len(whole))), []]:
            client = await made.client()
            await client.send(whole, cuts=cut)
            client.end()
            heard = await client.rest()
            assert heard.startswith(expected + b"\x05\x00\x00\x01\x7f\x00\x00\x01"), cut
            assert heard.endswith(b"trailing"), cut
            assert len(heard) == len(expected) + 10 + 8
            await client.close()


REFUSED = [
    ("no methods", b"\x05\x00", b"\x05\xff"),
    ("method not offered", b"\x05\x02\x01\x02", b"\x05\xff"),
    ("bad version in the request", HELLO + b"\x04\x01\x00\x01\x7f\0\0\1\0\x50", answer(1)),
    ("unknown command", HELLO + request("192.0.2.1", 80, 9), answer(7)),
    ("command 0", HELLO + request("192.0.2.1", 80, 0), answer(7)),
    ("unknown address type", HELLO + b"\x05\x01\x00\x02\x7f\0\0\1\0\x50", answer(8)),
    ("empty name", HELLO + request(b"", 80), answer(1)),
    ("NUL", HELLO + request(b"a\0b.test", 80), answer(1)),
    ("CR LF", HELLO + request(b"a\r\nb.test", 80), answer(1)),
    ("LF", HELLO + request(b"a\nb", 80), answer(1)),
    ("space", HELLO + request(b"a b", 80), answer(1)),
    ("bad UTF-8", HELLO + request(b"\xff\xfe.test", 80), answer(1)),
    ("bad IDNA", HELLO + request("\u05d0a.test".encode(), 80), answer(1)),
    ("bad Punycode", HELLO + request(b"xn--\x7a\x7a\x7a\x7a\x7a\x7a\x7a-9.test", 80), answer(1)),
    ("label of 64", HELLO + request(b"a" * 64 + b".test", 80), answer(1)),
    ("two dots", HELLO + request(b"a..test", 80), answer(1)),
    ("254 bytes", HELLO + request((b"a" * 49 + b".") * 5 + b"abcd", 80), answer(1)),
    ("255 bytes", HELLO + request((b"a" * 50 + b".") * 5, 80), answer(1)),
    ("zone id", HELLO + request(b"fe80::1%lo", 80), answer(1)),
    ("port 0", HELLO + request("127.0.0.1", 0), answer(1)),
    ("loopback in NAT64", HELLO + request("64:ff9b::7f00:1", 80), answer(2)),
    ("cloud metadata", HELLO + request("169.254.169.254", 80), answer(2)),
    ("unspecified", HELLO + request("0.0.0.0", 80), answer(2)),
    ("multicast", HELLO + request("ff02::1", 80), answer(2)),
    ("localhost", HELLO + request(b"localhost", 80), answer(2)),
    ("name not found", HELLO + request(b"nowhere.test", 80), answer(4)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refused(data: bytes, expected: bytes) -> None:
    async with bench() as made:
        step = 1 if len(data) < 50 else 17  # test_socks_dialogues.py has them all
        for cuts in [[], list(range(1, len(data))), *([at] for at in range(1, len(data), step))]:
            client = await made.client()
            assert await client.exchange(data, cuts=cuts) == expected
            await client.close()
        assert made.net.dialled == []


BAD_LOGINS = [
    b"\x00\x05alice\x07pa:ss:w",  # version
    b"\x05\x05alice\x07pa:ss:w",
    b"\x01\x00\x07pa:ss:w",  # ULEN 0
    b"\x01\x05alice\x00",  # PLEN 0
    b"\x01\x05alicf\x07pa:ss:w",
    b"\x01\x05alice\x07pa:ss:x",
    b"\x01\x05Alice\x07pa:ss:w",
    b"\x01\x05alice\x06pa:ss:",
    b"\x01\x06alice \x07pa:ss:w",
    b"\x01\x07pa:ss:w\x05alice",  # exchanged
    b"\x01\x05alice\x05alice",  # each field twice
    b"\x01\x07pa:ss:w\x07pa:ss:w",
]


@pytest.mark.parametrize("login", BAD_LOGINS)
async def test_wrong_login_closes(login: bytes) -> None:
    """Never goes on to a request, even where it was sent along (CVE-2023-43644), and the next client starts afresh."""
    async with serving(echo) as port, bench(credentials=CREDENTIALS) as made:
        right = await made.client()
        await right.send(LOGIN + request("127.0.0.1", port))
        await right.expect(b"\x05\x02\x01\x00\x05\x00")
        client = await made.client()  # same address as one that has logged in
        heard = await client.exchange(b"\x05\x01\x02" + login + request("127.0.0.1", port))
        assert heard == b"\x05\x02\x01\x01"
        assert len(made.net.dialled) == 1


async def test_request_without_login() -> None:
    async with bench(credentials=CREDENTIALS) as made:
        client = await made.client()
        assert await client.exchange(HELLO + request("127.0.0.1", 80)) == b"\x05\xff"
        client = await made.client()
        assert await client.exchange(b"\x05\x01\x02" + request("127.0.0.1", 80)) == b"\x05\x02\x01\x01"
        assert made.net.dialled == []


DIALS: list[tuple[BaseException, int]] = [
    (ConnectionRefusedError(), 5),
    (HostUnreachable("x"), 4),
    (NetworkUnreachable("x"), 3),
    (NoRoute("x"), 3),
    (TimeoutError(), 6),
    (NoHandshake("x"), 6),
    (EndpointUnresolved("x"), 6),
    (NameNotFound("x"), 4),
    (NameServerFailed("x"), 1),
    (OSError(errno.EHOSTUNREACH, "x"), 4),
    (OSError(errno.ENETUNREACH, "x"), 3),
    (OSError(errno.EMFILE, "x"), 1),
    (ConnectionResetError(), 1),
    (OSError("x"), 1),
]


@pytest.mark.parametrize(("error", "code"), DIALS, ids=[f"{e!r}" for e, _ in DIALS])
async def test_answer_names_the_cause(error: BaseException, code: int) -> None:
    async with bench() as made:
        made.net.fail = error
        client = await made.client()
        assert await client.exchange(HELLO + request("192.0.2.1", 80)) == answer(code)


async def test_refused_for_real(unused_port: int) -> None:
    async with bench() as made:
        client = await made.client()
        assert await client.exchange(HELLO + request("127.0.0.1", unused_port)) == answer(5)


async def test_dial_timeout() -> None:
    async with bench(dial_timeout=-0.45) as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        assert await client.exchange(HELLO + request("192.0.2.1", 80)) == answer(6)


async def test_nothing_is_said_before_the_dial_ends() -> None:
    async with serving(echo) as port, bench() as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", port) + b"held")
        await client.expect(b"\x05\x00")
        await until(lambda: bool(made.net.dialled))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        await client.send(b" and more")
        client.end()
        made.net.gate.set()
        assert (await client.rest())[10:] == b"held and more"


async def test_held_bytes_are_bounded() -> None:
    async with serving(echo) as port, bench(limits=Limits(held_bytes=1000)) as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", port))
        data = bytes(range(256)) * (4 << 12)
        client.writer.write(data)
        client.end()
        await client.expect(b"\x05\x00")
        await until(lambda: any(getattr(s, "_paused", False) for s in made.proxy._context.sessions))
        made.net.gate.set()
        assert (await client.rest())[10:] == data


async def test_client_that_leaves_cancels_the_dial() -> None:
    async with bench() as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", 80))
        await until(lambda: bool(made.net.dialled))
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.close()
        await until(lambda: made.net.cancelled == 1)


async def test_slow_dialogue_is_closed() -> None:
    async with bench(limits=Limits(handshake_timeout=0.05)) as made:
        client = await made.client()
        assert await client.exchange(b"\x05") == b""
        assert made.proxy.statistics().refused == {"handshake-timeout": 1}


async def test_the_far_end_may_speak_first_and_leave_at_once() -> None:
    async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")

    async with serving(banner) as port, bench() as made:
        for _ in range(20):
            client = await made.client()
            await client.send(HELLO + request("127.0.0.1", port))
            client.end()
            assert (await client.rest())[12:] == b"SSH-2.0-x\r\n"


@pytest.mark.parametrize("scheme", ["direct", "socks5", "socks4", "http"])
async def test_the_bound_address_is_real_on_every_route(scheme: str) -> None:
    """That of the connection that was made: where it goes by an upstream proxy, ours to that."""
    async with serving(echo) as port, bench() as far:
        upstream = access.upstream(f"office {'http' if scheme == 'direct' else scheme}://127.0.0.1:{far.port}")
        routes = {
            "direct": Route("direct", HostNet()),
            "office": Route("office", UpstreamNet(upstream, HostNet()), takes_names=True),
        }
        rules = Rules([access.rule(("direct" if scheme == "direct" else "office") + " 127.0.0.0/8")])
        proxy = Proxy(LoopNet(), rules=rules, routes=routes)
        [listener] = await proxy.listen("127.0.0.1", 0)
        made = Bench(LoopNet(), proxy, listener.port)
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", port) + b"early")
        await client.expect(b"\x05\0\x05\0\0\x01\x7f\0\0\x01")
        bound = int.from_bytes(await client.exactly(2))
        await client.expect(b"early")
        [session] = proxy._context.sessions
        assert bound == session.other.transport.get_extra_info("sockname")[1]  # type: ignore[attr-defined]
        client.end()
        assert await client.rest() == b""
        await made.close()
