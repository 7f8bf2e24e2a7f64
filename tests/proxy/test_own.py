"""The proxy's own pages: to whom they are shown, and how."""

from __future__ import annotations

import asyncio
import json
import re
from typing import cast

import pytest

from proxy.accesslog import AccessLog
from proxy.auth import Users
from proxy.certificate import Certificate
from proxy.client import Client, Terms
from proxy.http.head import parse_request
from proxy.http.own import Content, OwnPages, Page, Visit
from tests.proxy.support import Bench, bench
from tests.proxy.test_curl import origin
from tests.proxy.test_tls import connected
from tests.support.certificates import Authority
from usernet.aio.relay import reset


async def slow(visit: Visit) -> Content:
    await asyncio.sleep(0)
    return Content("text/x-test", b"not yet", 503)


async def broken(visit: Visit) -> Content:
    raise ValueError("secret")


def page(visit: Visit) -> Content:
    return Content("text/x-test", f"{visit.host} {visit.authority} {visit.secure}".encode())


PAGES = OwnPages({b"/page": page, b"/slow": slow, b"/broken": broken}, ["proxy.example", "wpad"])


async def ask(made: Bench, line: str, host: str | None, *fields: str) -> tuple[int, bytes, bytes]:
    """Status, head and body."""
    lines = [line, *([] if host is None else [f"Host: {host}"]), *fields, "Connection: close"]
    heard = await (await made.client()).exchange(("\r\n".join(lines) + "\r\n\r\n").encode())
    head, _, body = heard.partition(b"\r\n\r\n")
    return int(head[9:12]), head, body


async def test_who_names_the_proxy_rightly() -> None:
    async with bench(pages=PAGES) as made:
        for host, said in (
            (f"127.0.0.1:{made.port}", f"127.0.0.1 127.0.0.1:{made.port} False"),
            (f"LocalHost:{made.port}", f"localhost localhost:{made.port} False"),
            ("proxy.example", "proxy.example proxy.example:80 False"),
            ("Proxy.Example:8080", "proxy.example proxy.example:8080 False"),  # a forwarded port
            ("wpad", "wpad wpad:80 False"),
        ):
            assert (await ask(made, "GET /page HTTP/1.1", host))[::2] == (200, said.encode())


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.2:PORT", "[::1]:PORT", "127.0.0.1.:PORT", "x.wpad", "wpad.",
     "evil.example:PORT", "localhost", "127.0.0.1:PORT@x", "0x7f000001:PORT", "2130706433:PORT", "0.0.0.0:PORT", ""],
)  # fmt: skip
async def test_who_does_not(host: str) -> None:
    """The same answer as for any path of no origin."""
    async with bench(pages=PAGES) as made:
        named = host.replace("PORT", str(made.port))
        status, _, body = await ask(made, "GET /page HTTP/1.1", named)
        assert status == 400
        assert body == (await ask(made, "GET /other HTTP/1.1", named))[2]
        assert b"/page" not in body


@pytest.mark.parametrize(
    "line",
    ["POST /page HTTP/1.1", "OPTIONS /page HTTP/1.1", "GET /pag HTTP/1.1", "GET /page/ HTTP/1.1", "GET //page HTTP/1.1",
     "GET /PAGE HTTP/1.1", "GET * HTTP/1.1", "GET page HTTP/1.1"],
)  # fmt: skip
async def test_other_requests_are_no_different_from_before(line: str) -> None:
    async with bench(pages=PAGES) as made:
        assert (await ask(made, line, f"127.0.0.1:{made.port}"))[0] == 400
        assert made.net.dialled == []


async def test_without_pages() -> None:
    async with bench() as made:
        assert (await ask(made, "GET /page HTTP/1.1", f"127.0.0.1:{made.port}"))[0] == 400


async def test_no_host_no_page() -> None:
    async with bench(pages=PAGES) as made:
        assert (await ask(made, "GET /page HTTP/1.0", None))[0] == 400


