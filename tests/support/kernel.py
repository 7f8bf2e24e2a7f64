"""Connections between our stack and the kernel beside it (tun.py): how they are opened, used and ended."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable

from tests.support.tun import OURS, OURS6, THEIRS, THEIRS6, Beside, clock
from usernet.tcp.connection import Connection
from usernet.tcp.state import State
from usernet.wire.ip import pack_address

SIZE = 8 << 20
DATA = os.urandom(1 << 20) * (SIZE >> 20)
PORT = 7000
Ends = tuple[Connection, socket.socket]
Opening = Callable[..., Ends]  # `active` or `passive`
ADDRESSES = {socket.AF_INET: (OURS, THEIRS), socket.AF_INET6: (OURS6, THEIRS6)}


def active(beside: Beside, family: int = socket.AF_INET, *, receive_buffer: int = 0) -> Ends:
    """We connect, the kernel accepts."""
    with beside.listener(family, receive_buffer=receive_buffer) as listener:
        accepted = beside.submit(lambda: beside.accept(listener))
        remote = pack_address(ADDRESSES[socket.AddressFamily(family)][1])
        connection = beside.station.host.connect(remote, port_of(listener), clock())
        beside.run(lambda: connection.state is State.ESTABLISHED and accepted.done(), "the handshake")
        return connection, accepted.result()


def passive(
    beside: Beside,
    family: int = socket.AF_INET,
    *,
    port: int = PORT,
    receive_buffer: int = 0,
    prepare: Callable[[socket.socket], None] | None = None,
) -> Ends:
    """The kernel connects, we accept; `prepare` sees its socket before that."""
    station = beside.station
    listener = station.host.listen(port)
    before = len(station.accepted)
    theirs = beside.open_socket(family)
    if receive_buffer:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if prepare is not None:
        prepare(theirs)
    dialled = beside.submit(lambda: theirs.connect((ADDRESSES[socket.AddressFamily(family)][0], port)))
    beside.run(lambda: dialled.done() and len(station.accepted) > before, "the handshake")
    dialled.result()
    listener.close()
    return station.accepted[-1], theirs


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def send_all(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def exchange(beside: Beside, ours: Connection, theirs: socket.socket, up: bytes, down: bytes) -> None:
    """Both directions at once, each ended by a FIN; then both ends have forgotten each other but for TIME-WAIT."""
    station = beside.station
    before = len(station.received.get(ours, b""))
    sent = beside.submit(lambda: send_all(theirs, down))
    read = beside.submit(lambda: read_all(theirs))
    station.write(ours, up, clock(), shut=True)
    beside.run(lambda: sent.done() and read.done() and ours.at_eof, "both transfers", 60)
    sent.result()
    assert digest(read.result()) == digest(up)
    assert digest(station.received.get(ours, b"")[before:]) == digest(down)
    finish(beside, ours, theirs)


def finish(beside: Beside, ours: Connection, theirs: socket.socket) -> None:
    port = port_of(theirs)
    theirs.close()
    ours.close(clock())
    beside.station.host.changed(ours, clock())
    over = {State.CLOSED, State.TIME_WAIT}
    beside.run(lambda: ours.state in over, "the end of ours", 20)

    def left() -> list[str]:
        return [line for line in beside.ss(port).splitlines() if line.split()[0] != "TIME-WAIT"]

    beside.run(lambda: not left(), "the end of theirs", 20)


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port
