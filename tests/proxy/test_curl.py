"""Real curl through the proxy to a real origin."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from proxy.auth import Users
from tests.proxy.support import Bench, bench
from tests.support.skipping import needs

SIZE = 5 << 20
CREDENTIALS = Users([("alice", "pa:ss")])


@pytest.fixture(autouse=True)
def has_curl() -> None:
    needs("curl")


@asynccontextmanager
async def origin(blob: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def get(_: web.Request) -> web.Response:
        return web.Response(body=blob)

    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for at in range(0, len(blob), 100_000):
            await response.write(blob[at : at + 100_000])
        return response

    async def digest(request: web.Request) -> web.Response:
        total = hashlib.sha256()
        async for piece in request.content.iter_any():
            total.update(piece)
        return web.Response(text=total.hexdigest())

    app = web.Application()
    app.add_routes(
        [web.get("/blob", get), web.get("/chunked", chunked), web.put("/blob", digest), web.post("/", digest)]
    )
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def curl(*arguments: str) -> tuple[int, bytes]:
    """Exit status and output."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "20", "--noproxy", "", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out or err


WAYS = [
    ("socks5", "127.0.0.1", ()),
    ("socks5h", "origin.test", ()),
    ("socks5h", "127.0.0.1", ()),
    ("http", "origin.test", ()),
    ("http", "127.0.0.1", ("-p",)),
    ("http", "origin.test", ("-p",)),
    ("http", "origin.test", ("--http1.0",)),
]


@pytest.mark.parametrize(("scheme", "host", "extra"), WAYS)
@pytest.mark.parametrize("login", [False, True])
async def test_down_and_up(scheme: str, host: str, extra: tuple[str, ...], login: bool, tmp_path: Path) -> None:
    blob = os.urandom(SIZE)
    (tmp_path / "blob").write_bytes(blob)
    async with origin(blob) as port, bench(credentials=CREDENTIALS if login else None) as made:
        who = "alice:pa%3Ass@" if login else ""
        proxy = ("--proxy", f"{scheme}://{who}127.0.0.1:{made.port}", *extra)
        for path in ("blob", "chunked"):
            assert await curl(*proxy, f"http://{host}:{port}/{path}") == (0, blob)
        expected = (0, hashlib.sha256(blob).hexdigest().encode())
        assert await curl(*proxy, "-T", str(tmp_path / "blob"), f"http://{host}:{port}/") == expected
        if "--http1.0" not in extra:
            chunked = ("-H", "Transfer-Encoding: chunked", "--data-binary", f"@{tmp_path / 'blob'}")
            assert await curl(*proxy, *chunked, f"http://{host}:{port}/") == expected
        assert await unhurried(made)


@pytest.mark.parametrize(
    ("flag", "host"), [("--socks4", "127.0.0.1"), ("--socks4a", "origin.test"), ("--socks4a", "127.0.0.1"),
                       ("--socks5", "127.0.0.1"), ("--socks5-hostname", "origin.test")]
)  # fmt: skip
async def test_socks(flag: str, host: str, tmp_path: Path) -> None:
    blob = os.urandom(SIZE)
    (tmp_path / "blob").write_bytes(blob)
    async with origin(blob) as port, bench() as made:
        proxy = (flag, f"127.0.0.1:{made.port}", "--proxy-user", "alice:pa:ss")  # offered, and nobody asks
        assert await curl(*proxy, f"http://{host}:{port}/blob") == (0, blob)
        expected = (0, hashlib.sha256(blob).hexdigest().encode())
        assert await curl(*proxy, "-T", str(tmp_path / "blob"), f"http://{host}:{port}/") == expected
        assert await unhurried(made)
        statistics = made.proxy.statistics()
        assert (statistics.socks4, statistics.socks5) == ((2, 0) if "4" in flag else (0, 2))


@pytest.mark.parametrize(("flag", "user", "code"), [
    ("--socks5", "alice:pa:ss", 0), ("--socks5-hostname", "alice:pa:ss", 0), ("--socks5", "alice:wrong", 97),
    ("--socks5", "", 97), ("--socks4", "alice:pa:ss", 97), ("--socks4a", "alice:pa:ss", 97),
])  # fmt: skip
async def test_socks_with_a_login(flag: str, user: str, code: int) -> None:
    async with origin(b"hello") as port, bench(credentials=CREDENTIALS) as made:
        extra = ("--proxy-user", user) if user else ()
        status, out = await curl(flag, f"127.0.0.1:{made.port}", *extra, f"http://127.0.0.1:{port}/blob")
        assert status == code, out
        assert len(made.net.dialled) == (code == 0)
        if "4" in flag:
            assert b"different user-ids" in out  # how curl words the reply 93


async def unhurried(made: Bench) -> bool:
    """curl has gone, so all of its connections end."""
    while made.proxy.statistics().connections:
        await asyncio.sleep(0.001)
    return True


async def test_reuse() -> None:
    """Several URLs by one curl: one connection to the proxy, one to the origin."""
    async with origin(b"hello") as port, bench() as made:
        url = f"http://origin.test:{port}/blob"
        assert await curl("--proxy", f"http://127.0.0.1:{made.port}", url, url, url) == (0, b"hello" * 3)
        assert made.proxy.statistics().accepted == 1
        assert len(made.net.dialled) == 1


@pytest.mark.parametrize(
    ("scheme", "code", "extra"), [("socks5h", 97, ()), ("http", 56, ("-p",)), ("http", 22, ("-f",))]
)
async def test_wrong_password(scheme: str, code: int, extra: tuple[str, ...]) -> None:
    async with origin(b"hello") as port, bench(credentials=CREDENTIALS) as made:
        proxy = f"{scheme}://alice:wrong@127.0.0.1:{made.port}"
        status, out = await curl("--proxy", proxy, *extra, f"http://origin.test:{port}/blob")
        assert status == code, out
        assert made.net.dialled == []


async def test_anyauth() -> None:
    """curl asks first without credentials, hears 407, and comes again."""
    async with origin(b"hello") as port, bench(credentials=CREDENTIALS) as made:
        proxy = ("--proxy", f"http://127.0.0.1:{made.port}", "--proxy-user", "alice:pa:ss", "--proxy-anyauth")
        for extra, connections in (((), 1), (("-p",), 3)):  # CONNECT's refusal ends its connection
            assert await curl(*proxy, *extra, f"http://origin.test:{port}/blob") == (0, b"hello")
            assert made.proxy.statistics().accepted == connections


async def test_parallel() -> None:
    blob = os.urandom(100_000)
    async with origin(blob) as port, bench() as made:
        url = f"http://origin.test:{port}/blob"
        for scheme in ("socks5h", "http"):
            arguments = [item for _ in range(40) for item in ("-o", "-", url)]
            status, out = await curl("-Z", "--parallel-max", "40", "--proxy", f"{scheme}://127.0.0.1:{made.port}",
                                     *arguments)  # fmt: skip
            assert status == 0, out[-200:]
            assert len(out) == 40 * len(blob)
