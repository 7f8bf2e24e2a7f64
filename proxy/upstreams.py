"""Upstream proxies as routes: a connection by another proxy, which is itself reached through the tunnel or directly.

SOCKS is python-socks'; HTTP CONNECT is spoken here (RFC 9110 section 9.3.6).  Either way no byte behind the upstream's
answer is read before the connection has its user: a far end that speaks first loses nothing.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from proxy.http.head import MAX_HEAD, HeadError, parse_response
from proxy.names import authority, parse_address
from proxy.policy import Forbidden
from proxy.routes import Net, Route, UpstreamFailed
from usernet.config import Upstream
from usernet.errors import HostUnreachable, NetworkUnreachable

HEAD_END = b"\r\n\r\n"


class Exact(asyncio.BufferedProtocol):
    """A connection of which exactly as much is read as is asked for.  Also the stream that python-socks wants.

    A fresh one may be a byte ahead: uvloop begins to read behind connection_made, whatever that has paused.
    """

    __slots__ = ("_error", "_filled", "_into", "_waiter", "transport")

    def __init__(self) -> None:
        self._expect(1)
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    # -- asyncio.BufferedProtocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._into[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == len(self._into):
            self.transport.pause_reading()
            self._wake()

    def eof_received(self) -> bool:
        self._error = UpstreamFailed("the upstream proxy ended the connection")
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = self._error or UpstreamFailed("the upstream proxy reset the connection")
        self._wake()

    def _expect(self, count: int, ahead: bytes = b"") -> None:
        """The next bytes, of which some may be there."""
        self._into, self._filled = memoryview(bytearray(ahead.ljust(count, b"\0"))), len(ahead)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- python_socks' stream --

    async def write(self, data: bytes) -> None:
        """Raises UpstreamFailed where the connection has ended."""
        if self._error is not None:
            raise self._error
        self.transport.write(data)

    async def read_exactly(self, count: int) -> bytes:
        """Raises UpstreamFailed where the connection ends before."""
        if not count:
            return b""
        self._expect(count, bytes(self._into[: self._filled]))
        if self._filled < count and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            self.transport.resume_reading()
            await self._waiter
        if self._filled < count:
            raise self._error or UpstreamFailed("the upstream proxy ended the connection")
        data = bytes(self._into)
        self._expect(1)
        return data

    async def close(self) -> None:
        self.transport.abort()


class UpstreamNet:
    """`base` is how the upstream itself is reached."""

    def __init__(self, upstream: Upstream, base: Net) -> None:
        self._upstream = upstream
        self._base = base

    async def resolve(self, name: str) -> Sequence[str]:
        raise UpstreamFailed("names are the upstream proxy's to resolve")

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        """Raises UpstreamFailed, or what the upstream says of the destination."""
        speak = self._http if self._upstream.scheme == "http" else self._socks
        stream = await speak(host, port)
        protocol = protocol_factory()
        stream.transport.set_protocol(protocol)
        protocol.connection_made(stream.transport)
        return stream.transport, protocol

    async def connect(self, dest_host: str, dest_port: int) -> Exact:
        """A connection to the upstream itself.  By this name python-socks asks for it."""
        error: OSError | None = None
        try:
            addresses = [dest_host] if parse_address(dest_host) else await self._base.resolve(dest_host)
        except OSError as cause:
            raise UpstreamFailed(f"the upstream proxy's name does not resolve: {cause.strerror}") from cause
        for address in addresses:
            try:
                _, stream = await self._base.create_connection(Exact, address, dest_port)
            except OSError as cause:
                error = cause
            else:
                return cast(Exact, stream)
        raise UpstreamFailed(f"the upstream proxy cannot be reached: {error.strerror if error else 'no address'}")

    async def _socks(self, host: str, port: int) -> Exact:
        from python_socks import ProxyError, ProxyType  # only where there is such an upstream
        from python_socks.async_.asyncio.v2 import Proxy

        upstream = self._upstream
        kind = ProxyType.SOCKS4 if upstream.scheme == "socks4" else ProxyType.SOCKS5
        # rdns: SOCKS4 would else ask the host's resolver, beside the tunnel
        proxy = Proxy(
            kind, *upstream.address, upstream.username, upstream.password, rdns=True, forward=cast(Proxy, self)
        )
        try:
            return cast(Exact, await proxy.connect(host, port))
        except ProxyError as error:
            raise _socks_cause(kind == ProxyType.SOCKS5, error.error_code) from error
        except (UnicodeError, AssertionError, ValueError, IndexError) as error:  # an answer that is none
            raise UpstreamFailed("the upstream proxy does not speak SOCKS") from error

    async def _http(self, host: str, port: int) -> Exact:
        upstream = self._upstream
        stream = await self.connect(*upstream.address)
        try:
            where = authority(host, port)
            lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
            if upstream.username is not None:
                login = base64.b64encode(f"{upstream.username}:{upstream.password or ''}".encode()).decode()
                lines.append(f"Proxy-Authorization: Basic {login}")
            await stream.write("\r\n".join([*lines, "", ""]).encode())
            while True:
                try:
                    status = parse_response(await read_head(stream)).status
                except HeadError as error:
                    raise UpstreamFailed("the upstream proxy does not speak HTTP/1.1") from error
                if status >= 300:
                    raise _http_cause(status)
                if status >= 200:
                    return stream
        except BaseException:
            stream.transport.abort()
            raise


async def read_head(stream: Exact) -> bytes:
    """A head, and not a byte behind it: as many bytes at a time as its end is away at least."""
    head = b""
    while len(head) < MAX_HEAD:
        matched = next(count for count in (4, 3, 2, 1, 0) if head.endswith(HEAD_END[:count]))
        if matched == 4:
            return head
        head += await stream.read_exactly(4 - matched)
    raise HeadError(502, "the head is larger than 64 KiB")


def _socks_cause(fifth: bool, code: int | None) -> OSError:
    """What a SOCKS5 reply means (RFC 1928 section 6)."""
    if fifth:
        if code == 2:
            return Forbidden("the upstream proxy forbids the destination")
        if code == 3:
            return NetworkUnreachable("the upstream proxy finds the network unreachable")
        if code == 4:
            return HostUnreachable("the upstream proxy finds the host unreachable")
        if code == 5:
            return ConnectionRefusedError("the destination refused the upstream proxy")
        if code == 6:
            return TimeoutError("the upstream proxy got no answer in time")
    return UpstreamFailed("the upstream proxy refused")


def _http_cause(status: int) -> OSError:
    if status == 403:
        return Forbidden("the upstream proxy forbids the destination")
    if status == 504:
        return TimeoutError("the upstream proxy got no answer in time")
    if status == 407:
        return UpstreamFailed("the upstream proxy wants another user or password")
    return UpstreamFailed(f"the upstream proxy answered {status}")


def upstream_routes(upstreams: Sequence[Upstream], nets: Mapping[str, Net]) -> dict[str, Route]:
    """`nets`: "tunnel" and "direct"."""
    return {one.name: Route(one.name, UpstreamNet(one, nets[one.through]), takes_names=True) for one in upstreams}
