"""Listening sockets: the addresses that a host stands for, and a socket bound to one."""

from __future__ import annotations

import asyncio
import socket

from proxy.names import parse_address

BACKLOG = 1024
# Linux include/uapi/linux/in.h and in6.h; the socket module has no names for them before Python 3.13.
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}


async def addresses_of(host: str) -> list[str]:
    """Literals; "" is every address of this machine."""
    if not host:
        return ["0.0.0.0", "::"]
    literal = parse_address(host)
    if literal is not None:
        return [literal]
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def bind(address: str, port: int, interface: str = "") -> socket.socket:
    """Listening for TCP, or OSError, which names the address.

    `interface`: for what comes by that one alone; the address may be one that it is still to get.
    """
    # With the protocol named, which accepted sockets inherit: asyncio sets TCP_NODELAY on no others.
    sock = _bound(address, port, socket.SOCK_STREAM, socket.IPPROTO_TCP, interface)
    sock.listen(BACKLOG)
    return sock


def bind_udp(address: str, port: int, interface: str = "") -> socket.socket:
    """As bind, for datagrams."""
    return _bound(address, port, socket.SOCK_DGRAM, socket.IPPROTO_UDP, interface)


def _bound(address: str, port: int, kind: socket.SocketKind, protocol: int, interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind, protocol)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            sock.setsockopt(*_FREEBIND[sock.family], 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        what = "UDP port" if kind == socket.SOCK_DGRAM else "port"
        raise OSError(error.errno, f"cannot listen on {address} {what} {port}: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock
