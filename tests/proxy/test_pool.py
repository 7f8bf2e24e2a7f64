"""Connections to origins that are kept: for whom, how many, how long, and what ends them."""

from __future__ import annotations

import base64

from proxy.auth import Users
from proxy.session import Limits
from tests.proxy.memory import Dialogue, dialogue, settle
from tests.proxy.support import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(host: bytes, field: bytes = b"") -> bytes:
    return b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host, host, field)


async def exchange(made: Dialogue, at: int, request: bytes) -> None:
    """The origin number `at` gets this request, and answers."""
    before = len(made.origins[at].said) if at < len(made.origins) else 0
    await made.say([request])
    assert len(made.origins[at].said) > before
    assert made.client.said == b""
    made.origins[at].hear(OK)
    assert made.client.said == OK
    made.client.said = b""


A, B, C, D, E, F = (get(b"%c.test" % letter) for letter in b"abcdef")


async def test_by_turns() -> None:
    async with dialogue() as made:
        for _ in range(3):
            await exchange(made, 0, A)
            await exchange(made, 1, B)
        assert made.dialled == [("a.test", 80), ("b.test", 80)]
        made.client.protocol.connection_lost(None)
        assert all(origin.closed for origin in made.origins)


async def test_at_most_so_many() -> None:
    """The one that was used longest ago makes room."""
    async with dialogue() as made:
        for at, request in enumerate((A, B, C, D, E, F)):
            await exchange(made, at, request)
        assert [origin.closed for origin in made.origins] == [True, False, False, False, False, False]
        await exchange(made, 1, B)
        await exchange(made, 6, A)


async def test_for_a_time() -> None:
    async with dialogue(limits=Limits(origin_timeout=0.02)) as made:
        await exchange(made, 0, A)
        await exchange(made, 1, B)
        await until(lambda: made.origins[0].closed)
        assert not made.origins[1].closed
        await exchange(made, 2, A)


async def test_what_it_says_meanwhile_ends_it() -> None:
    """An origin cannot put words into the mouth of its next answer."""
    async with dialogue() as made:
        for at, word in ((0, OK), (2, b"x")):
            await exchange(made, at, A)
            await exchange(made, at + 1, B)
            made.origins[at].hear(word)
            assert made.origins[at].cut
            assert made.client.said == b""
            made.origins[at + 1].end()
            assert made.origins[at + 1].closed
        await exchange(made, 4, A)


async def test_its_end_is_noticed() -> None:
    async with dialogue() as made:
        await exchange(made, 0, A)
        await exchange(made, 1, B)
        made.origins[0].end()
        assert made.origins[0].closed
        await exchange(made, 2, A)


async def test_of_one_user() -> None:
    """Who logs in on the same connection as somebody else gets a connection of his own, by the routes that are his."""
    users = Users([("alice", "a"), ("bob", "b")])

    def by(name: bytes, word: bytes) -> bytes:
        return get(b"a.test", b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(name + b":" + word))

    async with dialogue(users) as made:
        for _ in range(2):
            await exchange(made, 0, by(b"alice", b"a"))
            await exchange(made, 1, by(b"bob", b"b"))
        assert made.dialled == [("a.test", 80)] * 2


async def test_once_more_where_nothing_was_heard() -> None:
    """A safe or idempotent request without a body, on a connection that was used before; and once, not for ever."""
    for method, again in ((b"GET", True), (b"HEAD", True), (b"DELETE", True), (b"POST", False), (b"PATCH", False)):
        async with dialogue() as made:
            await exchange(made, 0, A)
            await made.say([A.replace(b"GET", method)])
            made.origins[0].end()
            await settle()
            assert len(made.origins) == 1 + again
            if again:
                assert made.origins[1].said == method + b" / HTTP/1.1\r\nHost: a.test\r\n\r\n"
                made.origins[1].end()
                await settle()
                assert len(made.origins) == 2
            assert made.client.said.startswith(b"HTTP/1.1 502 ")
            assert b"error=http_response_incomplete" in made.client.said


async def test_never_after_a_byte_or_with_a_body() -> None:
    for request, heard in ((A, b"H"), (A.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"), b"")):
        async with dialogue() as made:
            await exchange(made, 0, A)
            await made.say([request])
            if heard:
                made.origins[0].hear(heard)
            made.origins[0].end()
            await settle()
            assert len(made.origins) == 1
            assert made.client.said.startswith(b"HTTP/1.1 502 ")
