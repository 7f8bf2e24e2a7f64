"""Key slots, and the table of receiver indices."""

from __future__ import annotations

from itertools import count

from usernet.burst.reference import ReferenceKernel
from usernet.wireguard.handshake import Keypair
from usernet.wireguard.session import IndexTable, KeySlots, Session, data_header
from usernet.wireguard.timers import NEVER, Timing

_indices = count(1)


def session(*, initiator: bool = True, now: float = 0.0) -> Session:
    index = next(_indices)
    return Session(Keypair(bytes(32), bytes(32), index, index + 1000, initiator), ReferenceKernel(), Timing(), now)


def test_header_is_type_zeros_and_index_in_little_endian() -> None:
    assert data_header(0x01020304) == bytes.fromhex("0400000004030201")


def test_limits_of_an_initiator_and_a_responder() -> None:
    ours, theirs = session(now=1000.0), session(initiator=False, now=1000.0)
    assert (ours.rekey_at, ours.refresh_at, ours.reject_at) == (1120.0, 1165.0, 1180.0)
    assert (theirs.rekey_at, theirs.refresh_at, theirs.reject_at) == (NEVER, NEVER, 1180.0)


def test_as_initiator_current_becomes_previous() -> None:
    slots, first, second, third = KeySlots(), session(), session(), session()
    assert slots.install_as_initiator(first) == []
    assert slots.install_as_initiator(second) == []
    assert slots.install_as_initiator(third) == [first]
    assert (slots.previous, slots.current, slots.next) == (second, third, None)


def test_as_responder_it_waits_in_next() -> None:
    slots, current, first, second = KeySlots(), session(), session(initiator=False), session(initiator=False)
    slots.install_as_initiator(current)
    assert slots.install_as_responder(first) == []
    assert (slots.previous, slots.current, slots.next) == (None, current, first)
    assert slots.install_as_responder(second) == [first]
    assert slots.confirm() == []
    assert (slots.previous, slots.current, slots.next) == (current, second, None)


def test_a_new_next_ends_previous() -> None:
    slots, first, second, third = KeySlots(), session(), session(), session(initiator=False)
    slots.install_as_initiator(first)
    slots.install_as_initiator(second)
    assert slots.install_as_responder(third) == [first]


def test_crossing_handshakes_keep_theirs_for_receiving() -> None:
    slots, old, theirs, ours = KeySlots(), session(), session(initiator=False), session()
    slots.install_as_initiator(old)
    slots.install_as_responder(theirs)
    assert slots.install_as_initiator(ours) == [old]
    assert (slots.previous, slots.current, slots.next) == (theirs, ours, None)


def test_clear_gives_all() -> None:
    slots, current, following = KeySlots(), session(), session(initiator=False)
    slots.install_as_initiator(current)
    slots.install_as_responder(following)
    assert slots.clear() == [current, following]
    assert slots.clear() == []


def test_an_index_in_use_is_not_given_again() -> None:
    drawn = iter([5, 6, 7, 8])
    table: IndexTable[str] = IndexTable(lambda size: next(drawn).to_bytes(size, "little"))
    table.pending[5] = "waits"
    table.sessions[data_header(6)] = ("has", session())
    assert table.allocate() == 7
    assert len(table) == 2


def test_removed_sessions_are_wiped() -> None:
    table: IndexTable[str] = IndexTable(bytes)
    one = session()
    table.add("peer", one)
    assert table.sessions == {one.header: ("peer", one)}
    table.remove([one])
    assert len(table) == 0
    assert one.send_key.encrypt_into is None  # type: ignore[attr-defined]
