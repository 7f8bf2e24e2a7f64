"""What waits for a session."""

from __future__ import annotations

from usernet.burst.packets import SuperPacket
from usernet.wireguard.staging import Staging, segment_count

HEADER = bytes(40)


def test_segments() -> None:
    assert segment_count(SuperPacket(HEADER)) == 1
    assert segment_count(SuperPacket(HEADER, (b"x" * 5000,))) == 1
    assert segment_count(SuperPacket(HEADER, (), 1000)) == 1
    assert segment_count(SuperPacket(HEADER, (b"x" * 1000,), 1000)) == 1
    assert segment_count(SuperPacket(HEADER, (b"x" * 600, b"x" * 401), 1000)) == 2


def test_in_order_and_then_empty() -> None:
    staging = Staging(1420)
    packets = [SuperPacket(bytes([number])) for number in range(5)]
    assert [staging.stage(packet) for packet in packets] == [0] * 5
    assert (len(staging), staging.bytes) == (5, 5)
    assert staging.take() == packets
    assert (len(staging), staging.bytes) == (0, 0)
    assert staging.take() == []


def test_the_oldest_are_dropped_by_count() -> None:
    staging = Staging(1420)
    dropped = [staging.stage(SuperPacket(b"%d" % number)) for number in range(130)]
    assert dropped == [0] * 128 + [1, 1]
    assert staging.take()[0].header == b"2"


def test_a_super_packet_counts_as_its_segments() -> None:
    staging = Staging(1420)
    forty = SuperPacket(HEADER, (b"x" * 40_000,), 1000)
    assert [staging.stage(forty) for _ in range(4)] == [0, 0, 0, 40]
    assert len(staging) == 120


def test_bytes_are_bounded_too() -> None:
    staging = Staging(1000)
    for _ in range(10):
        staging.stage(SuperPacket(b"x" * 60_000))
        assert staging.bytes <= 128_000
    assert len(staging) == 2


def test_one_super_packet_always_fits() -> None:
    staging = Staging(1420)
    many = SuperPacket(HEADER, (b"x" * 64_000,), 100)
    assert staging.stage(many) == 0
    assert len(staging) == 640
    assert staging.stage(SuperPacket(HEADER)) == 640
    assert len(staging) == 1


def test_pieces_are_joined_into_our_own_bytes() -> None:
    staging = Staging(1420)
    piece = bytearray(b"abc")
    staging.stage(SuperPacket(HEADER, (memoryview(piece), b"def"), 2))
    piece[:] = b"xyz"
    assert staging.take() == [SuperPacket(HEADER, (b"abcdef",), 2)]


def test_purge_says_how_many() -> None:
    staging = Staging(1420)
    staging.stage(SuperPacket(HEADER, (b"x" * 3000,), 1000))
    assert staging.purge() == 3
    assert staging.purge() == 0
