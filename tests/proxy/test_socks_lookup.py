"""Tor's RESOLVE and RESOLVE_PTR: the exact bytes of each answer, and what may not be asked."""

from __future__ import annotations

import pytest

from tests.proxy.support import LoopNet, bench
from tests.proxy.test_socks4_handler import REJECTED, request4
from tests.proxy.test_socks_handler import CREDENTIALS, DIALS, HELLO, LOGIN, answer, request
from usernet.errors import NameServerFailed

RESOLVE, RESOLVE_PTR = 0xF0, 0xF1
V4 = b"\x05\0\x05\0\0\x01"
V6 = b"\x05\0\x05\0\0\x04"


def names(net: LoopNet) -> None:
    net.names |= {
        "both.test": ["2001:db8::1", "192.0.2.1"],
        "six.test": ["2001:db8::1"],
        "evil.test": ["169.254.169.254"],
        "half.test": ["169.254.169.254", "192.0.2.9"],
        "none.test": [],
    }
    net.reverse_names |= {
        "192.0.2.1": ["www.test"],
        "2001:db8::1": ["six.test"],
        "192.0.2.2": ["a\r\nb", "192.0.2.2", "", "a" * 300, "Second.Test"],
        "192.0.2.3": ["b\u00fccher.test", "x y"],
    }


ANSWERS = [
    (request(b"both.test", 0, RESOLVE), V4 + b"\xc0\0\x02\x01\0\0"),  # IPv4 first, as Tor's answers have it
    (request(b"six.test", 0, RESOLVE), V6 + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\0\0"),
    (request(b"half.test", 80, RESOLVE), V4 + b"\xc0\0\x02\x09\0\0"),
    (request("192.0.2.7", 0, RESOLVE), V4 + b"\xc0\0\x02\x07\0\0"),  # a literal is its own answer
    (request(b"192.0.2.7", 0, RESOLVE), V4 + b"\xc0\0\x02\x07\0\0"),
    (request("2001:db8::7", 0, RESOLVE), V6 + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x07\0\0"),
    (request("::ffff:192.0.2.7", 0, RESOLVE), V4 + b"\xc0\0\x02\x07\0\0"),
    (request(b"evil.test", 0, RESOLVE), answer(2)),
    (request(b"localhost", 0, RESOLVE), answer(2)),
    (request("169.254.169.254", 0, RESOLVE), answer(2)),
    (request(b"nowhere.test", 0, RESOLVE), answer(4)),
    (request(b"none.test", 0, RESOLVE), answer(4)),
    (request(b"a b", 0, RESOLVE), answer(1)),
    (request("192.0.2.1", 0, RESOLVE_PTR), b"\x05\0\x05\0\0\x03\x08www.test\0\0"),
    (request(b"192.0.2.1", 0, RESOLVE_PTR), b"\x05\0\x05\0\0\x03\x08www.test\0\0"),
    (request("2001:db8::1", 0, RESOLVE_PTR), b"\x05\0\x05\0\0\x03\x08six.test\0\0"),
    (request("192.0.2.2", 0, RESOLVE_PTR), b"\x05\0\x05\0\0\x03\x0bsecond.test\0\0"),  # the first that is a name
    (request("192.0.2.3", 0, RESOLVE_PTR), answer(4)),
    (request("192.0.2.4", 0, RESOLVE_PTR), answer(4)),
    (request("169.254.169.254", 0, RESOLVE_PTR), answer(2)),
    (request("::1", 0, RESOLVE_PTR), answer(2)),
    (request(b"www.test", 0, RESOLVE_PTR), answer(8)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), ANSWERS, ids=range(len(ANSWERS)))
async def test_socks5(data: bytes, expected: bytes) -> None:
    data = HELLO + data
    async with bench(allow=()) as made:
        names(made.net)
        for cuts in [[], list(range(1, len(data))), *([at] for at in range(1, len(data)))]:
            client = await made.client()
            assert await client.exchange(data, cuts=cuts) == expected
            await client.close()
        assert made.net.dialled == []


async def test_with_a_login() -> None:
    async with bench(credentials=CREDENTIALS) as made:
        names(made.net)
        client = await made.client()
        assert await client.exchange(LOGIN + request(b"both.test", 0, RESOLVE)) == (
            b"\x05\x02\x01\0" + V4[2:] + b"\xc0\0\x02\x01\0\0"
        )


@pytest.mark.parametrize(("data", "expected"), [
    (request4(b"both.test", 0, RESOLVE), b"\0\x5a\0\0\xc0\0\x02\x01"),
    (request4("192.0.2.7", 0, RESOLVE), b"\0\x5a\0\0\xc0\0\x02\x07"),
    (request4(b"six.test", 0, RESOLVE), REJECTED),
    (request4(b"nowhere.test", 0, RESOLVE), REJECTED),
    (request4(b"evil.test", 0, RESOLVE), REJECTED),
    (request4("192.0.2.1", 0, RESOLVE_PTR), REJECTED),
])  # fmt: skip
async def test_socks4(data: bytes, expected: bytes) -> None:
    async with bench(allow=()) as made:
        names(made.net)
        assert await (await made.client()).exchange(data) == expected


@pytest.mark.parametrize(("error", "code"), DIALS, ids=[f"{e!r}" for e, _ in DIALS])
async def test_answer_names_the_cause(error: BaseException, code: int) -> None:
    async with bench() as made:
        made.net.fail = error
        assert await (await made.client()).exchange(HELLO + request("192.0.2.1", 0, RESOLVE_PTR)) == answer(code)


async def test_access_log() -> None:
    """As any other request: what was asked, and what came of it."""
    lines: list[tuple[str, object, str]] = []

    class Log:
        def __call__(self, client: object, outcome: str) -> None:
            lines.append((client.method, client.target, outcome))  # type: ignore[attr-defined]

    async with bench(access_log=Log()) as made:  # type: ignore[arg-type]
        names(made.net)
        await (await made.client()).exchange(HELLO + request(b"both.test", 0, RESOLVE))
        made.net.fail = NameServerFailed("x")
        await (await made.client()).exchange(HELLO + request("192.0.2.1", 0, RESOLVE_PTR))
    assert lines == [
        ("SOCKS5 RESOLVE", ("both.test", 0), "ok"),
        ("SOCKS5 RESOLVE_PTR", ("192.0.2.1", 0), "dns_error"),
    ]
