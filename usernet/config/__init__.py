"""wg-quick files -> frozen values.  Start reading at parser.py."""

from usernet.config.model import (
    Access,
    AccessRule,
    Config,
    DomainServer,
    Interface,
    Network,
    Peer,
    ProxySection,
    ServerTunnel,
    Upstream,
    User,
)
from usernet.config.parser import load, parse
from usernet.config.values import format_network

__all__ = [
    "Access",
    "AccessRule",
    "Config",
    "DomainServer",
    "Interface",
    "Network",
    "Peer",
    "ProxySection",
    "ServerTunnel",
    "Upstream",
    "User",
    "format_network",
    "load",
    "parse",
]
