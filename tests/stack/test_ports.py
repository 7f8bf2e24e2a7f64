"""Ports and sequence numbers nobody can guess."""

from __future__ import annotations

import os

from usernet.stack.ports import EPHEMERAL_FIRST, EPHEMERAL_LAST, FlowSecrets, pick_port


def test_ports_are_random_and_in_range() -> None:
    ports = {pick_port(os.urandom, lambda _: True) for _ in range(100)}
    assert len(ports) > 90
    assert all(port is not None and EPHEMERAL_FIRST <= port <= EPHEMERAL_LAST for port in ports)


def test_a_port_in_use_is_passed_over_and_the_last_one_found() -> None:
    assert pick_port(lambda size: bytes(size), lambda port: port != EPHEMERAL_FIRST) == EPHEMERAL_FIRST + 1
    assert pick_port(lambda size: b"\0\0\0\5", lambda port: port == EPHEMERAL_FIRST + 4) == EPHEMERAL_FIRST + 4
    assert pick_port(os.urandom, lambda _: False) is None


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
