"""wg-quick files -> frozen values.  Start reading at parser.py."""

from usernet.config.model import (
    Access,
    AccessRule,
    ClientTunnel,
    Config,
    DomainServer,
    Interface,
    Network,
    Peer,
    ProxyHeader,
    ProxySection,
    ServerTunnel,
    StdioTunnel,
    Upstream,
    User,
)
from usernet.config.parser import load, parse
from usernet.config.values import format_network

__all__ = [
    "Access",
    "AccessRule",
    "ClientTunnel",
    "Config",
    "DomainServer",
    "Interface",
    "Network",
    "Peer",
    "ProxyHeader",
    "ProxySection",
    "ServerTunnel",
    "StdioTunnel",
    "Upstream",
    "User",
    "format_network",
    "load",
    "parse",
]
