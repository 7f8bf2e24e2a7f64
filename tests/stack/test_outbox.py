"""Replies first, bounded; what is for ourselves comes back as rows."""

from __future__ import annotations

from tests.support.stack import A4, B4
from usernet.burst.packets import CHECKSUM_OK, PSH, Drops, SuperPacket
from usernet.stack.outbox import LOOPBACK_BYTES, REPLY_BYTES, Outbox
from usernet.stack.schedule import Sender
from usernet.wire.tcp import ACK, encode_segment


class Source:
    """Has one packet to send."""

    def __init__(self) -> None:
        self.deficit = 0
        self.is_queued = False

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        return [SuperPacket(b"sent")]


def make() -> tuple[Outbox, Drops, list[Sender]]:
    drops, turns = Drops(), list[Sender]()

    def after_turn(sender: Sender, now: float) -> bool:
        turns.append(sender)
        return False

    return Outbox(frozenset([A4]), 1420, drops, after_turn), drops, turns


def test_replies_go_first() -> None:
    outbox, _, turns = make()
    source = Source()
    outbox.want(source)
    outbox.reply(b"reply", B4)
    outbox.reply(None, B4)
    assert outbox.take(1000, 0) == [SuperPacket(b"reply"), SuperPacket(b"sent")]
    assert turns == [source]
    assert outbox.senders_waiting == 0
    assert outbox.take(1000, 0) == []


def test_who_is_gone_sends_nothing() -> None:
    outbox, _, _ = make()
    sources = [Source() for _ in range(3)]
    for source in sources:
        outbox.want(source)
    outbox.forget(sources[1])
    outbox.forget(sources[1])
    assert outbox.senders_waiting == 2
    assert len(outbox.take(1000, 0)) == 2


def test_replies_are_bounded_and_keep_to_the_budget() -> None:
    outbox, drops, _ = make()
    for _ in range(REPLY_BYTES // 1000 + 10):
        outbox.reply(bytes(1000), B4)
    assert len(outbox.take(10_500, 0)) == 11
    assert len(outbox.take(1 << 30, 0)) == REPLY_BYTES // 1000 - 11
    assert drops == {"reply-queue-full": 10}


def test_what_is_for_ourselves_comes_back() -> None:
    outbox, drops, _ = make()
    header = encode_segment(B4, A4, 1, 2, 3, 4, ACK, 5)
    outbox.loop_back(SuperPacket(header, (b"ab", b"cde"), 2))
    outbox.reply(b"E" + bytes(30), A4)
    assert outbox.has_loopback
    burst = outbox.take_loopback()
    assert burst.rows == [(0, 45, 2, 3, 20, CHECKSUM_OK | PSH), (45, 31, 0, 1, 0, 0)]
    assert bytes(burst.buf) == header + b"abcde" + b"E" + bytes(30)
    assert not outbox.has_loopback
    for _ in range(5):
        outbox.loop_back(SuperPacket(header, (bytes(LOOPBACK_BYTES // 4),), 1000))
    assert drops == {"loopback-full": 2}
    assert len(outbox.take_loopback().rows) == 3
