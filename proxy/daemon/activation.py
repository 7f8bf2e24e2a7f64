"""Listening sockets that systemd has opened for us (sd_listen_fds(3)), on ports below 1024 say, or before we start.

A socket unit's `FileDescriptorName=` says what is spoken there: `socks5` or `http`; both where it names none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import Final

from proxy.daemon.listeners import Inherited, ListenError

FIRST: Final = 3  # SD_LISTEN_FDS_START
SPOKEN: Final = {"socks5": (True, False), "http": (False, True)}  # SOCKS5, HTTP


def inherited(environ: MutableMapping[str, str]) -> Sequence[Inherited]:
    """Those that are meant for this process; takes the variables out.  ListenError names one that is of no use."""
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return ()
    named = dict(enumerate(names.split(":")))
    return [_adopt(FIRST + number, named.get(number, "")) for number in range(int(count))]


def _adopt(fd: int, name: str) -> Inherited:
    what = f"socket {name or 'without a name'} (descriptor {fd}) from systemd"
    spoken = SPOKEN.get(name)
    if spoken is None:
        if name not in ("", "unknown") and not name.endswith(".socket"):  # what sd_listen_fds(3) calls a nameless one
            raise ListenError(
                f"{what}: its name says nothing; write FileDescriptorName=socks5 or http, or none for both"
            )
        spoken = (True, True)
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(f"{what} cannot be used: {error.strerror}") from None
    usable = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not usable or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ListenError(f"{what} does not listen for TCP; write ListenStream=HOST:PORT and Accept=no")
    found = Inherited(sock, *spoken)
    if found.place[0] == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        sock.detach()  # whom no rule of ours means: IPv4 clients come as ::ffff:192.0.2.1 there
        raise ListenError(f"{what} takes IPv4 as well as IPv6; write BindIPv6Only=ipv6-only, and 0.0.0.0 beside it")
    sock.setblocking(False)
    return found