async def test_no_login_is_asked() -> None:
    async with bench(pages=PAGES, credentials=Users([("me", "secret")])) as made:
        host = f"127.0.0.1:{made.port}"
        assert (await ask(made, "GET /page HTTP/1.1", host))[0] == 200
        assert (await ask(made, "GET /other HTTP/1.1", host))[0] == 400
        assert (await ask(made, "GET /page HTTP/1.1", "evil.example"))[0] == 400
        assert (await ask(made, "GET http://127.0.0.1/page HTTP/1.1", host))[0] == 407


@pytest.mark.parametrize("asked", [False, True])
async def test_who_takes_it_for_a_web_site_is_told_what_it_is(asked: bool) -> None:
    pages = OwnPages({b"/proxy.pac": lambda visit: Content("text/x-test", b"")})
    users = Users([("me", "secret")]) if asked else None
    for given, script in ((pages, True), (None, False)):
        async with bench(pages=given, credentials=users) as made:
            url = f"http://127.0.0.1:{made.port}"
            for line in ("GET / HTTP/1.1", "POST /index.html HTTP/1.1"):
                status, head, body = await ask(made, line, f"127.0.0.1:{made.port}")
                assert status == 400
                assert b'details="this is a proxy and not a web site"' in head
                assert f"curl -x {url} http://example.org/".encode() in body
                assert b"SOCKS5 at the same address" in body
                assert (f"{url}/proxy.pac".encode() in body) is script
            _, _, body = await ask(made, "GET / HTTP/1.1", "proxy.example:80")
            assert b"curl -x http://proxy.example:80 " in body
            assert b"proxy.pac" not in body, "it would not be given to who calls us so"
            _, _, body = await ask(made, "GET / HTTP/1.0", None)
            assert f"curl -x {url} ".encode() in body


async def test_head_and_query() -> None:
    async with bench(pages=PAGES) as made:
        host = f"127.0.0.1:{made.port}"
        _, head, body = await ask(made, "GET /page?x=/y HTTP/1.1", host)
        assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(body)  # type: ignore[index]
        for field in (b"Content-Type: text/x-test", b"Cache-Control: no-cache", b"Connection: close"):
            assert field in head
        for field in (b"X-Content-Type-Options: nosniff", b"Cross-Origin-Resource-Policy: same-origin"):
            assert field in head  # a script of another site cannot include it
        assert await ask(made, "HEAD /page HTTP/1.1", host) == (200, head, b"")


async def test_a_page_that_takes_its_time_and_is_not_well() -> None:
    async with bench(pages=PAGES) as made:
        host = f"127.0.0.1:{made.port}"
        status, head, body = await ask(made, "GET /slow HTTP/1.1", host)
        assert (status, body) == (503, b"not yet\n")
        assert b"ETag" not in head
        assert (await ask(made, "HEAD /slow HTTP/1.1", host))[::2] == (503, b"")


async def test_a_page_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(pages=PAGES) as made:
        status, _, body = await ask(made, "GET /broken HTTP/1.1", f"127.0.0.1:{made.port}")
        assert status == 500
        assert b"secret" not in body
    assert "a page of the proxy's own failed" in caplog.text


async def test_who_leaves_before_the_page_is_there() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def never(visit: Visit) -> Content:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with bench(pages=OwnPages({b"/never": never})) as made:
        client = await made.client()
        await client.send(f"GET /never HTTP/1.1\r\nHost: 127.0.0.1:{made.port}\r\n\r\n".encode())
        await begun.wait()
        reset(cast(asyncio.Transport, client.writer.transport), at_once=True)
        await ended.wait()


async def test_etag() -> None:
    async with bench(pages=PAGES) as made:
        host = f"127.0.0.1:{made.port}"
        _, head, body = await ask(made, "GET /page HTTP/1.1", host)
        tag = re.search(r'ETag: ("[0-9a-f]+")', head.decode())[1]  # type: ignore[index]
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            status, head, empty = await ask(made, "GET /page HTTP/1.1", host, f"If-None-Match: {known}")
            assert (status, empty) == (304, b"")
            assert tag.encode() in head
        assert (await ask(made, "GET /page HTTP/1.1", host, 'If-None-Match: "x"'))[::2] == (200, body)
        localhost = await ask(made, "GET /page HTTP/1.1", f"localhost:{made.port}", f"If-None-Match: {tag}")
        assert localhost[0] == 200  # another address, another page


