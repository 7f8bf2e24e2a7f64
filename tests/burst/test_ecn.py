"""RFC 6040 at the tunnel's two ends; the way in is in test_open.py, too."""

from __future__ import annotations

import pytest

from tests.support.burst import Segment, checksum, template
from usernet.burst import SuperPacket
from usernet.burst.ecn import by_ecn, decapsulate


def packet(version: int, tos: int, flow_label: int = 0) -> SuperPacket:
    header = bytearray(template(Segment(version=version, tos=tos)))
    if version == 6:
        header[1] |= flow_label
    return SuperPacket(bytes(header), (b"payload",), 1000)


KEEPALIVE = SuperPacket(b"")


@pytest.mark.parametrize("version", [4, 6])
def test_neighbours_of_one_ecn_stay_together(version: int) -> None:
    marks = [0, 0, 2, 2, 3, 0, 1]
    packets = [packet(version, 0xB8 | ecn) for ecn in marks]
    assert by_ecn(packets) == [
        (0, packets[:2]), (2, packets[2:4]), (3, packets[4:5]), (0, packets[5:6]), (1, packets[6:]),
    ]  # fmt: skip


def test_the_common_case_is_the_list_itself() -> None:
    packets = [packet(4, 0), packet(6, 0), packet(4, 0x88), KEEPALIVE]
    [(ecn, group)] = by_ecn(packets)
    assert ecn == 0
    assert group is packets
    assert by_ecn([]) == [(0, [])]


def test_what_looks_like_a_mark_in_the_other_version() -> None:
    packets = [packet(4, 0x30), packet(6, 0, flow_label=3), KEEPALIVE]
    assert by_ecn(packets) == [(0, packets)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("outer", range(4))
@pytest.mark.parametrize("inner", range(4))
def test_decapsulate(version: int, inner: int, outer: int) -> None:
    buf = bytearray(b"before" + packet(version, 0xB8 | inner).header)
    decapsulate(memoryview(buf), 6, outer)
    expected = {(1, 3): 3, (2, 3): 3, (2, 1): 1}.get((inner, outer), inner)
    assert buf[6:8] == packet(version, 0xB8 | expected).header[:2]
    if version == 4:
        assert checksum(bytes(buf[6:26])) == 0


def test_a_checksum_of_zero() -> None:
    """Sums in one's complement have two zeros."""
    for ident in range(0x10000):
        header = template(Segment(tos=2, ident=ident))
        if header[10:12] <= b"\0\3":
            buf = bytearray(header)
            decapsulate(memoryview(buf), 0, 3)
            assert checksum(bytes(buf[:20])) == 0
