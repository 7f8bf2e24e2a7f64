"""A peer that vanishes, in each state, with our patience as it is by default: everything ends, and all memory returns.

With a real kernel, and less patience, tests/interop/test_kernel_ends.py says the same.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from tests.support.stack import B4, Path, Station, World, pair
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings
from usernet.tcp.state import State

SETTINGS = TcpSettings(keepalive_idle=7200.0)
COUNT = 20
GONE = Path(loss=1.0)

Way = Callable[[World, Station, Station], object]


def connect(world: World, a: Station, b: Station) -> list[Connection]:
    listener = b.host.listen(80)
    before = len(b.accepted)
    ours = [a.host.connect(B4, 80, world.now) for _ in range(COUNT)]
    assert world.run(30, until=lambda: len(b.accepted) == before + COUNT)
    listener.close()
    return ours


def leave(world: World, station: Station, connections: list[Connection]) -> None:
    for connection in connections:
        connection.close(world.now)
        station.host.changed(connection, world.now)


def until_all(world: World, connections: list[Connection], state: State) -> None:
    assert world.run(5, until=lambda: all(connection.state is state for connection in connections))


def cut(world: World) -> None:
    world.pump()
    world.paths = GONE, GONE


def syn_sent(world: World, a: Station, b: Station) -> None:
    cut(world)
    for _ in range(COUNT):
        a.host.connect(B4, 80, world.now)


def syn_received(world: World, a: Station, b: Station) -> None:
    world.paths = GONE, Path()
    port = a.host.listen(0).port
    for _ in range(COUNT):
        b.host.connect(a.host.addresses[0], port, world.now)
    assert world.run(5, until=lambda: a.host.statistics().half_open == COUNT)
    cut(world)


def established(world: World, a: Station, b: Station) -> None:
    connect(world, a, b)
    cut(world)


def sending(world: World, a: Station, b: Station) -> None:
    ours = connect(world, a, b)
    cut(world)
    for connection in ours:
        a.write(connection, bytes(100_000), world.now)


def fin_wait_1(world: World, a: Station, b: Station) -> None:
    ours = connect(world, a, b)
    cut(world)
    leave(world, a, ours)


def fin_wait_2(world: World, a: Station, b: Station) -> None:
    ours = connect(world, a, b)
    leave(world, a, ours)
    until_all(world, ours, State.FIN_WAIT_2)
    cut(world)


def closing(world: World, a: Station, b: Station) -> None:
    ours = connect(world, a, b)
    world.run(1)
    leave(world, a, ours)
    leave(world, b, b.accepted)
    until_all(world, ours, State.CLOSING)
    cut(world)


def close_wait(world: World, a: Station, b: Station) -> list[Connection]:
    ours = connect(world, a, b)
    for connection in b.accepted:
        connection.shutdown_write(world.now)
        b.host.changed(connection, world.now)
    until_all(world, ours, State.CLOSE_WAIT)
    cut(world)
    return ours


def last_ack(world: World, a: Station, b: Station) -> None:
    leave(world, a, close_wait(world, a, b))


def time_wait(world: World, a: Station, b: Station) -> None:
    ours = connect(world, a, b)
    leave(world, a, ours)
    until_all(world, ours, State.FIN_WAIT_2)
    leave(world, b, b.accepted)
    until_all(world, ours, State.TIME_WAIT)
    cut(world)


KEEPALIVE = 7200 + 9 * 75
WAYS: dict[str, tuple[Way, float, float]] = {  # how to get there, and the seconds after which it ends: least and most
    "SYN-SENT": (syn_sent, 126, 128),
    "SYN-RECEIVED": (syn_received, 126, 128),
    "ESTABLISHED": (established, KEEPALIVE - 5, KEEPALIVE + 80),
    "ESTABLISHED with data": (sending, 900, 1025),
    "FIN-WAIT-1": (fin_wait_1, 60, 130),
    "FIN-WAIT-2": (fin_wait_2, 59, 61),
    "CLOSING": (closing, 60, 130),
    "CLOSE-WAIT": (close_wait, KEEPALIVE - 5, KEEPALIVE + 80),
    "LAST-ACK": (last_ack, 60, 130),
    "TIME-WAIT": (time_wait, 59, 61),
}


@pytest.mark.parametrize("where", WAYS)
def test_everything_ends(where: str) -> None:
    way, least, most = WAYS[where]
    world, a, b = pair(settings=SETTINGS)
    way(world, a, b)
    assert a.host.statistics().connections == {where.split()[0]: COUNT}
    before = world.now
    assert world.run(20_000, until=lambda: not a.host.statistics().connections)
    assert least <= world.now - before <= most
    world.run(20_000)  # and nothing comes after that
    for station in (a, b):
        statistics = station.host.statistics()
        assert statistics.connections == {}
        assert (statistics.timers, statistics.senders_waiting, statistics.half_open) == (0, 0, 0)


@pytest.mark.parametrize("where", WAYS)
def test_memory_returns(where: str) -> None:
    world, a, b = pair(settings=SETTINGS)

    def visit() -> int:
        world.paths = Path(), Path()
        WAYS[where][0](world, a, b)
        for station in (a, b):
            station.look(world.now)
        world.run(20_000)
        for station in (a, b):
            for kept in (station.events, station.accepted, station.received, station.readiness, station._to_write):
                kept.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    visit()
    tracemalloc.start()
    try:
        before = visit()
        assert visit() - before < COUNT * 100
    finally:
        tracemalloc.stop()
