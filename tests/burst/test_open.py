"""Opening bursts: against the oracle, then what must be dropped, then limits."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.burst.differ import fix_sums
from tests.support.burst import (
    ACK_FLAG,
    CWR_FLAG,
    ECE_FLAG,
    FIN_FLAG,
    INDEX,
    KEY,
    PSH_FLAG,
    SYN_FLAG,
    Segment,
    burst_of,
    checksum,
    expected_rows,
    pattern,
    rows_of,
    seal,
    seal_all,
)
from usernet.burst import CHECKSUM_OK, ECN_CE, Drops, Kernel, Opened, PacketBurst, ReceiveKey

MSS = 1368


class Receiver:
    """A session's receiving side that keeps what it gets."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.key: ReceiveKey = kernel.receive_key(KEY, INDEX)
        self.out = PacketBurst()
        self.drops = Drops()

    def open(self, datagrams: list[bytes], start: int = 0, **how: Any) -> Opened:
        return self.kernel.open_burst(self.key, burst_of(datagrams, **how), start, self.out, self.drops)


@pytest.fixture
def receiver(kernel: Kernel) -> Receiver:
    return Receiver(kernel)


def stream(count: int, first: Segment | None = None, size: int = MSS) -> list[Segment]:
    first = first or Segment()
    segments = [replace(first, payload=pattern(size))]
    while len(segments) < count:
        segments.append(segments[-1].after(size))
    return segments


def encoded(segments: list[Segment]) -> list[bytes]:
    return [segment.encode() for segment in segments]


# --- coalescing ---


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1, 2, 7, 1367, MSS])
@pytest.mark.parametrize("count", [1, 2, 3, 44])
def test_one_stream_is_one_row(receiver: Receiver, version: int, size: int, count: int) -> None:
    segments = stream(count, Segment(version=version), size)
    opened = receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert len(receiver.out.rows) == 1
    assert opened == (count, count, sum(map(len, seal_all(encoded(segments)))), count)
    assert not receiver.drops


@pytest.mark.parametrize("version", [4, 6])
def test_who_waits_for_cwr_says_ece_in_every_segment(receiver: Receiver, version: int) -> None:
    segments = stream(20, Segment(version=version, flags=ACK_FLAG | ECE_FLAG))
    segments.append(segments[-1].after(MSS, flags=ACK_FLAG | ECE_FLAG | PSH_FLAG))
    segments += [segments[-1].after(MSS, flags=ACK_FLAG)]
    segments += [segments[-1].after(MSS, flags=ACK_FLAG | CWR_FLAG)]
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert [row[3] for row in receiver.out.rows] == [21, 1, 1]


def test_more_than_64_segments(receiver: Receiver) -> None:
    """Newer kernels' GRO gives up to 128."""
    segments = stream(128, size=480)
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert [row[3] for row in receiver.out.rows] == [128]


def test_at_most_64_kib(receiver: Receiver) -> None:
    segments = stream(64)
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert [row[3] for row in receiver.out.rows] == [47, 17]


def test_nothing_after_a_shorter_segment(receiver: Receiver) -> None:
    segments = stream(3)
    segments.append(segments[-1].after(10, flags=ACK_FLAG | PSH_FLAG))
    segments.append(segments[-1].after(10))
    segments.append(segments[-1].after(11))
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert [row[3] for row in receiver.out.rows] == [4, 1, 1]


def test_sequence_numbers_wrap(receiver: Receiver) -> None:
    segments = stream(10, Segment(seq=2**32 - 3 * MSS - 7))
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert len(receiver.out.rows) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"ack": 2},
        {"window": 501},
        {"ttl": 63},
        {"tos": 4},
        {"tos": 1},
        {"dont_fragment": False},
        {"options": bytes(12)},
        {"options": b""},
        {"flow": 1},
        {"flags": ACK_FLAG | FIN_FLAG},
        {"flags": ACK_FLAG | SYN_FLAG},
        {"flags": ACK_FLAG | ECE_FLAG},
        {"flags": ACK_FLAG | CWR_FLAG},
        {"flags": 0},
        {"seq": 1 + MSS + 1},
    ],
    ids=str,
)
def test_what_ends_a_row(receiver: Receiver, change: dict[str, Any]) -> None:
    first = Segment(payload=pattern(MSS))
    segments = [first, first.after(MSS, **change)]
    if "seq" not in change:
        segments.append(segments[-1].after(MSS, **{key: getattr(first, key) for key in change}))
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert len(receiver.out.rows) == len(segments)


