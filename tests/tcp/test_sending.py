"""What leaves and when: super-segments, windows, silly windows, probes, time-outs, loss (RFC 9293 3.8, 5681, 6675)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.tcp import MTU, Peer
from usernet.tcp import WRITABLE, State, TcpSettings
from usernet.tcp.reno import Reno
from usernet.wire.packet import parse_packet
from usernet.wire.tcp import ACK, PSH, SYN

MSS = 1380
BIG = {"window_scale": 7}


def sender(*, window: int = 0xFFFF, cwnd: int | None = 1 << 24, **syn: object) -> Peer:
    """Established towards a peer with a large window, with a congestion window that is in nobody's way."""
    peer = Peer.established(syn=BIG | syn)
    peer.sends("1:1 A", b"x", window=window)
    peer.passes(0.04)
    assert peer.hears() == ["1:2 A"]
    peer.window = window
    peer.connection.sender.sent_at = peer.now
    if cwnd:
        peer.connection.congestion.cwnd = cwnd
    peer.connection.readiness = 0
    return peer


def ranges(texts: list[str]) -> list[tuple[int, int]]:
    """(seq, bytes) of data segments."""
    found = []
    for text in texts:
        parts = text.split()
        if len(parts) > 2 and parts[2].startswith("+"):
            found.append((int(parts[0].split(":")[0]), int(parts[2])))
    return found


# Super-segments


def test_a_super_segment_carries_45_segments() -> None:
    peer = sender()
    data = bytes(range(256)) * 400
    peer.connection.write(data)
    packets = peer.connection.take(1 << 20, peer.now)
    assert [packet.payload_bytes for packet in packets] == [45 * MSS, len(data) - 45 * MSS]
    assert b"".join(bytes(piece) for packet in packets for piece in packet.pieces) == data
    assert {packet.mss for packet in packets} == {MSS}
    assert packets[0].header[33] == ACK
    assert packets[1].header[33] == ACK | PSH  # only where the buffer ends
    assert peer.connection.readiness & WRITABLE
    assert peer.connection.unsent_bytes == 0


def test_pieces_are_views_of_what_was_written() -> None:
    peer = sender()
    first, second = bytes(5000), bytes(7000)
    peer.connection.write(first)
    peer.connection.write(second)
    (packet,) = peer.connection.take(1 << 20, peer.now)
    views = [piece.obj for piece in packet.pieces if isinstance(piece, memoryview)]
    assert views[0] is first
    assert views[1] is second


def test_small_writes_are_joined_even_behind_the_back_of_a_view() -> None:
    peer = sender()
    peer.connection.write(b"ab")
    (first,) = peer.connection.take(1 << 20, peer.now)
    peer.connection.write(b"cd")
    (second,) = peer.connection.take(1 << 20, peer.now)
    assert [bytes(packet.pieces[0]) for packet in (first, second)] == [b"ab", b"cd"]
    assert len(peer.connection.sender._chunks) == 1


@pytest.mark.parametrize(("budget", "segments"), [(1, 1), (MSS, 1), (10_000, 7), (45 * MSS, 45), (100_000, 72)])
def test_budget(budget: int, segments: int) -> None:
    peer = sender()
    peer.connection.write(bytes(300_000))
    packets = peer.connection.take(budget, peer.now)
    assert sum(packet.payload_bytes for packet in packets) == segments * MSS
    assert peer.connection.wants_to_send


def test_one_packet_never_exceeds_what_ip_can_say() -> None:
    peer = Peer.established(syn=BIG | {"mss": 9000})
    connection = peer.connection
    connection.mtu = 9000
    connection.set_path_mtu(9000)
    connection.congestion.cwnd = 1 << 24
    peer.sends("1:1 A", b"x", window=0xFFFF)
    connection.write(bytes(300_000))
    for packet in connection.take(1 << 20, peer.now):
        assert packet.payload_bytes <= 65_000


def test_acknowledged_bytes_are_let_go() -> None:
    peer = sender()
    for _ in range(5):
        peer.connection.write(bytes(3000))
    peer.hears()
    peer.sends("2:6001 A")
    assert len(peer.connection.sender._chunks) == 3
    peer.sends("2:15001 A")
    assert peer.connection.sender._chunks == []
    assert peer.connection.next_timeout() is None


