"""What a peer echoes shows whether it hears us: forged segments that have everything else right are dropped."""

from __future__ import annotations

import pytest

from tests.support.tcp import Peer
from usernet.tcp import State, TcpSettings
from usernet.wire.tcp import ACK, SYN

OFFSET = 7  # of the connection's timestamps
DAY = 86_400.0


def established(**options: object) -> Peer:
    """The handshake's echo is believed."""
    peer = Peer.established(syn={"timestamp": (1000, echo(100.0)), **options})
    assert peer.connection.timestamps
    assert peer.connection.echoed == echo(100.0)
    return peer


def echo(at: float) -> int:
    """The timestamp that we send at a time."""
    return (int(at * 1000) + OFFSET) & 0xFFFF_FFFF


def test_what_we_never_sent_is_not_echoed_by_the_peer() -> None:
    peer = established()
    peer.passes(5.0)
    for wrong in (echo(peer.now) + 1, echo(peer.now) + 50_000, echo(39.9), 0):
        peer.sends("3:1 A", b"forged", timestamp=(1001, wrong))  # in the window, where a guess falls
    assert peer.connection.receiver.reassembly is None
    assert peer.connection.drops["tcp-echo"] == 4
    assert peer.hears() == ["1:1 A"], "one challenge in half a second"
    peer.sends("1:1 A", b"data", timestamp=(1001, echo(peer.now)))
    assert peer.connection.read(100) == b"data"


@pytest.mark.parametrize("late", [0.0, 59.0])
def test_what_was_reordered_is_believed(late: float) -> None:
    peer = established()
    peer.passes(100.0)
    peer.sends("5:1 A", b"new", timestamp=(1500, echo(peer.now)))  # the long way: behind a gap
    assert peer.connection.echoed == echo(peer.now)
    peer.sends("1:1 A", b"late", timestamp=(1500, echo(peer.now - late)))
    assert peer.connection.read(100) == b"latenew"
    assert peer.connection.echoed == echo(peer.now), "it does not go back"


def test_what_is_older_than_any_path_keeps_it_is_not() -> None:
    peer = established()
    peer.passes(100.0)
    peer.sends("5:1 A", b"new", timestamp=(1500, echo(peer.now)))
    peer.sends("1:1 A", b"late", timestamp=(1500, echo(peer.now - 61)))
    assert peer.connection.readable_bytes == 0
    assert peer.connection.drops["tcp-echo"] == 1


@pytest.mark.parametrize("days", [0.5, 24.0, 26.0, 60.0])
def test_a_silence_of_both_is_no_offence(days: float) -> None:
    """The peer still echoes the last it has heard."""
    peer = established()
    last = echo(peer.now)
    peer.passes(days * DAY)
    peer.sends("1:1 A", b"data", timestamp=(1000 + int(days * DAY * 1000) & 0xFFFF_FFFF, last))
    assert peer.connection.read(100) == b"data"


def test_who_forgot_what_to_echo_is_told_and_heard_again() -> None:
    """A peer whose TS.Recent was lost, as by a move to another machine, learns ours from the challenge ACK."""
    peer = established()
    peer.passes(5.0)
    peer.sends("5:1 A", b"new", timestamp=(1500, 0))
    (answer,) = peer.hears_segments()
    assert answer.timestamp is not None
    assert answer.timestamp[0] == echo(peer.now)
    peer.sends("5:1 A", b"new", timestamp=(1500, answer.timestamp[0]))
    peer.sends("1:1 A", b"data", timestamp=(1500, answer.timestamp[0]))
    assert peer.connection.read(100) == b"datanew"


@pytest.mark.parametrize("first", [2**31, 0])
def test_a_peer_that_never_echoes_rightly_is_not_tested(first: int) -> None:
    peer = Peer.connecting()
    peer.passes(0.9)
    peer.now += 200.0  # 0 is not one of ours either
    peer.hears()
    peer.delivers(peer.syn(SYN | ACK, ack=peer.isn + 1, timestamp=(1000, first)))
    for at, wrong in ((5, 0), (9, 2**31), (1, 2**30)):
        peer.sends(f"{at}:1 A", b"data", timestamp=(1001, wrong))
    assert peer.connection.read(100) == b"datadatadata"
    assert peer.connection.echoed is None
    assert "tcp-echo" not in peer.connection.drops


def test_without_timestamps_nothing_is_asked() -> None:
    peer = Peer.established()
    peer.sends("1:1 A", b"data", timestamp=(1, 1))  # RFC 7323 3.2: ignored
    peer.sends("7:1 A", b"more")
    assert peer.connection.read(100) == b"data"
    assert peer.connection.echoed is None


def test_a_passive_opening_believes_its_ack() -> None:
    peer = Peer.accepting(syn={"timestamp": (1000, 0)})
    peer.hears()
    assert peer.connection.echoed is None
    peer.sends("1:1 A", timestamp=(1001, echo(100.0)))
    assert peer.connection.echoed == echo(100.0)


@pytest.mark.parametrize(("ack", "stamp"), [(9999, echo(100.0)), (1, echo(100.0) + 10_000)])
def test_who_is_not_believed_leaves_no_timestamp_behind(ack: int, stamp: int) -> None:
    """Else the peer's own segments would look old from then on (Linux commit 12fb3dd9dc3c)."""
    peer = established()
    peer.sends(f"1:{ack} AF", b"x", timestamp=(200_000, stamp))
    assert peer.connection.receiver.ts_recent == 1000
    peer.sends("1:1 A", b"data", timestamp=(1001, echo(100.0)))
    assert peer.connection.read(100) == b"data"
    assert "tcp-paws" not in peer.connection.drops


def test_who_is_not_believed_is_no_sign_of_life() -> None:
    peer = Peer.established(settings=TcpSettings(keepalive_idle=100, keepalive_probes=2))
    for _ in range(5):
        peer.passes(75.0)
        peer.sends("1:70000 A")
    assert peer.is_in(State.CLOSED)
    assert isinstance(peer.connection.error, TimeoutError)


def test_a_duplicate_that_is_not_believed_is_not_reported() -> None:
    """A duplicate SACK would make the peer undo a recovery that was needed (RFC 2883)."""
    for stamp, reported in ((echo(100.0), True), (echo(90.0) - 60_001, False)):
        peer = established()
        peer.sends("1:1 A", b"data", timestamp=(1001, echo(100.0)), segments=2)
        peer.hears()
        peer.sends("1:1 A", b"data", timestamp=(1001, stamp))
        (answer,) = peer.hears_segments()
        assert bool(answer.sack_blocks) == reported


def test_an_old_acknowledgement_is_as_old_as_the_window_at_most() -> None:
    """RFC 5961 5.2, where more has been sent than a window."""
    for ack, size in ((2001, 4), (2000, 0)):
        peer = Peer.established(window=1000, syn={"window_scale": None})
        for sent in range(0, 3000, 1000):
            peer.connection.write(bytes(1000))
            peer.hears()
            peer.sends(f"1:{sent + 1001} A", window=1000)
        peer.sends(f"1:{ack} A", b"data", window=1000)
        assert peer.connection.readable_bytes == size