@pytest.mark.parametrize("change", [{"ident": 0}, {"ident": 0xFFFF}, {"flags": ACK_FLAG | PSH_FLAG}], ids=str)
def test_what_does_not(receiver: Receiver, change: dict[str, Any]) -> None:
    first = Segment(payload=pattern(MSS))
    segments = [first, first.after(MSS, **change)]
    segments.append(segments[-1].after(MSS))
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert len(receiver.out.rows) == 1


def test_flows_interleaved(receiver: Receiver) -> None:
    flows = [stream(5, Segment(flow=flow, version=4 + flow % 2 * 2)) for flow in range(8)]
    segments = [flow[number] for number in range(5) for flow in flows]
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert [row[3] for row in receiver.out.rows] == [5] * 8
    ends = [row[0] + row[1] for row in receiver.out.rows]
    assert [row[0] for row in receiver.out.rows] == [0, *ends[:-1]], "without gaps"


def test_a_bare_ack_is_not_overtaken(receiver: Receiver) -> None:
    first, second = stream(2)
    segments = [first, replace(first.after(0), ack=9), second]
    receiver.open(seal_all(encoded(segments)))
    assert rows_of(receiver.out) == expected_rows(segments)
    assert [row[3] for row in receiver.out.rows] == [1, 1, 1]


def test_rows_are_appended(receiver: Receiver) -> None:
    segments = stream(12)
    datagrams = seal_all(encoded(segments))
    for at in range(0, 12, 4):
        receiver.open(datagrams[at : at + 4])
    assert rows_of(receiver.out) == [row for at in range(0, 12, 4) for row in expected_rows(segments[at : at + 4])]


def test_more_flows_than_rooms(receiver: Receiver) -> None:
    """Each open flow has a room of 64 KiB while there are some; then what is open is finished first."""
    receiver.out = PacketBurst(5 * 65536)
    flows = [stream(3, Segment(flow=flow)) for flow in range(12)]
    segments = [flow[number] for number in range(3) for flow in flows]
    receiver.open(seal_all(encoded(segments)))
    assert sum(row[3] for row in receiver.out.rows) == 36
    assert not receiver.drops
    for flow in flows:
        first = flow[0].encode()
        mine = [row for row in rows_of(receiver.out) if row.packet[20:24] == first[20:24]]
        assert b"".join(row.packet[52:] for row in mine) == b"".join(segment.payload for segment in flow)


def test_a_full_burst(receiver: Receiver) -> None:
    receiver.out = PacketBurst(4300)
    receiver.open(seal_all(encoded(stream(5))))
    assert [row[3] for row in receiver.out.rows] == [3]
    assert receiver.drops == {"burst-full": 2}


segments_strategy = st.builds(
    Segment,
    flow=st.integers(0, 2),
    version=st.sampled_from([4, 6]),
    seq=st.sampled_from([1, 2**32 - 100]),
    ack=st.sampled_from([1, 2]),
    tos=st.sampled_from([0, 0, 0, 2, 3]),
    options=st.sampled_from([b"", bytes(range(12))]),
    reserved=st.sampled_from([0, 0, 0, 1]),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_like_the_oracle(kernel: Kernel, data: st.DataObject) -> None:
    """Random interleavings of flows that go on, pause, change and get spoiled."""
    flows = data.draw(st.lists(segments_strategy, min_size=1, max_size=4))
    spoil = data.draw(st.booleans())
    outer_ce = data.draw(st.booleans())
    segments: list[Segment] = []
    for _ in range(data.draw(st.integers(1, 30))):
        which = data.draw(st.integers(0, len(flows) - 1))
        change: dict[str, Any] = data.draw(
            st.sampled_from(
                [{}] * 8
                + [
                    {"flags": ACK_FLAG | PSH_FLAG},
                    {"flags": ACK_FLAG | ECE_FLAG},
                    {"ack": 7},
                    {"flags": ACK_FLAG | FIN_FLAG},
                    {"ident": 77},
                ]
                + [{"wrong_checksum": True}, {"wrong_ip_checksum": True}] * spoil
            )
        )
        size = data.draw(st.sampled_from([0, 10, 63, 64, 64, 64, 64, 64]))
        flags = {"flags": ACK_FLAG, "wrong_checksum": False, "wrong_ip_checksum": False}
        flows[which] = flows[which].after(size, **{**flags, **change})
        segments.append(flows[which])
    receiver = Receiver(kernel)
    opened = receiver.open(seal_all(encoded(segments)), tos=3 if outer_ce else 0)
    assert opened.authentic == opened.data == len(segments)
    assert rows_of(receiver.out) == expected_rows(segments, outer_ce=outer_ce)
    dropped = sum(receiver.drops.values())
    assert sum(row[3] for row in receiver.out.rows) == len(segments) - dropped


# --- one bad checksum ---


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [64, 65, 1368])
@pytest.mark.parametrize("which", [0, 1, 5, 9])
def test_a_bad_checksum_does_not_poison_its_neighbours(receiver: Receiver, version: int, size: int, which: int) -> None:
    segments = stream(10, Segment(version=version), size)
    segments[which] = replace(segments[which], wrong_checksum=True)
    opened = receiver.open(seal_all(encoded(segments)))
    assert opened.data == 10
    assert receiver.drops == {"tcp-checksum": 1}
    assert rows_of(receiver.out) == expected_rows(segments)


