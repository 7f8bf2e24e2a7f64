"""The peers of a configuration as the tunnel has them: where each is, and who is to be asked for a session.

Where one is comes from the configuration, from an earlier start (`Memory`), or from its packets, which the tunnel
follows by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usernet.aio.endpoints import Endpoints
from usernet.aio.runtime import Tasks, boottime
from usernet.burst.packets import Address
from usernet.wireguard.tunnel import PeerSettings, Tunnel

if TYPE_CHECKING:
    from usernet.config import Config, Peer
    from usernet.config.changes import Changes


@dataclass(frozen=True, slots=True)
class Memory:
    """What is worth keeping for the next start."""

    timestamp_ns: int = 0  # the greatest that a handshake of ours has carried: none may be below
    endpoints: Mapping[bytes, Address] = field(default_factory=dict)  # of peers with whom a handshake has completed


class Peers:
    """`changed` is called when one can be reached that could not.  `endpoints`: where their names lead."""

    def __init__(self, tasks: Tasks, tunnel: Tunnel, memory: Memory, changed: Callable[[], None]) -> None:
        self.endpoints = Endpoints(tasks, self._on_endpoint)
        self._tunnel = tunnel
        self._memory = memory
        self._changed = changed
        self._configured: Sequence[Peer] = ()
        self._asked_early: set[bytes] = set()  # to be asked for a session once their names are resolved

    def begin(self, config: Config) -> None:
        self._configured = config.peers
        for peer in config.peers:
            self._add(peer)

    def apply(self, config: Config, changes: Changes) -> None:
        """Have those of another configuration.  Sessions survive, but for another private key."""
        known = {peer.public_key: peer for peer in self._configured}
        self._configured = config.peers
        for public_key in changes.removed:
            self._asked_early.discard(public_key)
            self.endpoints.forget(public_key)
            self._tunnel.remove_peer(public_key)
        if changes.private_key:
            self._tunnel.set_private_key(config.interface.private_key, boottime())
        # In the file's order, and all of them: a network that two peers claimed may be the other's now
        peers_differ = changes.added or changes.removed or changes.altered or changes.private_key
        for peer in config.peers if peers_differ else ():
            self._add(peer, known.get(peer.public_key))

    def _add(self, peer: Peer, known: Peer | None = None) -> None:
        """`known`: what was configured before.  An endpoint that is the same there stays where it has moved to."""
        if peer.public_key == self._tunnel.public_key:
            return  # as the tunnel does
        endpoint = None
        if peer.endpoint is not None and (known is None or known.endpoint != peer.endpoint):
            self.endpoints.forget(peer.public_key)
            endpoint = self.endpoints.add(
                peer.public_key, *peer.endpoint, remembered=self._memory.endpoints.get(peer.public_key)
            )
        elif peer.endpoint is None and known is None:
            endpoint = self._memory.endpoints.get(peer.public_key)
        settings = PeerSettings(
            public_key=peer.public_key,
            preshared_key=peer.preshared_key,
            allowed_ips=peer.allowed_ips,
            endpoint=endpoint,
            persistent_keepalive=peer.persistent_keepalive,
            reserved=peer.reserved,
        )
        self._tunnel.add_peer(settings, boottime())

    def request_handshakes(self) -> None:
        """Of every peer that has an endpoint; of one whose name is still being resolved when that is done."""
        now, own = boottime(), self._tunnel.public_key
        for peer in self._configured:
            if peer.public_key == own or peer.endpoint is None:
                continue
            if self.endpoints.is_known(peer.public_key):
                self._tunnel.request_handshake(peer.public_key, now)
            else:
                self._asked_early.add(peer.public_key)

    def _on_endpoint(self, public_key: bytes, address: Address) -> None:
        self._tunnel.set_endpoint(public_key, address)
        if public_key in self._asked_early:
            self._asked_early.discard(public_key)
            self._tunnel.request_handshake(public_key, boottime())
        self._changed()

    def memory(self) -> Memory:
        """For the next start."""
        peers = self._tunnel.statistics().peers
        found = {peer.public_key: peer.endpoint for peer in peers if peer.last_handshake is not None}
        good = {key: address for key, address in found.items() if address is not None}
        configured = {peer.public_key for peer in self._configured}
        earlier = {key: address for key, address in self._memory.endpoints.items() if key in configured}
        return Memory(self._tunnel.latest_timestamp_ns, {**earlier, **good})
