"""What a configuration file says, as frozen values: legal, canonical, and independent of how it was written.

Secrets are left out of `repr`, so that no log line or traceback shows one by accident.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from usernet.errors import Problem

KEY_BYTES = 32
NO_RESERVED = bytes(3)

# An inner network: the packed address (4 or 16 bytes) and the length of its prefix.
Network = tuple[bytes, int]

Transport = Literal["tcp", "udp"]

ProxyHeader = Literal["v1", "v2"]  # the version of a PROXY protocol header

ResolveStrategy = Literal["auto", "ipv4", "ipv6"]


@dataclass(frozen=True, slots=True)
class Inbound:
    """What the packet filter is to let in.  `transport` None: both, and with every port every other protocol, too.

    No `sources` are all; no `destinations` are our own addresses, else they are what lies behind us.
    """

    transport: Transport | None
    low: int
    high: int
    sources: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Interface:
    """Our own end.  `addresses` keep their host bits; the prefix says which network they live in."""

    private_key: bytes = field(repr=False)
    addresses: tuple[Network, ...]
    dns: tuple[str, ...] = ()  # name servers, as canonical IP literals
    dns_search: tuple[str, ...] = ()  # search domains
    mtu: int | None = None  # B; None: the tunnel's default
    listen_port: int | None = None  # outer UDP; None: any
    check_alive: tuple[str, ...] = ()  # IP literals that are pinged, to know whether the tunnel works
    check_alive_interval: int = 5  # s
    table: int | None = None  # of the kernel's, for routes to a TUN; None: as wg-quick chooses, 0: none
    fwmark: int = 0  # of outer packets; 0: none
    pre_up: tuple[str, ...] = field(default=(), repr=False)  # commands, as the three that follow; a key may be in them
    post_up: tuple[str, ...] = field(default=(), repr=False)
    pre_down: tuple[str, ...] = field(default=(), repr=False)
    post_down: tuple[str, ...] = field(default=(), repr=False)
    inbound: tuple[Inbound, ...] = ()
    line: int = 0
    dns_line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Peer:
    """One far end.  `allowed_ips` are networks with their host bits cleared."""

    public_key: bytes
    preshared_key: bytes | None = field(default=None, repr=False)
    endpoint: tuple[str, int] | None = None  # a name or an IP literal without brackets, and a UDP port
    allowed_ips: tuple[Network, ...] = ()
    persistent_keepalive: int = 0  # s; 0 = off
    reserved: bytes = NO_RESERVED  # bytes 1..3 of every datagram
    line: int = 0


@dataclass(frozen=True, slots=True)
class ProxySection:
    """A [Socks5] or [http] section, as wireproxy has them.  An empty host is every address of the machine."""

    kind: Literal["socks5", "http"]
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    line: int = 0
    balancers: tuple[Network, ...] = ()  # whose connections begin with a PROXY protocol header
    inside: bool = False  # on our own addresses inside the tunnel, for its peers
    certificate: tuple[str, str] | None = None  # http: the files of a chain and its key, for TLS


@dataclass(frozen=True, slots=True)
class ServerTunnel:
    """A [TCPServerTunnel], as wireproxy has it, or a [UDPServerTunnel]: a port inside the tunnel, and who answers."""

    kind: Literal["tcp", "udp"]
    listen_port: int
    target: tuple[str, int]  # a name or an IP literal without brackets, outside of the tunnel, and a port
    line: int = 0
    header: ProxyHeader | None = None  # TCP: the target is told who the client is


@dataclass(frozen=True, slots=True)
class ClientTunnel:
    """A [TCPClientTunnel] or [UDPProxyTunnel]: an address of this machine, and who answers inside the tunnel."""

    kind: Literal["tcp", "udp"]
    host: str  # empty: every address of the machine
    port: int
    target: tuple[str, int]
    idle_timeout: float | None = None  # UDP: s without a datagram; 0: none, None: the default
    header: ProxyHeader | None = None
    balancers: tuple[Network, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class StdioTunnel:
    """[STDIOTunnel]: who is at the other end of standard input and output, inside the tunnel."""

    target: tuple[str, int]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another proxy, and how it is reached itself."""

    name: str
    scheme: Literal["socks4", "socks5", "http"]
    address: tuple[str, int]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    through: Literal["tunnel", "direct"] = "tunnel"
    line: int = 0


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Which destinations take `route`: "tunnel", "direct", "refuse", or an Upstream's name.  `text`: as it was written.

    `names` are exact and in lower case, `suffixes` begin with a dot and hold the name itself too.  Empty `ports`
    (ranges) and `users` are any.
    """

    route: str
    everything: bool = False
    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    users: frozenset[str] = frozenset()
    text: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class DomainServer:
    """A name server, inside the tunnel, that is asked for some domains instead of `DNS =`."""

    server: str
    domains: tuple[str, ...]
    line: int = 0


@dataclass(frozen=True, slots=True)
class User:
    name: str
    secret: str = field(repr=False)  # a password, or its hash
    line: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """The [Access] section: who may use the proxies, and which way each destination goes."""

    users: tuple[User, ...] = ()
    allow_from: tuple[Network, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    rules: tuple[AccessRule, ...] = ()
    name_servers: tuple[DomainServer, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file.  `warnings` are what a person should know and what does not stop it from working."""

    interface: Interface
    peers: tuple[Peer, ...]
    proxies: tuple[ProxySection, ...] = ()
    warnings: tuple[Problem, ...] = ()
    server_tunnels: tuple[ServerTunnel, ...] = ()
    client_tunnels: tuple[ClientTunnel, ...] = ()
    stdio_tunnel: StdioTunnel | None = None
    resolve_strategy: ResolveStrategy = "auto"  # which family of a name's addresses comes first; auto is IPv6
    access: Access = Access()
