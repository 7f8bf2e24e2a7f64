"""Every key there is: per section its parser, whether it may be repeated, and what is said where it cannot apply.

Adding a key: a row here, a field in model.py, and where parser.py makes the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from usernet.config import access, inbound, values


@dataclass(frozen=True, slots=True)
class Key:
    """`several`: values of repeated lines add up (else the last one counts, as for `wg`)."""

    name: str  # as documentation writes it
    parse: Callable[[str], object]
    several: bool = False
    not_applicable: str = ""  # why it does nothing here
    remedy: str = ""
    kernel: bool = False  # but with a TUN it does
    secret: bool = False  # it may stand in a file of its own


def _table(*keys: Key) -> Mapping[str, Key]:
    return {key.name.lower(): key for key in keys}


_NEVER_RUN = "usernet changes nothing on this machine, so there is nothing to do before or after: it is not run"
_LEAVE_OUT = "take the line out, or ignore this"


def _hook(name: str) -> Key:
    return Key(name, values.command, True, _NEVER_RUN, _LEAVE_OUT, kernel=True)


INTERFACE = _table(
    Key("PrivateKey", values.key, secret=True),
    Key("ListenPort", values.port),
    Key("Address", values.networks, several=True),
    Key("DNS", values.dns, several=True),
    Key("MTU", values.mtu),
    Key("Inbound", inbound.inbound, several=True),
    Key("CheckAlive", values.addresses, several=True),
    Key("CheckAliveInterval", values.interval),
    Key("FwMark", values.fwmark, False, "without --tun there is nothing to mark packets for", _LEAVE_OUT, kernel=True),
    Key("Table", values.table, False, "without --tun usernet sets no routes on this machine", _LEAVE_OUT, kernel=True),
    *map(_hook, ("PreUp", "PostUp", "PreDown", "PostDown")),
    Key("SaveConfig", values.boolean, False, "usernet never writes this file", _LEAVE_OUT),
)

PEER = _table(
    Key("PublicKey", values.key),
    Key("PresharedKey", values.preshared_key, secret=True),
    Key("AllowedIPs", values.networks, several=True),
    Key("Endpoint", values.endpoint),
    Key("PersistentKeepalive", values.keepalive),
    Key("Reserved", values.reserved),
)

PROXY = _table(
    Key("BindAddress", values.bind_address),
    Key("Username", values.credential),
    Key("Password", values.credential),
    Key("Inside", values.boolean),
    Key("ProxyProtocolFrom", values.networks, several=True),
)

_LISTEN_PORT = Key("ListenPort", values.forwarded_port)
_TARGET = Key("Target", values.target)
_BIND_ADDRESS = Key("BindAddress", values.bind_address)
_HEADER = Key("ProxyProtocol", values.proxy_header)
_BALANCERS = Key("ProxyProtocolFrom", values.networks, several=True)

HTTP = _table(*PROXY.values(), Key("CertFile", values.path), Key("KeyFile", values.path))
TCP_SERVER_TUNNEL = _table(_LISTEN_PORT, _TARGET, _HEADER)
UDP_SERVER_TUNNEL = _table(_LISTEN_PORT, _TARGET)
TCP_CLIENT_TUNNEL = _table(_BIND_ADDRESS, _TARGET, _HEADER, _BALANCERS)
UDP_PROXY_TUNNEL = _table(_BIND_ADDRESS, _TARGET, Key("InactivityTimeout", values.inactivity))
STDIO_TUNNEL = _table(_TARGET)

RESOLVE = _table(Key("ResolveStrategy", values.resolve_strategy))

ACCESS = _table(
    Key("User", access.user, several=True),
    Key("AllowFrom", values.networks, several=True),
    Key("Upstream", access.upstream, several=True),
    Key("Rule", access.rule, several=True),
    Key("NameServer", access.name_server, several=True),
)

SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "interface": INTERFACE,
    "peer": PEER,
    "socks5": PROXY,
    "http": HTTP,
    "tcpclienttunnel": TCP_CLIENT_TUNNEL,
    "udpproxytunnel": UDP_PROXY_TUNNEL,
    "tcpservertunnel": TCP_SERVER_TUNNEL,
    "udpservertunnel": UDP_SERVER_TUNNEL,
    "stdiotunnel": STDIO_TUNNEL,
    "resolve": RESOLVE,
    "access": ACCESS,
}
TITLES = {
    "interface": "Interface",
    "peer": "Peer",
    "socks5": "Socks5",
    "http": "http",
    "tcpclienttunnel": "TCPClientTunnel",
    "udpproxytunnel": "UDPProxyTunnel",
    "stdiotunnel": "STDIOTunnel",
    "tcpservertunnel": "TCPServerTunnel",
    "udpservertunnel": "UDPServerTunnel",
    "resolve": "Resolve",
    "access": "Access",
}

# Refused by name, (message, remedy), instead of as unknown.  The key's name goes before its message.
_LATER = "is wireproxy's, and not supported yet"
REFUSED_SECTIONS = {"sni": (f"the section [SNI] {_LATER}", "take the section out")}
_AMNEZIA = (
    "is AmneziaWG's: its disguise is another protocol, and usernet speaks WireGuard as it is",
    "take the line out; a peer that insists on the disguise will not answer",
)
_AMNEZIA_KEYS = ("jc", "jmin", "jmax", "itime", *(f"{letter}{n}" for letter in "shij" for n in range(1, 6)))
REFUSED_KEYS = {
    **{("interface", key): _AMNEZIA for key in _AMNEZIA_KEYS},
    ("peer", "advancedsecurity"): _AMNEZIA,
}


def closest(word: str, known: list[str]) -> str | None:
    """What was probably meant."""
    from difflib import get_close_matches  # only where something is wrong: it costs a start 5 ms

    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None
