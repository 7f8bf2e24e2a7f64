"""Opening: active, passive, simultaneous; what is negotiated; what refuses (RFC 9293 3.5, 3.10.7.3, 3.10.7.4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.tcp import FLOW, FLOW_V6, MTU, Peer
from usernet.errors import HostUnreachable
from usernet.tcp import CLOSED, CONNECTED, Connection, State, TcpSettings
from usernet.wire.tcp import ACK, SYN


def test_active_open() -> None:
    peer = Peer.connecting()
    assert peer.is_in(State.SYN_SENT)
    (syn,) = peer.hears_segments()
    assert peer.text(syn) == "0:- S"
    assert (syn.mss, syn.window_scale, syn.sack_permitted, syn.window) == (MTU - 40, 7, True, 0xFFFF)
    assert syn.timestamp == ((100_000 + 7), 0)
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1))
    assert peer.is_in(State.ESTABLISHED)
    assert peer.connection.readiness & CONNECTED
    assert peer.hears() == ["1:1 A"]
    assert peer.connection.next_timeout() is None


def test_passive_open() -> None:
    peer = Peer.accepting()
    assert peer.is_in(State.SYN_RECEIVED)
    (answer,) = peer.hears_segments()
    assert peer.text(answer) == "0:1 SA"
    assert answer.timestamp is None  # theirs had none
    assert answer.window_scale == 7
    assert not peer.connection.readiness
    peer.sends("1:1 A", b"hello")
    assert peer.is_in(State.ESTABLISHED)
    assert peer.connection.readiness & CONNECTED
    assert peer.connection.read(100) == b"hello"


@pytest.mark.parametrize("options", [{}, {"timestamp": (9, 0)}, {"mss": None, "window_scale": None}])
def test_a_passive_open_whose_answer_left_before(options: dict[str, Any]) -> None:
    """SYN cookies: nothing was kept of it, and what is made of its ACK is what would have been."""
    syn = Peer.syn(SYN, **options)
    numbers: dict[str, Any] = {"mtu": MTU, "isn": Peer.isn, "timestamp_offset": 7, "now": 100.0}
    usual, late = Peer.accepting(syn=options), Peer(Connection.accept_answered(FLOW, TcpSettings(), syn, **numbers))
    usual.hears()
    assert late.hears() == []
    assert late.is_in(State.SYN_RECEIVED)
    assert late.connection.next_timeout() is None  # nothing would be sent again
    for peer in (usual, late):
        peer.sends("1:1 A", b"hello", timestamp=(10, 100_007) if peer.connection.timestamps else None)
        assert peer.is_in(State.ESTABLISHED)
        assert peer.connection.readiness & CONNECTED
        assert peer.connection.read(100) == b"hello"
        peer.connection.write(b"answer")
    assert usual.hears_segments() == late.hears_segments() != []


def test_simultaneous_open() -> None:
    """RFC 9293 figure 8."""
    peer = Peer.connecting()
    assert peer.hears() == ["0:- S"]
    peer.delivers(Peer.syn(SYN))
    assert peer.is_in(State.SYN_RECEIVED)
    assert peer.hears() == ["0:1 SA"]
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1, window_scale=7)._replace(window=700))
    assert peer.is_in(State.ESTABLISHED)
    assert peer.connection.sender.window == 700  # that of a SYN is not scaled
    assert peer.hears() == []


def test_a_bare_ack_ends_a_simultaneous_open_too() -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.delivers(Peer.syn(SYN))
    peer.hears()
    peer.sends("1:1 A")
    assert peer.is_in(State.ESTABLISHED)


@pytest.mark.parametrize("offered", [None, 0, 7, 14])
def test_window_scale(offered: int | None) -> None:
    peer = Peer.established(syn={"window_scale": offered}, window=1000)
    sender, receiver = peer.connection.sender, peer.connection.receiver
    assert sender.window == 1000  # that of a SYN is never scaled (RFC 7323 2.2)
    peer.sends("1:1 A", b"x", window=3)
    assert sender.window == 3 << (offered or 0)
    assert receiver.scale == (0 if offered is None else 7)
    peer.connection.read(10)
    peer.passes(0.04)
    (answer,) = peer.hears_segments()
    limit = 0xFFFF // 1380 if offered is None else 190  # whole segments
    assert abs((answer.window << receiver.scale) - limit * 1380) < 128


def test_without_timestamps_segments_are_longer() -> None:
    with_them = Peer.established(syn={"timestamp": (1, 0)})
    without = Peer.established()
    assert with_them.connection.sender.mss == 1380 - 12
    assert without.connection.sender.mss == 1380


def test_settings_turn_options_off() -> None:
    settings = TcpSettings(window_scaling=False, timestamps=False, sack=False)
    (syn,) = Peer.connecting(settings).hears_segments()
    assert (syn.window_scale, syn.timestamp, syn.sack_permitted) == (None, None, False)
    peer = Peer.accepting(settings, syn={"timestamp": (1, 0)})
    (answer,) = peer.hears_segments()
    assert (answer.window_scale, answer.timestamp, answer.sack_permitted) == (None, None, False)


@pytest.mark.parametrize(("mss", "used"), [(None, 536), (1, 216), (1380, 1380), (65_535, 1380)])
def test_mss(mss: int | None, used: int) -> None:
    assert Peer.established(syn={"mss": mss}).connection.sender.mss == used


def test_default_mss_of_ipv6() -> None:
    syn = Peer.syn(SYN, mss=None)
    connection = Connection.accept(FLOW_V6, TcpSettings(), syn, mtu=MTU, isn=1, timestamp_offset=0, now=1.0)
    assert connection.sender.mss == 1220
    assert connection.receiver.mss == MTU - 60
    assert len(Peer(connection).hears_segments()) == 1


def test_refused() -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.sends("0:1 RA")
    assert peer.is_in(State.CLOSED)
    assert isinstance(peer.connection.error, ConnectionRefusedError)
    assert peer.connection.readiness & CLOSED
    assert peer.hears() == []


@pytest.mark.parametrize("reset", ["0:- R", "0:0 RA", "0:2 RA"])
def test_a_reset_that_does_not_acknowledge_our_syn_is_ignored(reset: str) -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.sends(reset)
    assert peer.is_in(State.SYN_SENT)
    assert peer.hears() == []  # and never answered


@pytest.mark.parametrize("flags", ["A", "SA"])
@pytest.mark.parametrize("ack", [0, 2, 77])
def test_an_ack_of_nothing_we_sent_is_reset(flags: str, ack: int) -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.sends(f"0:{ack} {flags}")
    assert peer.hears() == [f"{ack}:- R"]
    assert peer.is_in(State.SYN_SENT)
    passive = Peer.accepting()
    passive.hears()
    passive.sends(f"1:{ack} A")
    assert passive.hears() == [f"{ack}:- R"]
    assert passive.is_in(State.SYN_RECEIVED)


def test_a_segment_without_syn_is_ignored_in_syn_sent() -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.sends("0:1 A", b"data")
    assert peer.is_in(State.SYN_SENT)
    assert peer.connection.drops == {"tcp-no-syn": 1}


def test_six_retries_of_the_syn() -> None:
    peer = Peer.connecting()
    assert peer.hears() == ["0:- S"]
    waits = []
    for _ in range(6):
        before = peer.now
        peer.passes(1000)
        assert peer.hears() == ["0:- S"]
        waits.append(round(peer.now - before))
    assert waits == [1, 2, 4, 8, 16, 32]
    assert peer.connection.stalled
    peer.passes(1000)
    assert peer.is_in(State.CLOSED)
    assert isinstance(peer.connection.error, TimeoutError)
    assert peer.hears() == []


def test_the_syn_ack_is_repeated_by_timer_and_by_request() -> None:
    peer = Peer.accepting()
    assert peer.hears() == ["0:1 SA"]
    peer.passes(1.0)
    assert peer.hears() == ["0:1 SA"]
    peer.delivers(Peer.syn(SYN))
    assert peer.hears() == ["0:1 SA"]


def test_a_reset_ends_a_half_open_connection() -> None:
    peer = Peer.accepting()
    peer.hears()
    peer.sends("1:- R")
    assert peer.is_in(State.CLOSED)
    assert isinstance(peer.connection.error, ConnectionResetError)


def test_an_icmp_error_is_fatal_only_in_syn_sent_and_only_when_it_fits() -> None:
    peer = Peer.connecting()
    peer.connection.receive_icmp_error(HostUnreachable("no"), Peer.isn, peer.now)  # nothing is sent yet
    peer.hears()
    peer.connection.receive_icmp_error(HostUnreachable("no"), Peer.isn + 1, peer.now)
    assert peer.is_in(State.SYN_SENT)
    peer.connection.receive_icmp_error(HostUnreachable("no"), Peer.isn, peer.now)
    assert isinstance(peer.connection.error, HostUnreachable)
    assert peer.is_in(State.CLOSED)
    peer = Peer.established()
    peer.connection.write(b"x")
    peer.hears()
    peer.connection.receive_icmp_error(HostUnreachable("no"), Peer.isn + 1, peer.now)
    assert peer.is_in(State.ESTABLISHED)


def test_what_is_written_early_waits() -> None:
    peer = Peer.connecting()
    peer.connection.write(b"early")
    peer.connection.shutdown_write(peer.now)
    assert peer.connection.unsent_bytes == 5
    assert peer.hears() == ["0:- S"]
    assert peer.connection.unsent_bytes == 5
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1))
    assert peer.hears() == ["1:1 AF +5"]
    assert peer.is_in(State.FIN_WAIT_1)


def test_closed_before_it_opened() -> None:
    peer = Peer.connecting()
    peer.hears()
    peer.connection.close(peer.now)
    assert peer.is_in(State.CLOSED)
    assert peer.hears() == []
    passive = Peer.accepting()
    passive.hears()
    passive.connection.close(passive.now)
    assert passive.is_in(State.SYN_RECEIVED)
    passive.sends("1:1 A")
    assert passive.hears() == ["1:1 AF"]


def test_abort_of_a_half_open_connection_resets_it() -> None:
    passive = Peer.accepting()
    passive.hears()
    passive.connection.abort(passive.now)
    assert passive.hears() == ["1:1 AR"]
    active = Peer.connecting()
    active.hears()
    active.connection.abort(active.now)
    assert active.hears() == []


def test_path_changed_repeats_the_syn_at_once() -> None:
    peer = Peer.connecting()
    peer.hears()
    for _ in range(4):
        peer.passes(1000)
        peer.hears()
    peer.connection.path_changed(peer.now)
    assert peer.hears() == ["0:- S"]
    assert peer.connection.next_timeout() == peer.now + 1.0


def test_flow_of_the_packets() -> None:
    peer = Peer.connecting()
    (syn,) = peer.hears_segments()
    assert (syn.source_port, syn.destination_port) == (FLOW.local_port, FLOW.remote_port)
