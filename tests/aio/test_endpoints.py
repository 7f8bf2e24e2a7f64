"""The peers' endpoint names: asked for, asked for again, reported once."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

import pytest

from usernet.aio import endpoints as module
from usernet.aio.addresses import literal_host, outer_literal
from usernet.aio.endpoints import Endpoints, host_look_up
from usernet.aio.runtime import Tasks
from usernet.burst.packets import Address
from usernet.wireguard.events import EndpointMoved, HandshakeGaveUp, HandshakeStarted

KEY = bytes(32)
OLD: Address = ("192.0.2.1", 51820)
NEW: Address = ("192.0.2.2", 51820)


class Names:
    """A host's resolver whose answers a test sets."""

    def __init__(self, *answers: list[Address] | OSError) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


class Bench:
    def __init__(self, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.moved: list[Address] = []
        self.tasks = Tasks(asyncio.get_running_loop())
        monkeypatch.setattr(module, "boottime", lambda: self.now)
        monkeypatch.setattr(module, "FIRST_RETRY", 0.001)
        monkeypatch.setattr(module, "LAST_RETRY", 0.004)
        self.endpoints = Endpoints(self.tasks, lambda key, address: self.moved.append(address), names)
        self.names = names

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_literal_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names([OLD]), monkeypatch)
    assert bench.endpoints.add(KEY, "192.0.2.7", 5) == ("192.0.2.7", 5)
    assert bench.endpoints.add(KEY, "2001:db8::7", 5) == ("2001:db8::7", 5, 0, 0)
    assert bench.endpoints.is_known(KEY)
    await bench.endpoints.known(KEY)
    bench.endpoints.on_event(HandshakeGaveUp(KEY, 20, 0))
    assert bench.names.asked == 0


async def test_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names([OLD]), monkeypatch)
    assert bench.endpoints.add(KEY, "far.example.test", 51820) is None
    assert not bench.endpoints.is_known(KEY)
    await bench.endpoints.known(KEY)
    assert bench.moved == [OLD]
    assert bench.endpoints.is_known(KEY)


async def test_a_name_that_does_not_resolve_yet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failure = OSError(2, "Name or service not known")
    bench = Bench(Names(failure, failure, failure, [OLD]), monkeypatch)
    with caplog.at_level(logging.WARNING):
        bench.endpoints.add(KEY, "far.example.test", 51820)
        await bench.settle()
        assert "far.example.test does not resolve: Name or service not known" in bench.endpoints.trouble(KEY)
        assert "does not resolve: Name or service not known; it is asked again" in caplog.text
        await bench.endpoints.known(KEY)
    assert bench.names.asked == 4
    assert bench.moved == [OLD]
    assert bench.endpoints.trouble(KEY) == ""
    assert len(caplog.records) == 1, "reported once"


async def test_an_address_that_is_remembered_is_not_used_where_the_name_resolves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(Names([NEW]), monkeypatch)
    assert bench.endpoints.add(KEY, "far.example.test", 51820, OLD) is None
    await bench.endpoints.known(KEY)
    await bench.settle()
    assert bench.moved == [NEW]
    await bench.tasks.close()


