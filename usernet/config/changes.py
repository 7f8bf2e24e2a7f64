"""What is different between two configurations."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from usernet.config.model import Config, Interface, Peer


@dataclass(frozen=True, slots=True)
class Changes:
    """Peers by public key.  It is false where there are none."""

    private_key: bool = False
    listen_port: bool = False
    addresses: bool = False
    mtu: bool = False
    names: bool = False  # name servers, search domains, whose addresses come first
    inbound: bool = False
    checks: bool = False  # what is pinged to know whether the tunnel works, and how often
    proxies: bool = False
    forwards: bool = False  # both ways
    access: bool = False  # who may use the proxies, and which way destinations go
    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()
    altered: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return self != NO_CHANGES

    def __str__(self) -> str:
        """For a log: 'private key, 2 peers added'."""
        words = [field.name.replace("_", " ") for field in fields(self) if getattr(self, field.name) is True]
        for verb in ("added", "removed", "altered"):
            count = len(getattr(self, verb))
            if count:
                words.append(f"{count} peer{'' if count == 1 else 's'} {verb}")
        return ", ".join(words) or "nothing has changed"


NO_CHANGES = Changes()


def compare(old: Config, new: Config) -> Changes:
    """Where lines stand in the file is no difference."""
    before, after = old.interface, new.interface
    old_peers, new_peers = _by_key(old), _by_key(new)
    return Changes(
        private_key=before.private_key != after.private_key,
        listen_port=before.listen_port != after.listen_port,
        addresses=before.addresses != after.addresses,
        mtu=before.mtu != after.mtu,
        names=_names(old) != _names(new),
        inbound=before.inbound != after.inbound,
        checks=(before.check_alive, before.check_alive_interval) != (after.check_alive, after.check_alive_interval),
        proxies=_unnumbered(old.proxies) != _unnumbered(new.proxies),
        forwards=_forwards(old) != _forwards(new),
        access=_access(old) != _access(new),
        added=tuple(key for key in new_peers if key not in old_peers),
        removed=tuple(key for key in old_peers if key not in new_peers),
        altered=tuple(key for key, peer in new_peers.items() if key in old_peers and old_peers[key] != peer),
    )


def _by_key(config: Config) -> dict[bytes, Peer]:
    return {peer.public_key: replace(peer, line=0) for peer in config.peers}


def _unnumbered(values: tuple[Any, ...]) -> list[Any]:
    """Without where they stand in the file, where that is known of them."""
    return [value if isinstance(value, tuple) else replace(value, line=0) for value in values]


def _forwards(config: Config) -> object:
    return _unnumbered((*config.server_tunnels, *config.client_tunnels))


def _access(config: Config) -> object:
    access = config.access
    return [_unnumbered(part) for part in (access.users, access.allow_from, access.upstreams, access.rules)]


def _names(config: Config) -> object:
    interface: Interface = config.interface
    servers = [(one.server, one.domains) for one in config.access.name_servers]
    return interface.dns, interface.dns_search, config.resolve_strategy, servers