@pytest.mark.parametrize("which", [0, 1, 9])
def test_a_bad_header_checksum(receiver: Receiver, which: int) -> None:
    segments = stream(10)
    segments[which] = replace(segments[which], wrong_ip_checksum=True)
    receiver.open(seal_all(encoded(segments)))
    assert receiver.drops == {"ip-checksum": 1}
    assert b"".join(row.packet[52:] for row in rows_of(receiver.out)) == b"".join(
        segment.payload for number, segment in enumerate(segments) if number != which
    )


def test_a_bad_checksum_among_all_else(receiver: Receiver) -> None:
    """Opened anew, a burst's replays, forgeries and keepalives are what they were, and counted once."""
    segments = stream(4)
    segments[2] = replace(segments[2], wrong_checksum=True)
    datagrams = seal_all(encoded(segments))
    forged = bytearray(seal(segments[3].encode(), 9))
    forged[20] ^= 1
    lie = seal(b"\x45" + bytes(30), 8)
    opened = receiver.open([datagrams[0], seal(b"", 7), datagrams[0], *datagrams[1:], bytes(forged), lie])
    assert opened.datagrams == 8
    assert (opened.authentic, opened.data) == (6, 5)
    assert receiver.drops == {"replay": 1, "authentication": 1, "ip-length": 1, "tcp-checksum": 1}
    assert rows_of(receiver.out) == expected_rows(segments)


def test_flipped_bits_in_every_byte(receiver: Receiver) -> None:
    """Whatever byte of the third of four packets is wrong, the others arrive."""
    segments = stream(4, size=40)
    good = encoded(segments)
    for at in range(len(good[2])):
        packets = list(good)
        packets[2] = good[2][:at] + bytes([good[2][at] ^ 0x10]) + good[2][at + 1 :]
        fresh = Receiver(receiver.kernel)
        fresh.open(seal_all(packets))
        arrived = b"".join(row.packet[52:] for row in rows_of(fresh.out))
        assert arrived == b"".join(segments[number].payload for number in (0, 1, 3)), at
        assert sum(fresh.drops.values()) == 1


# --- not authentic, not new ---


def test_every_flipped_byte_of_a_datagram(receiver: Receiver) -> None:
    good = seal_all(encoded(stream(3, size=20)))
    for at in range(8, len(good[1])):
        broken = good[1][:at] + bytes([good[1][at] ^ 1]) + good[1][at + 1 :]
        fresh = Receiver(receiver.kernel)
        opened = fresh.open([good[0], broken, good[2]])
        assert opened == (3, 2, len(good[0]) * 2, 2)
        assert fresh.drops == {"authentication": 1}
        assert len(fresh.out.rows) == 2


def test_every_truncation_of_a_datagram(receiver: Receiver) -> None:
    good = seal_all(encoded(stream(3, size=20)))
    for size in range(len(good[1])):
        fresh = Receiver(receiver.kernel)
        opened = fresh.open([good[0], good[1][:size], good[2]])
        if size < 16:
            assert opened == (1, 1, len(good[0]), 1)
            assert not fresh.drops
        else:
            assert opened == (3, 2, len(good[0]) * 2, 2)
            assert fresh.drops == {"length" if size < 32 else "authentication": 1}


