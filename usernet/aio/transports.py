"""asyncio's stream transport over a connection of the userspace stack.

Read the documentation of asyncio.Transport: this keeps to it, and to what asyncio's own TCP transport does where that
is silent.  There is no kernel's send buffer here: what counts against the write limits are bytes not yet sent once.

The life of a transport: connection_made, then data_received (or get_buffer and buffer_updated) in the very turn that
brought the data, eof_received, and connection_lost exactly once, always from a fresh call of the loop.  While reading
is paused the data stays in the receive buffer and closes the window.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn, Protocol

from usernet.aio.addresses import socket_name
from usernet.aio.runtime import boottime, log
from usernet.aio.userspace import UserspaceLink
from usernet.tcp.connection import CLOSED, EOF, READABLE, WRITABLE, Connection
from usernet.wire.ip import format_address

READ_BYTES: Final = 256 << 10
HIGH_WATER: Final = 64 << 10
_WARN_AFTER: Final = 5  # writes to a lost connection, as asyncio does


class Attachable(Protocol):
    """What counts its open transports: a server."""

    def attach(self, transport: StreamTransport) -> None: ...

    def detach(self, transport: StreamTransport) -> None: ...


class StreamTransport(asyncio.Transport):
    """One connection.  Made with an established connection; `start` tells the protocol."""

    __slots__ = (
        "__weakref__", "_buffered", "_closing", "_connection", "_eof_received", "_eof_written", "_high", "_link",
        "_loop", "_lost", "_low", "_protocol", "_reading_paused", "_server", "_writing_paused",
    )  # fmt: skip

    _start_tls_compatible = True  # loop.start_tls() asks

    def __init__(
        self,
        link: UserspaceLink,
        connection: Connection,
        protocol: asyncio.BaseProtocol,
        server: Attachable | None = None,
    ) -> None:
        self._loop = link.loop
        self._link = link
        self._connection = connection
        self._server = server
        self._closing = False  # close() was called, or it is over
        self._lost = 0  # 1 once connection_lost is due; then it counts futile writes
        self._reading_paused = False
        self._writing_paused = False
        self._eof_received = False
        self._eof_written = False
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self.set_protocol(protocol)
        link.own(connection, self)
        if server is not None:
            server.attach(self)

    def start(self) -> None:
        """connection_made; what has arrived already follows in a call of its own."""
        self._call(self._protocol.connection_made, self)
        connection = self._connection
        connection.readiness = 0  # of before it was ours; what counts is looked at now
        if connection.readable_bytes or connection.at_eof or connection.error is not None:
            self._loop.call_soon(self._read_later)

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        flow = self._connection.flow
        return (
            f"<{type(self).__name__} {state} {format_address(flow.local)}:{flow.local_port} "
            f"to {format_address(flow.remote)}:{flow.remote_port}>"
        )

    # From the link

    def on_ready(self, readiness: int) -> None:
        if readiness & WRITABLE:
            self._on_writable()
        if readiness & (READABLE | EOF):
            self._read()
        if readiness & CLOSED:
            self._on_closed()

    def _on_writable(self) -> None:
        unsent = self._connection.unsent_bytes
        if self._writing_paused and unsent <= self._low:
            self._writing_paused = False
            self._call(self._protocol.resume_writing)
            unsent = self._connection.unsent_bytes  # it may have written
        if self._closing and not self._lost and not unsent:
            self._finish()

    def _on_closed(self) -> None:
        """The connection is over.  What came before that is still the protocol's, even if it reads no more just now."""
        error = self._connection.error
        if error is None:
            if self._closing and not self._lost:
                self._finish()
            return
        self._read()
        # Who waits to write waits for nothing now, and may not read on before it has written
        if self._closing or self._writing_paused or not (self._reading_paused and self._connection.readable_bytes):
            self._force_close(error)

    def _read(self) -> None:
        connection = self._connection
        if self._reading_paused or self._closing:
            return
        took = False
        while connection.readable_bytes:
            took = True
            if not (self._hand_buffer(connection) if self._buffered else self._hand_bytes(connection)):
                break
            if not self.is_reading():
                break
        if took and connection.wants_to_send:  # a window to offer: all else is told by who did it
            self._link.changed(connection)
        if connection.readable_bytes or self._reading_paused or self._closing or self._eof_received:
            return
        if connection.at_eof:
            self._on_eof()

    def _hand_bytes(self, connection: Connection) -> bool:
        data = connection.read(READ_BYTES)
        try:
            self._protocol.data_received(data)  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio: a protocol's failure ends its connection only
            self._fatal(error, "protocol.data_received() call failed.")
            return False
        return True

    def _hand_buffer(self, connection: Connection) -> bool:
        try:
            buffer = memoryview(self._protocol.get_buffer(-1)).cast("B")  # type: ignore[attr-defined]
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            data = connection.read(len(buffer))
            buffer[: len(data)] = data
            del buffer
            self._protocol.buffer_updated(len(data))  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            self._fatal(error, "protocol.get_buffer() or buffer_updated() call failed.")
            return False
        return True

    def _read_later(self) -> None:
        if self._lost:
            return
        self._read()
        if not self._lost and self._connection.error is not None:
            self._on_closed()

    def _on_eof(self) -> None:
        self._eof_received = True
        try:
            keep_open = self._protocol.eof_received()  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            self._fatal(error, "protocol.eof_received() call failed.")
            return
        if not keep_open:
            self.close()

    @property
    def _sendfile_compatible(self) -> NoReturn:
        """loop.sendfile() asks.  The error is uvloop's, after which aiohttp reads and writes itself.

        asyncio's own fallback is for heirs of a private class of it, and a RuntimeError is what nobody expects.
        """
        raise NotImplementedError("there is no socket here to send a file to")

    # asyncio.BaseTransport

    def get_extra_info(self, name: object, default: Any = None) -> Any:  # compiled, a str would be insisted upon
        flow = self._connection.flow
        if name == "peername":
            return socket_name(flow.remote, flow.remote_port)
        if name == "sockname":
            return socket_name(flow.local, flow.local_port)
        if name == "tcp_info":
            return self._connection.statistics()
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        if self._connection.error is not None:  # as in write(); what is unsent never will be
            self._force_close(self._connection.error)
            return
        self._closing = True
        if self._connection.unsent_bytes:
            self._connection.abandon(boottime())
        else:
            self._finish()

    # asyncio.ReadTransport

    def is_reading(self) -> bool:
        return not self._closing and not self._reading_paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._reading_paused = True

    def resume_reading(self) -> None:
        if self._closing or not self._reading_paused:
            return
        self._reading_paused = False
        connection = self._connection
        if connection.readable_bytes or connection.at_eof or connection.error is not None:
            self._loop.call_soon(self._read_later)

    # asyncio.WriteTransport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data:
            return
        connection = self._connection
        if self._lost:
            self._lost += 1
            if self._lost > _WARN_AFTER:
                log.warning("write to a lost connection")
            return
        if connection.error is not None:  # dead, but reading is paused with data left
            self._force_close(connection.error)
            return
        connection.write(data)
        self._link.changed(connection)
        if connection.unsent_bytes > self._high and not self._writing_paused:
            self._pause_protocol()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in [_as_bytes(data) for data in list_of_data]:  # all or nothing
            self.write(data)

    def write_eof(self) -> None:
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._connection.shutdown_write(boottime())
        self._link.changed(self._connection)

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self._force_close(None)

    def get_write_buffer_size(self) -> int:
        return 0 if self._lost else self._connection.unsent_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        if self.get_write_buffer_size() > high and not self._writing_paused:
            self._pause_protocol()

    # The end

    def end(self, error: OSError) -> None:
        """The network is closed."""
        self._force_close(error)

    def _pause_protocol(self) -> None:
        self._writing_paused = True
        self._call(self._protocol.pause_writing)

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        """As asyncio: a failure in these is reported, and the connection goes on."""
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is
            self._report(error, f"protocol.{callback.__name__}() failed")

    def _finish(self) -> None:
        """All was sent once: the connection ends by itself now."""
        self._connection.close(boottime())
        self._lose(None)

    def _fatal(self, error: BaseException, message: str) -> None:
        if not isinstance(error, OSError):
            self._report(error, f"Fatal error: {message}")
        self._force_close(error)

    def _report(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _force_close(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = True
        self._connection.abort(boottime())
        self._lose(error)

    def _lose(self, error: BaseException | None) -> None:
        self._lost = 1
        self._link.changed(self._connection)
        self._link.disown(self._connection)
        self._loop.call_soon(self._call_connection_lost, error)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        server, self._server = self._server, None
        try:
            self._protocol.connection_lost(error)  # type: ignore[arg-type]
        finally:
            self._protocol = _NOBODY  # the protocol holds the transport: leave no cycle
            if server is not None:
                server.detach(self)


def _as_bytes(data: object) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return bytes(data)


_NOBODY: Final = asyncio.BaseProtocol()
