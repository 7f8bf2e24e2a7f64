"""What a running tunnel takes for a difference, and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from usernet.config import (
    AccessRule,
    ClientTunnel,
    Config,
    DomainServer,
    Interface,
    Peer,
    ProxySection,
    ServerTunnel,
    User,
)
from usernet.config.changes import NO_CHANGES, Changes, compare
from usernet.config.model import Inbound

KEY, A, B = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
CONFIG = Config(
    Interface(KEY, ((b"\n\0\0\2", 32),), dns=("10.0.0.1",), line=1),
    (Peer(A, allowed_ips=((b"\n\0\0\0", 8),), line=5),),
)


def interface(**values: object) -> Config:
    return replace(CONFIG, interface=replace(CONFIG.interface, **values))  # type: ignore[arg-type]


def access(**values: object) -> Config:
    return replace(CONFIG, access=replace(CONFIG.access, **values))  # type: ignore[arg-type]


def peers(*them: Peer) -> Config:
    return replace(CONFIG, peers=them)


@pytest.mark.parametrize(
    ("new", "changes", "text"),
    [
        (CONFIG, NO_CHANGES, "nothing has changed"),
        (interface(line=9), NO_CHANGES, "nothing has changed"),
        (peers(replace(CONFIG.peers[0], line=77)), NO_CHANGES, "nothing has changed"),
        (access(rules=(AccessRule("direct"),)), Changes(access=True), "access"),
        (access(allow_from=((b"\n\0\0\0", 8),)), Changes(access=True), "access"),
        (replace(CONFIG, proxies=(ProxySection("http", "", 1),)), Changes(proxies=True), "proxies"),
        (replace(CONFIG, server_tunnels=(ServerTunnel("tcp", 1, ("a", 1)),)), Changes(forwards=True), "forwards"),
        (replace(CONFIG, client_tunnels=(ClientTunnel("tcp", "", 1, ("a", 1)),)), Changes(forwards=True), "forwards"),
        (interface(check_alive_interval=9), Changes(checks=True), "checks"),
        (interface(inbound=(Inbound(None, 0, 65535),)), Changes(inbound=True), "inbound"),
        (interface(private_key=B), Changes(private_key=True), "private key"),
        (interface(listen_port=1), Changes(listen_port=True), "listen port"),
        (interface(addresses=()), Changes(addresses=True), "addresses"),
        (interface(mtu=1280), Changes(mtu=True), "mtu"),
        (interface(dns=()), Changes(names=True), "names"),
        (interface(dns_search=("x.test",)), Changes(names=True), "names"),
        (replace(CONFIG, resolve_strategy="ipv4"), Changes(names=True), "names"),
        (access(name_servers=(DomainServer("10.0.0.5", ("x.test",)),)), Changes(names=True), "names"),
        (peers(*CONFIG.peers, Peer(B)), Changes(added=(B,)), "1 peer added"),
        (peers(Peer(B)), Changes(added=(B,), removed=(A,)), "1 peer added, 1 peer removed"),
        (peers(), Changes(removed=(A,)), "1 peer removed"),
        (peers(Peer(A)), Changes(altered=(A,)), "1 peer altered"),
        (peers(*CONFIG.peers, Peer(B), Peer(KEY)), Changes(added=(B, KEY)), "2 peers added"),
    ],
)  # fmt: skip
def test_differences(new: Config, changes: Changes, text: str) -> None:
    found = compare(CONFIG, new)
    assert found == changes
    assert bool(found) is (changes != NO_CHANGES)
    assert str(found) == text


def test_where_a_line_stands_is_no_difference() -> None:
    def at(line: int) -> Config:
        return replace(
            access(users=(User("me", "x", line),), rules=(AccessRule("direct", line=line),)),
            proxies=(ProxySection("http", "", 1, line=line),),
            server_tunnels=(ServerTunnel("tcp", 1, ("a", 1), line),),
            client_tunnels=(ClientTunnel("tcp", "", 1, ("a", 1), line=line),),
        )

    assert compare(at(1), at(2)) == NO_CHANGES
