"""Closing: every way out of ESTABLISHED, half-closed both ways, resets, orphans, TIME-WAIT (RFC 9293 3.6, 3.10.4)."""

from __future__ import annotations

import pytest

from tests.support.tcp import Peer
from usernet.tcp import CLOSED, EOF, State, TcpSettings
from usernet.tcp.state import TRANSITIONS, Event
from usernet.wire.tcp import ACK, SYN


def test_we_close_first() -> None:
    peer = Peer.established()
    peer.connection.write(b"bye")
    peer.connection.shutdown_write(peer.now)
    assert peer.is_in(State.FIN_WAIT_1)
    assert peer.hears() == ["1:1 AF +3"]  # FIN rides on the last data
    peer.sends("1:5 A")
    assert peer.is_in(State.FIN_WAIT_2)
    assert peer.connection.next_timeout() is None
    peer.sends("1:5 A", b"still talking")
    assert peer.connection.read(100) == b"still talking"
    peer.sends("14:5 AF")
    assert peer.is_in(State.TIME_WAIT)
    assert peer.hears() == ["5:15 A"]
    assert peer.connection.readiness & (EOF | CLOSED) == EOF | CLOSED
    assert peer.connection.at_eof
    peer.passes(59)
    assert peer.is_in(State.TIME_WAIT)
    peer.passes(1)
    assert peer.is_in(State.CLOSED)
    assert peer.connection.error is None
    assert peer.connection.next_timeout() is None


def test_they_close_first() -> None:
    peer = Peer.established()
    peer.sends("1:1 AF", b"bye")
    assert peer.is_in(State.CLOSE_WAIT)
    assert peer.connection.readiness & EOF
    assert not peer.connection.at_eof  # there is something to read yet
    assert peer.connection.read(10) == b"bye"
    assert peer.connection.at_eof
    assert peer.hears() == ["1:5 A"]
    peer.connection.write(b"after you")
    assert peer.hears() == ["1:5 A +9"]
    peer.connection.shutdown_write(peer.now)
    assert peer.is_in(State.LAST_ACK)
    assert peer.hears() == ["10:5 AF"]
    peer.sends("5:10 A")
    assert peer.is_in(State.LAST_ACK)
    peer.sends("5:11 A")
    assert peer.is_in(State.CLOSED)
    assert peer.connection.readiness & CLOSED
    assert peer.connection.error is None
    assert peer.connection.next_timeout() is None


def test_both_close_at_once() -> None:
    peer = Peer.established()
    peer.connection.shutdown_write(peer.now)
    assert peer.hears() == ["1:1 AF"]
    peer.sends("1:1 AF")
    assert peer.is_in(State.CLOSING)
    assert peer.hears() == ["2:2 A"]
    peer.sends("2:2 A")
    assert peer.is_in(State.TIME_WAIT)


def test_fin_and_the_ack_of_ours_in_one() -> None:
    peer = Peer.established()
    peer.connection.shutdown_write(peer.now)
    peer.hears()
    peer.sends("1:2 AF")
    assert peer.is_in(State.TIME_WAIT)
    assert peer.hears() == ["2:2 A"]


def test_a_fin_beyond_a_gap_waits_for_it() -> None:
    peer = Peer.established()
    peer.sends("4:1 AF", b"def")
    assert peer.is_in(State.ESTABLISHED)
    assert peer.hears() == ["1:1 A [4-7]"]
    peer.sends("1:1 A", b"abc")
    assert peer.is_in(State.CLOSE_WAIT)
    assert peer.hears() == ["1:8 A"]
    assert peer.connection.read(10) == b"abcdef"


def test_a_bare_fin_beyond_a_gap() -> None:
    peer = Peer.established()
    peer.sends("4:1 AF")
    assert peer.hears() == ["1:1 A"]
    peer.sends("1:1 A", b"abc")
    assert peer.is_in(State.CLOSE_WAIT)
    assert peer.hears() == ["1:5 A"]


def test_nothing_counts_beyond_a_fin() -> None:
    peer = Peer.established()
    peer.sends("4:1 AF")
    peer.sends("1:1 A", b"abcdef")
    assert peer.connection.read(10) == b"abc"
    peer.sends("5:1 A", b"more")
    assert peer.connection.readable_bytes == 0
    assert peer.is_in(State.CLOSE_WAIT)


def test_time_wait_acknowledges_their_fin_again_and_starts_anew() -> None:
    peer = Peer.established()
    peer.connection.shutdown_write(peer.now)
    peer.hears()
    peer.sends("1:2 AF")
    peer.hears()
    peer.passes(40)
    peer.sends("1:2 AF")
    assert peer.hears() == ["2:2 A [1-2]"]
    peer.sends("2:- R")  # RFC 1337
    peer.passes(59)
    assert peer.is_in(State.TIME_WAIT)
    peer.passes(1)
    assert peer.is_in(State.CLOSED)


