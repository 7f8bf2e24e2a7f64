"""TLS to a client: handshake, then a transport over the transport (RFC 8446, RFC 5246).

asyncio's own TLS does not do: it cannot be handed bytes that were read already, as a sniffed hello's are, and it has no
half-close.  So OpenSSL works in memory here.  The way of a connection: mux.Sniffer -> `Handshake` -> `TlsTransport`,
which looks to the protocol above it like any other transport.

Ends: `write_eof` says close_notify, and reading goes on (RFC 8446 section 6.1); the client's close_notify is
`eof_received`.  A TCP end without one could be anybody's, so it counts as a reset.  Backpressure is that of the
transport below: nothing is buffered on the way down, and on the way up no more than one read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast

from proxy.certificate import Certificate
from proxy.client import Client
from proxy.session import Context, log, say_farewell
from usernet.aio.relay import LINGER_ZERO

RECORD = 16 << 10  # B; whoever reads as much at once leaves nothing of a record behind (RFC 8446 section 5.1)
READ = 64 << 10  # B from the transport below; OpenSSL's memory grows to the most it ever held
WRITE = 64 << 10

Above = Callable[[], asyncio.Protocol]


class Handshake(asyncio.Protocol):
    """Until it is complete."""

    __slots__ = ("_above", "_context", "_incoming", "_outgoing", "_ssl", "_transport", "client", "idle")

    def __init__(self, context: Context, client: Client, above: Above, transport: asyncio.Transport) -> None:
        """`client.terms` have a certificate."""
        certificate = cast(Certificate, client.terms.certificate)
        self._above = above
        self.client = client
        self._context = context
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = certificate.context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.idle = 0
        context.sessions.add(self)
        context.begin_handshake(self)
        context.deadlines.start(self, context.limits.handshake_timeout)
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.write(self._outgoing.read())
        except ssl.SSLError as error:
            self._context.counters.refuse("tls-handshake")
            log.debug("a TLS handshake failed: %s", error.reason)
            self._leave()
            say_farewell(self._context, self, self.client, self._transport, self._outgoing.read())  # an alert
        else:
            self._leave()
            tls = TlsTransport(self._context, self._transport, self._ssl, self._incoming, self._outgoing)
            tls.begin(self._above())

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._context.left(self, self.client)

    def expired(self) -> None:
        self._context.counters.refuse("handshake-timeout")
        self._transport.close()

    def drain(self) -> None:
        """Its request is on the way, or its deadline."""

    def abort(self) -> None:
        self._transport.abort()

    def _leave(self) -> None:
        self._context.deadlines.stop(self)
        self._context.handshakes.pop(self, None)
        self._context.sessions.discard(self)


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """A transport to the protocol above, and a protocol to the transport below."""

    __slots__ = (
        "_below", "_closing", "_context", "_cut", "_ended", "_error", "_incoming", "_outgoing", "_paused", "_protocol",
        "_ssl", "_written",
    )  # fmt: skip

    _protocol: asyncio.BaseProtocol

    def __init__(
        self,
        context: Context,
        below: asyncio.Transport,
        established: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        super().__init__()
        self._below = below
        self._context = context
        self._ssl = established
        self._incoming = incoming
        self._outgoing = outgoing
        self._closing = False
        self._paused = False
        self._ended = False  # the client's close_notify has come
        self._cut = False  # so has the end of its TCP
        self._written = False  # our close_notify is
        self._error: Exception | None = None

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Take over from the handshake, with what the client has said since."""
        self._flush()
        self._protocol = protocol
        self._below.set_protocol(self)
        protocol.connection_made(self)
        self._deliver()

    # -- to the transport below: asyncio.BufferedProtocol --

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._context.scratch[:READ]

    def buffer_updated(self, nbytes: int) -> None:
        if not self._ended:  # RFC 8446 section 6.1: what follows close_notify is ignored
            self._incoming.write(self._context.scratch[:nbytes])
            self._deliver()

    def eof_received(self) -> bool:
        self._cut = True
        self._deliver()
        return True

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._protocol.connection_lost(exc or self._error)

    # -- reading --

    def _deliver(self) -> None:
        """Decrypt what there is, and hand it up.  The protocol may pause, close or be replaced with every piece."""
        try:
            while not (self._paused or self._closing or self._ended):
                if not self._hand_up(self._protocol):
                    self._end()
        except ssl.SSLWantReadError:
            if self._cut:
                self._fail(ConnectionResetError("the end of TCP came without close_notify"))
        except ssl.SSLZeroReturnError:  # close_notify, after our own
            self._end()
        except ssl.SSLError as error:
            log.debug("a TLS connection broke: %s", error.reason)
            self._fail(ConnectionAbortedError("broken TLS"))
        self._flush()  # a KeyUpdate has its answer (RFC 8446 section 4.6.3)

    def _hand_up(self, protocol: asyncio.BaseProtocol) -> bool:
        """One record's content.  False where it is the end."""
        if isinstance(protocol, asyncio.BufferedProtocol):
            buffer = cast(memoryview, protocol.get_buffer(-1))
            count = cast(int, self._ssl.read(len(buffer), buffer))  # a number, because there is a buffer
            if count:
                protocol.buffer_updated(count)
            return bool(count)
        data = self._ssl.read(RECORD)
        if data:
            protocol.data_received(data)  # type: ignore[attr-defined]
        return bool(data)

    def _end(self) -> None:
        self._ended = True
        if not self._protocol.eof_received():  # type: ignore[attr-defined]
            self.close()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._flush()
        self.abort()

    def pause_reading(self) -> None:
        self._paused = True
        self._below.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if not self._cut:
            self._below.resume_reading()
        if self._cut or self._incoming.pending or self._ssl.pending():
            self._context.loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return not (self._paused or self._closing or self._ended)

    # -- writing --

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._written and not self._closing:
            raise RuntimeError("write after write_eof")
        view = memoryview(data)
        while view and not self.is_closing():
            try:
                count = self._ssl.write(view[:WRITE])
            except ssl.SSLError as error:
                log.debug("a TLS connection broke: %s", error.reason)
                self._fail(ConnectionAbortedError("broken TLS"))
                return
            view = view[count:]
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._written or self.is_closing()):
            self._say_close_notify()
            self._below.write_eof()

    def close(self) -> None:
        if self._closing:
            return
        if not self._written and not self._is_reset():
            self._say_close_notify()
        self._closing = True
        self._below.close()

    def abort(self) -> None:
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        return self._closing or self._below.is_closing()

    def _say_close_notify(self) -> None:
        """SSLObject.unwrap would read on, and data after our close_notify would break it: so it sees none."""
        self._written = True
        unread = self._incoming.read()
        with contextlib.suppress(ssl.SSLError):  # the client's has not come yet, and need not
            self._ssl.unwrap()
        self._incoming.write(unread)
        self._flush()

    def _is_reset(self) -> bool:
        """Whether the end is to be a reset, which must not look like a clean one (usernet/aio/relay.py)."""
        sock = self._below.get_extra_info("socket")
        try:
            return sock is not None and sock.getsockopt(SOL_SOCKET, SO_LINGER, len(LINGER_ZERO)) == LINGER_ZERO
        except OSError:
            return True

    def _flush(self) -> None:
        if self._outgoing.pending and not self._below.is_closing():
            self._below.write(self._outgoing.read())

    # -- the rest of asyncio.Transport --

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._ssl if name == "ssl_object" else self._below.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._below.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)
