"""What this machine's network offers a tunnel: names, UDP to each peer, families, packet sizes, the kernel's help.

Nobody is asked but the peers themselves and this machine's own resolver.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import usernet
from proxy.daemon.narrator import format_endpoint, short_key
from usernet.aio.endpoints import host_look_up
from usernet.aio.engine import Engine
from usernet.aio.peers import Memory
from usernet.burst.packets import Address
from usernet.config import Config, Peer
from usernet.monitor import source_of
from usernet.tun.device import CLONE

SECONDS: Final = 6.0  # for a handshake: the first try, and one more
ADDRESSES: Final = 4  # of one name, at most
SILENT: Final = "it answers no handshake"
_SIOCGIFADDR: Final = 0x8915
_IP_MTU, _IPV6_MTU = 14, 24  # Linux include/uapi/linux/in.h, in6.h
_PROBES: Final[dict[str, Address]] = {
    # Nothing is sent: whether there is a route at all, and from which address (documentation networks)
    "ipv4": ("192.0.2.1", 9),
    "ipv6": ("2001:db8::1", 9, 0, 0),
}
TUNNEL_BYTES: Final = {2: 20 + 8 + 32, 4: 40 + 8 + 32}  # around an inner packet, by the length of the outer address


async def check(network: Engine, config: Config) -> dict[str, Any]:
    """A dictionary for JSON; `findings` are sentences, each with what to do about it."""
    peers = list(await asyncio.gather(*(_peer(network, peer) for peer in config.peers)))
    udp = network.statistics().udp
    found: dict[str, Any] = {
        "families": {name: _way_out(address) for name, address in _PROBES.items()},
        "udp": None if udp is None else {
            "port": udp.port,
            "sockets": [
                {"family": one.family, "gso": one.gso, "gro": one.gro,
                 "receive_buffer": one.receive_buffer, "send_buffer": one.send_buffer}
                for one in udp.families
            ],
        },
        "tun": _tun(),
        "peers": peers,
    }  # fmt: skip
    found["findings"] = list(findings(found, network.mtu))
    return found


async def check_alone(config: Config, memory: Memory = Memory()) -> dict[str, Any]:  # noqa: B008  (frozen)
    """The same, of tunnels that are opened for it: where a name has several addresses each is tried.

    `memory`: where our timestamps begin.
    """
    async with usernet.open_tunnel(config, port=0, memory=memory) as network:
        found = await check(network, config)
        latest = network.latest_timestamp_ns
    for peer, shown in zip(config.peers, found["peers"], strict=True):
        if len(shown["addresses"]) > 1 and peer.endpoint is not None:
            shown["answers"] = answers = {}
            for address in shown["addresses"][:ADDRESSES]:
                one = replace(config, peers=(replace(peer, endpoint=(address, peer.endpoint[1])),))
                async with usernet.open_tunnel(one, port=0, memory=Memory(latest)) as alone:
                    answers[address] = await _answer(alone, peer)
                    latest = alone.latest_timestamp_ns
            if shown["trouble"] == SILENT and any(shown["answers"].values()):
                shown["trouble"] = ""  # it is one of the others that answers
    found["findings"] = list(findings(found, network.mtu))
    return found


async def _answer(network: Engine, peer: Peer) -> float | None:
    """The milliseconds that a handshake took."""
    took = await network.shake_hands(peer.public_key, SECONDS)
    return None if took is None else round(took * 1000, 1)


async def _peer(network: Engine, peer: Peer) -> dict[str, Any]:
    found: dict[str, Any] = {"peer": short_key(peer.public_key), "endpoint": None, "addresses": [], "trouble": ""}
    if peer.endpoint is None:
        found["trouble"] = "it has no Endpoint, so it has to speak first"
        return found
    found["endpoint"] = format_endpoint(peer.endpoint)
    try:
        async with asyncio.timeout(SECONDS):
            addresses = await host_look_up(*peer.endpoint)
    except TimeoutError:
        found["trouble"] = f"the name {peer.endpoint[0]} is not answered for by this machine's resolver"
        return found
    except OSError as error:
        found["trouble"] = f"the name {peer.endpoint[0]} does not resolve: {error.strerror or error}"
        return found
    found["addresses"] = [address[0] for address in addresses]
    took = await network.shake_hands(peer.public_key, SECONDS)
    found["handshake_ms"] = None if took is None else round(took * 1000, 1)
    if took is None:
        found["trouble"] = SILENT
    where = next((a for a in network.endpoints() if a[0] in found["addresses"]), addresses[0])
    found["from"] = source_of(where)
    found["mtu"] = path_mtu(where)
    found["largest_inner"] = None if found["mtu"] is None else found["mtu"] - TUNNEL_BYTES[len(where)]
    return found


def path_mtu(address: Address) -> int | None:
    """What the kernel knows of the way there; nothing is sent."""
    is_v4 = len(address) == 2
    try:
        with socket.socket(socket.AF_INET if is_v4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            level, option = (socket.IPPROTO_IP, _IP_MTU) if is_v4 else (socket.IPPROTO_IPV6, _IPV6_MTU)
            return probe.getsockopt(level, option)
    except OSError:
        return None


def _tun() -> str:
    """ "yes", or why not."""
    try:
        os.close(os.open(CLONE, os.O_RDWR))
    except OSError as error:
        return "missing" if error.errno == errno.ENOENT else error.strerror or str(error)
    return "yes"


def _way_out(address: Address) -> dict[str, str] | None:
    """From which address of this machine packets leave, and by which interface, if that is known."""
    source = source_of(address)
    return None if source is None else {"source": source, "interface": interface_of(source)}


def interface_of(source: str) -> str:
    """Whose first address this is (netdevice(7)), or IPv6 address; '' where Linux does not say."""
    with contextlib.suppress(OSError):
        if ":" in source:
            packed = ip_address(source.partition("%")[0]).packed.hex()
            for line in Path("/proc/net/if_inet6").read_text().splitlines():
                if line.startswith(packed):
                    return line.split()[-1]
            return ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # it has no address
                    answer = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("16s240x", name.encode()))
                    if socket.inet_ntoa(answer[20:24]) == source:
                        return name
    return ""


def findings(found: dict[str, Any], mtu: int) -> Iterator[str]:
    """What is in the way, and what to do."""
    if not any(found["families"].values()):
        yield "this machine has no way out at all: is it online?"
    for peer in found["peers"]:
        answers = peer.get("answers", {})
        silent = [address for address, took in answers.items() if took is None]
        if silent and len(silent) < len(answers):
            good = next(address for address, took in answers.items() if took is not None)
            yield (
                f"peer {peer['peer']} answers at {good}, but not at {' and '.join(silent)}, which may be tried first; "
                f"write {good} instead of the name"
            )
        if peer["trouble"]:
            yield f"peer {peer['peer']}: {peer['trouble']}{_remedy(peer)}"
        largest = peer.get("largest_inner")
        if largest is not None and largest < mtu:
            yield (
                f"peer {peer['peer']}: packets of MTU {mtu} do not fit into the {peer['mtu']} bytes of the way there; "
                f"write MTU = {largest // 8 * 8} into [Interface]"
            )
    for one in (found["udp"] or {}).get("sockets", ()):
        if one["receive_buffer"] < 1 << 20:
            yield (
                f"the UDP socket of {one['family']} holds {one['receive_buffer']} bytes, which fast downloads overrun; "
                "sysctl net.core.rmem_max=7500000 lets it have more"
            )
        if not one["gso"] or not one["gro"]:
            missing = "GSO" if not one["gso"] else "GRO"
            yield f"{one['family']} goes without {missing}: this kernel has none, and it is slower"


def _remedy(peer: dict[str, Any]) -> str:
    if peer["trouble"] == SILENT:
        return (
            ": is UDP let out to that port? does it have our public key, and we its? is the preshared key the same at "
            "both ends, and this machine's clock right?"
        )
    if "resolve" in peer["trouble"] or "resolver" in peer["trouble"]:
        return "; write an address instead of the name, or see to this machine's DNS"
    return ""
