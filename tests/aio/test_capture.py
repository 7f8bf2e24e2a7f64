"""What a capture holds, as scapy reads it: the packets inside, whole and valid, as long as somebody wants them."""

from __future__ import annotations

import asyncio
import errno
import io
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import RawPcapReader

from tests.support.networks import LEFT, LEFT6, RIGHT, RIGHT6, Pair, memory_pair
from usernet.aio import capture
from usernet.aio.capture import Tap

BULK = bytes(range(256)) * 2000


class Records(list[bytes]):
    """Of a capture that is under way."""

    def packets(self, snaplen: int = capture.SNAPLEN) -> list[tuple[bytes, int]]:
        """What there is of each, and how long it was."""
        file: Any = io.BytesIO(capture.header(snaplen) + b"".join(self))
        return [(data, meta.wirelen) for data, meta in RawPcapReader(file)]


def parsed(data: bytes) -> Any:
    """With valid lengths and checksums: those that scapy would put there."""
    layer = IP if data[0] >> 4 == 4 else IPv6
    packet = layer(data)
    again = packet.copy()
    for part in (again, *(again[kind] for kind in (TCP, UDP) if kind in again)):
        for name in ("chksum", "len", "plen"):
            if name in part.fields:
                del part.fields[name]
    assert bytes(again) == data
    return packet


async def carry(pair: Pair, address: str) -> None:
    """BULK there and back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(len(BULK)))
        writer.close()

    server = await pair.right.start_server(echo, None, 7)
    reader, writer = await pair.left.open_connection(address, 7)
    writer.write(BULK)
    assert await reader.readexactly(len(BULK)) == BULK
    writer.close()
    server.close()


@pytest.mark.parametrize(("near", "far"), [(LEFT, RIGHT), (LEFT6, RIGHT6)])
async def test_both_ways_and_all_of_it(near: str, far: str) -> None:
    records = Records()
    async with memory_pair() as pair:
        with pair.left.captured(records.append):
            await carry(pair, far)
    packets = [parsed(data) for data, length in records.packets() if length == len(data)]
    assert len(packets) == len(records)
    for source in (near, far):
        segments = [packet[TCP] for packet in packets if packet.src == source]
        first = next(segment.seq for segment in segments if "S" in segment.flags) + 1
        stream = bytearray(len(BULK))
        for segment in segments:
            at, data = (segment.seq - first) % (1 << 32), bytes(segment.payload)
            if data:
                stream[at : at + len(data)] = data
        assert stream == BULK
        assert max(len(segment.payload) for segment in segments) > 10_000  # merged


async def test_nothing_before_or_after() -> None:
    records = Records()
    async with memory_pair() as pair:
        await pair.left.ping(RIGHT)
        with pair.left.captured(records.append):
            pass
        await pair.left.ping(RIGHT)
        assert records == []


async def test_several_end_in_any_order() -> None:
    first, second = Records(), Records()
    async with memory_pair() as pair:
        one, two = pair.left.captured(first.append), pair.left.captured(second.append)
        one.__enter__()
        two.__enter__()
        await pair.left.ping(RIGHT)
        one.__exit__(None, None, None)
        await pair.left.ping(RIGHT)
        two.__exit__(None, None, None)
        await pair.left.ping(RIGHT)
    assert (len(first), len(second)) == (2, 4)


async def test_a_capture_that_fails_stops_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Records(), Records()

    def full(record: bytes) -> None:
        first.append(record)
        raise OSError(errno.ENOSPC, "No space left on device")

    async with memory_pair() as pair:
        await pair.left.reach([RIGHT])
        # The first packet is one to take on the left, and one to deliver on the right
        with pair.left.captured(second.append), pair.left.captured(full), pair.right.captured(full):
            await carry(pair, RIGHT)
    assert len(first) == 2
    assert len(second) > 10
    assert [record.message for record in caplog.records if record.exc_info] == ["capturing failed, and has ended"] * 2


async def test_a_snaplen() -> None:
    records = Records()
    async with memory_pair() as pair:
        with pair.left.captured(records.append, 60):
            await carry(pair, RIGHT)
    packets = records.packets(60)
    assert max(len(data) for data, _ in packets) == 60
    assert max(length for _, length in packets) > 10_000
    for data, length in packets:
        assert IP(data).len == length
        parsed(data[:20])


def test_a_file_begins_as_it_should() -> None:
    """draft-ietf-opsawg-pcap-05, section 4, with nanoseconds."""
    golden = "4d3cb2a1 0200 0400 00000000 00000000 27000100 65000000"
    assert capture.header() == bytes.fromhex(golden)


def test_time_and_lengths_of_a_record() -> None:
    records: list[bytes] = []
    Tap(records.append, 2, lambda: 3_000_000_007)._record(b"abc")
    assert records == [bytes.fromhex("03000000 07000000 02000000 03000000") + b"ab"]
