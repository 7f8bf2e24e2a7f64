"""HTTP on the admin socket: by bytes, and by real curl."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.admin.protocol import LINE_MAX
from tests.admin.conftest import Admin, Caller, serving, until
from tests.support.skipping import needs


async def exchange(admin: Admin, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """A whole answer: status, fields, body."""
    async with Caller.at(admin.path) as caller:
        for piece in pieces:
            caller.writer.write(piece)
        return parsed(await caller.reader.read())


def parsed(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split()[1]), fields, body


def request(target: str, *fields: str, method: str = "GET", host: str = "localhost", body: str = "") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


async def test_a_value_and_a_text(admin: Admin) -> None:
    status, fields, body = await exchange(admin, request("/echo?peers&n=3&x=1.5&t=true&host=10.0.0.1&s=%22q%22&l=[1]"))
    assert (status, fields["content-type"], fields["connection"]) == (200, "application/json", "close")
    assert json.loads(body) == {
        "peers": True, "n": 3, "x": 1.5, "t": True, "host": "10.0.0.1", "s": '"q"', "l": "[1]"
    }  # fmt: skip
    status, fields, body = await exchange(admin, request("/ping", host="LocalHost"))
    assert (status, fields["content-type"], body) == (200, "text/plain; charset=utf-8", b"pong")
    status, _, body = await exchange(admin, b"GET /ping HTTP/1.0\r\n\r\n")
    assert (status, body) == (200, b"pong")


async def test_every_split_point(admin: Admin) -> None:
    admin.release.set()
    text = request("/change", method="POST", body='{"a": 1}')
    for at in range(1, len(text)):
        async with Caller.at(admin.path) as caller:
            caller.writer.write(text[:at])
            await asyncio.sleep(0)
            caller.writer.write(text[at:])
            status, _, body = parsed(await caller.reader.read())
            assert (status, body) == (200, b"changed")


async def test_what_changes_something_wants_post(admin: Admin) -> None:
    admin.release.set()
    status, fields, body = await exchange(admin, request("/change"))
    assert (status, fields["allow"]) == (405, "POST")
    assert json.loads(body) == {"error": {"code": "bad-method", "message": "change is asked for with POST"}}
    assert admin.ended == []
    status, _, body = await exchange(admin, request("/change", method="POST", body='{"a": 1}'))
    assert (status, body) == (200, b"changed")
    status, fields, _ = await exchange(admin, request("/ping", method="POST"))
    assert (status, fields["allow"]) == (405, "GET")
    status, fields, _ = await exchange(admin, request("/ping", method="OPTIONS"))
    assert status == 405


@pytest.mark.parametrize(
    ("field", "host"),
    [
        ("Origin: http://localhost", "localhost"),
        ("Origin: null", "localhost"),
        ("origin:", "localhost"),
        ("Referer: http://localhost/ping", "localhost"),
        ("X: y", "evil.example"),
        ("X: y", "localhost.evil.example"),
        ("X: y", "localhost:80"),
        ("X: y", "127.0.0.1"),
        ("X: y", ""),
    ],
)
async def test_what_a_browser_sends_is_refused(admin: Admin, field: str, host: str) -> None:
    for command, method in (("/wait", "GET"), ("/change", "POST"), ("/nosuch", "GET")):
        status, fields, body = await exchange(admin, request(command, field, host=host, method=method))
        assert status == 403
        assert json.loads(body)["error"]["code"] == "forbidden"
        assert "access-control-allow-origin" not in fields
    assert not admin.began.is_set()


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (request("/nosuch"), 404, "unknown-command"),
        (request("/"), 404, "unknown-command"),
        (request("/../ping"), 404, "unknown-command"),
        (request("/%FF"), 404, "unknown-command"),
        (request("http://localhost/ping"), 404, "unknown-command"),
        (request("*"), 404, "unknown-command"),
        (request("/bad?how=arguments"), 400, "bad-arguments"),
        (request("/bad?how=json"), 500, "failed"),
        (request("/bad"), 500, "failed"),
        (request("/echo?a=1&a=2"), 400, "bad-arguments"),
        (request("/change", method="POST", body="[1]"), 400, "bad-request"),
        (request("/change", method="POST", body="{"), 400, "bad-request"),
        (request("/change", method="POST", body=" " * LINE_MAX + " {}"), 413, "too-long"),
        (request("/ping", "X: " + "y" * 600_000), 413, "too-long"),
        (b"GET /ping HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"GET /ping HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "bad-request"),
        (b"GARBAGE\r\n\r\n", 400, "bad-request"),
    ],
)
async def test_errors(admin: Admin, data: bytes, status: int, code: str) -> None:
    found, fields, body = await exchange(admin, data)
    assert (found, fields["content-type"]) == (status, "application/json")
    assert json.loads(body)["error"]["code"] == code


async def test_too_late_and_not_whole(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.sock", seconds=0.05) as admin:
        status, _, body = await exchange(admin, b"GET /ping HTTP/1.1\r\n")
        assert (status, json.loads(body)["error"]["code"]) == (408, "timeout")
        async with Caller.at(admin.path) as caller:
            caller.writer.write(b"GET /ping HTTP/1.1\r\n")
            caller.writer.write_eof()
            assert parsed(await caller.reader.read())[0] == 400


async def test_a_stream_is_lines_in_chunks(admin: Admin) -> None:
    status, fields, body = await exchange(admin, request("/count?to=2"))
    assert (status, fields["content-type"], fields["transfer-encoding"]) == (200, "application/x-ndjson", "chunked")
    assert body == b"2\r\n0\n\r\n2\r\n1\n\r\n0\r\n\r\n"
    status, _, body = await exchange(admin, request("/count?to=1&fail"))
    assert b'{"error":{"code":"failed","message":"count: no more"}}' in body
    assert not body.endswith(b"0\r\n\r\n")  # so that nobody takes it for whole


async def test_a_client_that_leaves_a_stream(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        caller.writer.write(request("/count"))
        await caller.reader.readuntil(b"0\n")
    await admin.disconnected.wait()
    assert admin.ended == ["count"]


async def test_shutdown(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.sock") as admin, contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller.at(admin.path)) for _ in range(3)]
        for caller, text in zip(callers, [request("/count"), request("/wait"), b"GET /pi"], strict=True):
            caller.writer.write(text)
        watched = await callers[0].reader.readuntil(b"0\n")
        assert watched.startswith(b"HTTP/1.1 200 ")
        await admin.began.wait()
        await admin.close()
        rest = await callers[0].reader.read()
        assert rest.endswith(b'{"event":"system-shutdown"}\n\r\n0\r\n\r\n')
        for caller in callers[1:]:
            status, _, body = parsed(await caller.reader.read())
            assert (status, json.loads(body)) == (503, {"event": "system-shutdown"})


async def test_a_client_too_many(admin: Admin) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(16):
            await stack.enter_async_context(Caller.at(admin.path))
        status, _, body = await exchange(admin, request("/ping"))
        assert (status, json.loads(body)["error"]["code"]) == (503, "busy")


async def curl(admin: Admin, *arguments: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--fail-with-body", "--unix-socket", str(admin.path), *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode, out


async def test_curl(admin: Admin) -> None:
    needs("curl")
    admin.release.set()
    assert await curl(admin, "http://localhost/ping") == (0, b"pong")
    assert await curl(admin, "http://localhost/echo?a=b") == (0, b'{"a":"b"}\n')
    assert await curl(admin, "-d", "{}", "http://localhost/change") == (0, b"changed")
    waits = ["-d", "{}", "-H", "Expect: 100-continue", "--expect100-timeout", "50", "http://localhost/change"]
    assert await curl(admin, *waits) == (0, b"changed")
    assert await curl(admin, "http://localhost/count?to=3") == (0, b"0\n1\n2\n")
    assert (await curl(admin, "http://localhost/count?to=3&fail"))[0] == 18  # "partial file"
    assert (await curl(admin, "http://evil.example/ping"))[0] == 22
    assert (await curl(admin, "-e", "http://x/", "http://localhost/ping"))[0] == 22
    await until(lambda: admin._listener is not None and not admin._listener._sessions)