@pytest.mark.parametrize(
    ("seq", "timestamp", "may"),
    [
        (1, None, False),
        (2, None, False),
        (3, None, True),
        (1, (999, 0), False),
        (1, (1001, 0), True),
        (3, (1000, 0), True),
    ],
)
def test_a_new_syn_may_end_time_wait(seq: int, timestamp: tuple[int, int] | None, may: bool) -> None:
    peer = Peer.established(syn={"timestamp": (1000, 0)} if timestamp else {})
    syn = Peer.syn(SYN, timestamp=timestamp)._replace(seq=peer.iss + seq)
    assert not peer.connection.may_be_replaced_by(syn)
    peer.connection.shutdown_write(peer.now)
    peer.hears()
    peer.sends("1:2 AF", timestamp=timestamp and (1000, 0))
    assert peer.is_in(State.TIME_WAIT)
    assert peer.connection.may_be_replaced_by(syn) is may
    assert not peer.connection.may_be_replaced_by(syn._replace(flags=ACK))
    peer.passes(60)
    assert peer.connection.may_be_replaced_by(syn)


def test_fin_is_sent_again() -> None:
    peer = Peer.established()
    peer.connection.shutdown_write(peer.now)
    assert peer.hears() == ["1:1 AF"]
    peer.passes(1)
    assert peer.hears() == ["1:1 AF"]
    peer.sends("1:2 A")
    assert peer.is_in(State.FIN_WAIT_2)


def test_closing_with_unread_data_resets() -> None:
    """RFC 2525 2.17."""
    peer = Peer.established()
    peer.sends("1:1 A", b"unread")
    peer.connection.close(peer.now)
    assert peer.is_in(State.CLOSED)
    assert peer.hears() == ["1:7 AR"]
    assert peer.connection.readable_bytes == 0


def test_data_for_an_orphan_resets() -> None:
    """RFC 1122 4.2.2.13."""
    peer = Peer.established()
    peer.connection.close(peer.now)
    assert peer.hears() == ["1:1 AF"]
    peer.sends("1:2 A", b"nobody home")
    assert peer.is_in(State.CLOSED)
    assert peer.hears() == ["2:1 AR"]


def test_an_orphan_waits_60_seconds_in_fin_wait_2() -> None:
    peer = Peer.established()
    peer.connection.close(peer.now)
    peer.hears()
    peer.sends("1:2 A")
    peer.passes(59.9)
    assert peer.is_in(State.FIN_WAIT_2)
    peer.passes(0.1)
    assert peer.is_in(State.CLOSED)
    other = Peer.established()
    other.connection.shutdown_write(other.now)
    other.hears()
    other.sends("1:2 A")
    other.passes(1000)
    assert other.is_in(State.FIN_WAIT_2)  # half closed for as long as it likes
    other.connection.close(other.now)
    other.passes(60)
    assert other.is_in(State.CLOSED)


def test_an_orphan_whose_peer_is_gone_does_not_stay() -> None:
    peer = Peer.established()
    peer.connection.write(b"rest")
    peer.connection.close(peer.now)
    start = peer.now
    while not peer.is_in(State.CLOSED):
        peer.hears()
        peer.passes(1000)
    assert 60 <= peer.now - start < 130


def test_an_orphan_whose_peer_never_opens_its_window_does_not_stay() -> None:
    peer = Peer.established(window=0)
    peer.connection.write(b"rest")
    peer.connection.close(peer.now)
    start = peer.now
    while not peer.is_in(State.CLOSED):
        peer.hears()
        peer.passes(1000)
        peer.sends("1:1 A", window=0)
    assert 60 <= peer.now - start < 130


@pytest.mark.parametrize("state", ["ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT"])
def test_abort_resets(state: str) -> None:
    peer = in_state(state)
    peer.hears()
    peer.connection.abort(peer.now)
    assert peer.is_in(State.CLOSED)
    assert [text.split()[1] for text in peer.hears()] == ["AR"]
    assert peer.connection.next_timeout() is None
    peer.connection.abort(peer.now)
    peer.connection.close(peer.now)
    assert peer.hears() == []


@pytest.mark.parametrize("state", ["CLOSING", "LAST_ACK", "TIME_WAIT"])
def test_abort_without_a_reset(state: str) -> None:
    peer = in_state(state)
    peer.hears()
    peer.connection.abort(peer.now)
    assert peer.is_in(State.CLOSED)
    assert peer.hears() == []


