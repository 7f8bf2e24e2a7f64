"""Our receive window as the kernel and the wire see it: it never shrinks, and it grows with what is read.  And how
often we acknowledge.

RFC 9293 3.8.6, RFC 7323 2.3 and 2.4, RFC 5681 4.2.
"""

from __future__ import annotations

import socket
import struct

import pytest

from tests.support.kernel import DATA, SIZE, active, digest, finish, passive, port_of, send_all
from tests.support.tun import OURS, Beside, clock
from usernet.tcp.settings import TcpSettings
from usernet.wire.ip import pack_address

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


class Edge:
    """Reads our segments for itself: the right edge of the window that each offers."""

    def __init__(self, beside: Beside, scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widest = 0
        self.went_back = 0
        self._scale = scale
        self._edge: int | None = None
        fly, ours = beside.fly, pack_address(OURS)

        def see(data: bytes, now: float, to: int) -> None:
            if data[12:16] == ours:
                self._see(data)
            fly(data, now, to)

        monkeypatch.setattr(beside, "fly", see)

    def _see(self, packet: bytes) -> None:
        ack, _, flags, window = struct.unpack_from("!IBBH", packet, 28)
        assert not flags & 0b110, "the connection is open"
        window <<= self._scale
        edge = (ack + window) & 0xFFFF_FFFF
        if self._edge is not None and (edge - self._edge) & 0xFFFF_FFFF >= 1 << 31:
            self.went_back = max(self.went_back, (self._edge - edge) & 0xFFFF_FFFF)
        else:
            self._edge = edge
        self.widest = max(self.widest, window)


@pytest.mark.parametrize(("largest", "scale"), [(0xFFFF, 0), (8 << 20, 7), (1 << 30, 14)])
def test_it_never_shrinks(beside: Beside, largest: int, scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the reader stalls, takes crumbs and goes on, at every granularity."""
    station = beside.fresh(TcpSettings(receive_buffer_max=largest))
    ours, theirs = active(beside)
    assert ours.receiver.scale == scale
    beside.delay = 0.002
    edge = Edge(beside, scale, monkeypatch)
    sent = beside.submit(lambda: theirs.sendall(DATA))
    for _ in range(10):
        station.paused = True
        beside.run(lambda: sent.done() or "persist" in beside.ss(port_of(theirs), "-o"), "our window to close")
        station.paused = False
        for _ in range(3):  # a crumb, and what may come for it
            if ours.readable_bytes:
                station.received.setdefault(ours, bytearray()).extend(ours.read(1000))
                station.host.changed(ours, clock())
            beside.linger(0.01)
        station.resume(ours)
    beside.run(lambda: sent.done() and len(station.received.get(ours, b"")) == SIZE, "the rest", 60)
    assert digest(station.received[ours]) == digest(DATA)
    assert edge.went_back < 1 << scale, "RFC 7323 2.4: not more than what the scale cannot say"
    assert edge.widest > largest // 2 or edge.widest > 128 << 10
    monkeypatch.undo()
    finish(beside, ours, theirs)


@pytest.mark.parametrize("opening", [active, passive])
def test_it_grows_with_what_is_read(beside: Beside, opening: object) -> None:
    """From 256 KiB, by the round trip: a kernel 100 ms away is not held up."""
    ours, theirs = active(beside) if opening is active else passive(beside)
    assert ours.statistics().receive_buffer < 300 << 10
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 20)
    beside.delay = 0.05
    sent = beside.submit(lambda: send_all(theirs, DATA * 4))
    beside.run(lambda: sent.done() and ours.at_eof, "the download", 60)
    assert digest(beside.station.received[ours]) == digest(DATA * 4)
    assert 1 << 20 < ours.statistics().receive_buffer <= 8 << 20
    finish(beside, ours, theirs)


def test_a_segment_alone_is_acknowledged_a_little_later(beside: Beside) -> None:
    ours, theirs = active(beside)
    for _ in range(5):
        sent = beside.packets_out
        began = clock()
        theirs.send(b"?")
        beside.run(lambda sent=sent: beside.packets_out > sent, "the ACK", 3)  # type: ignore[misc]
        assert clock() - began >= 0.039
        beside.run(lambda: beside.ss(port_of(theirs)).split()[2] == "0", "the kernel to have heard it", 3)
    finish(beside, ours, theirs)


def test_a_burst_is_acknowledged_once(beside: Beside) -> None:
    """At least two segments for each ACK (RFC 5681 4.2), and no more of them than bursts."""
    ours, theirs = active(beside)
    sent, came = beside.packets_out, beside.packets_in
    done = beside.submit(lambda: theirs.sendall(DATA))
    beside.run(lambda: done.done() and len(beside.station.received.get(ours, b"")) == SIZE, "the download", 60)
    assert beside.packets_out - sent < (beside.packets_in - came) / 2 + 20
    finish(beside, ours, theirs)