@pytest.mark.parametrize("timestamps", [False, True])
def test_the_cheap_checksum_of_every_finished_packet(timestamps: bool) -> None:
    """segments_of() checks each; here over many numbers, both families and all flags that go without payload."""
    for isn in (0, 1, 0x7FFF_FFFF, 0xFFFF_0000, 0xFFFF_FFFE):
        peer = Peer.accepting(syn={"timestamp": (0xFFFF_FFFF, 0)} if timestamps else {})
        peer.connection.sender.una = peer.connection.sender.nxt = isn
        peer.connection.sender.end = isn + 1
        peer.hears()
        peer.delivers(
            Peer.syn(ACK)._replace(
                seq=Peer.iss + 1, ack=(isn + 1) & 0xFFFF_FFFF, timestamp=(0xFFFF_FFFF, 1) if timestamps else None
            )
        )
        peer.connection.receiver.acks_due = 1
        peer.connection.shutdown_write(peer.now)
        assert peer.hears_segments()


# Windows


def test_no_more_than_the_peer_offers() -> None:
    peer = sender(window=100)  # 12,800 B
    peer.connection.write(bytes(100_000))
    assert sum(size for _, size in ranges(peer.hears())) == 9 * MSS  # whole segments
    peer.sends(f"2:{1 + 9 * MSS} A", window=100)
    assert sum(size for _, size in ranges(peer.hears())) == 9 * MSS


def test_no_more_than_the_congestion_window() -> None:
    peer = sender(cwnd=None)
    peer.connection.write(bytes(500_000))
    assert sum(size for _, size in ranges(peer.hears())) == 10 * MSS
    assert not peer.connection.wants_to_send
    peer.sends(f"2:{1 + 10 * MSS} A")
    assert sum(size for _, size in ranges(peer.hears())) == 20 * MSS


def test_after_idleness_the_window_is_the_initial_one() -> None:
    peer = sender(cwnd=1 << 20)
    peer.passes(10)
    peer.connection.write(bytes(500_000))
    assert sum(size for _, size in ranges(peer.hears())) == 10 * MSS


def test_silly_windows_are_avoided() -> None:
    peer = Peer.established(window=5000)
    peer.connection.congestion.cwnd = 1 << 20
    peer.connection.write(bytes(20_000))
    assert ranges(peer.hears()) == [(1, MSS), (1381, MSS), (2761, MSS)]
    peer.sends("1:1381 A", window=3700)  # 80 bytes more than before
    assert peer.hears() == []
    peer.sends("1:4141 A", window=1000)
    assert peer.hears() == []  # neither a full segment nor half of what it ever offered
    assert peer.connection.next_timeout() is not None
    peer.sends("1:4141 A", window=2500)
    assert ranges(peer.hears()) == [(4141, MSS)]


def test_half_the_largest_window_will_do_for_a_tiny_peer() -> None:
    peer = Peer.established(window=400)
    peer.connection.write(bytes(1000))
    assert ranges(peer.hears()) == [(1, 400)]
    peer.sends("1:401 A", window=200)
    assert ranges(peer.hears()) == [(401, 200)]
    peer.sends("1:601 A", window=199)
    assert peer.hears() == []
    peer.passes(1)  # the override timer (RFC 9293 3.8.6.2.1)
    assert ranges(peer.hears()) == [(601, 199)]


def test_zero_window_probes_back_off_and_end() -> None:
    peer = Peer.established(window=0)
    peer.connection.write(b"waiting")
    assert peer.hears() == []
    waits = []
    for _ in range(6):
        before = peer.now
        peer.passes(1000)
        waits.append(peer.now - before)
        assert peer.hears() == ["0:1 A"]
        peer.sends("1:1 A", window=0)
    assert waits == pytest.approx([0.2 * 2**n for n in range(6)], abs=0.01)
    peer.sends("1:1 A", window=1000)
    assert peer.hears() == ["1:1 A +7"]
    assert peer.connection.next_timeout() == pytest.approx(peer.now + 0.06, abs=0.01)  # no back-off left: a probe


def test_a_lost_window_update_is_found_by_the_probe() -> None:
    peer = sender(window=11)
    peer.connection.write(bytes(5000))
    assert ranges(peer.hears()) == [(1, MSS)]
    peer.sends("2:1381 A", window=0)
    assert peer.hears() == []
    peer.passes(1)
    assert peer.hears() == ["1380:2 A"]


