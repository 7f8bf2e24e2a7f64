"""The outer UDP sockets: those of each family on one port, with large buffers, GSO and GRO.  See udp(7), Linux'
linux/udp.h, and `stripes` for why there may be several.

An IPv6 socket takes IPv6 only, so that no address is ever IPv4-mapped.  A machine without one of the families gets the
other alone.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from functools import partial
from typing import Final

from usernet.aio import stripes
from usernet.aio.statistics import FamilyStatistics

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
BUFFER_BYTES: Final = 7 << 20  # wireguard-go's; the usual default holds 135 packets only

# An ICMP error that answered something sent before is reported by whatever the socket is asked next.
ASYNCHRONOUS: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})

_SO_SNDBUFFORCE: Final = 32  # not in the socket module
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO_DROPS: Final = 8  # its ninth number: datagrams the full receive buffer turned away

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_WILDCARDS: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
_PORT_TRIES: Final = 32


def open_sockets(port: int, mark: int = 0) -> list[list[socket.socket]]:
    """Those of each family there is, bound to `port` of every address; 0 picks a port free for all of them.  The first
    of a family is for sending, too.

    `mark` (SO_MARK, not 0) is for the kernel's rules, and needs privileges.
    """
    for _ in range(_PORT_TRIES):
        try:
            return _open_on(port, mark)
        except OSError as error:
            # The kernel picked one for the first family that the second has in use.
            if port or error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no UDP port was free for both IPv4 and IPv6")


def close_sockets(families: list[list[socket.socket]]) -> None:
    """Of `open_sockets`."""
    for socks in families:
        for sock in socks:
            sock.close()


def _open_on(port: int, mark: int) -> list[list[socket.socket]]:
    families: list[list[socket.socket]] = []
    try:
        for family in _FAMILIES:
            sock = _open_one(family, port, mark)
            if sock is not None:
                families.append([sock])
                port = sock.getsockname()[1]
                families[-1] += stripes.open_others(sock, partial(_open_beside, sock, mark))
    except BaseException:
        close_sockets(families)
        raise
    if not families:
        raise OSError(errno.EAFNOSUPPORT, "this machine has neither IPv4 nor IPv6")
    return families


def _open_one(family: socket.AddressFamily, port: int, mark: int) -> socket.socket | None:
    """None if this machine has no such family."""
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            return None
        raise
    try:
        _bind(sock, port, mark)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:  # the family is there, but disabled
            return None
        raise OSError(error.errno, f"UDP port {port}: {os.strerror(error.errno or 0)}") from None
    return sock


def _open_beside(first: socket.socket, mark: int) -> socket.socket:
    sock = socket.socket(first.family, socket.SOCK_DGRAM)
    _bind(sock, first.getsockname()[1], mark, beside=True)
    return sock


def _bind(sock: socket.socket, port: int, mark: int, *, beside: bool = False) -> None:
    """Closes it if that fails.  `beside`: beside others of the port."""
    try:
        sock.setblocking(False)
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((_WILDCARDS[sock.family], port))
        enlarge_buffers(sock)
    except BaseException:
        sock.close()
        raise


def enlarge_buffers(sock: socket.socket) -> None:
    """To BUFFER_BYTES where privileges allow it, otherwise as far as the system does."""
    for force, option in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def receive_buffer(socks: list[socket.socket]) -> int:
    """Bytes of all together."""
    return sum(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for sock in socks)


def statistics(socks: list[socket.socket], *, gso: bool, gro: bool) -> FamilyStatistics:
    sock = socks[0]
    return FamilyStatistics(
        family="IPv6" if sock.family == socket.AF_INET6 else "IPv4",
        gso=gso,
        gro=gro,
        receive_buffer=receive_buffer(socks),
        send_buffer=sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        kernel_drops=sum(_kernel_drops(each) for each in socks),
    )


def _kernel_drops(sock: socket.socket) -> int:
    try:
        numbers = memoryview(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)).cast("I")
    except OSError:
        return 0
    return numbers[_MEMINFO_DROPS] if len(numbers) > _MEMINFO_DROPS else 0


def has_gso(sock: socket.socket) -> bool:
    """May sendmsg carry UDP_SEGMENT?  (Whether the way out can do it shows only when something is sent.)"""
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


def enable_gro(sock: socket.socket, release: str | None = None) -> bool:
    """Ask for merged datagrams.  Linux before 5.12 merges wrongly, so it counts as not having it."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release if release is None else release)
    if version is None or (int(version[1]), int(version[2])) < (5, 12):
        return False
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True
