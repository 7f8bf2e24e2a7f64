"""The memory of an association: bounded, and forgotten in time."""

from __future__ import annotations

import asyncio
import errno

import pytest

from proxy.policy import Forbidden
from proxy.socks.datagram import encode_header
from proxy.socks.mapping import DESTINATIONS, NoDatagrams, Refusal, Table, Target, reason_of
from usernet.errors import NameNotFound, NameServerFailed, NoHandshake, NoRoute, WireError


def target(number: int) -> Target:
    return Target(asyncio.DatagramTransport(), (f"10.0.{number >> 8}.{number & 255}", 53))


def key(number: int) -> bytes:
    return number.to_bytes(4)


def test_what_is_used_stays() -> None:
    table, first, second = Table(), target(1), target(2)
    table.enter(key(1), first)
    table.enter(key(2), second)
    assert table.age()
    assert table.find(key(1)) is first
    assert table.age()
    assert table.find(key(2)) is None
    assert table.find(key(1)) is first
    assert table.age()
    assert not table.age()
    assert table.find(key(1)) is None


def test_who_may_answer() -> None:
    table = Table()
    assert table.header(("10.0.0.1", 53)) is None
    table.enter(key(1), target(1))
    table.enter(key(2), Refusal("udp-no-route", 0.0))
    for port in (53, 54):
        assert table.header(("10.0.0.1", port)) == encode_header("10.0.0.1", port)
    assert table.header(("10.0.0.2", 53)) is None
    table.age()
    assert table.header(("10.0.0.1", 53)) == encode_header("10.0.0.1", 53)
    table.age()
    table.age()
    assert table.header(("10.0.0.1", 53)) is None


def test_answers_alone_keep_nothing() -> None:
    """RFC 4787 REQ-6: what comes in does not refresh."""
    table = Table()
    table.enter(key(1), target(1))
    for _ in range(3):
        table.header(("10.0.0.1", 53))
        table.age()
    assert not table.age()
    assert table.header(("10.0.0.1", 53)) is None


def test_answer_over_ipv6_has_a_longer_name() -> None:
    table = Table()
    table.enter(key(1), Target(asyncio.DatagramTransport(), ("2001:db8::1", 53)))
    assert table.header(("2001:db8::1", 53, 0, 0)) == encode_header("2001:db8::1", 53)


def test_destinations_are_bounded() -> None:
    table = Table()
    for number in range(5 * DESTINATIONS):
        table.enter(key(number), target(number))
        assert table.find(key(number)) is not None
        assert len(table._young.entries) <= DESTINATIONS
        assert len(table._old.entries) <= DESTINATIONS
    assert table.find(key(4 * DESTINATIONS)) is not None  # the last ones are there
    assert table.find(key(2 * DESTINATIONS)) is None
    assert len(table._young.hosts) <= DESTINATIONS


def test_one_address_with_every_port_is_bounded() -> None:
    table = Table()
    table.enter(key(1), target(1))
    for port in range(1, 65536):
        assert table.header(("10.0.0.1", port)) == encode_header("10.0.0.1", port)
    assert len(table._young.headers) == DESTINATIONS


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden("x"), "udp-forbidden"),
        (NoDatagrams(), "udp-no-datagrams"),
        (NoRoute("x"), "udp-no-route"),
        (NameNotFound("x"), "udp-no-name"),
        (NameServerFailed("x"), "udp-no-name-server"),
        (ConnectionRefusedError(), "udp-refused"),
        (TimeoutError(), "udp-timeout"),
        (NoHandshake("x"), "udp-failed"),
        (OSError(errno.EMSGSIZE, "x"), "udp-too-large"),
        (WireError("udp-bad-name"), "udp-bad-name"),
        (KeyError("x"), "udp-failed"),
    ],
)
def test_reasons(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason
