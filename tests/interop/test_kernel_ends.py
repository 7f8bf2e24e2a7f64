"""The kernel vanishes, in each state, or answers and never reads: nothing of it stays with us.

Our patience is shortened, for the defaults are minutes; tests/stack/test_vanishing.py has those, in virtual time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.support.kernel import ADDRESSES, DATA, PORT, active, passive, port_of, read_all
from tests.support.tun import Beside, clock
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings
from usernet.tcp.state import State
from usernet.wire.ip import pack_address

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

IMPATIENT = TcpSettings(
    syn_retries=1, user_timeout=0.5, orphan_timeout=0.5, time_wait=0.5,
    keepalive_idle=0.5, keepalive_interval=0.2, keepalive_probes=2,
)  # fmt: skip
ALL = 1000  # per mille


def syn_sent(beside: Beside) -> Connection:
    beside.lose(ALL)
    with beside.listener() as listener:
        return beside.station.host.connect(pack_address(ADDRESSES[socket.AF_INET][1]), port_of(listener), clock())


def syn_received(beside: Beside) -> None:
    """Our answer is still under way when the path breaks."""
    beside.delay = 0.1
    beside.station.host.listen(PORT)
    theirs = beside.open_socket()
    theirs.setblocking(False)
    theirs.connect_ex((ADDRESSES[socket.AF_INET][0], PORT))
    beside.run(lambda: beside.station.host.statistics().half_open, "their SYN")
    beside.lose(ALL)


def established(beside: Beside) -> Connection:
    ours, _ = active(beside)
    beside.lose(ALL)
    return ours


def sending(beside: Beside) -> Connection:
    ours = established(beside)
    beside.station.write(ours, DATA[: 200 << 10], clock())
    return ours


def fin_wait_1(beside: Beside) -> Connection:
    ours = established(beside)
    close(beside, ours)
    return ours


def fin_wait_2(beside: Beside) -> Connection:
    ours, _ = active(beside)
    close(beside, ours)
    beside.run(lambda: ours.state is State.FIN_WAIT_2, "the ACK of our FIN")
    beside.lose(ALL)
    return ours


def closing(beside: Beside) -> Connection:
    ours, theirs = active(beside)
    beside.delay = 0.05
    close(beside, ours)
    theirs.shutdown(socket.SHUT_WR)
    beside.run(lambda: ours.state is State.CLOSING, "their FIN")
    beside.lose(ALL)
    return ours


def close_wait(beside: Beside) -> Connection:
    """And the application notices nothing, for it only reads."""
    ours, theirs = passive(beside)
    theirs.shutdown(socket.SHUT_WR)
    beside.run(lambda: ours.state is State.CLOSE_WAIT, "their FIN")
    beside.lose(ALL)
    return ours


def last_ack(beside: Beside) -> Connection:
    ours = close_wait(beside)
    close(beside, ours)
    return ours


def time_wait(beside: Beside) -> Connection:
    ours, theirs = active(beside)
    close(beside, ours)
    theirs.shutdown(socket.SHUT_WR)
    beside.run(lambda: ours.state is State.TIME_WAIT, "their FIN")
    beside.lose(ALL)
    return ours


WAYS: dict[str, tuple[Callable[[Beside], Connection | None], type[Exception] | None]] = {
    "SYN-SENT": (syn_sent, TimeoutError),
    "SYN-RECEIVED": (syn_received, None),  # nobody knew of it
    "ESTABLISHED": (established, TimeoutError),
    "ESTABLISHED with data": (sending, TimeoutError),
    "FIN-WAIT-1": (fin_wait_1, TimeoutError),
    "FIN-WAIT-2": (fin_wait_2, None),
    "CLOSING": (closing, None),  # both have said all
    "CLOSE-WAIT": (close_wait, TimeoutError),
    "LAST-ACK": (last_ack, None),
    "TIME-WAIT": (time_wait, None),
}


@pytest.mark.parametrize("where", WAYS)
def test_they_vanish(beside: Beside, where: str) -> None:
    beside.fresh(IMPATIENT)
    way, error = WAYS[where]
    ours = way(beside)
    host = beside.station.host
    assert list(host.statistics().connections) == [where.split()[0]]
    beside.run(lambda: not host.statistics().connections, "the end", 10)
    assert nothing_left(beside)
    if ours is not None:
        assert ours.state is State.CLOSED
        assert type(ours.error) is (type(None) if error is None else error)


def test_closing_before_one_that_never_reads(beside: Beside) -> None:
    """It answers every probe, and that is no reason to keep what nobody waits for (RFC 1122 4.2.2.17)."""
    beside.fresh(IMPATIENT)
    ours, theirs = active(beside, receive_buffer=32 << 10)
    beside.station.write(ours, DATA[: 200 << 10], clock())
    beside.run(lambda: ours.statistics().send_window == 0, "the window to close")
    before = beside.packets_in
    close(beside, ours)
    beside.run(lambda: ours.state is State.CLOSED, "the end", 10)
    assert beside.packets_in > before, "it answered"
    assert isinstance(ours.error, TimeoutError)
    assert nothing_left(beside)
    read = beside.submit(lambda: read_all(theirs))  # its window opens, and whoever hears that knows of nothing
    beside.run(read.done, "the reset")
    assert isinstance(read.exception(), ConnectionResetError)


def test_keepalive_of_ours_is_answered(beside: Beside) -> None:
    beside.fresh(IMPATIENT)
    ours, theirs = active(beside)
    before = beside.packets_in
    beside.run(lambda: beside.packets_in >= before + 3, "three probes to be answered", 10)
    assert ours.state is State.ESTABLISHED
    theirs.close()


def close(beside: Beside, ours: Connection) -> None:
    ours.close(clock())
    beside.station.host.changed(ours, clock())


def nothing_left(beside: Beside) -> bool:
    statistics = beside.station.host.statistics()
    return (statistics.connections, statistics.timers, statistics.senders_waiting, statistics.half_open) == (
        {},
        0,
        0,
        0,
    )


def test_keepalive_of_theirs_is_answered(beside: Beside) -> None:
    ours, theirs = active(beside)
    for option, seconds in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
        theirs.setsockopt(socket.IPPROTO_TCP, option, seconds)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    before = beside.packets_in
    beside.run(lambda: beside.packets_in >= before + 3, "three probes", 10)
    assert beside.ss(port_of(theirs)).startswith("ESTAB")
    assert ours.state is State.ESTABLISHED


def test_they_connect_anew_out_of_our_time_wait(beside: Beside) -> None:
    """RFC 9293 3.6.1, RFC 6191: the same two ports, at once."""
    for _ in range(3):
        ours, theirs = passive(beside, prepare=lambda sock: bind(sock, PORT + 9))
        close(beside, ours)
        theirs.shutdown(socket.SHUT_WR)
        beside.run(lambda ours=ours: ours.state is State.TIME_WAIT, "our TIME-WAIT")  # type: ignore[misc]
        theirs.close()
    assert beside.station.host.statistics().connections == {"TIME-WAIT": 1}


def test_we_connect_anew_out_of_their_time_wait(beside: Beside) -> None:
    """Our sequence numbers and timestamps of one flow only grow, so the kernel believes the SYN (RFC 6528 3)."""
    host = beside.station.host
    with beside.listener() as listener:
        for _ in range(3):
            accepted = beside.submit(lambda: beside.accept(listener))
            ours = host.connect(pack_address(ADDRESSES[socket.AF_INET][1]), port_of(listener), clock(), local_port=PORT)
            beside.run(accepted.done, "the handshake", 3)
            theirs = accepted.result()
            theirs.shutdown(socket.SHUT_WR)
            beside.run(lambda ours=ours: ours.at_eof, "their FIN")  # type: ignore[misc]
            close(beside, ours)
            beside.run(lambda ours=ours: ours.state is State.CLOSED, "the ACK of our FIN")  # type: ignore[misc]
            assert "TIME-WAIT" in beside.ss(port_of(listener))


def bind(sock: socket.socket, port: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((ADDRESSES[socket.AF_INET][1], port))


@pytest.mark.parametrize(("lost", "segments"), [(False, 10), (True, 1)])
def test_the_initial_window(beside: Beside, lost: bool, segments: int) -> None:
    """RFC 6928 2; RFC 5681 3.1 where the SYN was lost: it is the router that loses it."""
    beside.delay = 0.1
    beside.lose(ALL if lost else 0)
    with beside.listener() as listener:
        accepted = beside.submit(lambda: beside.accept(listener))
        ours = beside.station.host.connect(pack_address(ADDRESSES[socket.AF_INET][1]), port_of(listener), clock())
        beside.linger(0.15)
        beside.lose(0)
        beside.run(lambda: ours.state is State.ESTABLISHED and accepted.done(), "the handshake")
    before = beside.packets_out
    beside.station.write(ours, DATA[: 100 << 10], clock())
    beside.linger(0.1)
    assert beside.packets_out - before == segments
    read = beside.submit(lambda: accepted.result().recv(1 << 20))
    beside.run(read.done, "the data")
