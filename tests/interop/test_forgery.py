"""A million forged segments against a live transfer with the kernel, both ways at once: the bytes stay whole."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.forgery import FORGED, GRID, Forger
from tests.support.lab import missing
from tests.support.skipping import needs, skip
from tests.support.tun import OURS, OURS6, Beside, clock
from usernet.tcp.settings import TcpSettings
from usernet.tcp.state import ESTABLISHED

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SO_RCVBUFFORCE = 33
PORT = 7000
BLOCK = os.urandom(256 << 10)


@pytest.fixture
def beside() -> Iterator[Beside]:
    needs("nft", "nstat", "ss")
    if reason := missing():
        skip(reason)
    with Beside() as beside:
        beside.fresh(TcpSettings(receive_buffer=8 << 20))  # the widest window for guesses to fall in
        yield beside


def odd_bytes(received: bytes | bytearray) -> str:
    """The first bytes that are not what was sent: the forger's, who may have luck (once in 2,000), or a fault's."""
    for at in range(0, len(received), len(BLOCK)):
        piece = bytes(received[at : at + len(BLOCK)])
        if not BLOCK.startswith(piece):
            odd = next(n for n, pair in enumerate(zip(piece, BLOCK, strict=False)) if pair[0] != pair[1])
            return f"at {at + odd} of {len(received)}: {piece[odd : odd + 64]!r}, forged: {FORGED[:8] in piece}"
    return f"nothing but the length is odd: {len(received)}"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_million_guesses(beside: Beside, family: int) -> None:
    station = beside.station
    station.host.listen(PORT)
    theirs = beside.open_socket(family)
    theirs.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)  # an old acknowledgement may be as old as its window
    dialled = beside.submit(lambda: theirs.connect((OURS if family == socket.AF_INET else OURS6, PORT)))
    beside.run(lambda: dialled.done() and station.accepted, "the handshake")
    (ours,) = station.accepted
    forger = Forger(ours, 1)

    def send() -> str:
        """Until the forger is done; what was sent."""
        digest = hashlib.sha256()
        while forger.sent < GRID:
            theirs.sendall(BLOCK)
            digest.update(BLOCK)
        theirs.shutdown(socket.SHUT_WR)
        return digest.hexdigest()

    def receive() -> str:
        digest = hashlib.sha256()
        while piece := theirs.recv(1 << 20):
            digest.update(piece)
        return digest.hexdigest()

    sent, received, written = beside.submit(send), beside.submit(receive), hashlib.sha256()

    def goes_on() -> bool:
        assert ours.state is ESTABLISHED
        if ours.unsent_bytes < len(BLOCK):
            station.write(ours, BLOCK, clock())
            written.update(BLOCK)
        station.host.receive_packets(forger.burst(), clock())
        return forger.sent >= GRID

    beside.run(goes_on, "the guesses", 60)
    station.write(ours, b"the end", clock(), shut=True)
    written.update(b"the end")
    beside.run(lambda: sent.done() and received.done() and ours.at_eof, "the end of both transfers", 30)
    assert received.result() == written.hexdigest()
    assert hashlib.sha256(station.received[ours]).hexdigest() == sent.result(), odd_bytes(station.received[ours])
    statistics = station.host.statistics()
    assert statistics.bytes_in > 50 << 20, "much has come while guesses were made"
    assert statistics.drops["tcp-unacceptable"] > 0.9 * GRID
    assert statistics.drops["tcp-reset"] > 0, "some of them met the window"
