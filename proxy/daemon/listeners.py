"""Where the proxy listens: flags, sockets of systemd's, the file's [Socks5] and [http] sections and the default.

A flag or an inherited socket wins over the file's sections of its kind.  Whoever names an address for one protocol gets
that and no more; the default, both protocols on port 1080 of both loopback addresses, holds only where nothing is named
at all, not even a forward into the tunnel.  Equal addresses share a port, but with port 0 there are two.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from usernet.config import Config, Network, ProxySection
from usernet.config.values import BadValue, bind_address
from usernet.errors import UsernetError

DEFAULT_PORT = 1080
LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Listen:
    """One address and what is spoken there.  An empty host is every address of the machine."""

    host: str
    port: int
    socks5: bool
    http: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    balancers: tuple[Network, ...] = ()  # whose connections begin with a PROXY protocol header
    certificate: tuple[str, str] | None = None  # its chain's file and its key's
    inside: bool = False  # on the tunnel's own addresses, for its peers
    optional: bool = False  # the default's ::1, which a machine without IPv6 does not have
    sock: socket.socket | None = field(default=None, repr=False)  # that listens there already: see Inherited

    @property
    def protocols(self) -> str:
        return "SOCKS5 and HTTP" if self.socks5 and self.http else "SOCKS5" if self.socks5 else "HTTP"


@dataclass(frozen=True, slots=True, eq=False)
class Inherited:
    """A listening socket that whoever has started us has opened, and what is spoken there."""

    sock: socket.socket
    socks5: bool
    http: bool

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.sock.getsockname()[:2]
        return host, port


class ListenError(UsernetError):
    """An address that cannot be listened on as asked."""


def parse_listen(text: str, flag: str) -> tuple[str, int]:
    """host:port, [IPv6]:port or :port."""
    try:
        return bind_address(text)
    except BadValue as bad:
        raise ListenError(f"{flag}: {bad.message}; {bad.remedy}") from None


def plan(
    socks5: Sequence[str], http: Sequence[str], config: Config, inherited: Sequence[Inherited] = ()
) -> list[Listen]:
    """The proxy's listeners to open.  `socks5` and `http` are the flags' values."""
    wanted = [
        *_of_kind("socks5", socks5, config.proxies, [one for one in inherited if one.socks5]),
        *_of_kind("http", http, config.proxies, [one for one in inherited if one.http]),
    ]
    if not wanted and (config.client_tunnels or config.stdio_tunnel):
        return []
    if not wanted:
        return [Listen(host, DEFAULT_PORT, socks5=True, http=True, optional=host == "::1") for host in LOOPBACK]
    merged: dict[tuple[str, int, int, bool], Listen] = {}
    for number, listen in enumerate(wanted):
        # Port 0 is a different one each time, so it is never shared.
        key = (listen.host, listen.port, number if listen.port == 0 else -1, listen.inside)
        merged[key] = _shared(merged[key], listen) if key in merged else listen
    return list(merged.values())


def inside_each(listeners: Sequence[Listen], addresses: Sequence[str]) -> list[Listen]:
    """Those inside the tunnel on every address, as one on each: a socket of the kernel's has one, or all of them."""
    return [
        replace(listen, host=host)
        for listen in listeners
        for host in (addresses if listen.inside and not listen.host else (listen.host,))
    ]


def need_http(listeners: Sequence[Listen], flag: str) -> None:
    """Raise ListenError where a flag would have no effect."""
    if not any(listen.http for listen in listeners):
        raise ListenError(f"{flag}: nothing listens for HTTP; add --outbound-http-proxy-listen ADDR")


def _of_kind(
    kind: str, flags: Sequence[str], sections: Sequence[ProxySection], inherited: Sequence[Inherited]
) -> list[Listen]:
    mine = [section for section in sections if section.kind == kind]
    addresses: list[tuple[str, int, ProxySection, socket.socket | None]]
    if flags or inherited:
        flag = "--socks5-server" if kind == "socks5" else "--outbound-http-proxy-listen"
        # An address may come from a flag while the credentials stay in the file, where nobody sees them in `ps`.
        like = mine[0] if mine else ProxySection(kind, "", 0)  # type: ignore[arg-type]
        addresses = [(*parse_listen(text, flag), like, None) for text in flags]
        addresses += [(*one.place, replace(like, inside=False), one.sock) for one in inherited]
    else:
        addresses = [(section.host, section.port, section, None) for section in mine]
    return [
        Listen(
            host,
            port,
            socks5=kind == "socks5",
            http=kind == "http",
            username=section.username,
            password=section.password,
            balancers=section.balancers,
            certificate=section.certificate,
            inside=section.inside,
            sock=sock,
        )
        for host, port, section, sock in addresses
    ]


def _shared(first: Listen, second: Listen) -> Listen:
    if (first.username, first.password) != (second.username, second.password):
        raise ListenError(
            f"{first.host}:{first.port} is to be shared by SOCKS5 and HTTP with different credentials; "
            "give both the same Username and Password, or a port each"
        )
    return replace(
        first,
        socks5=first.socks5 or second.socks5,
        http=first.http or second.http,
        certificate=first.certificate or second.certificate,
        sock=first.sock or second.sock,
    )
