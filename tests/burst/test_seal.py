"""Sealing bursts: opened plainly, checked word by word; runs against greedy cutting; golden bytes."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.burst import (
    ACK_FLAG,
    FIN_FLAG,
    INDEX,
    KEY,
    PSH_FLAG,
    Segment,
    burst_of,
    checksum,
    greedy_runs,
    open_plainly,
    pattern,
    runs_to_datagrams,
    template,
)
from usernet.burst import (
    MAX_RUN_BYTES,
    MAX_RUN_SEGMENTS,
    Drops,
    Kernel,
    PacketBurst,
    SendKey,
    SuperPacket,
    sealed_size,
)

MTU = 1420
MSS = 1368


class Sender:
    """A session's sending side; `seal` checks what holds for every burst and gives the plaintexts."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.key: SendKey = kernel.send_key(KEY, INDEX)
        self.runs: list[tuple[int, int, int]] = []
        self.datagrams: list[bytes] = []

    def seal(self, packets: list[SuperPacket], mtu: int = MTU, at: int = 32) -> list[bytes]:
        counter = self.key.counter
        room = sealed_size(packets, mtu)
        out = bytearray(b"\xcc" * (at + room + 8))
        self.runs = self.kernel.seal_burst(self.key, packets, mtu, out, at)
        starts, ends, _ = zip(*self.runs, strict=True) if self.runs else ((), (), ())
        assert starts == (at, *ends)[: len(starts)], "without gaps"
        assert out[:at] == b"\xcc" * at
        assert out[at + room :] == b"\xcc" * 8
        self.datagrams = runs_to_datagrams(out, self.runs)
        opened = [open_plainly(datagram) for datagram in self.datagrams]
        assert [index for index, _, _ in opened] == [INDEX] * len(opened)
        assert [number for _, number, _ in opened] == list(range(counter, counter + len(opened)))
        assert self.key.counter == counter + len(opened)
        return [plaintext for _, _, plaintext in opened]


@pytest.fixture
def sender(kernel: Kernel) -> Sender:
    return Sender(kernel)


def super_packet(first: Segment, payload: bytes, mss: int, cuts: tuple[int, ...] = ()) -> SuperPacket:
    edges = [0, *cuts, len(payload)]
    pieces = tuple(payload[a:b] for a, b in pairwise(edges))
    return SuperPacket(template(replace(first, payload=b"")), pieces, mss)


