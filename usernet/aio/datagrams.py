"""UDP sockets of the userspace stack: asyncio's datagram transport, and an object to await on.

Both leave what has arrived in the socket's own bounded queue until it is wanted.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any, Protocol

from usernet.aio.addresses import SocketName, local_name, socket_address, socket_name
from usernet.aio.runtime import Waiters, boottime
from usernet.aio.userspace import UserspaceLink
from usernet.errors import NetworkClosed
from usernet.stack.udp import UdpSocket


class Check(Protocol):
    """Refuses an address that the tunnel does not carry, by raising NoRoute."""

    def __call__(self, address: bytes, host: str) -> None: ...


class DatagramTransport(asyncio.DatagramTransport):
    """One UDP socket.  Errors, ours and ICMP's, go to the protocol's error_received."""

    __slots__ = ("__weakref__", "_check", "_closing", "_link", "_loop", "_protocol", "_remote", "_socket")

    def __init__(
        self,
        link: UserspaceLink,
        socket: UdpSocket,
        protocol: asyncio.DatagramProtocol,
        remote: tuple[bytes, int] | None,
        check: Check,
    ) -> None:
        self._loop = link.loop
        self._link = link
        self._socket = socket
        self._protocol = protocol
        self._remote = remote
        self._check = check
        self._closing = False
        link.own(socket, self)

    def start(self) -> None:
        self._call(self._protocol.connection_made, self)

    def on_ready(self, readiness: int) -> None:
        socket = self._socket
        while not self._closing:
            if socket.error is not None:
                error, socket.error = socket.error, None
                self._call(self._protocol.error_received, error)
                continue
            received = socket.receive()
            if received is None:
                return
            data, (address, port) = received
            self._call(self._protocol.datagram_received, data, socket_name(address, port))

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        """As asyncio: a failure in these is reported, and the next datagram is another matter."""
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is
            message = f"protocol.{callback.__name__}() failed"
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._closing:
            return
        remote = self._remote
        if addr is not None:
            given = socket_address(addr)
            if remote is not None and given != remote:
                raise ValueError(f"Invalid address: must be None or {socket_name(*remote)}")
            remote = given
        if remote is None:
            raise ValueError("an address is needed: the socket is not connected")
        try:
            if addr is not None:
                self._check(remote[0], addr[0])
            self._socket.send(bytes(data), remote, boottime())
        except OSError as error:
            self._protocol.error_received(error)
            return
        self._link.wake()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sockname":
            return local_name(self._socket)
        if name == "peername":
            return default if self._remote is None else socket_name(*self._remote)
        return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._close(None)

    def _close(self, error: OSError | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._link.disown(self._socket)
        self._socket.close()
        self._loop.call_soon(self._call_connection_lost, error)

    def abort(self) -> None:
        self.close()

    def end(self, error: OSError) -> None:
        self._close(error)

    def get_write_buffer_size(self) -> int:
        return 0

    def _call_connection_lost(self, error: OSError | None) -> None:
        protocol, self._protocol = self._protocol, asyncio.DatagramProtocol()
        protocol.connection_lost(error)


class Datagrams:
    """A UDP socket to await on.  `async with` closes it."""

    __slots__ = ("_check", "_closed", "_is_over", "_link", "_remote", "_socket", "_waiters")

    def __init__(self, link: UserspaceLink, socket: UdpSocket, remote: tuple[bytes, int] | None, check: Check) -> None:
        self._link = link
        self._socket = socket
        self._remote = remote
        self._check = check
        self._closed = self._is_over = False
        self._waiters = Waiters()
        link.own(socket, self)

    @property
    def local_address(self) -> SocketName:
        return local_name(self._socket)

    def send(self, data: bytes | bytearray | memoryview, address: tuple[str, int] | None = None) -> None:
        """Send one datagram; never waits.  `address` only where the socket has no fixed remote one.  Raises OSError."""
        self._check_open()
        remote = self._remote
        if address is not None:
            remote = socket_address(address)
            self._check(remote[0], address[0])
        if remote is None:
            raise ValueError("an address is needed: the socket is not connected")
        self._socket.send(bytes(data), remote, boottime())
        self._link.wake()

    async def receive(self) -> tuple[bytes, SocketName]:
        """The next datagram and where it came from.  Raises what ICMP said of one of ours (ConnectionRefusedError)."""
        while True:
            self._check_open()
            if self._socket.error is not None:
                error, self._socket.error = self._socket.error, None
                try:
                    raise error
                finally:
                    del error  # or its traceback would hold, by this frame, the error
            received = self._socket.receive()
            if received is not None:
                data, (address, port) = received
                return data, socket_name(address, port)
            await self._waiters.wait()

    def on_ready(self, readiness: int) -> None:
        self._waiters.wake()

    def close(self) -> None:
        """Whoever waits in receive() gets an OSError."""
        if self._closed:
            return
        self._closed = True
        self._link.disown(self._socket)
        self._socket.close()
        self._waiters.wake()

    def is_closing(self) -> bool:
        return self._closed

    def end(self, error: OSError) -> None:
        """The network is closed."""
        self._is_over = True
        self.close()

    def _check_open(self) -> None:
        if self._is_over:
            raise NetworkClosed
        if self._closed:
            raise OSError(errno.EBADF, "the datagram socket is closed")

    async def __aenter__(self) -> Datagrams:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()