async def test_an_address_that_is_remembered_until_the_name_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = OSError(2, "Name or service not known")
    bench = Bench(Names(failure, failure, failure, [NEW]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820, OLD)
    await bench.endpoints.known(KEY)
    assert bench.moved == [OLD]
    while bench.endpoints.trouble(KEY):
        await asyncio.sleep(0.001)
    assert bench.moved == [OLD, NEW]
    await bench.tasks.close()


async def test_an_address_that_is_remembered_and_still_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_route", lambda address: True)
    bench = Bench(Names(OSError("down"), [NEW, OLD]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820, OLD)
    while bench.names.asked < 2:
        await asyncio.sleep(0.001)
    await bench.settle()
    assert bench.moved == [OLD]
    await bench.tasks.close()


async def test_a_resolver_that_is_slow_is_given_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    answered = asyncio.Event()

    async def slow(host: str, port: int) -> list[Address]:
        await answered.wait()
        return [NEW]

    bench = Bench(Names([NEW]), monkeypatch)
    bench.endpoints = Endpoints(bench.tasks, lambda key, address: bench.moved.append(address), slow)
    bench.endpoints.add(KEY, "far.example.test", 51820, OLD)
    await bench.endpoints.known(KEY)
    assert bench.moved == [OLD]
    answered.set()
    while bench.moved != [OLD, NEW]:
        await asyncio.sleep(0.001)
    bench.endpoints.forget(KEY)
    await bench.tasks.close()


async def test_asked_again_when_handshakes_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names([OLD], [NEW]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    bench.now += 60
    for attempt in (1, 2):
        bench.endpoints.on_event(HandshakeStarted(KEY, OLD, attempt))
        await bench.settle()
    assert bench.names.asked == 1
    bench.endpoints.on_event(HandshakeStarted(KEY, OLD, 3))
    await bench.settle()
    assert bench.moved == [OLD, NEW]


async def test_at_most_once_in_15_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names([OLD]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    for seconds, asked in ((14, 1), (1, 2), (14, 2), (1, 3)):
        bench.now += seconds
        bench.endpoints.on_event(HandshakeGaveUp(KEY, 20, 0))
        await bench.settle()
        assert bench.names.asked == asked
    assert bench.moved == [OLD], "the same address is no move"


async def test_the_addresses_of_a_name_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names([OLD, NEW]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    for _ in range(2):
        bench.now += 15
        bench.endpoints.on_event(HandshakeStarted(KEY, OLD, 5))
        await bench.settle()
    assert bench.moved == [OLD, NEW, OLD]


async def test_a_failure_later_on_keeps_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names([OLD], OSError("down")), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    bench.now += 15
    bench.endpoints.on_event(HandshakeStarted(KEY, OLD, 3))
    await bench.settle()
    assert bench.names.asked == 2
    assert bench.moved == [OLD]
    assert bench.endpoints.is_known(KEY)


async def test_a_peer_that_roamed_goes_back_to_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names([OLD]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    bench.endpoints.on_event(EndpointMoved(KEY, OLD, NEW))
    bench.now += 15
    bench.endpoints.on_event(HandshakeStarted(KEY, NEW, 3))
    await bench.settle()
    assert bench.moved == [OLD, OLD]


async def test_a_peer_that_spoke_first_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Names(OSError("never")), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    assert not bench.endpoints.is_known(KEY)
    bench.endpoints.on_event(EndpointMoved(KEY, None, NEW))
    await bench.endpoints.known(KEY)
    assert bench.endpoints.is_known(KEY)
    await bench.tasks.close()


async def test_the_hosts_own_resolver() -> None:
    addresses = await host_look_up("localhost", 7)
    assert {address[0] for address in addresses} <= {"127.0.0.1", "::1"}
    assert all(address[1] == 7 for address in addresses)
    with pytest.raises(OSError, match=r".+"):
        await host_look_up("x" * 300, 7)


def test_literals() -> None:
    assert outer_literal("fe80::1%lo", 9) is not None
    assert outer_literal("localhost", 9) is None
    assert literal_host("2001:DB8::0:1") == "2001:db8::1"
    assert literal_host("www.example.test") is None
    with pytest.raises(ValueError, match="scope"):
        literal_host("fe80::1%eth0")


async def test_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked anew at once; an address that still is an answer stays, one that is none does not."""
    monkeypatch.setattr(module, "has_route", lambda address: True)
    bench = Bench(Names([OLD, NEW], [NEW, OLD], [NEW]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    bench.endpoints.path_changed()
    await bench.settle()
    assert (bench.names.asked, bench.moved) == (2, [OLD])
    bench.endpoints.path_changed()
    await bench.settle()
    assert (bench.names.asked, bench.moved) == (3, [OLD, NEW])


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EMFILE])
async def test_no_socket_to_look_for_a_route_with(
    code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it no way is known either, to an IPv6 address on a machine that has no IPv6 for one."""

    def no_socket(*args: object) -> socket.socket:
        raise OSError(code, os.strerror(code))

    six: Address = ("2001:db8::1", 51820, 0, 0)
    bench = Bench(Names([six, NEW], [NEW, six]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", no_socket)
        bench.endpoints.path_changed()
        await bench.settle()
    assert bench.moved == [six, NEW]
    assert "failed" not in caplog.text


async def test_a_network_that_has_the_other_family_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still among the answers, but cannot be sent to from here, is left at once."""
    six: Address = ("2001:db8::1", 51820, 0, 0)
    bench = Bench(Names([OLD, NEW, six], [six, OLD, NEW]), monkeypatch)
    bench.endpoints.add(KEY, "far.example.test", 51820)
    await bench.endpoints.known(KEY)
    monkeypatch.setattr(module, "has_route", lambda address: address == six)
    bench.endpoints.path_changed()
    await bench.settle()
    assert bench.moved == [OLD, six]
