"""wg-quick files -> frozen values.  Start reading at parser.py."""

from usernet.config.model import Config, Interface, Network, Peer, ProxySection, ServerTunnel
from usernet.config.parser import load, parse
from usernet.config.values import format_network

__all__ = ["Config", "Interface", "Network", "Peer", "ProxySection", "ServerTunnel", "format_network", "load", "parse"]
