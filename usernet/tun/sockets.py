"""Sockets of the kernel's that speak through one interface only, whatever the routes are."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import Any, Final

from usernet.aio.addresses import SocketName, socket_address
from usernet.aio.runtime import Waiters
from usernet.burst.packets import Drops

KEEPALIVE_IDLE: Final = 7200  # s; as the userspace stack does it
RECEIVED_MAX: Final = 256  # datagrams that wait to be received
ECHO_BYTES: Final = 56
_ECHO = struct.Struct(">BBHHH")  # RFC 792, RFC 4443: type, code, checksum, identifier, sequence
_CLOSED: Final = "the datagram socket is closed"


def family_of(address: bytes) -> socket.AddressFamily:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def bound_socket(interface: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """One that sends and receives by this interface alone.  Raises OSError."""
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def echo_socket(interface: str, family: int) -> socket.socket:
    """For ICMP echo: the kind for everybody in net.ipv4.ping_group_range, or else a raw one.  PermissionError."""
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    try:
        return bound_socket(interface, family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        return bound_socket(interface, family, socket.SOCK_RAW, protocol)


async def echo(sock: socket.socket, host: str, payload: bytes) -> None:
    """One ICMP echo there and back.  Raises OSError."""
    loop = asyncio.get_running_loop()
    request = 8 if sock.family == socket.AF_INET else 128
    head = _ECHO.pack(request, 0, 0, 0, 1)
    if sock.type == socket.SOCK_RAW:  # the kernel fills in neither identifier nor, for IPv4, checksum
        from usernet.wire.checksum import checksum

        head = _ECHO.pack(request, 0, 0, int.from_bytes(payload[:2], "big"), 1)
        if sock.family == socket.AF_INET:
            total = checksum(head + payload)
            head = head[:2] + total.to_bytes(2, "big") + head[4:]
    await loop.sock_connect(sock, (host, 0))
    await loop.sock_sendall(sock, head + payload)
    while True:
        answer = await loop.sock_recv(sock, 65536)
        if sock.type == socket.SOCK_RAW and sock.family == socket.AF_INET:
            answer = answer[(answer[0] & 15) * 4 :]
        if answer[:1] in (b"\0", b"\x81") and answer.endswith(payload):
            return


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket to await on, in the shape of the userspace stack's.  `async with` closes it.

    What comes while RECEIVED_MAX wait is dropped, and counted in `drops` as there.
    """

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._received: deque[tuple[bytes, SocketName]] = deque()
        self._error: Exception | None = None
        self._waiters = Waiters()
        self._transport: Any = None
        self._closed = False

    @property
    def local_address(self) -> SocketName:
        name: SocketName = self._transport.get_extra_info("sockname")
        return name

    def send(self, data: bytes, address: tuple[str, int] | None = None) -> None:
        """`address` only where the socket has no fixed remote one."""
        if self._closed:
            raise OSError(_CLOSED)
        if address is not None:
            socket_address(address)  # no name, of which the host's resolver would be asked
        elif self._transport.get_extra_info("peername") is None:
            raise ValueError("an address is needed: the socket is not connected")
        self._transport.sendto(data, address)

    async def receive(self) -> tuple[bytes, SocketName]:
        while True:
            if self._closed:
                raise OSError(_CLOSED)
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._received:
                return self._received.popleft()
            await self._waiters.wait()

    def close(self) -> None:
        """Whoever waits in receive() gets an OSError."""
        self._closed = True
        self._transport.close()
        self._waiters.wake()

    def is_closing(self) -> bool:
        return self._closed

    async def __aenter__(self) -> Datagrams:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    # asyncio.DatagramProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: SocketName) -> None:
        if len(self._received) >= RECEIVED_MAX:
            self._drops.count("udp-queue-full")
            return
        self._received.append((data, addr))
        self._waiters.wake()

    def error_received(self, exc: Exception) -> None:
        self._error = exc
        self._waiters.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It was closed, or the network was."""
        self._closed = True
        self._waiters.wake()