def test_a_silent_peer_with_a_closed_window_times_out_and_an_answering_one_does_not() -> None:
    for answers in (True, False):
        peer = Peer.established(window=0)
        peer.connection.write(b"x")
        start = peer.now
        while not peer.is_in(State.CLOSED) and peer.now < start + 5000:
            peer.hears()
            peer.passes(1000)
            if answers:
                peer.sends("1:1 A", window=0)
        assert peer.is_in(State.CLOSED) is not answers
        if not answers:
            assert isinstance(peer.connection.error, TimeoutError)
            assert 900 <= peer.now - start < 1200


def test_a_fin_waits_for_the_window_too() -> None:
    peer = Peer.established(window=0)
    peer.connection.shutdown_write(peer.now)
    assert peer.hears() == []
    peer.passes(1)
    assert peer.hears() == ["0:1 A"]
    peer.sends("1:1 A", window=1)
    assert peer.hears() == ["1:1 AF"]


def test_a_window_taken_back_still_gets_the_segment_that_asks() -> None:
    peer = sender()
    peer.connection.write(bytes(5000))
    peer.hears()
    peer.sends("2:1381 A", window=0)
    peer.passes(1)
    assert ranges(peer.hears()) == [(1381, MSS)]


# Time-outs (RFC 6298)


def test_a_time_out_resends_the_first_segment_and_backs_off() -> None:
    peer = sender(sack_permitted=False)  # or a probe would go first
    peer.connection.write(bytes(10 * MSS))
    peer.hears()
    waits = []
    for _ in range(4):
        before = peer.now
        peer.passes(1000)
        waits.append(peer.now - before)
        assert ranges(peer.hears()) == [(1, MSS)]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6], abs=0.01)
    assert peer.connection.stalled
    assert peer.connection.statistics().segments_resent == 4
    peer.sends(f"2:{1 + MSS} A")
    assert not peer.connection.stalled
    assert ranges(peer.hears()) == [(1 + MSS, MSS), (1 + 2 * MSS, MSS)]  # slow start over what is lost


def test_a_peer_that_never_answers() -> None:
    peer = sender()
    peer.connection.write(b"x")
    start = peer.now
    while not peer.is_in(State.CLOSED):
        peer.hears()
        peer.passes(1000)
    assert isinstance(peer.connection.error, TimeoutError)
    assert 900 <= peer.now - start < 1100


def test_path_changed_tries_at_once_and_forgets_the_back_off() -> None:
    peer = sender()
    peer.connection.write(bytes(MSS))
    peer.hears()
    peer.connection.path_changed(peer.now)
    assert peer.hears() == []  # not stalled
    for _ in range(8):
        peer.passes(1000)
        peer.hears()
    peer.connection.path_changed(peer.now)
    assert ranges(peer.hears()) == [(1, MSS)]
    assert peer.connection.next_timeout() == pytest.approx(peer.now + 0.2, abs=0.01)


def test_path_changed_probes_a_closed_window() -> None:
    peer = Peer.established(window=0)
    peer.connection.write(b"x")
    for _ in range(5):
        peer.hears()
        peer.passes(1000)
    peer.hears()
    peer.connection.path_changed(peer.now)
    assert peer.hears() == ["0:1 A"]


def test_a_probe_leaves_the_back_off_alone() -> None:
    peer = sender()
    peer.connection.write(bytes(MSS))
    peer.hears()
    peer.passes(1000)
    peer.hears()
    before = peer.connection.next_timeout()
    peer.connection.probe(peer.now)
    assert ranges(peer.hears()) == [(1, MSS)]
    assert peer.connection.next_timeout() == before
    idle = sender()
    idle.connection.probe(idle.now)
    assert idle.hears() == []


# Loss (RFC 6675, RFC 6582)


def test_fast_retransmit_by_sack() -> None:
    peer = sender(cwnd=20 * MSS)
    peer.connection.write(bytes(20 * MSS))
    peer.hears()
    peer.sends("2:1 A", sack=[(1 + MSS, 1 + 3 * MSS)])
    assert peer.hears() == []
    peer.sends("2:1 A", sack=[(1 + MSS, 1 + 4 * MSS)])
    assert ranges(peer.hears()) == [(1, MSS)]
    statistics = peer.connection.statistics()
    assert statistics.cwnd == statistics.ssthresh == 14 * MSS  # RFC 9438 4.6
    peer.sends(f"2:{1 + 20 * MSS} A")
    assert peer.connection.recovery is None
    assert peer.connection.next_timeout() is None


