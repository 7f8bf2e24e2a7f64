"""What a host makes of a path that swallows large packets: connections tell each other, and UDP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stack.test_connections import FAMILIES, connect, data_of
from tests.support.stack import MTU, pair


@pytest.mark.parametrize(("local", "remote"), FAMILIES)
def test_an_upload_goes_on_and_all_that_follows_begins_smaller(local: bytes, remote: bytes) -> None:
    world, a, b = pair()
    client, server = connect(world, a, b, remote)
    world.paths = replace(world.paths[0], largest=1240), world.paths[1]
    began = world.now
    a.write(client, data_of(200_000), world.now)
    assert world.run(5, until=lambda: bytes(b.received.get(server, b"")) == data_of(200_000))
    assert world.now - began < 2
    assert 1200 <= client.statistics().mtu <= 1240
    assert client.statistics().mtu_reductions == 1
    assert (a.host.statistics().narrow_paths, a.host.statistics().path_mtu_reductions) == (1, 1)
    later, _ = connect(world, a, b, remote)
    assert later.mtu == client.mtu
    receiver = b.host.open_udp(port=7)
    sender = a.host.open_udp(remote=(remote, 7))
    sender.send(bytes(1300), None, world.now)
    world.run(1)
    assert [(socket, data) for socket, data, _ in b.datagrams] == [(receiver, bytes(1300))]


def test_another_connection_s_first_time_out_asks_the_table() -> None:
    world, a, b = pair()
    finder, _ = connect(world, a, b)
    other, server = connect(world, a, b)
    wide = world.paths
    world.paths = replace(wide[0], largest=1240), wide[1]
    a.write(finder, data_of(5000), world.now)
    world.run(2)
    assert finder.mtu == 1200
    assert other.mtu == MTU
    began = world.now
    a.write(other, data_of(5000), world.now)
    assert world.run(5, until=lambda: bytes(b.received.get(server, b"")) == data_of(5000))
    assert world.now - began < 0.4
    assert other.mtu == 1200


def test_where_it_was_only_loss_the_table_forgets() -> None:
    world, a, b = pair()
    client, server = connect(world, a, b)
    wide = world.paths
    world.paths = replace(wide[0], largest=1240), wide[1]
    a.write(client, data_of(5000), world.now)
    world.run(2)
    assert a.host.statistics().narrow_paths == 1
    world.paths = wide
    a.write(client, data_of(100_000), world.now)
    assert world.run(5, until=lambda: len(b.received[server]) == 105_000)
    assert client.mtu == MTU
    assert a.host.statistics().narrow_paths == 0
