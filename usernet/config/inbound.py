"""`Inbound =` of [Interface]: what the packet filter lets in for others than usernet itself.

Inbound = 22, 80/tcp, 5000-5010/udp                  both protocols, where none is named
Inbound = 5432/tcp from 10.0.0.0/8, fd00::/8         only from there
Inbound = * to 192.168.7.0/24                        for a network behind us, instead of our own addresses
Inbound = *                                          every protocol there is
"""

from __future__ import annotations

from typing import Final, cast

from usernet.config.lines import shown
from usernet.config.model import Inbound, Network, Transport
from usernet.config.values import BadValue, is_address, mask, network, port_range

_REMEDY: Final = "write PORTS, such as `22, 80/tcp, 5000-5010/udp from 10.0.0.0/8`, or * for everything"


def inbound(text: str) -> tuple[Inbound, ...]:
    """`port... [from network...] [to network...]`."""
    parts: dict[str, list[str]] = {"": []}
    current = ""
    for word in text.replace(",", " ").split():
        if word.lower() in ("from", "to"):
            current = word.lower()
            if current in parts:
                raise BadValue(f"`{current}` is there twice", _REMEDY)
            parts[current] = []
        else:
            parts[current].append(word)
    for part, found in parts.items():
        if not found:
            raise BadValue(f"no network is named behind `{part}`" if part else "no port is named", _REMEDY)
    sources, destinations = (tuple(map(_network, parts.get(part, ()))) for part in ("from", "to"))
    return tuple(Inbound(*_ports(word), sources, destinations) for word in parts[""])


def _ports(word: str) -> tuple[Transport | None, int, int]:
    ports, slash, transport = word.partition("/")
    transport = transport.lower()
    if slash and transport not in ("tcp", "udp"):
        raise BadValue(f"{shown(word)} names neither tcp nor udp", _REMEDY)
    low, high = (0, 65535) if ports == "*" else port_range(ports)
    return cast(Transport, transport) if slash else None, low, high


def _network(word: str) -> Network:
    if not is_address(word.partition("/")[0]):
        raise BadValue(f"{shown(word)} is not a network", _REMEDY)
    return mask(network(word))