def test_slow_start_hears_of_the_round_trip_while_packets_overtake_each_other() -> None:
    """The newest that has arrived tells it; what fills the gap was late."""
    told = []

    class Told:
        """Reno, overheard: who is compiled has no interpreted heirs."""

        def __init__(self, mss: int, limit: int) -> None:
            self.__dict__["reno"] = Reno(mss, limit)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__dict__["reno"], name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(self.__dict__["reno"], name, value)

        def on_ack(self, acked: int, in_flight: int, now: float, srtt: float, rtt: float) -> None:
            told.append(rtt)

    peer = Peer.established(syn=BIG, congestion_control=Told)
    peer.connection.write(bytes(10 * MSS))
    peer.hears()
    peer.passes(0.005)
    peer.sends("1:1 A", sack=[(1 + MSS, 1 + 3 * MSS)])
    peer.passes(0.0005)
    told.clear()
    peer.sends(f"1:{1 + 3 * MSS} A")
    assert told == [pytest.approx(0.005)]


def test_all_holes_are_repaired_in_one_round_trip() -> None:
    peer = sender(cwnd=40 * MSS)
    peer.connection.write(bytes(40 * MSS))
    peer.hears()
    at = [1 + segment * MSS for segment in range(41)]
    peer.sends("2:1 A", sack=[(at[30], at[40]), (at[10], at[29]), (at[2], at[9])])
    assert sorted(ranges(peer.hears())) == [(at[segment], MSS) for segment in (0, 1, 9, 29)]
    assert peer.hears() == []


def test_new_data_flows_during_recovery() -> None:
    peer = sender(cwnd=20 * MSS)
    peer.connection.write(bytes(60 * MSS))
    assert len(peer.hears()) == 20
    peer.sends("2:1 A", sack=[(1 + MSS, 1 + 8 * MSS)])  # 12 remain in flight, the window is 14
    found = ranges(peer.hears())
    assert found == [(1, MSS), (1 + 20 * MSS, MSS)]


def test_new_reno_without_sack() -> None:
    peer = sender(cwnd=10 * MSS, sack_permitted=False)
    peer.connection.write(bytes(10 * MSS))
    peer.hears()
    peer.sends("2:1 A")
    peer.sends("2:1 A")
    assert peer.hears() == []
    peer.sends("2:1 A")
    assert ranges(peer.hears()) == [(1, MSS)]
    peer.sends(f"2:{1 + 4 * MSS} A")  # partial: the next is lost too
    assert ranges(peer.hears()) == [(1 + 4 * MSS, MSS)]
    peer.sends(f"2:{1 + 10 * MSS} A")
    assert peer.connection.recovery is None


def test_without_sack_no_more_is_resent_than_was_sent() -> None:
    peer = sender(cwnd=4 * MSS + 100, sack_permitted=False)
    peer.connection.write(bytes(3 * MSS + 100))
    peer.hears()
    peer.connection.write(bytes(10 * MSS))
    for _ in range(3):
        peer.sends("2:1 A")
    peer.hears()
    end = peer.connection.sender.nxt - peer.isn
    peer.sends(f"2:{end - 50} A")
    assert all(seq >= end or seq + size <= end for seq, size in ranges(peer.hears()))


def test_limited_transmit() -> None:
    """RFC 3042: the first two duplicates let new data go, so that the third can come."""
    peer = sender(cwnd=2 * MSS, sack_permitted=False)
    peer.connection.write(bytes(10 * MSS))
    assert len(peer.hears()) == 2
    peer.sends("2:1 A")
    assert ranges(peer.hears()) == [(1 + 2 * MSS, MSS)]


@pytest.mark.parametrize(
    "blocks", [[(-5000, -10)], [(1, MSS)], [(5 * MSS, 90 * MSS)], [(3 * MSS, 2 * MSS)], [(70, 70)]]
)
def test_impossible_sack_blocks_are_ignored(blocks: list[tuple[int, int]]) -> None:
    peer = sender(cwnd=20 * MSS)
    peer.connection.write(bytes(20 * MSS))
    peer.hears()
    for _ in range(5):
        peer.sends("2:1 A", sack=blocks)
    assert peer.connection.recovery is None
    assert peer.hears() == []


