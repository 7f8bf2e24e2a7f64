"""Reassembly: whole again in any order, overlaps, duplicates, timeouts, floods."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.burst.packets import Drops
from usernet.stack.reassembly import CAPACITY_V4, TIMEOUT_V4, Reassembler
from usernet.wire.ip import UDP, pack_address
from usernet.wire.ipv4 import encode_ipv4
from usernet.wire.packet import fragment, parse_packet

A4, B4 = pack_address("10.0.0.1"), pack_address("10.0.0.2")
A6, B6 = pack_address("fd00::1"), pack_address("fd00::2")
FAMILIES = [(A4, B4), (A6, B6)]


def make(capacity: int = CAPACITY_V4) -> tuple[Reassembler, Drops]:
    drops = Drops()
    return Reassembler(capacity, TIMEOUT_V4, drops), drops


def add(reassembler: Reassembler, packet: bytes, now: float = 0.0) -> bytes | None:
    return reassembler.add(parse_packet(b"##" + packet, 2), b"##" + packet, 2, now)


def piece(offset: int, data: bytes, more: bool = True, ident: int = 1, tos: int = 0) -> bytes:
    return encode_ipv4(A4, B4, UDP, data, tos=tos, ident=ident, fragment_offset=offset, more_fragments=more)


@given(st.sampled_from(FAMILIES), st.integers(1500, 65_000), st.integers(1280, 9000), st.data())
def test_whole_again_in_any_order_with_duplicates(
    family: tuple[bytes, bytes], size: int, mtu: int, data: st.DataObject
) -> None:
    payload = bytes(number * 7 & 0xFF for number in range(1000)) * (size // 1000)
    packets = fragment(*family, UDP, payload, mtu, 77)
    if len(packets) == 1:
        return
    order = data.draw(st.permutations(packets[:12])) + packets[12:]
    again = data.draw(st.lists(st.sampled_from(order[:-1]), max_size=5))
    reassembler, drops = make()
    for packet in order[:-1] + again:
        assert add(reassembler, packet) is None
    whole = add(reassembler, order[-1])
    assert whole is not None
    parsed = parse_packet(whole)
    assert (parsed.source, parsed.destination, parsed.protocol) == (*family, UDP)
    assert whole[parsed.payload : parsed.end] == payload
    assert (len(reassembler), reassembler.size) == (0, 0)
    assert drops == ({"fragment-duplicate": len(again)} if again else {})


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 6), st.booleans(), st.binary(min_size=1, max_size=1)), max_size=12
    )
)
def test_against_an_oracle_of_single_bytes(fragments: list[tuple[int, int, bool, bytes]]) -> None:
    """Each byte is known at most once, or the datagram is dead; it is whole when bytes 0..last are known."""
    reassembler, _ = make()
    known: dict[int, bytes] = {}
    seen: set[tuple[int, bytes]] = set()
    length: int | None = None
    dead = False
    for block, blocks, more, letter in fragments:
        offset, content = block * 8, letter * (blocks * 8)
        whole = add(reassembler, piece(offset, content, more or block == 0))
        more = more or block == 0
        if dead or not content:
            assert whole is None
            continue
        if (offset, content) in seen:
            assert whole is None
            continue
        end = offset + len(content)
        seen.add((offset, content))
        if any(at in known for at in range(offset, end)):
            dead = True
        new_length = length if more else end
        if new_length is not None and (max([end, *(at + 1 for at in known)]) > new_length):
            dead = True
        if length is not None and new_length != length:
            dead = True
        if dead:
            assert whole is None
            continue
        length = new_length
        known.update((at, letter) for at in range(offset, end))
        if length is not None and len(known) == length:
            assert whole is not None
            assert whole[20:] == b"".join(known[at] for at in range(length))
            return
        assert whole is None


def test_an_overlap_discards_the_datagram_and_what_still_comes() -> None:
    reassembler, drops = make()
    assert add(reassembler, piece(0, b"a" * 16)) is None
    assert add(reassembler, piece(8, b"b" * 16)) is None
    assert add(reassembler, piece(0, b"a" * 16)) is None
    assert add(reassembler, piece(16, b"c" * 8, more=False)) is None
    assert drops == {"fragment-overlap": 3}
    assert reassembler.expire(1000) == []  # and nobody is told


def test_two_ends_or_bytes_behind_the_end_discard_it() -> None:
    for second in (piece(24, b"b" * 8, more=False), piece(24, b"b" * 8), piece(8, b"b" * 4, more=False)):
        reassembler, drops = make()
        add(reassembler, piece(16, b"a" * 8, more=False))
        add(reassembler, second)
        assert drops == {"fragment-overlap": 1}


def test_what_waits_too_long_is_given_up_and_the_sender_told() -> None:
    reassembler, drops = make()
    add(reassembler, piece(0, b"a" * 16, ident=1), now=1)
    add(reassembler, piece(8, b"a" * 16, ident=2), now=2)
    assert reassembler.next_deadline() == 31
    assert reassembler.expire(30.9) == []
    assert reassembler.expire(31) == [piece(0, b"a" * 16, ident=1)]
    assert reassembler.next_deadline() == 32
    assert reassembler.expire(33) == []
    assert drops == {"fragment-timeout": 2}
    assert (len(reassembler), reassembler.size, reassembler.next_deadline()) == (0, 0, None)


def test_a_flood_is_bounded_and_the_newest_survive() -> None:
    reassembler, drops = make(capacity=100_000)
    for ident in range(5000):
        add(reassembler, piece(0, b"x" * 8, ident=ident), now=ident / 1000)
        assert reassembler.size <= 100_000
    assert drops["fragment-evicted"] > 4000
    assert add(reassembler, piece(8, b"end", more=False, ident=4999), now=5) is not None


def test_many_tiny_fragments_of_one_datagram_are_bounded() -> None:
    reassembler, drops = make(capacity=100_000)
    for number in range(4000):
        add(reassembler, piece(number * 16, b"x" * 8))
        assert reassembler.size <= 100_000
    assert drops["fragment-evicted"] >= 1


@pytest.mark.parametrize("marked", [None, 0, 1, 2])
def test_a_mark_on_one_fragment_is_one_on_the_whole(marked: int | None) -> None:
    """RFC 3168 5.3."""
    reassembler, _ = make()
    first, second, last = (
        piece(at * 8, bytes(8), more=at < 2, tos=0xB8 | (3 if at == marked else 2)) for at in range(3)
    )
    add(reassembler, last)
    add(reassembler, first)
    whole = add(reassembler, second)
    assert whole is not None
    assert parse_packet(whole).tos == 0xB8 | (2 if marked is None else 3)