def test_stops_at_what_is_not_for_this_key(receiver: Receiver) -> None:
    packets = encoded(stream(4))
    datagrams = seal_all(packets)
    datagrams[2] = seal(packets[2], 2, index=INDEX + 1)
    assert receiver.open(datagrams).datagrams == 2
    assert receiver.open(datagrams, 2) == (0, 0, 0, 0)
    assert receiver.open(datagrams, 3).datagrams == 1
    datagrams[3] = struct.pack("<I", 1) + datagrams[3][4:]
    assert receiver.open(datagrams, 3) == (0, 0, 0, 0)


def test_replays(receiver: Receiver) -> None:
    datagrams = seal_all(encoded(stream(5)))
    receiver.open(datagrams)
    receiver.out.clear()
    opened = receiver.open([datagrams[4], *datagrams])
    assert opened == (6, 0, 0, 0)
    assert receiver.drops == {"replay": 6}
    assert receiver.out.rows == []


def test_reordered_and_doubled_within_a_burst(receiver: Receiver) -> None:
    segments = stream(6)
    datagrams = seal_all(encoded(segments))
    order = [0, 2, 1, 2, 3, 3, 5, 4]
    opened = receiver.open([datagrams[number] for number in order])
    assert opened.authentic == 6
    assert receiver.drops == {"replay": 2}
    arrived = [segments[number] for number in (0, 2, 1, 3, 5, 4)]
    assert rows_of(receiver.out) == expected_rows(arrived)


def test_counter_limit(receiver: Receiver) -> None:
    limit = 2**64 - 2**13 - 1
    first, second = encoded(stream(2))
    opened = receiver.open([seal(first, limit - 1), seal(second, limit)])
    assert opened.authentic == 1
    assert receiver.drops == {"counter-limit": 1}
    assert receiver.open([seal(first, 2**64 - 1)]).authentic == 0


def test_an_unauthentic_counter_does_not_move_the_window(receiver: Receiver) -> None:
    packets = encoded(stream(2))
    forged = bytearray(seal(packets[0], 10**9))
    forged[-1] ^= 1
    receiver.open([bytes(forged)])
    assert receiver.open(seal_all(packets)).authentic == 2


def test_wiped_key(receiver: Receiver) -> None:
    receiver.key.wipe()
    assert receiver.open(seal_all(encoded(stream(2)))) == (2, 0, 0, 0)
    assert receiver.drops == {"authentication": 2}


# --- packets of other kinds ---


def test_keepalives(receiver: Receiver) -> None:
    datagrams = [seal(b"", 0), *seal_all(encoded(stream(1)), 1), seal(b"", 2)]
    opened = receiver.open(datagrams)
    assert opened == (3, 3, sum(map(len, datagrams)), 1)
    assert len(receiver.out.rows) == 1
    assert not receiver.drops


def udp_packet(version: int = 4, *, payload: bytes = b"hello", value: int | None = None) -> bytes:
    tcp = Segment(version=version).encode()
    header = bytearray(tcp[: 20 if version == 4 else 40])
    addresses = bytes(header[12:20] if version == 4 else header[8:40])
    udp = struct.pack("!HHHH", 53, 999, 8 + len(payload), 0) + payload
    if value is None:
        value = checksum(addresses + struct.pack("!II", len(udp), 17) + udp) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", value) + udp[8:]
    if version == 4:
        header[2:4] = struct.pack("!H", 20 + len(udp))
        header[9] = 17
    else:
        header[4:6] = struct.pack("!H", len(udp))
        header[6] = 17
    return bytes(fix_header(header)) + udp


def fix_header(header: bytearray) -> bytearray:
    if header[0] >> 4 == 4:
        header[10:12] = b"\0\0"
        header[10:12] = struct.pack("!H", checksum(bytes(header)))
    return header


@pytest.mark.parametrize("version", [4, 6])
def test_udp(receiver: Receiver, version: int) -> None:
    good, bad, none = (
        udp_packet(version),
        udp_packet(version, value=1),
        udp_packet(version, value=0),
    )
    receiver.open(seal_all([good, bad, none, good]))
    transport = 20 if version == 4 else 40
    rows = rows_of(receiver.out)
    assert [row.packet for row in rows] == [good, none, good] if version == 4 else [good, good]
    assert {row.transport for row in rows} == {transport}
    assert rows[0].flags == rows[-1].flags == CHECKSUM_OK
    if version == 4:  # RFC 768: none was computed
        assert rows[1].flags == 0
        assert receiver.drops == {"udp-checksum": 1}
    else:  # RFC 8200, 8.1
        assert receiver.drops == {"udp-checksum": 2}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tail", [b"", b"\1" * 16])
