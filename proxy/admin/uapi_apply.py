"""A `set` of uapi.py and a configuration -> the configuration that is wanted; pure, and all or nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from proxy.admin.uapi import NO_KEY, PeerChange, Set, UapiError
from usernet.burst.packets import Address
from usernet.config import Config, Network, Peer


class _Peers:
    """The peers while a Set is worked on: allowed IPs by peer, and the other way round."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self.peers = {peer.public_key: peer for peer in peers}
        self._allowed = {key: dict.fromkeys(peer.allowed_ips) for key, peer in self.peers.items()}
        self._owners: dict[Network, set[bytes]] = {}
        for key, networks in self._allowed.items():
            for net in networks:
                self._owners.setdefault(net, set()).add(key)

    def remove(self, key: bytes) -> None:
        self.clear(key)
        self._allowed.pop(key, None)
        self.peers.pop(key, None)

    def clear(self, key: bytes) -> None:
        for net in list(self._allowed.get(key, ())):
            self.take(key, net)

    def give(self, key: bytes, net: Network) -> None:
        """It is nobody else's then (WireGuard paper, section 2.1: a network is in the table once)."""
        for owner in self._owners.get(net, set()) - {key}:
            self.take(owner, net)
        self._allowed.setdefault(key, {})[net] = None
        self._owners.setdefault(net, set()).add(key)

    def take(self, key: bytes, net: Network) -> None:
        if net in self._allowed.get(key, {}):
            del self._allowed[key][net]
            self._owners[net].discard(key)

    def built(self) -> tuple[Peer, ...]:
        """Those that are as they were are the same objects."""
        found = []
        for key, peer in self.peers.items():
            allowed = self._allowed.get(key, {})
            same = allowed.keys() == set(peer.allowed_ips)  # in whatever order
            found.append(peer if same else replace(peer, allowed_ips=tuple(allowed)))
        return tuple(found)


def apply(
    config: Config,
    wanted: Set,
    *,
    public_of: Callable[[bytes], bytes],
    listen_port: int,
    endpoints: Mapping[bytes, Address],
) -> Config:
    """The configuration that `wanted` makes of this one; equal to it where nothing new is said.  Raises UapiError.

    `public_of`: private key -> public key.  What a `get` has shown may come back, and is nothing new: `listen_port`,
    which the configuration may leave open, and `endpoints`, where peers are at present.  `wg` resolves names itself, so
    a peer that is configured by a name, and is wanted where that name has led to, keeps its name.
    """
    if wanted.private_key == NO_KEY:
        raise UapiError(errno.ENOKEY, "a tunnel cannot be without a private key")
    if wanted.fwmark:
        raise UapiError(errno.EOPNOTSUPP, "a firewall mark cannot be set here")
    interface = config.interface
    if wanted.private_key is not None:
        interface = replace(interface, private_key=wanted.private_key)
    if wanted.listen_port is not None and wanted.listen_port != listen_port:
        interface = replace(interface, listen_port=wanted.listen_port or None)
    before = {peer.public_key: peer for peer in config.peers}
    peers = _Peers(() if wanted.replace_peers else config.peers)
    own = public_of(interface.private_key)
    for change in wanted.peers:
        if change.public_key != own:
            _change(peers, change, before, endpoints)
    if wanted.private_key is not None:
        peers.remove(own)  # nobody is a peer of himself
    return replace(config, interface=interface, peers=peers.built())


def _change(
    peers: _Peers, change: PeerChange, before: Mapping[bytes, Peer], endpoints: Mapping[bytes, Address]
) -> None:
    key = change.public_key
    peer = peers.peers.get(key)
    if change.remove:
        peers.remove(key)
        return
    if peer is None:
        if change.update_only:
            return
        # `Reserved` cannot be said here, and is the provider's to know: it stays with its key.
        peer = Peer(key, reserved=before[key].reserved, line=before[key].line) if key in before else Peer(key)
    if change.preshared_key is not None:
        peer = replace(peer, preshared_key=None if change.preshared_key == NO_KEY else change.preshared_key)
    if change.endpoint is not None:
        known = before[key].endpoint if key in before else None
        is_there = key in endpoints and endpoints[key][:2] == change.endpoint
        peer = replace(peer, endpoint=known if known is not None and is_there else change.endpoint)
    if change.persistent_keepalive is not None:
        peer = replace(peer, persistent_keepalive=change.persistent_keepalive)
    peers.peers[key] = peer
    if change.replace_allowed_ips:
        peers.clear(key)
    for is_given, net in change.allowed_ips:
        (peers.give if is_given else peers.take)(key, net)