def in_state(name: str) -> Peer:
    """A connection in a synchronized state, by the shortest way."""
    peer = Peer.established()
    if name in ("CLOSE_WAIT", "LAST_ACK"):
        peer.sends("1:1 AF")
    if name in ("FIN_WAIT_1", "FIN_WAIT_2", "CLOSING", "TIME_WAIT", "LAST_ACK"):
        peer.connection.shutdown_write(peer.now)
        peer.hears()
    if name in ("CLOSING", "TIME_WAIT"):
        peer.sends("1:1 AF")
    if name in ("FIN_WAIT_2", "TIME_WAIT"):
        peer.sends(f"{1 + (name == 'TIME_WAIT')}:2 A")
    assert peer.is_in(State[name])
    return peer


SYNCHRONIZED = ["ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT"]


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_a_reset_in_every_state(name: str) -> None:
    peer = in_state(name)
    peer.hears()
    seq = peer.connection.receiver.next - peer.iss
    peer.sends(f"{seq}:- R")
    assert (peer.connection.error is None) is (name in ("CLOSING", "LAST_ACK", "TIME_WAIT"))
    assert peer.is_in(State.TIME_WAIT if name == "TIME_WAIT" else State.CLOSED)
    assert peer.hears() == []


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_a_syn_in_every_state_is_challenged(name: str) -> None:
    peer = in_state(name)
    peer.hears()
    peer.sends(f"{peer.connection.receiver.next - peer.iss}:- S")
    assert peer.is_in(State[name])
    assert [text.split()[1] for text in peer.hears()] == ["A"]


def test_what_comes_after_the_end_is_only_counted() -> None:
    peer = Peer.established()
    peer.sends("1:1 AR")
    peer.sends("1:1 A", b"data")
    peer.sends("1:1 S")
    assert peer.hears() == []
    assert peer.connection.drops["tcp-closed"] == 2
    peer.connection.path_changed(peer.now)
    peer.connection.shutdown_write(peer.now)
    assert peer.hears() == []


def test_what_came_before_a_reset_can_be_read() -> None:
    peer = Peer.established()
    peer.sends("1:1 A", bytes(200_000))
    peer.hears()
    peer.sends("200001:1 AR")
    assert len(peer.connection.read(1 << 20)) == 200_000
    assert peer.hears() == []  # reading opens no window any more


def test_writing_after_the_end() -> None:
    peer = Peer.established()
    peer.connection.shutdown_write(peer.now)
    with pytest.raises(BrokenPipeError):
        peer.connection.write(b"x")
    peer = Peer.established()
    peer.connection.abort(peer.now)
    with pytest.raises(BrokenPipeError):
        peer.connection.write(b"x")


def test_the_table_is_complete_and_reachable() -> None:
    reached = set(TRANSITIONS.values()) | {State.LISTEN}
    assert reached == set(State)
    for state in State:
        if state not in (State.CLOSED, State.LISTEN):
            assert TRANSITIONS[state, Event.ABORT] is State.CLOSED


def test_transitions_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="usernet.tcp.tcb"):
        Peer.established().connection.shutdown_write(0.0)
    assert caplog.messages == [
        "10.0.0.1 40000 10.0.0.2 80: CLOSED -> SYN-SENT: active OPEN",
        "10.0.0.1 40000 10.0.0.2 80: SYN-SENT -> ESTABLISHED: our SYN is acknowledged, and theirs is here",
        "10.0.0.1 40000 10.0.0.2 80: ESTABLISHED -> FIN-WAIT-1: CLOSE or shutdown for writing",
    ]


def test_keepalive_waits_for_silence_and_leaves_it_to_retransmission() -> None:
    peer = Peer.established(settings=TcpSettings(keepalive_idle=7200, user_timeout=1e6))
    peer.passes(7000)
    peer.sends("1:1 A", b"x")
    peer.passes(1)
    assert peer.hears() == ["1:2 A"]
    peer.passes(7190)
    assert peer.connection.next_timeout() == pytest.approx(7100 + 7200)
    peer.connection.write(b"y")
    for _ in range(5):
        assert peer.hears() == ["1:2 A +1"]
        peer.passes(1000)


def test_keepalive() -> None:
    peer = Peer.established(settings=TcpSettings(keepalive_idle=7200))
    peer.passes(7199)
    assert peer.hears() == []
    peer.passes(1)
    assert peer.hears() == ["0:1 A"]
    peer.sends("1:1 A")
    peer.passes(75)  # the answer came
    assert peer.hears() == []
    peer.passes(7125)
    start = peer.now
    probes = 0
    while not peer.is_in(State.CLOSED):
        probes += len(peer.hears())
        peer.passes(1000)
    assert probes == 9
    assert peer.now - start == pytest.approx(9 * 75)
    assert isinstance(peer.connection.error, TimeoutError)
    assert peer.hears() == ["1:1 AR"]
