"""A network that is closed: whoever waits in it, or comes later, hears so at once, and everything that listens ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from tests.support.networks import LEFT, RIGHT, RIGHT6, config_of, key_pair, memory_pair, udp_pair
from usernet.aio import endpoints
from usernet.aio.network import Network
from usernet.burst.packets import Address
from usernet.errors import NetworkClosed, NetworkUnreachable

Verb = Callable[[Network], Awaitable[object]]


async def refuse(*_: object) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
    raise OSError


WAITING: dict[str, Verb] = {
    "dial": lambda net: net.open_connection(RIGHT, 80),
    "dial by name": lambda net: net.open_connection("example.org", 80),
    "name": lambda net: net.resolve("example.org"),
    "reverse": lambda net: net.reverse(RIGHT),
    "ping": lambda net: net.ping(RIGHT),
    "reach": lambda net: net.reach([RIGHT]),
    "handshake": lambda net: net.shake_hands(net.config.peers[0].public_key, 10),
}
AT_ONCE: dict[str, Verb] = {
    "dial of ourselves": lambda net: net.open_connection(LEFT, 80),
    "ping of ourselves": lambda net: net.ping(LEFT),
    "datagrams": lambda net: net.open_datagrams(remote_addr=(RIGHT, 53)),
    "datagram endpoint": lambda net: net.create_datagram_endpoint(asyncio.DatagramProtocol, (LEFT, 0)),
    "server": lambda net: net.create_server(asyncio.Protocol, None, 0),
    "forwarder": lambda net: net.create_forwarder(refuse, None, 81),
    "datagram forwarder": lambda net: net.create_datagram_forwarder(refuse, None, 81),
    "another configuration": lambda net: net.reconfigure(net.config),
}


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    """With a peer that does not answer, and a name server behind it."""
    (private, _), (_, peer) = key_pair(), key_pair()
    async with Network(config_of(private, (LEFT,), peer, (RIGHT,), ("127.0.0.1", 9), dns=(RIGHT,))) as made:
        yield made


@pytest.mark.parametrize("verb", WAITING.values(), ids=WAITING)
async def test_who_waits_is_told(net: Network, verb: Verb) -> None:
    waiting = asyncio.ensure_future(verb(net))
    while not (net._reach._waiters._futures or net._link._owners):
        await asyncio.sleep(0)
    await net.close()
    with pytest.raises(NetworkClosed):
        await asyncio.wait_for(waiting, 5)


async def test_who_waits_for_an_endpoints_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def never(*_: object) -> list[Address]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(endpoints, "host_look_up", never)
    (private, _), (_, peer) = key_pair(), key_pair()
    net = Network(config_of(private, (LEFT,), peer, (RIGHT,), ("peer.example.org", 9)))
    await net.start()
    waiting = asyncio.ensure_future(net.open_connection(RIGHT, 80))
    await asyncio.wait_for(asked.wait(), 5)
    await asyncio.sleep(0)
    await net.close()
    with pytest.raises(NetworkClosed):
        await asyncio.wait_for(waiting, 5)


async def test_who_waits_for_a_datagram_is_told(net: Network) -> None:
    datagrams = await net.open_datagrams(remote_addr=(RIGHT, 53))
    waiting = asyncio.ensure_future(datagrams.receive())
    await asyncio.sleep(0)
    await net.close()
    with pytest.raises(NetworkClosed):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(NetworkClosed):
        datagrams.send(b"x")


async def test_an_event_asks_for_new_sockets_just_before_the_end() -> None:
    """It is put off to behind the turn, and then there is no network to have them."""
    async with udp_pair() as pair:
        pair.left.on_event(lambda _: pair.left.rebind())
        pair.left.request_handshakes()
        await pair.left.close()
        await asyncio.sleep(0)
        assert not pair.left._datagram_link._sockets  # type: ignore[union-attr]


@pytest.mark.parametrize("verb", [*WAITING.values(), *AT_ONCE.values()], ids=[*WAITING, *AT_ONCE])
async def test_who_comes_later_is_told(net: Network, verb: Verb) -> None:
    await net.close()
    with pytest.raises(NetworkClosed):
        await asyncio.wait_for(asyncio.ensure_future(verb(net)), 5)


async def test_a_ping_that_is_not_answered_is_told() -> None:
    async with memory_pair() as pair:
        await pair.left.ping(RIGHT)
        await pair.right.close()
        waiting = asyncio.ensure_future(pair.left.ping(RIGHT))
        while not pair.left._link._echoes:
            await asyncio.sleep(0)
        await pair.left.close()
        with pytest.raises(NetworkClosed):
            await waiting
        assert not pair.left._link._echoes


async def test_a_ping_that_cannot_be_sent_leaves_nothing() -> None:
    async with memory_pair() as pair:
        net, interface = pair.left, pair.left.config.interface
        await net.ping(RIGHT)
        await net.reconfigure(replace(net.config, interface=replace(interface, addresses=interface.addresses[:1])))
        with pytest.raises(NetworkUnreachable):
            await net.ping(RIGHT6)
        await asyncio.sleep(0)  # it goes in the next turn of the loop
        assert not net._link._echoes


async def test_servers_are_closed() -> None:
    async with memory_pair() as pair:
        server = await pair.right.start_server(lambda _reader, writer: writer.close(), None, 80)
        forever = asyncio.ensure_future(server.serve_forever())
        waiting = asyncio.ensure_future(server.wait_closed())
        while server._forever is None:
            await asyncio.sleep(0)
        await pair.right.close()
        assert not server.is_serving()
        await asyncio.wait((forever, waiting), timeout=5)
        assert forever.cancelled()
        assert waiting.done()


async def test_a_start_that_failed_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (private, _), (_, peer) = key_pair(), key_pair()
    net = Network(config_of(private, (LEFT,), peer, (RIGHT,), None))

    async def fails(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(net, "_open_inside", fails)
        with pytest.raises(PermissionError):
            await net.start()
    await net.start()
    assert (await net.create_server(asyncio.Protocol, None, 0)).is_serving()
    await net.close()


async def test_new_sockets_between_open_and_begin() -> None:
    async with udp_pair() as pair:
        (private, _), (_, peer) = key_pair(), key_pair()
        net = Network(config_of(private, (LEFT,), peer, (RIGHT,), ("127.0.0.1", pair.right.listen_port)))
        await net.open()
        before = net._datagram_link._sockets  # type: ignore[union-attr]
        net.rebind()
        assert net._datagram_link._sockets is not before  # type: ignore[union-attr]
        net.begin()
        await net.close()
