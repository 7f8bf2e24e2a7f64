"""What is legal and yet probably not meant: warnings about a whole configuration."""

from __future__ import annotations

from collections.abc import Iterator

from usernet.config import files
from usernet.config.hashes import is_hash
from usernet.config.model import Config, Network
from usernet.config.values import format_network, mask
from usernet.errors import Problem
from usernet.wire.ip import pack_address

MIN_IPV6_MTU = 1280  # RFC 8200 5


def host_bits(net: Network) -> tuple[str, str]:
    """(message, remedy) for an allowed IP that names a host inside its network."""
    return (
        f"AllowedIPs: {format_network(net)} has bits set behind its prefix: it is read as {format_network(mask(net))}",
        f"write {format_network(mask(net))}, or {format_network((net[0], len(net[0]) * 8))} for the one address",
    )


def has_passwords(config: Config) -> bool:
    return bool(config.access.users) or any(proxy.password is not None for proxy in config.proxies)


def warnings(config: Config, filename: str, wireguard_file: str, exposed: bool) -> Iterator[Problem]:
    """Every lint, each of which yields (line, message, remedy).

    `wireguard_file`, often the same, has the keys; `exposed`: everybody can read them.
    """
    for check in (_interface, _name_servers, _peers, _claimed_twice, _access):
        for line, message, remedy in check(config):
            yield Problem(wireguard_file, line, message, remedy)
    for check in (_proxies, _forwards):
        for line, message, remedy in check(config):
            yield Problem(filename, line, message, remedy)
    if exposed:
        yield Problem(
            wireguard_file, 1, "everybody on this machine can read this file, which holds secrets", files.CLOSE_IT
        )


_Lint = Iterator[tuple[int, str, str]]


def _interface(config: Config) -> _Lint:
    own = config.interface
    if own.mtu is not None and own.mtu < MIN_IPV6_MTU and any(len(address) == 16 for address, _ in own.addresses):
        yield own.line, f"MTU {own.mtu} is below the {MIN_IPV6_MTU} that IPv6 needs", f"write {MIN_IPV6_MTU} or more"
    if config.peers and own.listen_port is None and all(peer.endpoint is None for peer in config.peers):
        yield (
            own.line,
            "no [Peer] has an Endpoint and there is no ListenPort: the port will be another at each start",
            "write Endpoint, or ListenPort so that peers can find us",
        )


def _name_servers(config: Config) -> _Lint:
    own = config.interface
    if not own.dns:
        yield own.line, "there is no DNS: names cannot be resolved through the tunnel", "write DNS = and an address"
    servers = [(own.dns_line, server) for server in own.dns]
    for line, server in [*servers, *((one.line, one.server) for one in config.access.name_servers)]:
        packed = pack_address(server)
        if config.peers and not any(_covers(net, packed) for peer in config.peers for net in peer.allowed_ips):
            yield line, f"no AllowedIPs cover the DNS server {server}", "add it to a peer's AllowedIPs"


def _peers(config: Config) -> _Lint:
    for peer in config.peers:
        if not peer.allowed_ips:
            yield (
                peer.line,
                "this [Peer] has no AllowedIPs: nothing is sent to it",
                "write AllowedIPs = 0.0.0.0/0, ::/0",
            )


def _claimed_twice(config: Config) -> _Lint:
    claimed: dict[Network, int] = {}
    for peer in config.peers:
        for net in peer.allowed_ips:
            if net in claimed:
                yield (
                    peer.line,
                    f"{format_network(net)} belongs to the [Peer] of line {claimed[net]} too: this one gets it",
                    "give it to one of them",
                )
            claimed[net] = peer.line


def _access(config: Config) -> _Lint:
    access = config.access
    for user in access.users:
        if not is_hash(user.secret):
            yield user.line, f"the password of {user.name} is in clear", "store its hash: `usernet passwd` makes it"
    for number, rule in enumerate(access.rules):
        if rule.everything and not rule.ports and not rule.users and number + 1 < len(access.rules):
            last = access.rules[number + 1]
            yield last.line, f"the rule of line {rule.line} takes everything: this one is never reached", "put it last"
            break


def _proxies(config: Config) -> _Lint:
    everybody = not config.access.users and not config.access.allow_from
    for proxy in config.proxies:
        if everybody and proxy.username is None and not _is_ours_alone(proxy.host):
            yield (
                proxy.line,
                "this proxy is open to other machines and asks for no password: it starts with --allow-anyone only",
                "write Username and Password, or 127.0.0.1 in BindAddress",
            )


def _forwards(config: Config) -> _Lint:
    for tunnel in config.client_tunnels:
        if not _is_ours_alone(tunnel.host):
            yield (
                tunnel.line,
                f"other machines, too, get to {tunnel.target[0]} port {tunnel.target[1]} by this forward",
                "write 127.0.0.1 in BindAddress, or ignore this",
            )


def _is_ours_alone(host: str) -> bool:
    """Whether only this machine gets there; of a name it is not known yet, and not complained about."""
    try:
        packed = pack_address(host.partition("%")[0])
    except ValueError:
        return host != ""
    return packed[0] == 127 if len(packed) == 4 else packed == bytes(15) + b"\1"


def _covers(net: Network, address: bytes) -> bool:
    return len(net[0]) == len(address) and mask((address, net[1])) == net