def test_after_a_time_out_what_is_sacked_is_not_sent_again() -> None:
    peer = sender(cwnd=20 * MSS)
    peer.connection.write(bytes(4 * MSS))
    peer.hears()
    peer.sends("2:1 A", sack=[(1 + MSS, 1 + 2 * MSS)])
    peer.passes(1)
    assert ranges(peer.hears()) == [(1, MSS)]
    peer.sends(f"2:{1 + 2 * MSS} A")
    assert ranges(peer.hears()) == [(1 + 2 * MSS, MSS), (1 + 3 * MSS, MSS)]


# Path MTU (RFC 1191, RFC 5927)


def test_packet_too_big_makes_segments_smaller_and_sends_again() -> None:
    peer = sender()
    peer.connection.write(bytes(5 * MSS))
    peer.hears()
    cwnd = peer.connection.congestion.cwnd
    seq = (peer.isn + 1) & 0xFFFF_FFFF
    peer.connection.receive_packet_too_big(1300, seq, peer.now)
    found = ranges(peer.hears())
    assert found[0] == (1, 1260)
    assert sum(size for _, size in found) == 5 * MSS
    assert peer.connection.congestion.cwnd == cwnd
    peer.connection.receive_packet_too_big(100, seq, peer.now)
    assert peer.connection.sender.mss == 576 - 40  # the floor


def test_a_forged_packet_too_big_is_ignored() -> None:
    peer = sender()
    peer.connection.write(bytes(5 * MSS))
    peer.hears()
    for seq in (0, 1 + 5 * MSS, 70_000):
        peer.connection.receive_packet_too_big(1300, (peer.isn + seq) & 0xFFFF_FFFF, peer.now)
    peer.connection.receive_packet_too_big(MTU, (peer.isn + 1) & 0xFFFF_FFFF, peer.now)
    assert peer.connection.sender.mss == MSS
    assert peer.connection.drops["icmp-ignored"] == 4


# Round-trip time


def test_one_sample_each_round_trip() -> None:
    peer = sender()
    peer.connection.write(bytes(3 * MSS))
    peer.hears()
    peer.passes(0.1)
    before = peer.connection.rtt.srtt
    peer.sends(f"2:{1 + MSS} A")
    assert peer.connection.rtt.srtt == before  # the super-segment is not all there yet
    peer.sends(f"2:{1 + 3 * MSS} A")
    assert peer.connection.rtt.srtt > before


def test_karn() -> None:
    """What was sent again tells no time, save by its timestamp."""
    plain = sender()
    plain.connection.write(b"x")
    plain.hears()
    plain.passes(1)
    plain.hears()
    before = plain.connection.rtt.srtt
    plain.sends("2:2 A")
    assert plain.connection.rtt.srtt == before
    peer = Peer.connecting()
    peer.hears()
    peer.passes(0.1)
    peer.delivers(Peer.syn(SYN | ACK, ack=Peer.isn + 1, timestamp=(1, 100_007)))
    peer.hears()
    assert peer.connection.rtt.srtt == pytest.approx(0.1)
    peer.connection.write(b"x")
    peer.hears()
    peer.passes(1)
    (again,) = peer.hears_segments()
    assert again.timestamp is not None
    peer.passes(0.06)
    peer.sends("1:2 A", timestamp=(2, again.timestamp[0]))
    assert peer.connection.rtt.srtt == pytest.approx(0.1 + (0.06 - 0.1) / 8, abs=0.0005)


def test_user_settings_bound_the_window() -> None:
    peer = Peer.established(settings=TcpSettings(send_window_max=50_000), syn=BIG)
    peer.connection.write(bytes(400_000))
    sent = 0
    for _ in range(6):
        sent += sum(size for _, size in ranges(peer.hears()))
        peer.sends(f"1:{1 + sent} A")
    assert peer.connection.congestion.cwnd == 50_000


def test_header_of_a_super_segment() -> None:
    peer = sender()
    peer.connection.write(bytes(9000))
    (packet,) = peer.connection.take(1 << 20, peer.now)
    assert parse_packet(packet.header).protocol == 6
    assert len(packet.header) == 40
