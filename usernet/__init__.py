"""A WireGuard tunnel put to work without privileges.

    async with usernet.open_tunnel("wg0.conf") as net:
        reader, writer = await net.open_connection("example.org", 80)

What is exported here is the public API; importing it costs nothing until a name is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from usernet.compiled import VARIABLE, prefer_sources

if os.environ.get(VARIABLE) == "python":
    prefer_sources()

from usernet.errors import (
    ConfigError,
    DialError,
    EndpointUnresolved,
    HostUnreachable,
    NameNotFound,
    NameServerFailed,
    NetworkClosed,
    NetworkUnreachable,
    NoHandshake,
    NoRoute,
    Problem,
    UsernetError,
)

if TYPE_CHECKING:
    from usernet.aio.datagram_forwarder import DatagramForwarder, DatagramForwarderStatistics
    from usernet.aio.datagrams import Datagrams
    from usernet.aio.forwarder import ForwarderStatistics, Inbound, StreamForwarder
    from usernet.aio.network import Network, NetworkStatistics
    from usernet.aio.peers import Memory
    from usernet.aio.server import Server
    from usernet.config import Config
    from usernet.filter import FilterRule, FilterStatistics, PacketFilter
    from usernet.wireguard.events import TunnelEvent

__all__ = [
    "Config",
    "ConfigError",
    "DatagramForwarder",
    "DatagramForwarderStatistics",
    "Datagrams",
    "DialError",
    "EndpointUnresolved",
    "FilterRule",
    "FilterStatistics",
    "ForwarderStatistics",
    "HostUnreachable",
    "Inbound",
    "Memory",
    "NameNotFound",
    "NameServerFailed",
    "Network",
    "NetworkClosed",
    "NetworkStatistics",
    "NetworkUnreachable",
    "NoHandshake",
    "NoRoute",
    "PacketFilter",
    "Problem",
    "Server",
    "StreamForwarder",
    "TunnelEvent",
    "UsernetError",
    "open_tunnel",
]

_LAZY = {
    "Config": "usernet.config",
    "DatagramForwarder": "usernet.aio.datagram_forwarder",
    "DatagramForwarderStatistics": "usernet.aio.datagram_forwarder",
    "Datagrams": "usernet.aio.datagrams",
    "FilterRule": "usernet.filter",
    "FilterStatistics": "usernet.filter",
    "ForwarderStatistics": "usernet.aio.forwarder",
    "Inbound": "usernet.aio.forwarder",
    "Memory": "usernet.aio.peers",
    "Network": "usernet.aio.network",
    "NetworkStatistics": "usernet.aio.network",
    "PacketFilter": "usernet.filter",
    "Server": "usernet.aio.server",
    "StreamForwarder": "usernet.aio.forwarder",
    "TunnelEvent": "usernet.wireguard.events",
}


def open_tunnel(
    config: Config | str | os.PathLike[str],
    *,
    port: int | None = None,
    dial_timeout: float = 10.0,
    packet_filter: PacketFilter | None = None,
    memory: Memory | None = None,
) -> Network:
    """The network inside the tunnel that `config`, a wg-quick file or what was read from one, describes.

    Use it with `async with`, or call its start() and close().  port: the outer UDP port, 0 = any, None = as configured.
    dial_timeout: seconds for each connection, name and handshake included.  packet_filter: what it lets in comes in
    from the tunnel; without one it is what listeners answer.  memory: what `Network.memory()` gave before.  A file's
    warnings go to the log `usernet`.
    Raises ConfigError, and OSError where the file cannot be read.
    """
    from usernet.aio.network import Network
    from usernet.aio.runtime import log
    from usernet.config import Config, load
    from usernet.wireguard.crypto import PrivateKey

    if not isinstance(config, Config):
        config = load(config, derive_public=lambda key: PrivateKey(key).public_key)
        for warning in config.warnings:
            log.warning("%s", warning)
    return Network(config, port=port, dial_timeout=dial_timeout, packet_filter=packet_filter, memory=memory)


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(module), name)
