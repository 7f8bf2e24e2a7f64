"""SOCKS4 and 4a through a real listener to real servers: every cut, every refusal, every cause."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.replies import reply_for
from tests.proxy.support import bench, echo, serving, until
from tests.proxy.test_socks_handler import CREDENTIALS, DIALS

REJECTED = b"\0\x5b" + bytes(6)


def request4(host: str | bytes, port: int, command: int = 1, user: bytes = b"") -> bytes:
    """`host` is a name, as SOCKS4a has it, where it is bytes."""
    head = bytes((4, command)) + port.to_bytes(2)
    if isinstance(host, bytes):
        return head + b"\0\0\0\x01" + user + b"\0" + host + b"\0"
    return head + socket.inet_aton(host) + user + b"\0"


@pytest.mark.parametrize(
    ("destination", "host"),
    [("127.0.0.1", "127.0.0.1"), (b"origin.test", "127.0.0.1"), (b"ORIGIN.test", "127.0.0.1"),
     (b"127.0.0.1", "127.0.0.1"), (b"v6.test", "::1"), (b"::1", "::1"), (b"::ffff:127.0.0.1", "127.0.0.1")],
)  # fmt: skip
async def test_connects(destination: str | bytes, host: str) -> None:
    async with serving(echo, host) as port, bench() as made:
        client = await made.client()
        await client.send(request4(destination, port, user=b"somebody") + b"early")
        assert await client.exactly(2) == b"\0\x5a"
        bound_port, bound = int.from_bytes(await client.exactly(2)), await client.exactly(4)
        name = made.net.transports[0].get_extra_info("sockname")
        assert bound_port == name[1]
        assert bound == (bytes(4) if ":" in host else socket.inet_aton(name[0]))  # it has no room for IPv6
        client.end()
        assert await client.rest() == b"early"
        assert made.net.dialled == [(host, port)]
        assert made.proxy.statistics().socks4 == 1


@pytest.mark.parametrize("destination", ["127.0.0.1", b"origin.test"])
async def test_every_cut(destination: str | bytes) -> None:
    async with serving(echo) as port, bench() as made:
        whole = request4(destination, port, user=b"me") + b"\0trailing"
        cuts: list[list[int]] = [[at] for at in range(1, len(whole))]
        for cut in [*cuts, list(range(1, len(whole))), []]:
            client = await made.client()
            await client.send(whole, cuts=cut)
            client.end()
            heard = await client.rest()
            assert heard[:2] == b"\0\x5a", cut
            assert heard[4:] == b"\x7f\0\0\x01\0trailing", cut
            await client.close()


REFUSED = [
    ("unknown command", request4("192.0.2.1", 80, 9)),
    ("udp associate", request4("192.0.2.1", 80, 3)),
    ("port 0", request4("127.0.0.1", 0)),
    ("endless user id", b"\x04\x01\0\x50\x7f\0\0\x01" + b"u" * 300),
    ("empty name", request4(b"", 80)),
    ("CR LF", request4(b"a\r\nb.test", 80)),
    ("label of 64", request4(b"a" * 64 + b".test", 80)),
    ("254 bytes", request4((b"a" * 49 + b".") * 5 + b"abcd", 80)),
    ("bad UTF-8", request4(b"\xff\xfe.test", 80)),
    ("zone id", request4(b"fe80::1%lo", 80)),
    ("unspecified", request4("0.0.0.0", 80)),
    ("this network", request4("0.0.1.1", 80)),
    ("cloud metadata", request4("169.254.169.254", 80)),
    ("multicast", request4("224.0.0.1", 80)),
    ("localhost", request4(b"localhost", 80)),
    ("name not found", request4(b"nowhere.test", 80)),
]  # fmt: skip


@pytest.mark.parametrize("data", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refused(data: bytes) -> None:
    async with bench() as made:
        step = 1 if len(data) < 50 else 17  # test_socks_dialogues.py has them all
        for cuts in [[], list(range(1, len(data))), *([at] for at in range(1, len(data), step))]:
            client = await made.client()
            assert await client.exchange(data, cuts=cuts) == REJECTED
            await client.close()
        assert made.net.dialled == []
        assert len(made.proxy.statistics().refused) == 1  # always by the same reason


@pytest.mark.parametrize("error", [error for error, _ in DIALS], ids=[f"{e!r}" for e, _ in DIALS])
async def test_every_failure_is_a_rejection(error: BaseException) -> None:
    """91 is all the protocol has for them; 92 and 93 are about the user.  The cause is counted."""
    async with bench() as made:
        made.net.fail = error
        client = await made.client()
        assert await client.exchange(request4("192.0.2.1", 80)) == REJECTED
        assert made.proxy.statistics().refused == {reply_for(error).token: 1}


async def test_refused_for_real(unused_port: int) -> None:
    async with bench() as made:
        client = await made.client()
        assert await client.exchange(request4("127.0.0.1", unused_port)) == REJECTED
        assert made.proxy.statistics().refused == {"connection_refused": 1}


async def test_where_a_login_is_asked_for() -> None:
    """Its user id is no login, even where it is that of a user, and although another client here has logged in."""
    async with serving(echo) as port, bench(credentials=CREDENTIALS) as made:
        right = await made.client()
        await right.send(b"\x05\x01\x02\x01\x05alice\x07pa:ss:w")
        await right.expect(b"\x05\x02\x01\0")
        for data in (request4("127.0.0.1", port, user=b"alice"), b"\x04"):
            client = await made.client()
            assert await client.exchange(data) == b"\0\x5d" + bytes(6)
        assert made.net.dialled == []
        assert made.proxy.statistics().refused == {"socks4-without-login": 2}


async def test_nothing_is_said_before_the_dial_ends() -> None:
    async with serving(echo) as port, bench() as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        await client.send(request4("127.0.0.1", port) + b"held")
        await until(lambda: bool(made.net.dialled))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        client.end()
        made.net.gate.set()
        assert (await client.rest())[8:] == b"held"
