"""The demo's own client: HTTP/1.1 through a SOCKS5 proxy (RFC 1928) or an HTTP one, over the machine's own TCP.

It sends exactly what curl or a browser would, so that the demo goes the way its user will.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal

import h11

from usernet.errors import UsernetError

READ_BYTES = 1 << 20
TIMEOUT = 20.0  # s without any progress

Address = tuple[str, int]
Via = Literal["SOCKS5", "HTTP"]


class DemoError(UsernetError):
    """Something did not work; the text says what, fit for a person."""


async def request(
    via: Via,
    proxy: Address,
    host: str,
    target: str,
    *,
    body: Iterable[bytes] = (),
    length: int | None = None,
    sink: Callable[[bytes], object],
) -> None:
    """GET http://host/target, or PUT it where there is a `length`; the answer's body goes to `sink`, piece by piece.

    DemoError where the answer is not a 200, or stays away.
    """
    try:
        reader, writer = await asyncio.open_connection(*proxy, limit=READ_BYTES)
        try:
            if via == "SOCKS5":
                async with asyncio.timeout(TIMEOUT):
                    await _socks5_connect(reader, writer, host, 80)
            else:
                target = f"http://{host}{target}"  # RFC 9112 3.2.2, absolute-form
            await _exchange(reader, writer, host, target, body, length, sink)
        finally:
            writer.transport.abort()
    except TimeoutError:
        raise DemoError(f"through {via}: nothing came for {TIMEOUT:.0f} s") from None
    except (OSError, EOFError, h11.ProtocolError) as error:
        raise DemoError(f"through {via}: {error}") from error


async def _socks5_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """The proxy resolves the name, as it does for curl's socks5h://."""
    writer.write(b"\x05\x01\x00")
    if await reader.readexactly(2) != b"\x05\x00":
        raise DemoError("the SOCKS5 proxy wants credentials")
    name = host.encode("ascii")
    writer.write(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
    _, reply, _, kind = await reader.readexactly(4)
    if reply:
        raise DemoError(f"the SOCKS5 proxy refused {host}:{port} with reply {reply}")
    await reader.readexactly((16 if kind == 4 else 4) + 2)


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    target: str,
    body: Iterable[bytes],
    length: int | None,
    sink: Callable[[bytes], object],
) -> None:
    http = h11.Connection(h11.CLIENT)
    fields = [("Host", host), ("Connection", "close"), ("User-Agent", "usernet-demo")]
    if length is not None:
        fields.append(("Content-Length", str(length)))
    head = h11.Request(method="GET" if length is None else "PUT", target=target, headers=fields)
    writer.write(http.send(head) or b"")
    for piece in body:
        writer.write(http.send(h11.Data(data=piece)) or b"")
        async with asyncio.timeout(TIMEOUT):
            await writer.drain()
    writer.write(http.send(h11.EndOfMessage()) or b"")
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(TIMEOUT):  # wait_for of Python 3.11 loses a cancellation where data is there
                data = await reader.read(READ_BYTES)
            if not data:
                raise EOFError("the connection ended early")
            http.receive_data(data)
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise DemoError(f"{host}{target} answered {event.status_code} {event.reason.decode('ascii', 'replace')}")
        elif isinstance(event, h11.Data):
            sink(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return
