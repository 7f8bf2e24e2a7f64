"""How the daemon is, at one time: what `status`, the web page, metrics and health are all made from.

Times are seconds since 1970, sizes bytes, rates bytes a second; keys are in base64, as `wg show` prints them.  Nothing
in it is a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["starting", "running", "stopping"]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    public_key: str
    endpoint: str | None  # where it is now
    allowed_ips: tuple[str, ...]
    latest_handshake: float | None
    session: bool  # there are keys, of whatever age
    handshakes: int
    rx_bytes: int
    tx_bytes: int
    rx_rate: float
    tx_rate: float
    persistent_keepalive: int  # s
    is_dialled: bool  # the file says where it is; else it has to speak first
    struggling_since: float | None  # a handshake was begun then, and none has completed since
    trouble: str  # why that usually is, once it has taken too long; or that the name of its endpoint does not resolve


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One client of the proxy and what it does: see the access log."""

    client: str
    user: str | None
    method: str
    destination: str
    route: str
    began: float
    up_bytes: int
    down_bytes: int
    up_rate: float
    down_rate: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong."""

    text: str
    remedy: str  # the usual cause, or what to do

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """Warnings and errors of the log that are alike: see recent.py."""

    level: str  # "warning", "error", "critical"
    message: str
    first: float
    last: float
    count: int


@dataclass(frozen=True, slots=True)
class Status:
    version: str
    name: str  # of the tunnel: the stem of its file
    pid: int
    state: State
    started: float
    at: float  # when this was so
    mode: str  # "userspace-networking", or the interface
    kernel: str  # the burst kernel
    loop: str
    public_key: str
    addresses: tuple[str, ...]
    mtu: int
    listen_port: int
    peers: tuple[PeerStatus, ...]
    rx_rate: float  # of all peers
    tx_rate: float
    listeners: tuple[str, ...]
    forwards: tuple[str, ...]
    hints: tuple[str, ...]  # lines to paste into a shell
    pac: str | None  # the address of proxy auto-configuration, for a browser
    clients: int  # of the proxy, now
    accepted: int  # since the start
    up_bytes: int  # of the proxy's clients
    down_bytes: int
    streams: tuple[StreamStatus, ...]  # the busiest
    streams_total: int
    dialled: int  # connections to destinations, since the start
    refused: dict[str, int]
    requests: dict[str, int]  # socks5, socks4, http-connect, http-forward
    drops: dict[str, dict[str, int]]  # tunnel, stack, socket, filter: reason -> count
    tcp_connections: dict[str, int]  # of the userspace stack, by state
    tcp_segments_resent: int
    health: tuple[Trouble, ...]
    recent: tuple[Complaint, ...]  # the newest last