def test_less_than_a_udp_header(receiver: Receiver, version: int, tail: bytes) -> None:
    """Has no checksum that could be right or wrong; what lies behind it is padding."""
    transport = 20 if version == 4 else 40
    for size in range(8):
        packet = bytearray(udp_packet(version)[: transport + size])
        struct.pack_into("!H", packet, *((2, transport + size) if version == 4 else (4, size)))
        packet = bytearray(fix_sums(packet))
        fresh = Receiver(receiver.kernel)
        fresh.open([seal(bytes(packet) + tail, 0, pad=False)])
        assert [(row.packet, row.flags) for row in rows_of(fresh.out)] == [(bytes(packet), 0)]


def test_fragments_and_other_protocols(receiver: Receiver) -> None:
    """Not verifiable here: no CHECKSUM_OK, whatever their checksum says."""
    fragment = bytearray(Segment(payload=pattern(80)).encode())
    fragment[6] = 0x20
    first_fragment = bytes(fix_header(fragment[:20]) + fragment[20:])
    icmp = bytearray(Segment(payload=pattern(80)).encode())
    icmp[9] = 1
    icmp_packet = bytes(fix_header(icmp[:20]) + icmp[20:])
    extension = bytearray(Segment(version=6, payload=pattern(80)).encode())
    extension[6] = 0  # hop-by-hop
    receiver.open(seal_all([first_fragment, icmp_packet, bytes(extension)]))
    assert [(row.packet, row.transport, row.flags) for row in rows_of(receiver.out)] == [
        (first_fragment, 0, 0),
        (icmp_packet, 20, 0),
        (bytes(extension), 0, 0),
    ]


def test_ipv4_options(receiver: Receiver) -> None:
    """Verified, never coalesced."""
    packets = []
    for segment in stream(3, size=64):
        packet = segment.encode()
        header = bytearray(packet[:20] + b"\1\1\1\0")
        header[0] = 0x46
        header[2:4] = struct.pack("!H", len(packet) + 4)
        packets.append(bytes(fix_header(header)) + packet[20:])
    receiver.open(seal_all(packets))
    assert [(row.packet, row.transport, row.flags, row.segments) for row in rows_of(receiver.out)] == [
        (packet, 24, CHECKSUM_OK, 1) for packet in packets
    ]


@pytest.mark.parametrize("kind", ["fragment", "options"])
def test_what_may_belong_to_any_flow_is_not_overtaken(receiver: Receiver, kind: str) -> None:
    flows = [stream(3, Segment(flow=flow), 64) for flow in range(2)]
    packet = bytearray(Segment(payload=pattern(80)).encode())
    if kind == "fragment":
        packet[7] = 5
        packet = fix_header(packet[:20]) + packet[20:]
    else:
        packet[:20] = packet[:20] + b"\1\1\1\0"
        packet[0] = 0x46
        packet[2:4] = struct.pack("!H", len(packet))
        packet = fix_header(packet[:24]) + packet[24:]
    packets = [*encoded(flows[0][:2]), *encoded(flows[1][:2]), bytes(packet), *encoded([flows[0][2], flows[1][2]])]
    receiver.open(seal_all(packets))
    assert [row.segments for row in rows_of(receiver.out)] == [2, 2, 1, 1, 1]
    assert rows_of(receiver.out)[2].packet == packet


@pytest.mark.parametrize("version", [4, 6])
def test_every_truncation_of_a_packet(receiver: Receiver, version: int) -> None:
    """The IP length says more than there is."""
    packet = Segment(version=version, payload=pattern(30)).encode()
    for size in range(1, len(packet)):
        fresh = Receiver(receiver.kernel)
        opened = fresh.open([seal(packet[:size], 0, pad=False)])
        assert opened == (1, 1, size + 32, 1)
        assert fresh.drops == {"ip-length": 1}
        assert fresh.out.rows == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({0: 0x44}, "ip-length"),  # header shorter than 20
        ({0: 0x4F}, "ip-length"),  # longer than the packet
        ({2: 0, 3: 10}, "ip-length"),  # shorter than its header
        ({2: 0xFF}, "ip-length"),
        ({0: 0x55}, "ip-version"),
        ({0: 0}, "ip-version"),
        ({11: 0}, "ip-checksum"),
    ],
)
def test_lies(receiver: Receiver, change: dict[int, int], reason: str) -> None:
    packet = bytearray(Segment(payload=b"").encode())
    for at, value in change.items():
        packet[at] = value
    receiver.open(seal_all([bytes(packet)]))
    assert receiver.drops == {reason: 1}


