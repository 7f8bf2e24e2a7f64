"""A peer's state: which session may be sent on."""

from __future__ import annotations

from usernet.burst.reference import ReferenceKernel
from usernet.wireguard.handshake import Identity, Keypair, RemoteStatic
from usernet.wireguard.peer import Peer, PeerSettings
from usernet.wireguard.session import Session
from usernet.wireguard.timers import Timing

TIMING = Timing(reject_after_messages=100)


def peer() -> Peer:
    key = Identity(bytes(31) + b"\1").public_key
    remote = RemoteStatic(Identity(bytes(31) + b"\2"), key)
    return Peer(PeerSettings(key, endpoint=("192.0.2.1", 1)), remote, 1420, TIMING, bytes)


def session(now: float) -> Session:
    return Session(Keypair(bytes(32), bytes(32), 1, 2, True), ReferenceKernel(), TIMING, now)


def test_only_current_is_sent_on() -> None:
    one = peer()
    assert one.sending_session(0.0) is None
    one.slots.install_as_responder(session(0.0))
    assert one.sending_session(0.0) is None
    one.slots.confirm()
    assert one.sending_session(0.0) is one.slots.current


def test_not_for_longer_than_it_may_be() -> None:
    one = peer()
    one.slots.install_as_initiator(session(1000.0))
    assert one.sending_session(1179.9) is not None
    assert one.sending_session(1180.0) is None


def test_not_more_often_than_it_may_be() -> None:
    one = peer()
    current = session(0.0)
    one.slots.install_as_initiator(current)
    current.send_key.counter = 99
    assert one.sending_session(0.0) is current
    current.send_key.counter = 100
    assert one.sending_session(0.0) is None


def test_statistics_of_a_new_peer() -> None:
    statistics = peer().statistics()
    assert statistics.endpoint == ("192.0.2.1", 1)
    assert statistics.last_handshake is None
    assert not statistics.session
    assert (statistics.rx_bytes, statistics.tx_bytes, statistics.staged_packets) == (0, 0, 0)


def test_a_preshared_key_is_not_shown() -> None:
    assert "secret" not in repr(PeerSettings(bytes(32), preshared_key=b"secret".ljust(32)))
