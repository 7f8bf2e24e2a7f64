"""A look at the daemon: everything that it knows of itself -> a Status."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from proxy.daemon.answering import shown
from proxy.daemon.narrator import format_endpoint
from proxy.status.snapshot import PeerStatus, Status
from usernet.burst import default_kernel
from usernet.config import Peer, format_network
from usernet.tun.candidates import USERSPACE
from usernet.wireguard.crypto import PrivateKey
from usernet.wireguard.peer import PeerStatistics

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon


def look(daemon: Daemon) -> Status:
    from importlib.metadata import version  # brings half the standard library

    network, config = daemon.network, daemon.config
    statistics, proxy = network.statistics(), daemon.serving.proxy.statistics()
    configured = {peer.public_key: peer for peer in config.peers}
    drops = {"tunnel": dict(statistics.tunnel.drops)}
    for inside in ("host", "tun"):
        if (found := getattr(statistics, inside, None)) is not None:
            drops["stack" if inside == "host" else inside] = dict(found.drops)
    if statistics.udp is not None:
        drops["socket"] = dict(statistics.udp.drops)
    if statistics.filter is not None:
        drops["filter"] = dict(statistics.filter.drops)
    return Status(
        version=version("usernet"),
        name=daemon.options.name,
        pid=os.getpid(),
        state="stopping" if daemon.stop.is_set() else "running",
        started=daemon.started,
        mode=daemon.interface or USERSPACE,
        kernel=default_kernel().name,
        loop=daemon.loop_name,
        public_key=_text(PrivateKey(config.interface.private_key).public_key),
        addresses=network.addresses,
        mtu=network.mtu,
        listen_port=network.listen_port,
        peers=tuple(_peer(configured[peer.public_key], peer) for peer in statistics.tunnel.peers),
        listeners=tuple(map(str, daemon.serving.bound)),
        forwards=(*map(shown, config.server_tunnels), *map(str, daemon.leading.bound)),
        clients=proxy.connections,
        accepted=proxy.accepted,
        up_bytes=proxy.bytes_up,
        down_bytes=proxy.bytes_down,
        refused=dict(proxy.refused),
        drops=drops,
        health=(),
    )


def _peer(configured: Peer, found: PeerStatistics) -> PeerStatus:
    shake = found.last_handshake_wall_ns
    return PeerStatus(
        public_key=_text(found.public_key),
        endpoint=None if found.endpoint is None else format_endpoint(found.endpoint[:2]),
        allowed_ips=tuple(map(format_network, configured.allowed_ips)),
        latest_handshake=None if shake is None else shake / 1e9,
        session=found.session,
        handshakes=found.handshakes,
        rx_bytes=found.rx_bytes,
        tx_bytes=found.tx_bytes,
        persistent_keepalive=configured.persistent_keepalive,
    )


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")
