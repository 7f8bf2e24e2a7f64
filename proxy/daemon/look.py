"""A look at the daemon: everything that it knows of itself -> a Status."""

from __future__ import annotations

import base64
import functools
import heapq
import os
import time
from typing import TYPE_CHECKING, Final

from proxy.client import Client
from proxy.daemon.answering import shown
from proxy.daemon.health import troubles
from proxy.daemon.hello import example_url
from proxy.daemon.hints import pac_url, shell_lines
from proxy.daemon.narrator import Struggle, format_endpoint
from proxy.daemon.recent import RECENT
from proxy.server import ProxyStatistics
from proxy.status.history import Counts
from proxy.status.snapshot import Complaint, PeerStatus, Status, StreamStatus
from usernet.burst import default_kernel
from usernet.config import Peer, format_network
from usernet.tun.candidates import USERSPACE
from usernet.wireguard.crypto import PrivateKey
from usernet.wireguard.statistics import PeerStatistics

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon

STREAMS: Final = 200  # of which each is shown; of more, those that have carried most


def look(daemon: Daemon) -> Status:
    network, config = daemon.network, daemon.config
    statistics, proxy = network.statistics(), daemon.serving.proxy.statistics()
    host = getattr(statistics, "host", None)
    drops = {"tunnel": dict(statistics.tunnel.drops)}
    for inside in ("host", "tun"):
        if (found := getattr(statistics, inside, None)) is not None:
            drops["stack" if inside == "host" else inside] = dict(found.drops)
    if statistics.udp is not None:
        drops["socket"] = dict(statistics.udp.drops)
    if statistics.filter is not None:
        drops["filter"] = dict(statistics.filter.drops)
    peers = peers_of(daemon)
    streams = [*daemon.serving.proxy.clients(), *daemon.leading.clients()]
    return Status(
        version=_version(),
        name=daemon.options.name,
        pid=os.getpid(),
        state="stopping" if daemon.stop.is_set() else "running",
        started=daemon.started,
        at=time.time(),
        mode=daemon.interface or USERSPACE,
        kernel=default_kernel().name,
        loop=daemon.loop_name,
        public_key=_text(PrivateKey(config.interface.private_key).public_key),
        addresses=network.addresses,
        mtu=network.mtu,
        listen_port=network.listen_port,
        peers=peers,
        rx_rate=sum(peer.rx_rate for peer in peers),
        tx_rate=sum(peer.tx_rate for peer in peers),
        listeners=tuple(map(str, daemon.serving.bound)),
        forwards=(*map(shown, config.server_tunnels), *map(str, daemon.leading.bound)),
        hints=tuple(shell_lines(daemon.serving.bound, example_url(config))),
        pac=pac_url(daemon.serving.bound),
        clients=proxy.connections,
        accepted=proxy.accepted,
        up_bytes=proxy.bytes_up,
        down_bytes=proxy.bytes_down,
        streams=_streams(daemon, streams),
        streams_total=len(streams),
        dialled=proxy.dialled,
        refused=dict(proxy.refused),
        requests=_requests(proxy),
        drops=drops,
        tcp_connections=dict(host.connections) if host is not None else {},
        tcp_segments_resent=host.segments_resent if host is not None else 0,
        health=tuple(troubles(daemon, peers)),
        recent=tuple(Complaint(one.level, one.message, one.first, one.last, one.count) for one in RECENT.entries()),
    )


@functools.cache
def _version() -> str:
    from importlib.metadata import version  # brings half the standard library

    return version("usernet")


def peers_of(daemon: Daemon) -> tuple[PeerStatus, ...]:
    """Of a look, what costs next to nothing."""
    struggles, rates = daemon.teller.struggles(), daemon.observer.history.rates()
    configured = {peer.public_key: peer for peer in daemon.config.peers}
    return tuple(
        _peer(configured[peer.public_key], peer, struggles.get(peer.public_key), rates, _unresolved(daemon, peer))
        for peer in daemon.network.peers()
    )


def count(daemon: Daemon) -> tuple[Counts, int]:
    """What the observer takes samples of."""
    counts = {_text(peer.public_key): (peer.rx_bytes, peer.tx_bytes) for peer in daemon.network.peers()}
    return counts, daemon.serving.proxy.open


def _unresolved(daemon: Daemon, peer: PeerStatistics) -> str:
    return daemon.network.endpoint_trouble(peer.public_key) if peer.endpoint is None else ""


def _peer(
    configured: Peer, found: PeerStatistics, struggle: Struggle | None, rates: dict[str, tuple[float, float]], why: str
) -> PeerStatus:
    shake = found.last_handshake_wall_ns
    key = _text(found.public_key)
    rx_rate, tx_rate = rates.get(key, (0.0, 0.0))
    return PeerStatus(
        public_key=key,
        endpoint=None if found.endpoint is None else format_endpoint(found.endpoint[:2]),
        allowed_ips=tuple(map(format_network, configured.allowed_ips)),
        latest_handshake=None if shake is None else shake / 1e9,
        session=found.session,
        handshakes=found.handshakes,
        rx_bytes=found.rx_bytes,
        tx_bytes=found.tx_bytes,
        rx_rate=rx_rate,
        tx_rate=tx_rate,
        persistent_keepalive=configured.persistent_keepalive,
        is_dialled=configured.endpoint is not None,
        struggling_since=struggle.since if struggle is not None else None,
        trouble=why or (struggle.why if struggle is not None else ""),
    )


def _streams(daemon: Daemon, clients: list[Client]) -> tuple[StreamStatus, ...]:
    busiest = heapq.nlargest(STREAMS, clients, key=lambda client: client.up + client.down)
    identities = [(client.address, client.port, client.began, client.target) for client in busiest]
    rates = daemon.stream_rates.update(
        time.monotonic(),
        {who: (client.up, client.down) for who, client in zip(identities, busiest, strict=True)},
    )
    return tuple(_stream(client, *rates[who]) for who, client in zip(identities, busiest, strict=True))


def _stream(client: Client, up_rate: float, down_rate: float) -> StreamStatus:
    return StreamStatus(
        client=format_endpoint((client.address, client.port)),
        user=client.user,
        method=client.method,
        destination=format_endpoint(client.target) if client.target and client.target[0] else "",
        route=client.route,
        began=client.began,
        up_bytes=client.up,
        down_bytes=client.down,
        up_rate=up_rate,
        down_rate=down_rate,
    )


def _requests(proxy: ProxyStatistics) -> dict[str, int]:
    return {
        "socks5": proxy.socks5,
        "socks4": proxy.socks4,
        "http-connect": proxy.http_connect,
        "http-forward": proxy.http_forward,
    }


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")
