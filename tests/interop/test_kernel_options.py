"""What a handshake with the kernel agrees on, or does not; and numbers that wrap on the way: RFC 7323, RFC 2018."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.kernel import (
    DATA,
    Ends,
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
from tests.support.tun import Beside, clock
from usernet.stack.ports import FlowSecrets
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

FAMILIES = [socket.AF_INET, socket.AF_INET6]
SOME = DATA[: 2 << 20]
WRAP = 1 << 32
# linux/tcp.h; their use is described in tcp(7) and by CRIU
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_TIMESTAMP = 19, 20, 21, 24
TCP_SEND_QUEUE = 2

WORDS = {"tcp_window_scaling": " wscale:", "tcp_sack": " sack ", "tcp_timestamps": " ts "}  # in what ss says
SETTINGS = {"tcp_window_scaling": "window_scaling", "tcp_sack": "sack", "tcp_timestamps": "timestamps"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("opening", [active, passive])
@pytest.mark.parametrize("option", WORDS)
def test_they_lack_an_option(beside: Beside, option: str, opening: Opening, family: int) -> None:
    beside.sysctl(option, 0)
    without(beside, opening(beside, family), [option])


@pytest.mark.parametrize("opening", [active, passive])
@pytest.mark.parametrize("option", WORDS)
def test_we_lack_an_option(beside: Beside, option: str, opening: Opening) -> None:
    beside.fresh(replace(TcpSettings(), **{SETTINGS[option]: False}))  # type: ignore[arg-type]
    without(beside, opening(beside), [option])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("opening", [active, passive])
def test_they_lack_all_of_them(beside: Beside, opening: Opening, family: int) -> None:
    for option in WORDS:
        beside.sysctl(option, 0)
    without(beside, opening(beside, family), list(WORDS))


def without(beside: Beside, ends: Ends, options: list[str]) -> None:
    said = beside.ss(port_of(ends[1]), "-io")
    for option, word in WORDS.items():
        assert (word in said) is (option not in options), option
    beside.lose(10)
    exchange(beside, *ends, SOME, SOME)


@pytest.mark.parametrize(("opening", "family"), [(active, socket.AF_INET), (passive, socket.AF_INET6)])
@pytest.mark.parametrize(("our_scale", "their_scale"), [(0, 0), (0, 14), (14, 0), (14, 14)])
def test_window_scales(beside: Beside, our_scale: int, their_scale: int, opening: Opening, family: int) -> None:
    """RFC 7323 2.3: none at all, and the largest there is, in either direction."""
    beside.fresh(TcpSettings(receive_buffer=0xFFFF, receive_buffer_max=1 << 30 if our_scale else 0xFFFF))
    beside.sysctl("tcp_rmem", f"4096 131072 {(1 << 31) - 1}")
    ends = opening(beside, family, receive_buffer=0 if their_scale else 24 << 10)
    if (our_scale, their_scale) != (0, 0):  # then the option says nothing, and an answer may lack it
        assert f" wscale:{our_scale},{their_scale} " in beside.ss(port_of(ends[1]), "-i")
    beside.lose(10)
    exchange(beside, *ends, SOME, SOME)


@pytest.mark.sources
@pytest.mark.parametrize("edge", [WRAP, WRAP // 2])
@pytest.mark.parametrize(("opening", "family"), [(active, socket.AF_INET), (passive, socket.AF_INET6)])
def test_our_sequence_numbers_wrap(
    beside: Beside, edge: int, opening: Opening, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlowSecrets, "initial_sequence", lambda *_: edge - len(SOME) // 2)
    ours, theirs = opening(beside, family)
    beside.lose(10)
    exchange(beside, ours, theirs, SOME, SOME)
    assert ours.sender.una == edge + len(SOME) // 2 + 2  # SYN and FIN


@pytest.mark.parametrize("edge", [WRAP, WRAP // 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_their_sequence_numbers_wrap(beside: Beside, edge: int, family: int) -> None:
    def prepare(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, signed(edge - len(SOME) // 2))
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)

    ours, theirs = passive(beside, family, prepare=prepare)
    beside.lose(10)
    exchange(beside, ours, theirs, SOME, SOME)
    assert ours.receiver.next == edge + len(SOME) // 2 + 2


@pytest.mark.sources
@pytest.mark.parametrize(("opening", "family"), [(active, socket.AF_INET), (passive, socket.AF_INET6)])
def test_our_timestamps_wrap(beside: Beside, opening: Opening, family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7323 5.2: in the middle of a transfer, and no segment is older than another for it."""
    offset = (WRAP - int(clock() * 1000) - 400) % WRAP
    monkeypatch.setattr(FlowSecrets, "timestamp_offset", lambda *_: offset)
    beside.delay = 0.02
    ours, theirs = opening(beside, family)
    assert ours.timestamp(clock()) > WRAP // 2
    before = beside.nstat("TcpExtPAWSEstab")
    across(beside, ours, theirs, lambda: ours.timestamp(clock()) < WRAP // 2)
    assert beside.nstat("TcpExtPAWSEstab") == before


@pytest.mark.parametrize("family", FAMILIES)
def test_their_timestamps_wrap(beside: Beside, family: int) -> None:
    def set_clock(sock: socket.socket, value: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP, signed(value % WRAP))
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)

    ours, theirs = active(beside, family)
    wanted = WRAP - 400
    while wanted - (recent := ours.receiver.ts_recent) >= WRAP // 2:  # one leap that far would look like the past
        set_clock(theirs, recent + WRAP // 4)
        theirs.send(b"!")
        beside.run(lambda recent=recent: ours.receiver.ts_recent != recent, "a later timestamp")  # type: ignore[misc]
    beside.delay = 0.02
    set_clock(theirs, wanted)
    theirs.send(b"!")
    beside.run(lambda: ours.receiver.ts_recent >= wanted, "a timestamp that is about to wrap")
    across(beside, ours, theirs, lambda: ours.receiver.ts_recent < WRAP // 2)
    assert "tcp-paws" not in beside.station.host.statistics().drops


def across(beside: Beside, ours: Connection, theirs: socket.socket, wrapped: Callable[[], bool]) -> None:
    """Both directions are busy from before something wraps until after it."""
    station, piece = beside.station, DATA[: 256 << 10]
    had = len(station.received.get(ours, b""))
    is_over = threading.Event()
    up = down = 0

    def send() -> None:
        nonlocal down
        while not is_over.is_set():
            theirs.sendall(piece)
            down += 1
        send_all(theirs, piece)

    def write() -> bool:
        nonlocal up
        if not ours.unsent_bytes:
            station.write(ours, piece, clock())
            up += 1
        return wrapped()

    assert not wrapped(), "too late"
    sent, read = beside.submit(send), beside.submit(lambda: read_all(theirs))
    try:
        beside.run(write, "the wrap")
    finally:
        is_over.set()
    station.write(ours, piece, clock(), shut=True)
    beside.run(lambda: sent.done() and read.done() and ours.at_eof, "both transfers", 60)
    assert digest(read.result()) == digest(piece * (up + 1))
    assert digest(station.received[ours][had:]) == digest(piece * (down + 1))
    assert min(up, down) > 1, "both were busy"
    finish(beside, ours, theirs)


def signed(number: int) -> int:
    """As setsockopt takes 32 bits."""
    return number - WRAP if number >= WRAP // 2 else number
