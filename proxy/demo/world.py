"""Two ends of a tunnel in one process, joined by real UDP on the loopback, and the proxy in front of the near one.

client --TCP--> proxy -> near Network ==WireGuard over UDP==> far Network -> web site, name server
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import usernet
from proxy.daemon import wgkeys
from proxy.demo.nameserver import NameServer
from proxy.demo.website import Website
from usernet.config import Config, Interface, Peer
from usernet.wire.ip import pack_address

NEAR, FAR = "10.66.0.2", "10.66.0.1"
NEAR6, FAR6 = "fd66::2", "fd66::1"
NAME = "hello.test"  # RFC 6761 6.2: nobody else's


@dataclass(frozen=True, slots=True)
class World:
    near: usernet.Network
    far: usernet.Network
    website: Website


def _host(address: str) -> tuple[bytes, int]:
    packed = pack_address(address)
    return packed, len(packed) * 8


def _end(own: bytes, addresses: tuple[str, str], peer: bytes, theirs: tuple[str, str], port: int | None) -> Config:
    endpoint = None if port is None else ("127.0.0.1", port)
    return Config(
        Interface(own, tuple(map(_host, addresses)), dns=() if port is None else (FAR,)),
        (Peer(peer, endpoint=endpoint, allowed_ips=tuple(map(_host, theirs))),),
    )


@contextlib.asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """Both ends, up and serving."""
    near_key, far_key = wgkeys.generate(), wgkeys.generate()
    far_config = _end(far_key, (FAR, FAR6), wgkeys.public(near_key), (NEAR, NEAR6), None)
    async with usernet.open_tunnel(far_config, port=0) as far:
        website = Website()
        server = await far.start_server(website.serve, None, 80)
        names, _ = await far.create_datagram_endpoint(
            lambda: NameServer({f"{NAME}.": (FAR, FAR6)}), local_addr=(FAR, 53)
        )
        near_config = _end(near_key, (NEAR, NEAR6), wgkeys.public(far_key), (FAR, FAR6), far.listen_port)
        async with usernet.open_tunnel(near_config, port=0) as near:
            yield World(near, far, website)
        names.close()
        server.close()
