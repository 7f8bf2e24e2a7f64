"""Two networks of our own, joined in memory or over UDP on loopback, under one loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from nacl.bindings import crypto_scalarmult_base

from usernet.aio.memory import Impairment, MemoryLink, memory_links
from usernet.aio.network import Network
from usernet.aio.peers import Memory
from usernet.config import Config, Interface, Peer
from usernet.filter import PacketFilter
from usernet.wire.ip import pack_address
from usernet.wireguard.timers import Timing

LEFT, RIGHT = "10.7.0.1", "10.7.0.2"
LEFT6, RIGHT6 = "fd07::1", "fd07::2"
LEFT_OUTER, RIGHT_OUTER = ("192.0.2.1", 51820), ("192.0.2.2", 51820)


@dataclass
class Pair:
    """`left` dials, `right` serves; `links` are theirs when they are joined in memory."""

    left: Network
    right: Network
    links: tuple[MemoryLink, MemoryLink] | None = None


def config_of(
    private_key: bytes,
    addresses: tuple[str, ...],
    peer_key: bytes,
    peer_addresses: tuple[str, ...],
    endpoint: tuple[str, int] | None,
    *,
    dns: tuple[str, ...] = (),
    dns_search: tuple[str, ...] = (),
    mtu: int | None = None,
) -> Config:
    """One interface with one peer, which is allowed just its addresses (an address may carry a prefix: 10.0.0.0/8)."""

    def network(text: str) -> tuple[bytes, int]:
        host, _, prefix = text.partition("/")
        address = pack_address(host)
        return address, int(prefix) if prefix else len(address) * 8

    return Config(
        Interface(private_key, tuple(map(network, addresses)), dns=dns, dns_search=dns_search, mtu=mtu),
        (Peer(peer_key, None, endpoint, tuple(map(network, peer_addresses))),),
    )


def key_pair() -> tuple[bytes, bytes]:
    private_key = os.urandom(32)
    return private_key, crypto_scalarmult_base(private_key)


@contextlib.asynccontextmanager
async def memory_pair(
    impairment: Impairment | None = None,
    *,
    seed: int = 0,
    mtu: int | None = None,
    dial_timeout: float = 10.0,
    right_filter: PacketFilter | None = None,
    timing: Timing | None = None,
) -> AsyncIterator[Pair]:
    links = memory_links(asyncio.get_running_loop(), addresses=(LEFT_OUTER, RIGHT_OUTER), there=impairment, seed=seed)
    (left_key, left_public), (right_key, right_public) = key_pair(), key_pair()
    left_config = config_of(left_key, (LEFT, LEFT6), right_public, (RIGHT, RIGHT6), RIGHT_OUTER, mtu=mtu)
    right_config = config_of(right_key, (RIGHT, RIGHT6), left_public, (LEFT, LEFT6), LEFT_OUTER, mtu=mtu)
    async with (
        Network(left_config, datagram_link=links[0], dial_timeout=dial_timeout, timing=timing) as left,
        Network(
            right_config, datagram_link=links[1], dial_timeout=dial_timeout, packet_filter=right_filter, timing=timing
        ) as right,
    ):
        yield Pair(left, right, links)


@contextlib.asynccontextmanager
async def udp_pair(
    *, mtu: int | None = None, dial_timeout: float = 10.0, memory: Memory | None = None
) -> AsyncIterator[Pair]:
    """Over real sockets: the right one knows no endpoint and learns it.  `memory`: of the left one."""
    (left_key, left_public), (right_key, right_public) = key_pair(), key_pair()
    right_config = config_of(right_key, (RIGHT, RIGHT6), left_public, (LEFT, LEFT6), None, mtu=mtu)
    async with Network(right_config, port=0, dial_timeout=dial_timeout) as right:
        endpoint = ("127.0.0.1", right.listen_port)
        left_config = config_of(left_key, (LEFT, LEFT6), right_public, (RIGHT, RIGHT6), endpoint, mtu=mtu)
        async with Network(left_config, port=0, dial_timeout=dial_timeout, memory=memory) as left:
            yield Pair(left, right)
