"""How the daemon is, at one time: what `status`, the web page, metrics and health are all made from.

Times are seconds since 1970, sizes bytes; keys are in base64, as `wg show` prints them.  Nothing in it is a secret.
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
    persistent_keepalive: int  # s


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


@dataclass(frozen=True, slots=True)
class Status:
    version: str
    name: str  # of the tunnel: the stem of its file
    pid: int
    state: State
    started: float
    mode: str  # "userspace-networking", or the interface
    kernel: str  # the burst kernel
    loop: str
    public_key: str
    addresses: tuple[str, ...]
    mtu: int
    listen_port: int
    peers: tuple[PeerStatus, ...]
    listeners: tuple[str, ...]
    forwards: tuple[str, ...]
    clients: int  # of the proxy, now
    accepted: int  # since the start
    up_bytes: int  # of the proxy's clients
    down_bytes: int
    refused: dict[str, int]
    drops: dict[str, dict[str, int]]  # tunnel, stack, socket, filter: reason -> count
    health: tuple[str, ...]  # what is wrong, a line each
