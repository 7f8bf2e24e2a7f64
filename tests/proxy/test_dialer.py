"""Resolve once, check, dial that address; several addresses race."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from proxy.client import Client, Terms
from proxy.dialer import Dialer
from proxy.policy import Forbidden, Policy
from proxy.routes import TUNNEL, HostNet, Route
from proxy.rules import Rules
from usernet.config import AccessRule
from usernet.errors import HostUnreachable, NameNotFound, NoRoute


class Transport(asyncio.Transport):
    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.paused = False
        self.aborted = False

    def pause_reading(self) -> None:
        self.paused = True

    def abort(self) -> None:
        self.aborted = True


Outcome = BaseException | asyncio.Event | None


class Net:
    """`outcomes` by address: an error, an event to wait for, or success at once."""

    def __init__(self, names: dict[str, list[str]], outcomes: dict[str, Outcome] | None = None) -> None:
        self.names = names
        self.outcomes = outcomes or {}
        self.resolved: list[str] = []
        self.dialled: list[str] = []
        self.made: list[Transport] = []
        self.cancelled: list[str] = []

    async def resolve(self, name: str) -> Sequence[str]:
        self.resolved.append(name)
        return self.names[name]

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        self.dialled.append(host)
        outcome = self.outcomes.get(host)
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            try:
                await outcome.wait()
            except asyncio.CancelledError:
                self.cancelled.append(host)
                raise
        transport, protocol = Transport(host), protocol_factory()
        self.made.append(transport)
        protocol.connection_made(transport)
        return transport, protocol


WHO = Client(Terms(), "127.0.0.1", 40000, None)


def dialer(net: Net, timeout: float = 10.0, rules: Sequence[AccessRule] = (), **routes: Route) -> Dialer:
    return Dialer({TUNNEL: Route(TUNNEL, net), **routes}, Rules(rules), Policy(), timeout)


async def test_literal_asks_nobody() -> None:
    net = Net({})
    transport = await dialer(net).dial(WHO, "192.0.2.1", 80)
    assert isinstance(transport, Transport)
    assert transport.paused
    assert net.resolved == []


async def test_name_is_resolved_once_and_its_address_dialled() -> None:
    net = Net({"a.test": ["192.0.2.1"]})
    await dialer(net).dial(WHO, "a.test", 80)
    assert net.resolved == ["a.test"]
    assert net.dialled == ["192.0.2.1"]


async def test_forbidden_addresses_of_a_name_are_left_out() -> None:
    net = Net(
        {"a.test": ["127.0.0.1", "192.0.2.1", "::1"], "b.test": ["127.0.0.1", "::ffff:169.254.169.254"], "c.test": []}
    )
    await dialer(net).dial(WHO, "a.test", 80)
    assert net.dialled == ["192.0.2.1"]
    with pytest.raises(Forbidden):
        await dialer(net).dial(WHO, "b.test", 80)
    with pytest.raises(NameNotFound):
        await dialer(net).dial(WHO, "c.test", 80)
    with pytest.raises(Forbidden):
        await dialer(net).dial(WHO, "localhost", 80)
    assert net.resolved == ["a.test", "b.test", "c.test"]
    assert net.dialled == ["192.0.2.1"]


async def test_failure_starts_the_next_at_once() -> None:
    net = Net({"a.test": ["2001:db8::1", "192.0.2.1"]}, {"2001:db8::1": NoRoute("x")})
    transport = await asyncio.wait_for(dialer(net).dial(WHO, "a.test", 80), 0.25)
    assert isinstance(transport, Transport)
    assert transport.host == "192.0.2.1"


async def test_silence_starts_the_next_later_and_the_loser_is_cancelled() -> None:
    net = Net({"a.test": ["2001:db8::1", "192.0.2.1"]}, {"2001:db8::1": asyncio.Event()})
    began = asyncio.get_running_loop().time()
    made = dialer(net)
    transport = await made.dial(WHO, "a.test", 80)
    assert 0.28 < asyncio.get_running_loop().time() - began < 2
    assert isinstance(transport, Transport)
    assert transport.host == "192.0.2.1"
    while made._losers:
        await asyncio.sleep(0)
    assert net.cancelled == ["2001:db8::1"]


async def test_second_winner_is_closed() -> None:
    """Both connect in the same turn: one is kept, the other ended."""
    gate = asyncio.Event()
    net = Net({"a.test": ["2001:db8::1", "192.0.2.1"]}, {"2001:db8::1": gate, "192.0.2.1": gate})
    made = dialer(net)
    task = asyncio.ensure_future(made.dial(WHO, "a.test", 80))
    while len(net.dialled) < 2:
        await asyncio.sleep(0.01)
    gate.set()
    winner = await task
    while made._losers:
        await asyncio.sleep(0)
    assert len(net.made) == 2
    assert [transport.aborted for transport in net.made if transport is not winner] == [True]
    assert isinstance(winner, Transport)
    assert not winner.aborted


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([ConnectionRefusedError(), HostUnreachable("x")], ConnectionRefusedError),
        ([NoRoute("x"), ConnectionRefusedError()], ConnectionRefusedError),
        ([NoRoute("x"), NoRoute("x")], NoRoute),
    ],
)
async def test_first_telling_error(errors: list[BaseException], expected: type[BaseException]) -> None:
    net = Net({"a.test": ["2001:db8::1", "192.0.2.1"]}, dict(zip(["2001:db8::1", "192.0.2.1"], errors, strict=True)))
    with pytest.raises(expected):
        await dialer(net).dial(WHO, "a.test", 80)


@pytest.mark.parametrize(("timeout", "dialled"), [(-0.45, 1), (-0.1, 2)])
async def test_time_limit_and_cancellation(timeout: float, dialled: int) -> None:
    net = Net({"a.test": ["192.0.2.1", "192.0.2.2"]}, {"192.0.2.1": asyncio.Event(), "192.0.2.2": asyncio.Event()})
    made = dialer(net, timeout=timeout)
    with pytest.raises(TimeoutError):
        await made.dial(WHO, "a.test", 80)
    while made._losers:
        await asyncio.sleep(0)
    assert net.cancelled == ["192.0.2.1", "192.0.2.2"][:dialled]


async def test_an_address_with_a_zone_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", ("fe80::1%lo", 0, 0, 1)), (0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    made = Dialer({TUNNEL: Route(TUNNEL, HostNet())}, Rules(), Policy(), 1.0)
    places = await made.locate(Client(Terms(), "", 0, None), "a.test", 80)
    assert [place.host for place in places] == ["192.0.2.1"]