async def test_split_anywhere() -> None:
    async with bench(pages=PAGES) as made:
        words = f"GET /page HTTP/1.1\r\nHost: 127.0.0.1:{made.port}\r\n\r\n".encode()
        whole = await (await made.client()).exchange(words)
        for cut in range(1, len(words), 7):
            assert await (await made.client()).exchange(words, cuts=[cut]) == whole


async def test_after_a_forwarded_request() -> None:
    """On a connection that is kept alive, too."""
    async with origin(b"blob") as port, bench(pages=PAGES) as made:
        client = await made.client()
        await client.send(b"GET http://origin.test:%d/blob HTTP/1.1\r\nHost: x\r\n\r\n" % port)
        assert b"Content-Length: 4" in await client.head()
        await client.expect(b"blob")
        await client.send(f"HEAD /page HTTP/1.1\r\nHost: 127.0.0.1:{made.port}\r\n\r\n".encode())
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


async def test_inside_tls(authority: Authority, certificate: Certificate) -> None:
    async with bench(pages=PAGES, certificate=certificate) as made:
        for host in (f"127.0.0.1:{made.port}", "wpad"):
            client = await connected(made, authority)
            await client.send(f"GET /page HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            said = (await client.rest()).partition(b"\r\n\r\n")[2].decode()
            assert said == f"{host.partition(':')[0]} {host if ':' in host else host + ':443'} True"


def test_ipv6() -> None:
    head = parse_request(b"GET /page HTTP/1.1\r\nHost: [0:0::1]:5\r\n\r\n")
    client = Client(Terms(), "::1", 9, None)
    answer = PAGES.answer(head, ("::1", 5), False, client)
    assert isinstance(answer, bytes)
    assert answer.endswith(b"\r\n\r\n::1 [::1]:5 False")
    assert PAGES.answer(head, ("::2", 5), False, client) is None


async def test_the_access_log_has_pages_and_no_probes() -> None:
    lines: list[str] = []
    table: dict[bytes, Page] = {b"/page": page, b"/slow": slow, b"/broken": broken}
    pages = OwnPages(table, ["proxy.example"], {b"/ready": slow, b"/alive": page})
    async with bench(pages=pages, access_log=AccessLog(lines.append, as_json=True)) as made:
        own = f"127.0.0.1:{made.port}"
        _, head, body = await ask(made, "GET /page?secret=1 HTTP/1.1", own)
        tag = re.search(r'ETag: ("[0-9a-f]+")', head.decode())[1]  # type: ignore[index]
        assert (await ask(made, "GET /page HTTP/1.1", own, f"If-None-Match: {tag}"))[0] == 304
        _, alone, _ = await ask(made, "HEAD /page HTTP/1.1", "proxy.example")
        await ask(made, "GET /slow HTTP/1.1", own)
        await ask(made, "GET /broken HTTP/1.1", own)
        for path, host, status in (("ready", own, 503), ("alive", own, 200), ("page", "evil.example", 400)):
            assert (await ask(made, f"GET /{path} HTTP/1.1", host))[0] == status
    size = len(head) + len(b"\r\n\r\n") + len(body)
    keys = ("method", "destination", "route", "outcome")
    assert [tuple(json.loads(line)[key] for key in keys) for line in lines] == [
        ("GET", own, "/page", "200"),
        ("GET", own, "/page", "304"),
        ("HEAD", "proxy.example:80", "/page", "200"),
        ("GET", own, "/slow", "503"),
        ("GET", own, "/broken", "500"),
        ("GET", None, None, "400"),
    ]
    assert [json.loads(lines[at])["bytes_down"] for at in (0, 2)] == [size, len(alone) + len(b"\r\n\r\n")]
    assert "secret" not in "".join(lines)
