"""Addresses as the API has them, text and socket names, to and from the bytes of the cores."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import Any

from usernet.burst.packets import Address
from usernet.stack.udp import UdpSocket
from usernet.wire.ip import KEPT_ADDRESSES, format_address, pack_address

SocketName = tuple[str, int] | tuple[str, int, int, int]


def socket_name(address: bytes, port: int) -> SocketName:
    """As getsockname() gives it for the family."""
    return (format_address(address), port) if len(address) == 4 else (format_address(address), port, 0, 0)


def local_name(udp: UdpSocket) -> SocketName:
    """Where it is bound; the unspecified IPv6 address stands for all of ours, of both families."""
    address, port = udp.local
    return socket_name(bytes(16) if address is None else address, port)


def socket_address(name: Any) -> tuple[bytes, int]:
    """(host, port, ...) with a literal host, as the stack wants it.  ValueError on a name."""
    return pack_address(name[0]), name[1]


@lru_cache(KEPT_ADDRESSES)
def literal_host(host: str) -> str | None:
    """The canonical text of an IP literal (RFC 5952); None if it is a name.

    A literal with a scope is one, too, and nothing inside a tunnel: ValueError.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return format_address(pack_address(host)) if "%" in host else str(address)


def outer_literal(host: str, port: int) -> Address | None:
    """The socket address that an IP literal names outside of the tunnel, scope included; None if it is a name."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return outer_addresses(infos)[0]


def has_route(address: Address) -> bool:
    """Whether this machine knows a way there at all: not to an IPv4 address on a network that has IPv6 alone."""
    try:
        with socket.socket(socket.AF_INET if len(address) == 2 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
    except OSError:
        return False
    return True


def outer_addresses(infos: Any) -> list[Address]:
    """The addresses of both families in what getaddrinfo says, each once, in its order (RFC 6724).  OSError if none."""
    wanted = (socket.AF_INET, socket.AF_INET6)
    found: list[Address] = list(dict.fromkeys(info[4] for info in infos if info[0] in wanted))
    if not found:
        raise OSError("the name has no address")
    return found
