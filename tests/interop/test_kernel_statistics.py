"""What a connection says of itself, against what the kernel and the wire say."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.support.kernel import DATA, active, exchange, port_of
from tests.support.tun import OURS, Beside, clock
from usernet.wire.ip import pack_address

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


class Witness:
    """Sees what our host sends, and counts for itself how many segments of data went again."""

    def __init__(self, beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
        self.again = 0
        self._end: int | None = None
        fly = beside.fly

        def see(data: bytes, now: float, to: int) -> None:
            if data[12:16] == pack_address(OURS):
                self._see(data)
            fly(data, now, to)

        monkeypatch.setattr(beside, "fly", see)

    def _see(self, packet: bytes) -> None:
        (seq,) = struct.unpack_from("!I", packet, 24)
        size = len(packet) - 20 - (packet[32] >> 4) * 4
        if not size:
            return
        ahead = 0 if self._end is None else (seq - self._end) & 0xFFFF_FFFF
        if ahead < 1 << 31:
            self._end = (seq + size) & 0xFFFF_FFFF
        else:
            self.again += 1


def read_exactly(sock: socket.socket, size: int) -> None:
    while size:
        piece = len(sock.recv(size))
        assert piece
        size -= piece


def test_what_was_sent_again_and_how_fast_it_went(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = active(beside)
    beside.delay = 0.01
    witness = Witness(beside, monkeypatch)
    beside.lose(10)
    began = clock()
    read = beside.submit(lambda: read_exactly(theirs, 2 << 20))
    beside.station.write(ours, DATA[: 2 << 20], clock())
    beside.run(read.done, "the upload", 60)
    average = (2 << 20) / (clock() - began)
    statistics = ours.statistics()
    assert statistics.segments_resent == witness.again > 3
    assert statistics.resent_in_recovery > statistics.segments_resent / 2
    told = dict(word.split(":", 1) for word in beside.ss(port_of(theirs), "-i").split() if ":" in word)
    assert statistics.mss == int(told["advmss"])
    assert 0.02 <= statistics.srtt < 0.1, "the path's delay there and back, and a delayed ACK"
    assert average / 5 < statistics.delivery_rate < average * 5
    exchange(beside, ours, theirs, b"", b"")


def test_an_outage_is_counted_apart(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = active(beside)
    beside.delay = 0.01
    witness = Witness(beside, monkeypatch)
    beside.lose(1000)
    beside.station.write(ours, b"anybody there?", clock())
    beside.run(lambda: ours.statistics().resent_after_timeout >= 2, "two time-outs")
    statistics = ours.statistics()
    assert statistics.segments_resent == witness.again
    assert statistics.backoff >= 2
    assert statistics.resent_in_recovery == 0
    beside.lose(0)
    read = beside.submit(lambda: theirs.recv(100))
    beside.run(read.done, "the data")
    assert read.result() == b"anybody there?"
    beside.run(lambda: ours.statistics().backoff == 0, "the ACK")
    assert statistics.backoff >= 2, "a snapshot does not change"
    exchange(beside, ours, theirs, b"", b"")
