"""What a set makes of a configuration."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.uapi import NO_KEY, PeerChange, Set, UapiError
from proxy.admin.uapi_apply import apply
from usernet.burst.packets import Address
from usernet.config import Config, Interface, Network, Peer

A, B, C, KEY = b"\xaa" * 32, b"\xbb" * 32, b"\xcc" * 32, b"\x11" * 32


def net(number: int) -> Network:
    return bytes([10, number, 0, 0]), 16


CONFIG = Config(
    Interface(KEY, (net(9),), listen_port=51820, mtu=1300),
    (
        Peer(A, b"\x22" * 32, ("vpn.example.org", 5), (net(1), net(2)), 25, b"\1\2\3", line=7),
        Peer(B, allowed_ips=(net(3),)),
    ),
)


def public_of(private_key: bytes) -> bytes:
    return bytes(255 - byte for byte in private_key)


def applied(
    *peers: PeerChange, config: Config = CONFIG, endpoints: dict[bytes, Address] | None = None, **rest: Any
) -> Config:
    return apply(config, Set(peers=peers, **rest), public_of=public_of, listen_port=51820, endpoints=endpoints or {})


def peer(key: bytes, config: Config) -> Peer:
    return next(peer for peer in config.peers if peer.public_key == key)


def test_nothing_new() -> None:
    assert applied() == CONFIG
    assert applied(PeerChange(A), PeerChange(B, allowed_ips=((True, net(3)),))) == CONFIG
    other_order = PeerChange(A, replace_allowed_ips=True, allowed_ips=((True, net(2)), (True, net(1))))
    assert applied(other_order) == CONFIG
    assert applied(private_key=KEY, listen_port=51820, fwmark=0) == CONFIG


def test_the_interface() -> None:
    found = applied(private_key=C, listen_port=0)
    assert found.interface == replace(CONFIG.interface, private_key=C, listen_port=None)
    assert found.peers == CONFIG.peers
    assert applied(listen_port=7).interface.listen_port == 7


def test_a_port_that_was_any_stays_any() -> None:
    """What `wg showconf` says may be given to `wg setconf`: it is the port that we have."""
    config = replace(CONFIG, interface=replace(CONFIG.interface, listen_port=None))
    assert applied(config=config, listen_port=51820) == config


def test_a_peer_comes_changes_and_goes() -> None:
    change = PeerChange(
        C, preshared_key=KEY, endpoint=("192.0.2.1", 7), persistent_keepalive=5, allowed_ips=((True, net(4)),)
    )
    found = applied(change)
    assert peer(C, found) == Peer(C, KEY, ("192.0.2.1", 7), (net(4),), 5)
    assert found.peers[:2] == CONFIG.peers
    found = applied(PeerChange(C, preshared_key=NO_KEY, persistent_keepalive=0), config=found)
    assert peer(C, found) == Peer(C, None, ("192.0.2.1", 7), (net(4),), 0)
    assert applied(PeerChange(C, remove=True), config=found) == CONFIG
    assert applied(PeerChange(C, remove=True)) == CONFIG


def test_update_only() -> None:
    assert applied(PeerChange(C, update_only=True, persistent_keepalive=5)) == CONFIG
    assert peer(B, applied(PeerChange(B, update_only=True, persistent_keepalive=5))).persistent_keepalive == 5


def test_allowed_ips() -> None:
    found = applied(PeerChange(B, allowed_ips=((True, net(1)), (False, net(3)), (False, net(2)))))
    assert peer(A, found).allowed_ips == (net(2),)  # the first was moved; the other is not B's to give away
    assert peer(B, found).allowed_ips == (net(1),)
    found = applied(PeerChange(A, replace_allowed_ips=True, allowed_ips=((True, net(3)),)))
    assert peer(A, found).allowed_ips == (net(3),)
    assert peer(B, found).allowed_ips == ()


def test_a_removed_peer_leaves_its_networks() -> None:
    found = applied(PeerChange(A, remove=True), PeerChange(A, allowed_ips=((True, net(5)),)))
    assert peer(A, found) == Peer(A, allowed_ips=(net(5),), reserved=b"\1\2\3", line=7)


def test_replace_peers_forgets_what_is_not_said_again() -> None:
    found = applied(PeerChange(A, allowed_ips=((True, net(1)),)), replace_peers=True)
    assert found.peers == (Peer(A, allowed_ips=(net(1),), reserved=b"\1\2\3", line=7),)  # `Reserved` cannot be said
    assert applied(replace_peers=True).peers == ()


def test_a_name_stays_where_it_has_led_to() -> None:
    there: dict[bytes, Address] = {A: ("192.0.2.1", 5)}
    assert applied(PeerChange(A, endpoint=("192.0.2.1", 5)), endpoints=there) == CONFIG
    assert peer(A, applied(PeerChange(A, endpoint=("192.0.2.2", 5)), endpoints=there)).endpoint == ("192.0.2.2", 5)
    assert peer(A, applied(PeerChange(A, endpoint=("192.0.2.1", 5)))).endpoint == ("192.0.2.1", 5)


def test_ourselves() -> None:
    """As a peer we are ignored, also one who only becomes that by the new private key."""
    assert applied(PeerChange(public_of(KEY), allowed_ips=((True, net(1)),))) == CONFIG
    found = applied(PeerChange(public_of(C)), PeerChange(public_of(KEY)), private_key=C)
    assert [each.public_key for each in found.peers] == [A, B, public_of(KEY)]
    assert [each.public_key for each in applied(private_key=public_of(A)).peers] == [B]


@pytest.mark.parametrize(
    ("said", "number"), [({"private_key": NO_KEY}, errno.ENOKEY), ({"fwmark": 1}, errno.EOPNOTSUPP)]
)
def test_what_cannot_be(said: dict[str, Any], number: int) -> None:
    with pytest.raises(UapiError) as caught:
        applied(PeerChange(C), **said)
    assert caught.value.number == number


def test_many_networks() -> None:
    """As of netns.sh: one peer with 255x256 of them, given to another one then."""
    many = tuple((True, (bytes([10, a, b, 0]), 24)) for a in range(255) for b in range(256))
    found = applied(PeerChange(C, allowed_ips=many))
    moved = applied(PeerChange(B, allowed_ips=many), config=found)
    assert peer(C, moved).allowed_ips == ()
    assert len(peer(B, moved).allowed_ips) == len(many) + 1


CHANGES = st.builds(
    PeerChange,
    st.sampled_from([A, B, C, public_of(KEY)]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, NO_KEY, KEY]),
    st.sampled_from([None, ("192.0.2.1", 1)]),
    st.sampled_from([None, 0, 25]),
    st.booleans(),
    st.lists(st.tuples(st.booleans(), st.integers(1, 4).map(net)), max_size=4).map(tuple),
)


@given(st.booleans(), st.lists(CHANGES, max_size=4, unique_by=lambda change: change.public_key))
def test_the_same_once_more_is_nothing_new(replace_peers: bool, changes: list[PeerChange]) -> None:
    once = applied(*changes, replace_peers=replace_peers)
    assert applied(*changes, config=once, replace_peers=replace_peers) == once
    owned = [network for each in once.peers for network in each.allowed_ips]
    assert len(owned) == len(set(owned))