def expected_plaintexts(first: Segment, payload: bytes, mss: int, mtu: int) -> list[bytes]:
    """Every segment by itself."""
    chunks = [payload[at : at + mss] for at in range(0, len(payload), mss)] or [b""]
    result = []
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        packet = replace(
            first,
            seq=(first.seq + number * mss) % 2**32,
            ident=(first.ident + number) % 2**16,
            flags=first.flags if last else first.flags & ~(FIN_FLAG | PSH_FLAG),
            payload=chunk,
        ).encode()
        padded = max(len(packet), min((len(packet) + 15) // 16 * 16, mtu))
        result.append(packet.ljust(padded, b"\0"))
    return result


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [0, 1, 15, MSS - 20, MSS - 1, 3 * MSS, 3 * MSS + 1, 45 * MSS])
def test_one_super_packet(sender: Sender, version: int, size: int) -> None:
    first = Segment(version=version, flags=ACK_FLAG | PSH_FLAG, seq=77)
    mss = MSS - (20 if version == 6 else 0)
    plaintexts = sender.seal([super_packet(first, pattern(size), mss)])
    assert plaintexts == expected_plaintexts(first, pattern(size), mss, MTU)


@pytest.mark.parametrize("mss", [1, 2, 7, 1367])
def test_odd_sizes(sender: Sender, mss: int) -> None:
    first = Segment(options=b"", seq=2**32 - mss - 1, ident=0xFFFE, flags=ACK_FLAG | FIN_FLAG)
    payload = pattern(mss * 6 + mss // 2)
    assert sender.seal([super_packet(first, payload, mss)]) == expected_plaintexts(first, payload, mss, MTU)


def test_template_fields_to_fill_in_do_not_matter(sender: Sender) -> None:
    """Lengths and checksums of the template may be anything."""
    for version in (4, 6):
        first = Segment(version=version)
        header = bytearray(template(first))
        transport = 20 if version == 4 else 40
        length = 2 if version == 4 else 4
        header[length : length + 2] = b"\xab\xcd"
        header[transport + 16 : transport + 18] = b"\x12\x34"
        if version == 4:
            header[10:12] = b"\x56\x78"
        plaintexts = sender.seal([SuperPacket(bytes(header), (pattern(3000),), 1000)])
        assert plaintexts == expected_plaintexts(first, pattern(3000), 1000, MTU)


def test_keepalive(sender: Sender) -> None:
    assert sender.seal([SuperPacket(b"")]) == [b""]
    assert sender.runs == [(32, 64, 32)]


def test_finished_packets_go_as_they_are(sender: Sender) -> None:
    assert sender.seal([SuperPacket(b"abc"), SuperPacket(b"d", (b"", b"efg", memoryview(b"h")))]) == [
        b"abc".ljust(16, b"\0"),
        b"defgh".ljust(16, b"\0"),
    ]


@pytest.mark.parametrize("size", [1, 16, 17, 1408, 1409, 1419, 1420, 1421, 3000])
def test_padding_stops_at_the_mtu(sender: Sender, size: int) -> None:
    (plaintext,) = sender.seal([SuperPacket(b"\xff" * size)])
    assert plaintext.rstrip(b"\0") == b"\xff" * size
    assert len(plaintext) == max(size, min((size + 15) // 16 * 16, MTU))


def test_golden(sender: Sender) -> None:
    """The bytes of two packets and of their frames."""
    header = bytes.fromhex(
        "4500002c 00010000 4006 0000 0a000001 0a000002"  # 44 bytes, ID 1, TTL 64
        "01bb 03e8 00000001 00000001 5018 01f4 0000 0000"  # 443 to 1000, ACK + PSH
    )
    plaintexts = sender.seal([SuperPacket(header, (b"ping", b"pong"), 4)])
    assert [plaintext.hex() for plaintext in plaintexts] == [
        "4500002c00010000400666c90a0000010a00000201bb03e80000000100000001501001f4b5640000" + b"ping".hex() + "00" * 4,
        "4500002c00020000400666c80a0000010a00000201bb03e80000000500000001501801f4b5520000" + b"pong".hex() + "00" * 4,
    ]
    assert [datagram[:16].hex() for datagram in sender.datagrams] == [
        "04000000040302010000000000000000",
        "04000000040302010100000000000000",
    ]
    for packet in plaintexts:
        assert checksum(packet[:20]) == 0
        assert checksum(packet[12:20] + struct.pack("!II", 24, 6) + packet[20:44]) == 0


# --- runs ---


def run_sizes(sender: Sender) -> list[list[int]]:
    return [[min(size, end - at) for at in range(start, end, size)] for start, end, size in sender.runs]


def test_45_segments_are_one_run(sender: Sender) -> None:
    sender.seal([super_packet(Segment(), pattern(45 * MSS), MSS)])
    assert run_sizes(sender) == [[1452] * 45]


def test_at_most_64_datagrams(sender: Sender) -> None:
    sender.seal([SuperPacket(b"x" * 52) for _ in range(130)])
    assert run_sizes(sender) == [[96] * 64, [96] * 64, [96] * 2]


def test_at_most_65474_bytes(sender: Sender) -> None:
    sender.seal([super_packet(Segment(), pattern(100 * MSS), MSS)])
    assert run_sizes(sender) == [[1452] * 45, [1452] * 45, [1452] * 10]


def test_a_shorter_one_ends_its_run(sender: Sender) -> None:
    sender.seal([SuperPacket(b"x" * size) for size in (100, 100, 40, 40, 40, 100)])
    assert run_sizes(sender) == [[144, 144, 80], [80, 80], [144]]


def test_neighbours_of_different_flows_share_a_run(sender: Sender) -> None:
    sender.seal([super_packet(Segment(flow=flow), b"", MSS) for flow in range(5)])
    assert run_sizes(sender) == [[96] * 5]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_like_the_oracle(kernel: Kernel, data: st.DataObject) -> None:
    """Any packets, any pieces."""
    packets, plaintexts = [], []
    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            packet = data.draw(st.binary(max_size=200))
            packets.append(SuperPacket(packet))
            plaintexts.append(packet.ljust((len(packet) + 15) // 16 * 16, b"\0"))
            continue
        first = Segment(
            version=data.draw(st.sampled_from([4, 6])),
            seq=data.draw(st.integers(0, 2**32 - 1)),
            ident=data.draw(st.integers(0, 2**16 - 1)),
            flags=data.draw(st.integers(0, 255)),
            options=data.draw(st.sampled_from([b"", bytes(range(12)), bytes(40)])),
            tos=data.draw(st.integers(0, 255)),
        )
        mss = data.draw(st.sampled_from([1, 10, 99, 100, 536]))
        payload = pattern(data.draw(st.integers(0, mss * 12)), first.seq)
        cuts = tuple(sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=6))))
        packets.append(super_packet(first, payload, mss, cuts))
        plaintexts += expected_plaintexts(first, payload, mss, MTU)
    sender = Sender(kernel)
    assert sender.seal(packets) == plaintexts
    sizes = [len(plaintext) + 32 for plaintext in plaintexts]
    assert run_sizes(sender) == greedy_runs(sizes, MAX_RUN_SEGMENTS, MAX_RUN_BYTES)


# --- limits ---


def test_counter_limit(sender: Sender) -> None:
    limit = 2**64 - 2**13 - 1
    sender.key.counter = limit - 2
    packets = [super_packet(Segment(), pattern(3 * MSS), MSS)]
    assert sender.seal(packets) == []
    assert sender.key.counter == limit - 2
    assert len(sender.seal([SuperPacket(b"x"), SuperPacket(b"y")])) == 2
    assert sender.seal([SuperPacket(b"")]) == []


def test_no_nonce_twice_when_sealing_fails(sender: Sender) -> None:
    """The caller broke its promise of room: what was sealed before that has used its counters."""
    packets = [SuperPacket(b"x"), SuperPacket(b"y")]
    with pytest.raises((ValueError, struct.error), match="buffer"):
        sender.kernel.seal_burst(sender.key, packets, MTU, bytearray(48), 0)
    assert sender.key.counter == 2


def test_wiped_key(sender: Sender) -> None:
    sender.key.wipe()
    assert sender.seal([SuperPacket(b"x")]) == []


# --- both ways ---


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("count", [1, 2, 45])
def test_comes_out_as_it_went_in(kernel: Kernel, sender: Sender, version: int, count: int) -> None:
    first = Segment(version=version, flags=ACK_FLAG | PSH_FLAG)
    mss = MTU - len(template(first))
    payload = pattern(count * mss - 5)
    sender.seal([super_packet(first, payload, mss)])
    out, drops = PacketBurst(), Drops()
    kernel.open_burst(kernel.receive_key(KEY, INDEX), burst_of(sender.datagrams), 0, out, drops)
    ((at, length, size, segments, transport, _),) = out.rows
    assert out.buf[at + length - len(payload) : at + length] == payload
    assert (size, segments, transport) == (mss if count > 1 else 0, count, 20 if version == 4 else 40)
    assert not drops


def test_sealed_size_is_tight_for_bulk() -> None:
    packets: list[Any] = [super_packet(Segment(), pattern(45 * MSS), MSS)]
    assert 45 * 1452 <= sealed_size(packets, MTU) <= 45 * 1467