def test_tcp_data_offset_lies(receiver: Receiver) -> None:
    """Not for the kernel to judge: a row of its own."""
    for offset in (0x10, 0x40, 0xF0):
        packets = []
        for segment in stream(2, size=4):
            packet = bytearray(segment.encode())
            packet[32] = offset
            packet[36:38] = b"\0\0"
            pseudo = bytes(packet[12:20]) + struct.pack("!II", len(packet) - 20, 6)
            packet[36:38] = struct.pack("!H", checksum(pseudo + bytes(packet[20:])))
            packets.append(bytes(packet))
        # What would continue the first if all behind the lying header were its payload.
        follows = bytearray(packets[0])
        lied = 20 + (offset >> 4) * 4
        struct.pack_into("!I", follows, 24, 1 + max(0, len(follows) - lied))
        follows = bytearray(fix_sums(follows))
        fresh = Receiver(receiver.kernel)
        fresh.open(seal_all([packets[0], bytes(follows), *packets[1:]]))
        assert [row.segments for row in rows_of(fresh.out)] == [1, 1, 1]
        assert rows_of(fresh.out)[0].packet == packets[0]


def test_trimmed_to_the_ip_length(receiver: Receiver) -> None:
    segments = stream(3, size=61)
    receiver.open([seal(segment.encode() + b"\xaa" * 40, number) for number, segment in enumerate(segments)])
    assert rows_of(receiver.out) == expected_rows(segments)


def test_congestion_experienced(receiver: Receiver) -> None:
    """RFC 6040, 4.2: the outer mark counts where the inner packet is ECN-capable; to others it is a loss."""
    segments = [Segment(flow=tos, tos=tos, payload=b"ab") for tos in range(4)]
    receiver.open([*seal_all(encoded(segments)), seal(b"", 4)], tos=3)
    assert [bool(row[5] & ECN_CE) for row in receiver.out.rows] == [True, True, True]
    assert receiver.drops == {"congestion": 1}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("outer", "expected"), [(0, [0, 1, 2, 3]), (1, [0, 1, 1, 3]), (2, [0, 1, 2, 3]), (3, [3] * 3)])
def test_headers_are_decapsulated(receiver: Receiver, version: int, outer: int, expected: list[int]) -> None:
    """The table of RFC 6040, 4.2; for rows of one segment, of several, and of what is not TCP."""
    for number, (tos, count) in enumerate((tos, count) for tos in (0xB8, 0xB9, 0xBA, 0xBB) for count in (1, 3)):
        segments = stream(count, Segment(flow=number, version=version, tos=tos))
        receiver.open(seal_all(encoded(segments), 10 * number), tos=outer)
    shift = 0 if version == 4 else 4
    found = []
    for at, *_ in receiver.out.rows:
        head = bytes(receiver.out.buf[at : at + 20])
        found.append(head[1] >> shift & 3)
        assert version == 6 or checksum(head) == 0
    assert found == [ecn for ecn in expected for _ in range(2)]
    assert [row[3] for row in receiver.out.rows] == [1, 3] * len(expected)
    assert receiver.drops == ({"congestion": 4} if outer == 3 else {})


def test_any_bytes(receiver: Receiver) -> None:
    """Whatever an authentic peer sends, nothing is raised and each is counted or a row."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=120), max_size=6), st.sampled_from([None, 0x45, 0x46, 0x60]))
    def run(packets: list[bytes], first: int | None) -> None:
        if first is not None:
            packets = [bytes([first]) + packet[1:] for packet in packets]
        fresh = Receiver(receiver.kernel)
        fresh.open([seal(packet, number, pad=False) for number, packet in enumerate(packets)])
        assert len(fresh.out.rows) + sum(fresh.drops.values()) == len(packets)

    run()
