"""The arena and the small messages beside it."""

from __future__ import annotations

from usernet.burst.packets import MAX_RUN_SEGMENTS, SuperPacket
from usernet.burst.reference import ReferenceKernel
from usernet.wireguard.handshake import Keypair
from usernet.wireguard.outbox import ARENA_BYTES, KEEPALIVE, MAX_MESSAGES, Outbox
from usernet.wireguard.peer import NO_RESERVED
from usernet.wireguard.session import Session
from usernet.wireguard.timers import Timing

TO = ("192.0.2.2", 51820)
PACKET = SuperPacket(b"\x45" + bytes(1399))


def outbox() -> tuple[Outbox, Session]:
    kernel = ReferenceKernel()
    return Outbox(kernel, 1420), Session(Keypair(bytes(32), bytes(32), 1, 2, True), kernel, Timing(), 0.0)


def test_a_burst_is_one_run() -> None:
    box, session = outbox()
    size = 1408 + 32
    assert box.seal(session, [PACKET] * 10, TO, NO_RESERVED) == 10 * size
    [burst] = box.take()
    assert (burst.address, len(burst.buf), burst.segment_size, burst.tos) == (TO, 10 * size, size, 0)
    assert box.take() == []


def test_the_arena_is_used_anew_after_it_was_taken() -> None:
    box, session = outbox()
    arenas = set()
    for _ in range(1000):
        box.begin()
        box.seal(session, [PACKET] * 10, TO, NO_RESERVED)
        arenas.add(id(box.take()[0].buf.obj))
    assert len(arenas) == 1


def test_what_was_not_taken_is_not_overwritten() -> None:
    box, session = outbox()
    for _ in range(2 * ARENA_BYTES // 14_400):
        box.begin()
        box.seal(session, [PACKET] * 10, TO, NO_RESERVED)
    counters = [
        int.from_bytes(burst.buf[at + 8 : at + 16], "little")
        for burst in box.take()
        for at in range(0, len(burst.buf), burst.segment_size)
    ]
    assert counters == list(range(len(counters)))


def test_more_than_an_arena_at_once() -> None:
    box, session = outbox()
    count = 2 * ARENA_BYTES // 1440
    assert box.seal(session, [PACKET] * count, TO, NO_RESERVED) == count * 1440
    assert sum(len(burst.buf) for burst in box.take()) == count * 1440


def test_apart_from_the_arena() -> None:
    box, session = outbox()
    box.seal(session, [PACKET], TO, NO_RESERVED)
    assert box.seal_apart(session, [KEEPALIVE], TO, NO_RESERVED) == 32
    data, keepalive = box.take()
    assert data.buf.obj is not keepalive.buf.obj
    assert len(keepalive.buf) == 32


def test_reserved_bytes_are_in_every_datagram() -> None:
    box, session = outbox()
    box.seal(session, [PACKET, PACKET, KEEPALIVE], TO, b"abc")
    box.put(b"\1\0\0\0rest", TO, b"abc")
    for burst in box.take():
        for at in range(0, len(burst.buf), burst.segment_size):
            assert bytes(burst.buf[at + 1 : at + 4]) == b"abc"


def test_messages_alike_leave_in_one_call() -> None:
    """What a flood of initiations is answered with, and in its place among the rest."""
    box, session = outbox()
    for number in range(MAX_RUN_SEGMENTS + 2):
        box.put(bytes([number]) * 64, TO)
    box.put(bytes([1]) * 92, TO)
    box.put(bytes([2]) * 92, TO, local=b"here")
    box.put(bytes([3]) * 92, ("192.0.2.3", 51820), local=b"here")
    box.seal_apart(session, [KEEPALIVE], TO, NO_RESERVED)
    box.put(bytes([4]) * 92, ("192.0.2.3", 51820), local=b"here")
    bursts = box.take()
    assert [len(burst.buf) // burst.segment_size for burst in bursts] == [MAX_RUN_SEGMENTS, 2, 1, 1, 1, 1, 1]
    assert [burst.segment_size for burst in bursts] == [64, 64, 92, 92, 92, 32, 92]
    assert b"".join(bytes(burst.buf[::64]) for burst in bursts[:2]) == bytes(range(MAX_RUN_SEGMENTS + 2))
    assert [burst.buf[0] for burst in bursts[2:]] == [1, 2, 3, 4, 4]
    assert [burst.local for burst in bursts[2:5]] == [b"", b"here", b"here"]
    assert box.take() == []


def test_the_ecn_field_is_copied_to_the_outside() -> None:
    box, session = outbox()
    marked = SuperPacket(b"\x45\xba" + bytes(1398))
    box.seal(session, [PACKET, marked, marked, PACKET], TO, NO_RESERVED)
    bursts = box.take()
    assert [(burst.tos, len(burst.buf) // burst.segment_size) for burst in bursts] == [(0, 1), (2, 2), (0, 1)]
    counters = [int.from_bytes(burst.buf[8:16], "little") for burst in bursts]
    assert counters == [0, 1, 3]


def test_messages_are_bounded_until_taken() -> None:
    box, _ = outbox()
    assert all(box.put(bytes(148), TO) for _ in range(MAX_MESSAGES))
    assert not box.put(bytes(148), TO)
    assert sum(len(burst.buf) for burst in box.take()) == 148 * MAX_MESSAGES
    assert box.put(bytes(148), TO)
    assert box.take()[0].tos == 0x88


def test_a_wiped_key_seals_nothing() -> None:
    box, session = outbox()
    session.wipe()
    assert box.seal(session, [PACKET], TO, NO_RESERVED) == 0
    assert box.take() == []
