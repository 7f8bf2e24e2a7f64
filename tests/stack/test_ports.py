"""Ports and sequence numbers nobody can guess."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from tests.support.stack import B4, pair
from usernet.stack.ports import EPHEMERAL_FIRST, EPHEMERAL_LAST, FlowSecrets, pick_port


def test_ports_are_random_and_in_range() -> None:
    ports = {pick_port(os.urandom, lambda _: True) for _ in range(100)}
    assert len(ports) > 90
    assert all(port is not None and EPHEMERAL_FIRST <= port <= EPHEMERAL_LAST for port in ports)


def test_a_port_in_use_is_passed_over_and_the_last_one_found() -> None:
    assert pick_port(lambda size: bytes(size), lambda port: port != EPHEMERAL_FIRST) == EPHEMERAL_FIRST + 1
    assert pick_port(lambda size: b"\0\0\0\5", lambda port: port == EPHEMERAL_FIRST + 4) == EPHEMERAL_FIRST + 4
    assert pick_port(os.urandom, lambda _: False) is None


@pytest.mark.parametrize(
    ("port", "error"),
    [
        (-1, OverflowError),
        (65_536, OverflowError),
        (1 << 70, OverflowError),
        ("80", TypeError),
        (80.0, TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_port_is_refused_as_by_a_kernel(port: Any, error: type[Exception]) -> None:
    _, a, _ = pair()
    host = a.host
    with socket.socket() as kernel, pytest.raises(error):
        kernel.bind(("127.0.0.1", port))
    udp = host.open_udp()
    for attempt in (
        lambda: host.connect(B4, port, 0),
        lambda: host.connect(B4, 80, 0, local_port=port),
        lambda: host.listen(port),
        lambda: host.open_udp(port=port),
        lambda: host.open_udp(remote=(B4, port)),
        lambda: udp.send(b"", (B4, port), 0),
        lambda: host.forwards.open(None, port),
        lambda: host.flows.open(None, port),
    ):
        with pytest.raises(error):
            attempt()
    statistics = host.statistics()
    assert (statistics.connections, statistics.udp_sockets) == ({}, 1)


def test_the_last_port_is_one() -> None:
    world, a, b = pair()
    server = b.host.open_udp(port=65_535)
    a.host.open_udp(port=65_535).send(b"hello", (B4, 65_535), world.now)
    world.run(1)
    assert [(receiver, data, remote[1]) for receiver, data, remote in b.datagrams] == [(server, b"hello", 65_535)]


def test_sequence_numbers_of_a_flow_grow_with_time_and_differ_between_flows() -> None:
    secrets = FlowSecrets(os.urandom)
    first = secrets.initial_sequence(b"flow", 100.0)
    assert (secrets.initial_sequence(b"flow", 101.0) - first) & 0xFFFF_FFFF == 250_000
    assert len({secrets.initial_sequence(bytes([n]), 100.0) for n in range(100)}) == 100
    assert secrets.initial_sequence(b"flow", 100.0) != FlowSecrets(os.urandom).initial_sequence(b"flow", 100.0)


def test_timestamp_offsets_stay_with_the_flow() -> None:
    secrets = FlowSecrets(os.urandom)
    assert secrets.timestamp_offset(b"flow") == secrets.timestamp_offset(b"flow")
    assert len({secrets.timestamp_offset(bytes([n])) for n in range(100)}) == 100
