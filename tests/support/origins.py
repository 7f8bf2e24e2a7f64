"""Real web servers that write down what each request was to them: method, target, fields, body.

    python -m tests.support.origins KIND     its port on standard output, then a line of JSON per request in a file

`nginx` reads requests itself and hands them, in the plainest form there is, to a recorder behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

KINDS = ("nginx", "aiohttp", "gunicorn", "uvicorn-h11", "uvicorn-httptools")
# Those of framing are known by the body; those of the connection are each hop's own
HOPS = frozenset(["connection", "content-length", "transfer-encoding", "te", "upgrade", "keep-alive", "expect"])
PLAIN = re.compile("[0-9a-z-]+")  # nginx leaves out all other names; CGI's variables cannot tell `_` from `-`
RECORD = "USERNET_RECORD"

NGINX = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
    scgi_temp_path {dir}/s; large_client_header_buffers 4 64k; client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{recorder}; proxy_set_header Host $http_host; }}
    }}
}}
"""


class Seen(NamedTuple):
    """A request as an origin understood it.  `fields` by lower-case name, without those of each hop."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: str  # length and digest


def write(method: str, target: str, fields: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Put a request on record, and answer it."""
    joined: dict[str, str] = {}
    for name, value in fields:
        name = name.lower()
        if name not in HOPS and PLAIN.fullmatch(name):
            joined[name] = f"{joined[name]},{value.strip()}" if name in joined else value.strip()
    target = target.removesuffix("?")  # ASGI's scope cannot tell an empty query from none
    seen = Seen(method, target, tuple(sorted(joined.items())), f"{len(body)} {hashlib.sha256(body).hexdigest()[:16]}")
    descriptor = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(seen).encode() + b"\n")
    finally:
        os.close(descriptor)
    return b"seen\n"


def read(path: Path) -> list[Seen]:
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return [Seen(row[0], row[1], tuple((name, value) for name, value in row[2]), row[3]) for row in rows]


async def asgi(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return  # it never was a whole request
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    said = write(scope["method"], target.decode("latin-1"), fields, body)
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


def wsgi(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    body = environ["wsgi.input"].read()
    fields = [(name[5:].replace("_", "-"), value) for name, value in environ.items() if name.startswith("HTTP_")]
    if environ.get("CONTENT_TYPE"):
        fields.append(("content-type", environ["CONTENT_TYPE"]))
    said = write(environ["REQUEST_METHOD"], environ["RAW_URI"], fields, body)
    start("200 OK", [("Content-Length", str(len(said)))])
    return [said]


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def announced(sock: socket.socket) -> socket.socket:
    sock.listen(128)
    print(sock.getsockname()[1], flush=True)
    return sock


def serve_uvicorn(http: str) -> None:
    import uvicorn

    config = uvicorn.Config(asgi, http=http, lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
    asyncio.run(uvicorn.Server(config).serve(sockets=[announced(bound())]))


def serve_gunicorn() -> None:
    sock = announced(bound())
    sock.set_inheritable(True)
    options = f"--bind fd://{sock.fileno()} --worker-class gthread --threads 8 --keep-alive 5 --graceful-timeout 1"
    os.execv(
        sys.executable,
        [sys.executable, "-m", "gunicorn", *options.split(), "--log-level", "critical", "tests.support.origins:wsgi"],
    )


def serve_aiohttp() -> None:
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        return web.Response(body=write(request.method, request.raw_path, fields, body))

    async def run() -> None:
        server = web.Server(handle)
        async with await asyncio.get_running_loop().create_server(server, sock=announced(bound())) as listening:
            await listening.serve_forever()

    asyncio.run(run())


async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request as nginx says it: HTTP/1.0, and at most a Content-Length."""
    with contextlib.closing(writer):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target = lines[0].rsplit(" ", 1)[0].split(" ", 1)
        fields = [(name, value) for name, _, value in (line.partition(":") for line in lines[1:-2])]
        length = next((int(value) for name, value in fields if name.lower() == "content-length"), 0)
        said = write(method, target, fields, await reader.readexactly(length))
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
        await writer.drain()


def serve_nginx() -> None:
    folder = Path(os.environ[RECORD] + ".nginx")
    folder.mkdir()
    with bound() as sock:  # nginx binds by number: for a moment this port is nobody's
        port = sock.getsockname()[1]

    async def run() -> None:
        recorder = await asyncio.start_server(record, "127.0.0.1", 0, limit=1 << 20)
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(dir=folder, port=port, recorder=recorder.sockets[0].getsockname()[1]))
        nginx = await asyncio.create_subprocess_exec(shutil.which("nginx") or "nginx", "-c", str(config))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, nginx.terminate)
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                await asyncio.sleep(0.02)
            print(port, flush=True)
            await nginx.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                nginx.terminate()

    asyncio.run(run())


@contextlib.contextmanager
def origins(folder: Path, kinds: Iterable[str] = KINDS) -> Iterator[dict[str, int]]:
    """Their ports, while the block lasts.  After it each one's record is complete, in the folder under its name."""
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for kind in kinds:
            command = [sys.executable, "-m", "tests.support.origins", kind]
            environment = {**os.environ, RECORD: str(folder / kind)}
            running[kind] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        ports = {}
        for kind, process in running.items():
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"{kind} did not start"
            ports[kind] = int(line)
        yield ports
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            assert process.stdout is not None
            process.stdout.close()


if __name__ == "__main__":
    kind = sys.argv[1]
    if kind.startswith("uvicorn-"):
        serve_uvicorn(kind.removeprefix("uvicorn-"))
    else:
        {"nginx": serve_nginx, "gunicorn": serve_gunicorn, "aiohttp": serve_aiohttp}[kind]()
