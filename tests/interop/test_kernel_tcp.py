"""Our TCP against the kernel's, without a tunnel between them: over a TUN, with loss and reordering on the way."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from tests.support.kernel import (
    DATA,
    PORT,
    SIZE,
    Opening,
    active,
    digest,
    exchange,
    finish,
    passive,
    port_of,
    read_all,
    send_all,
)
from tests.support.tun import OURS, THEIRS, Beside, clock
from usernet.tcp.connection import CLOSED, CONNECTED
from usernet.tcp.state import State
from usernet.wire.ip import pack_address

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


def allowed(per_mille: int) -> float:
    """How many segments of a transfer may be sent again: three times what is lost, and a few for a busy machine."""
    return SIZE / 1368 * (3 * per_mille + 20) / 1000


FAMILIES = [socket.AF_INET, socket.AF_INET6]
LOSSES = [(socket.AF_INET, 0), (socket.AF_INET, 10), (socket.AF_INET, 50), (socket.AF_INET6, 0), (socket.AF_INET6, 10)]


@pytest.mark.parametrize("opening", [active, passive])
@pytest.mark.parametrize(("family", "per_mille"), LOSSES)
def test_upload(beside: Beside, opening: Opening, family: int, per_mille: int) -> None:
    ours, theirs = opening(beside, family)
    beside.lose(per_mille)
    exchange(beside, ours, theirs, DATA, b"")
    assert ours.statistics().segments_resent <= allowed(per_mille), "a storm of retransmissions"


@pytest.mark.parametrize("opening", [active, passive])
@pytest.mark.parametrize(("family", "per_mille"), LOSSES)
def test_download(beside: Beside, opening: Opening, family: int, per_mille: int) -> None:
    ours, theirs = opening(beside, family)
    beside.lose(per_mille)
    station = beside.station
    sent = beside.submit(lambda: theirs.sendall(DATA))
    beside.run(lambda: sent.done() and len(station.received.get(ours, b"")) == SIZE, "the download", 60)
    assert digest(station.received[ours]) == digest(DATA)
    told = [word for word in beside.ss(port_of(theirs), "-i").split() if word.startswith("retrans:")]
    assert not told or int(told[0].rpartition("/")[2]) <= allowed(per_mille), "a storm of retransmissions"
    exchange(beside, ours, theirs, b"", b"")


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways_at_once(beside: Beside, family: int) -> None:
    ours, theirs = active(beside, family)
    beside.lose(10)
    exchange(beside, ours, theirs, DATA, DATA)


def test_reordering(beside: Beside) -> None:
    """A tenth of the packets 5 ms late, in each direction."""
    ours, theirs = active(beside)
    beside.delay, beside.late = 0.005, 0.1
    exchange(beside, ours, theirs, DATA, DATA)


def test_they_learn_of_duplicates(beside: Beside) -> None:
    """RFC 2883: the kernel resends what is only late, and hears that it came twice.

    Its own wait for what may be late (RACK's, a share of the round trip) is shorter than 20 ms here.
    """
    ours, theirs = active(beside)
    beside.delay, beside.late, beside.late_by = 0.005, 0.02, 0.02
    before = beside.nstat("TcpExtTCPDSACKRecv"), beside.nstat("TcpExtTCPDSACKIgnoredDubious")
    sent = beside.submit(lambda: theirs.sendall(DATA))
    beside.run(lambda: sent.done() and len(beside.station.received.get(ours, b"")) == SIZE, "the download", 60)
    assert "dsack_dups:" in beside.ss(port_of(theirs), "-i")
    after = beside.nstat("TcpExtTCPDSACKRecv"), beside.nstat("TcpExtTCPDSACKIgnoredDubious")
    assert after[0] > before[0]
    assert after[1] == before[1]
    exchange(beside, ours, theirs, b"", b"")


def test_smallest_receive_buffer(beside: Beside) -> None:
    """The kernel's least: windows smaller than a segment."""
    ours, theirs = active(beside, receive_buffer=1)
    exchange(beside, ours, theirs, DATA[: 128 << 10], b"")


def test_we_close_first_and_go_on_reading(beside: Beside) -> None:
    ours, theirs = active(beside)
    station = beside.station
    station.write(ours, b"question", clock(), shut=True)
    asked = beside.submit(lambda: read_all(theirs))
    beside.run(lambda: asked.done() and ours.state is State.FIN_WAIT_2, "our FIN to be acknowledged")
    assert asked.result() == b"question"
    assert beside.ss(port_of(theirs)).startswith("CLOSE-WAIT")
    answered = beside.submit(lambda: send_all(theirs, DATA[: 1 << 20]))
    beside.run(lambda: answered.done() and ours.at_eof, "the answer")
    assert digest(station.received[ours]) == digest(DATA[: 1 << 20])
    assert ours.state is State.TIME_WAIT
    finish(beside, ours, theirs)


def test_they_close_first_and_go_on_reading(beside: Beside) -> None:
    ours, theirs = passive(beside)
    station = beside.station
    theirs.shutdown(socket.SHUT_WR)
    beside.run(
        lambda: ours.at_eof and beside.ss(port_of(theirs)).startswith("FIN-WAIT-2"), "their FIN to be acknowledged"
    )
    assert ours.state is State.CLOSE_WAIT
    read = beside.submit(lambda: read_all(theirs))
    station.write(ours, DATA[: 1 << 20], clock(), shut=True)
    beside.run(lambda: read.done() and ours.state is State.CLOSED, "the answer")
    assert digest(read.result()) == digest(DATA[: 1 << 20])
    assert beside.ss(port_of(theirs)).startswith("TIME-WAIT")
    finish(beside, ours, theirs)


def test_simultaneous_close(beside: Beside) -> None:
    """Each FIN is under way when the other is sent: both end in TIME-WAIT."""
    ours, theirs = active(beside)
    port = port_of(theirs)
    beside.delay = 0.1
    ours.shutdown_write(clock())
    beside.station.host.changed(ours, clock())
    theirs.shutdown(socket.SHUT_WR)
    beside.run(lambda: ours.state is State.CLOSING, "their FIN to come before their ACK")
    beside.run(lambda: ours.state is State.TIME_WAIT, "TIME-WAIT")
    beside.run(lambda: "TIME-WAIT" in beside.ss(port), "theirs")
    theirs.close()


def test_simultaneous_open(beside: Beside) -> None:
    """RFC 9293 figure 8."""
    beside.delay = 0.1
    with beside.open_socket() as theirs:
        theirs.bind((THEIRS, 0))
        port = port_of(theirs)
        ours = beside.station.host.connect(pack_address(THEIRS), port, clock(), local_port=PORT + 1)
        dialled = beside.submit(lambda: theirs.connect((OURS, PORT + 1)))
        beside.run(lambda: dialled.done() and ours.state is State.ESTABLISHED, "both to be open")
        dialled.result()
        beside.delay = 0.0
        exchange(beside, ours, theirs, b"from us", b"from them")


def test_nobody_listens_there(beside: Beside) -> None:
    with beside.listener() as listener:
        port = port_of(listener)
    ours = beside.station.host.connect(pack_address(THEIRS), port, clock())
    beside.run(lambda: ours.state is State.CLOSED, "the refusal")
    assert isinstance(ours.error, ConnectionRefusedError)
    assert not beside.station.readiness[ours] & CONNECTED


def test_nobody_listens_here(beside: Beside) -> None:
    with beside.open_socket() as theirs:
        dialled = beside.submit(lambda: theirs.connect_ex((OURS, PORT + 2)))
        beside.run(dialled.done, "the refusal")
        with pytest.raises(ConnectionRefusedError):
            raise OSError(dialled.result(), os.strerror(dialled.result()))


def test_they_reset(beside: Beside) -> None:
    ours, theirs = active(beside)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    beside.run(lambda: ours.state is State.CLOSED, "the reset")
    assert isinstance(ours.error, ConnectionResetError)
    assert beside.station.readiness[ours] & CLOSED


def test_we_reset(beside: Beside) -> None:
    ours, theirs = passive(beside)
    read = beside.submit(lambda: read_all(theirs))
    ours.abort(clock())
    beside.station.host.changed(ours, clock())
    beside.run(read.done, "the reset")
    assert isinstance(read.exception(), ConnectionResetError)
    assert not beside.ss(port_of(theirs))


def test_we_close_with_unread_data(beside: Beside) -> None:
    """RFC 2525 2.17: the peer learns that what it sent was not read."""
    ours, theirs = active(beside)
    beside.station.paused = True
    theirs.sendall(b"never read")
    beside.run(lambda: ours.readable_bytes, "the data")
    ours.close(clock())
    beside.station.host.changed(ours, clock())
    read = beside.submit(lambda: read_all(theirs))
    beside.run(read.done, "the reset")
    assert isinstance(read.exception(), ConnectionResetError)
    theirs.close()


def test_they_close_with_unread_data(beside: Beside) -> None:
    ours, theirs = active(beside)
    beside.station.write(ours, b"never read", clock())
    beside.run(lambda: beside.ss(port_of(theirs)).split()[1] == "10", "the data")
    theirs.close()
    beside.run(lambda: ours.state is State.CLOSED, "the reset")
    assert isinstance(ours.error, ConnectionResetError)


def test_data_for_a_connection_that_is_gone(beside: Beside) -> None:
    """A host that has forgotten answers with a reset (half-open, RFC 9293 3.5.1)."""
    _, theirs = active(beside)
    beside.fresh()
    theirs.sendall(b"still there?")
    read = beside.submit(lambda: read_all(theirs))
    beside.run(read.done, "the reset")
    assert isinstance(read.exception(), ConnectionResetError)
    theirs.close()


def test_urgent_data_stays_in_line(beside: Beside) -> None:
    """RFC 6093: the mark means nothing to us and no byte is lost."""
    ours, theirs = active(beside)
    for piece in (b"one", b"two"):
        theirs.send(piece)
        theirs.send(b"!", socket.MSG_OOB)
    theirs.sendall(b"three")
    beside.run(lambda: bytes(beside.station.received.get(ours, b"")) == b"one!two!three", "every byte in its place")
    finish(beside, ours, theirs)


def test_their_reader_stalls(beside: Beside) -> None:
    """A closed window is probed seldom, and then everything goes on."""
    ours, theirs = active(beside, receive_buffer=32 << 10)
    station = beside.station
    station.write(ours, DATA[: 1 << 20], clock(), shut=True)
    beside.run(lambda: ours.statistics().send_window == 0, "the window to close")
    before = beside.packets_out
    beside.linger(1.5)
    assert beside.packets_out - before <= 6, "probes back off"
    read = beside.submit(lambda: read_all(theirs))
    beside.run(read.done, "the rest")
    assert digest(read.result()) == digest(DATA[: 1 << 20])
    finish(beside, ours, theirs)


def test_our_reader_stalls(beside: Beside) -> None:
    ours, theirs = active(beside)
    station = beside.station
    station.paused = True
    sent = beside.submit(lambda: send_all(theirs, DATA))
    beside.run(
        lambda: ours.readable_bytes >= 200 << 10 and "persist" in beside.ss(port_of(theirs), "-o"),
        "our window to close",
    )
    before, drops = beside.packets_in, station.host.statistics().drops
    beside.linger(1.5)
    assert 0 < beside.packets_in - before <= 8
    assert station.host.statistics().drops == drops, "a probe is no drop"
    station.resume(ours)
    beside.run(lambda: sent.done() and ours.at_eof, "the rest")
    assert digest(station.received[ours]) == digest(DATA)
    finish(beside, ours, theirs)
