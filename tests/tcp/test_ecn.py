"""What of ours is ECN-capable on the wire, and what ECN costs.  How it speaks is in dialogues/9-marking.txt."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from tests.support.stack import cut
from tests.support.tcp import FLOW, FLOW_V6, MTU, Peer
from usernet.burst.packets import Drops, SuperPacket
from usernet.tcp import Connection, Flow, TcpSettings
from usernet.tcp.cubic import BETA
from usernet.tcp.ecn import capable
from usernet.tcp.pathmtu import PathMtus
from usernet.tcp.seq import MASK
from usernet.wire.ip import TCP
from usernet.wire.packet import checksum_holds, encode_packet, parse_packet
from usernet.wire.tcp import ACK, CWR, ECE, SYN, TcpSegment, parse_segment

ASKING = TcpSettings(ecn_request=True)


def agreed(*, timestamp: tuple[int, int] | None = None, flow: Flow = FLOW) -> Peer:
    connection = Connection.connect(flow, ASKING, mtu=MTU, isn=Peer.isn, timestamp_offset=7, now=100.0)
    peer = Peer(connection)
    peer.hears()
    peer.delivers(Peer.syn(SYN | ACK | ECE, ack=Peer.isn + 1, timestamp=timestamp))
    assert peer.hears() == ["1:1 A"]
    assert connection.statistics().ecn
    return peer


def on_the_wire(packets: list[SuperPacket]) -> list[tuple[int, TcpSegment]]:
    """ECN field and segment of each packet, all of which are sound."""
    found = []
    for data in (data for packet in packets for data in cut(packet)):
        ip = parse_packet(data)
        assert checksum_holds(ip, memoryview(data))
        found.append((ip.tos & 3, parse_segment(memoryview(data), ip.payload, ip.end)))
    return found


@pytest.mark.parametrize("timestamp", [None, (1000, 0)])
@pytest.mark.parametrize("flow", [FLOW, FLOW_V6])
def test_only_new_data_is_capable(flow: Flow, timestamp: tuple[int, int] | None) -> None:
    peer = agreed(timestamp=timestamp, flow=flow)
    connection = peer.connection
    connection.write(bytes(5000))
    sent = on_the_wire(connection.take(1 << 20, peer.now))
    assert len(sent) == 4
    assert {ecn for ecn, _ in sent} == {2}
    peer.passes(1)  # a probe of the tail
    ((ecn, segment),) = on_the_wire(connection.take(1 << 20, peer.now))
    assert segment.payload
    assert ecn == 0
    connection.receiver.acks_due = 1
    ((ecn, segment),) = on_the_wire(connection.take(1 << 20, peer.now))
    assert not segment.payload
    assert ecn == 0
    connection.shutdown_write(peer.now)
    ((ecn, _),) = on_the_wire(connection.take(1 << 20, peer.now))
    assert ecn == 0


def test_handshake_and_probes_are_not_capable() -> None:
    connection = Connection.connect(FLOW, ASKING, mtu=MTU, isn=Peer.isn, timestamp_offset=7, now=100.0)
    ((ecn, segment),) = on_the_wire(connection.take(1 << 20, 100.0))
    assert (ecn, segment.flags) == (0, SYN | ECE | CWR)
    accepted = Connection.accept(
        FLOW, TcpSettings(), Peer.syn(SYN | ECE | CWR), mtu=MTU, isn=1, timestamp_offset=7, now=100.0
    )
    ((ecn, segment),) = on_the_wire(accepted.take(1 << 20, 100.0))
    assert (ecn, segment.flags) == (0, SYN | ACK | ECE)
    peer = agreed()
    peer.connection.write(b"x")
    peer.connection.probe_due = True
    sent = on_the_wire(peer.connection.take(1 << 20, peer.now))
    assert [ecn for ecn, _ in sent] == [2, 0]


def test_checksums_about_zero() -> None:
    """Sums in one's complement have two zeros."""
    found = 0
    for number in range(0x10000):
        header = encode_packet(FLOW.local, bytes((10, 0, number >> 8, number & 0xFF)), TCP, b"")
        if header[10:12] <= b"\0\3":
            found += 1
            marked = capable(header)
            assert marked[:2] == b"\x45\x02"
            assert parse_packet(marked).destination == header[16:20]  # raises if the sum is wrong
    assert found >= 3


def test_without_an_agreement_nothing_is() -> None:
    peer = Peer.established()
    peer.connection.write(bytes(5000))
    assert {ecn for ecn, _ in on_the_wire(peer.connection.take(1 << 20, peer.now))} == {0}


def test_only_the_first_segment_after_ece_says_cwr() -> None:
    """All others leave as super-segments, whose flags each of their segments has."""
    peer = agreed()
    connection = peer.connection
    connection.write(bytes(200_000))
    connection.congestion.cwnd = 40 * 1380
    connection.sender.sent_at = peer.now
    first = on_the_wire(connection.take(1 << 20, peer.now))
    assert len(first) == 40
    assert all(segment.flags == ACK for _, segment in first)
    peer.delivers(answer(peer, 1 + 40 * 1380, ECE))
    packets = connection.take(1 << 20, peer.now)
    assert len(packets) == 2
    assert [segment.flags & CWR for _, segment in on_the_wire(packets)] == [CWR] + [0] * 27
    assert connection.congestion.cwnd == int(BETA * 40 * 1380)
    assert connection.statistics().ecn_reductions == 1


def answer(peer: Peer, ack: int, flags: int) -> TcpSegment:
    return TcpSegment(80, 40000, Peer.iss + 1, (Peer.isn + ack) & MASK, ACK | flags, 0xFFFF)


def test_marks_are_counted() -> None:
    peer = agreed()
    data = answer(peer, 1, 0)._replace(payload=bytes(3 * 1380))
    peer.connection.receive_segment(data, peer.now, segments=3, ce=True)
    peer.connection.receive_segment(Peer.syn(SYN), peer.now, ce=True)  # not theirs
    assert peer.connection.statistics().ce_marks == 3
    assert [segment.flags for segment in peer.hears_segments()] == [ACK | ECE]


def test_what_turns_out_not_to_be_lost_does_not_take_back_a_mark() -> None:
    peer = agreed()
    control = peer.connection.congestion
    control.on_loss(control.cwnd)
    control.on_ecn()
    cwnd = control.cwnd
    control.undo()
    assert control.cwnd == cwnd


def test_an_idle_connection_with_ecn_weighs_less_than_two_kilobytes() -> None:
    """Under the conditions of test_memory.py."""
    drops, paths, count = Drops(), PathMtus(MTU), 200

    def idle() -> Connection:
        peer = agreed(timestamp=(1000, 0))
        peer.connection.write(bytes(300))
        peer.hears()
        peer.sends("1:301 A", bytes(400), timestamp=(1001, 100_007))
        peer.passes(1)
        peer.hears()
        peer.connection.read(1000)
        assert peer.connection.next_timeout() is None
        return peer.connection

    idle()
    connections: list[Connection | None] = [None] * count
    tracemalloc.start()
    for at in range(count):
        connection = connections[at] = idle()
        connection.drops, connection.paths = drops, paths
    gc.collect()
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    ours = snapshot.filter_traces([tracemalloc.Filter(True, "*/usernet/*")])  # and of no thread beside the test's
    assert sum(trace.size for trace in ours.traces) / count < 2048
