"""What an idle connection weighs, and that it goes when let go of."""

from __future__ import annotations

import gc
import tracemalloc

from tests.support.tcp import MTU, Pair, Peer, Side
from usernet.burst.packets import Drops
from usernet.tcp import Connection, TcpSettings
from usernet.tcp.pathmtu import PathMtus


def idle(settings: TcpSettings) -> Connection:
    """Established, after a request and its answer, with nothing left to do."""
    peer = Peer.established(settings=settings, syn={"timestamp": (1000, 0), "window_scale": 7})
    peer.connection.write(bytes(300))
    peer.hears()
    peer.sends("1:301 A", bytes(400), timestamp=(1001, 100_007))
    peer.passes(1)
    peer.hears()
    peer.connection.read(1000)
    assert peer.connection.next_timeout() is None
    return peer.connection


def test_an_idle_connection_weighs_less_than_two_kilobytes() -> None:
    settings, drops, paths, count = TcpSettings(), Drops(), PathMtus(MTU), 200
    idle(settings)
    connections: list[Connection | None] = [None] * count
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for at in range(count):
        connection = connections[at] = idle(settings)
        connection.drops, connection.paths = drops, paths  # the host's, shared
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / count < 2048


def test_no_reference_cycles() -> None:
    pair = Pair(Side(bytes(500_000)), Side(bytes(1000)), loss=0.05)
    gc.collect()
    gc.disable()
    try:
        pair.run()
        before = len([thing for thing in gc.get_objects() if isinstance(thing, Connection)])
        pair.a.connection = pair.b.connection = None
        after = len([thing for thing in gc.get_objects() if isinstance(thing, Connection)])
    finally:
        gc.enable()
    assert before - after == 2
