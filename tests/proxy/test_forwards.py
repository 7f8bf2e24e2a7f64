"""Forwards into the tunnel, and PROXY headers from load balancers, over plain sockets; one over a real tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any, cast

import pytest

from proxy import udpforward
from proxy.client import Client as Asker
from proxy.client import Terms
from proxy.proxyprotocol import Version, encode
from proxy.server import Proxy
from proxy.session import Limits
from proxy.udpforward import UdpForward
from tests.proxy.support import Bench, Client, LoopNet, digest, echo, serving, until
from tests.support.networks import RIGHT, udp_pair
from usernet.aio.relay import reset
from usernet.errors import NoRoute

BALANCED = Terms(balancers=(ip_network("127.0.0.0/8"),))
SOURCE, ELSEWHERE = ("192.0.2.7", 4711), ("192.0.2.1", 80)


@contextlib.asynccontextmanager
async def forwarding(
    target: tuple[str, int],
    *,
    terms: Terms = Terms(),  # noqa: B008
    header: Version | None = None,
    limits: Limits = Limits(),  # noqa: B008
    log: list[str] | None = None,
) -> AsyncIterator[Bench]:
    net = LoopNet()

    def write(client: Asker, outcome: str) -> None:
        if log is not None:
            log.append(f"{client.address} {client.port} {client.method} {client.target} {outcome}")

    proxy = Proxy(net, limits=limits, access_log=write)
    [listener] = await proxy.forward("127.0.0.1", 0, target, terms=terms, header=header)
    made = Bench(net, proxy, listener.port)
    try:
        yield made
    finally:
        await made.close()


async def test_there_and_back_with_half_closes() -> None:
    log: list[str] = []
    async with serving(digest) as port, forwarding(("127.0.0.1", port), log=log) as made:
        client = await made.client()
        data = os.urandom(3 << 20)
        await client.send(data)
        client.end()
        assert await client.rest() == hashlib.sha256(data).hexdigest().encode()
        await client.close()
        await until(lambda: bool(log))
    assert log[0].split(" ", 2)[2] == f"FORWARD ('127.0.0.1', {port}) ok"


async def test_what_comes_before_the_dial_ends_is_kept() -> None:
    async with serving(echo) as port, forwarding(("127.0.0.1", port)) as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        await client.send(b"early")
        client.end()
        await until(lambda: bool(made.net.dialled))
        made.net.gate.set()
        assert await client.rest() == b"early"


async def test_a_failed_dial_is_a_reset() -> None:
    async with forwarding(("127.0.0.1", 1)) as made:
        made.net.fail = NoRoute("no way")
        client = await made.client()
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert made.proxy.statistics().refused == {"destination_ip_unroutable": 1}


async def test_a_client_that_goes_takes_its_dial_with_it() -> None:
    async with forwarding(("127.0.0.1", 1)) as made:
        made.net.gate = asyncio.Event()
        client = await made.client()
        await until(lambda: bool(made.net.dialled))
        reset(cast(asyncio.Transport, client.writer.transport), at_once=True)
        await until(lambda: made.net.cancelled == 1)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_target_is_told_who_it_is(version: Version) -> None:
    async with serving(echo) as port, forwarding(("127.0.0.1", port), header=version) as made:
        client = await made.client()
        await client.send(b"hello")
        client.end()
        own = client.writer.get_extra_info("sockname")
        assert await client.rest() == encode(version, own, ("127.0.0.1", made.port)) + b"hello"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_balancers_client_is_whom_the_header_names_wherever_it_is_cut(version: Version) -> None:
    head = encode(version, SOURCE, ELSEWHERE)
    log: list[str] = []
    async with (
        serving(echo) as port,
        forwarding(("127.0.0.1", port), terms=BALANCED, header="v1", log=log) as made,
    ):
        for cut in range(len(head) + 1):
            client = await made.client()
            await client.send(head + b"x", cuts=[cut])
            client.end()
            assert await client.rest() == f"PROXY TCP4 192.0.2.7 127.0.0.1 4711 {made.port}\r\nx".encode()
        await until(lambda: len(log) == len(head) + 1)
    assert set(log) == {f"192.0.2.7 4711 FORWARD ('127.0.0.1', {port}) ok"}


async def refused(made: Bench, data: bytes) -> dict[str, int]:
    client = await made.client()
    assert await client.exchange(data) == b""
    return dict(made.proxy.statistics().refused)


async def test_a_balancer_without_a_header_is_closed() -> None:
    async with forwarding(("127.0.0.1", 1), terms=BALANCED) as made:
        assert await refused(made, b"GET / HTTP/1.1\r\n") == {"proxy-header-missing": 1}
        assert made.net.dialled == []


async def test_a_header_has_its_deadline() -> None:
    async with forwarding(("127.0.0.1", 1), terms=BALANCED, limits=Limits(head_timeout=0.05)) as made:
        assert await refused(made, b"PROXY TCP4 ") == {"proxy-header-timeout": 1}


async def test_the_permission_is_asked_of_whom_the_header_names(caplog: pytest.LogCaptureFixture) -> None:
    terms = Terms(balancers=BALANCED.balancers, allow_from=(ip_network("192.0.2.0/28"),))
    async with serving(echo) as port, forwarding(("127.0.0.1", port), terms=terms) as made:
        client = await made.client()
        await client.send(encode("v2", SOURCE, ELSEWHERE) + b"x")
        await client.expect(b"x")
        outside = encode("v2", ("198.51.100.1", 1), ELSEWHERE)
        assert await refused(made, outside) == {"source-not-allowed": 1}
        assert await refused(made, b"PROXY UNKNOWN\r\n") == {"source-not-allowed": 2}  # the balancer itself
    assert caplog.messages == ["198.51.100.1 is not let in: AllowFrom does not have it"]


async def test_the_limit_of_an_address_counts_whom_the_header_names() -> None:
    limits = Limits(connections_per_client=1)
    async with serving(echo) as port, forwarding(("127.0.0.1", port), terms=BALANCED, limits=limits) as made:
        clients: list[Client] = []
        for number in (1, 2):
            clients.append(await made.client())
            await clients[-1].send(encode("v2", (f"192.0.2.{number}", 1), ELSEWHERE) + b"x")
            await clients[-1].expect(b"x")
        assert await refused(made, encode("v2", ("192.0.2.1", 2), ELSEWHERE)) == {"client-limit": 1}
        await clients[0].close()
        await until(lambda: made.proxy.statistics().connections == 1)
        again = await made.client()
        await again.send(encode("v2", ("192.0.2.1", 3), ELSEWHERE) + b"y")
        await again.expect(b"y")


async def test_whoever_is_no_balancer_says_no_header() -> None:
    terms = Terms(balancers=(ip_network("192.0.2.0/24"),))
    async with serving(echo) as port, forwarding(("127.0.0.1", port), terms=terms) as made:
        client = await made.client()
        head = encode("v1", SOURCE, ELSEWHERE)
        await client.send(head)
        await client.expect(head)  # it is no header, but what the client has to say


async def test_a_proxys_client_behind_a_balancer() -> None:
    net = LoopNet()
    proxy = Proxy(net)
    [listener] = await proxy.listen("127.0.0.1", 0, terms=BALANCED)
    made = Bench(net, proxy, listener.port)
    try:
        head = encode("v2", SOURCE, ELSEWHERE)
        for cut in (0, 5, len(head)):
            client = await made.client()
            await client.send(head + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", cuts=[cut])
            assert (await client.head()).startswith(b"HTTP/1.1 400 ")
    finally:
        await made.close()


class Peer(asyncio.DatagramProtocol):
    """Answers with what it got, or keeps it."""

    def __init__(self, *, echoes: bool) -> None:
        self.echoes = echoes
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.sources: set[Any] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.sources.add(addr)
        self.heard.put_nowait(data)
        if self.echoes:
            self.transport.sendto(data, addr)


class LoopDatagrams:
    """A network for UDP."""

    def __init__(self) -> None:
        self.gate: asyncio.Event | None = None
        self.fail: OSError | None = None

    async def create_datagram_endpoint(self, protocol_factory: Any, *, remote_addr: tuple[str, int]) -> Any:
        if self.gate is not None:
            await self.gate.wait()
        if self.fail is not None:
            raise self.fail
        return await asyncio.get_running_loop().create_datagram_endpoint(protocol_factory, remote_addr=remote_addr)


@contextlib.asynccontextmanager
async def udp_forward(
    net: Any = None, idle_timeout: float = 60.0
) -> AsyncIterator[tuple[UdpForward, Peer, list[Peer], list[Any]]]:
    """A forward, the peer behind it, and three clients with their transports."""
    loop = asyncio.get_running_loop()
    transports: list[Any] = []

    async def endpoint(factory: Any, **where: Any) -> Any:
        transport, protocol = await loop.create_datagram_endpoint(factory, **where)
        transports.append(transport)
        return protocol

    peer = await endpoint(lambda: Peer(echoes=True), local_addr=("127.0.0.1", 0))
    target = peer.transport.get_extra_info("sockname")
    forward = await endpoint(
        lambda: UdpForward(net or LoopDatagrams(), target, idle_timeout), local_addr=("127.0.0.1", 0)
    )
    there = transports[-1].get_extra_info("sockname")
    clients = [await endpoint(lambda: Peer(echoes=False), remote_addr=there) for _ in range(3)]
    try:
        yield forward, peer, clients, [client.transport for client in clients]
    finally:
        for transport in transports:
            transport.close()
        await until(lambda: not forward.flows)


async def test_each_client_has_a_socket_of_its_own() -> None:
    async with udp_forward() as (forward, peer, clients, wires):
        for round_ in range(2):
            for number, (client, wire) in enumerate(zip(clients, wires, strict=True)):
                data = bytes([number, round_]) * 4000
                wire.sendto(data)
                assert await client.heard.get() == data
        assert len(peer.sources) == len(forward.flows) == 3


async def test_the_idle_are_forgotten_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)
    async with udp_forward(idle_timeout=600) as (forward, _peer, clients, wires):
        for wanted in ((0, 1), (1,)):
            for number in wanted:
                wires[number].sendto(b"x")
                await clients[number].heard.get()
            ahead += 500
        await until(lambda: len(forward.flows) == 1)
        assert wires[1].get_extra_info("sockname") in forward.flows
        ahead += 601
        await until(lambda: not forward.flows)


async def test_no_idle_timeout_and_the_longest_silent_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udpforward, "FLOWS_MAX", 2)
    async with udp_forward(idle_timeout=0) as (forward, peer, clients, wires):
        for number in (0, 1, 0, 2):  # 1 has been silent longest
            wires[number].sendto(b"x")
            await clients[number].heard.get()
        assert len(peer.sources) == 3
        assert [key[1] for key in forward.flows] == [wires[n].get_extra_info("sockname")[1] for n in (0, 2)]


async def test_a_little_waits_for_the_dial() -> None:
    net = LoopDatagrams()
    net.gate = asyncio.Event()
    async with udp_forward(net) as (forward, peer, _clients, wires):
        for number in range(udpforward.WAITING_MAX + 4):
            wires[0].sendto(bytes([number]))
        await until(lambda: forward.dropped == 4)
        net.gate.set()
        heard = [await peer.heard.get() for _ in range(udpforward.WAITING_MAX)]
        assert heard == [bytes([number]) for number in range(udpforward.WAITING_MAX)]


async def test_a_dial_that_fails_is_tried_again() -> None:
    net = LoopDatagrams()
    net.fail = NoRoute("no way")
    async with udp_forward(net) as (forward, _peer, clients, wires):
        wires[0].sendto(b"lost")
        await until(lambda: forward.refused == 1)
        net.fail = None
        wires[0].sendto(b"found")
        assert await clients[0].heard.get() == b"found"


async def test_over_a_real_tunnel() -> None:
    async with udp_pair() as pair:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            writer.close()

        far = await pair.right.start_server(answer, RIGHT, 0)
        peer = Peer(echoes=True)
        await pair.right.create_datagram_endpoint(lambda: peer, local_addr=(RIGHT, 5353))
        proxy = Proxy(pair.left)
        [listener] = await proxy.forward("127.0.0.1", 0, (RIGHT, far.port), header="v2")
        made = Bench(LoopNet(), proxy, listener.port)
        loop = asyncio.get_running_loop()
        local, _ = await loop.create_datagram_endpoint(
            lambda: UdpForward(pair.left, (RIGHT, 5353)), local_addr=("127.0.0.1", 0)
        )
        try:
            client = await made.client()
            await client.send(b"through")
            own = client.writer.get_extra_info("sockname")
            client.end()
            assert await client.rest() == encode("v2", own, ("127.0.0.1", made.port)) + b"through"
            asker, asking = await loop.create_datagram_endpoint(
                lambda: Peer(echoes=False), remote_addr=local.get_extra_info("sockname")
            )
            for size in (1, 4000):  # the second in fragments
                asker.sendto(bytes(size))
                assert await asking.heard.get() == bytes(size)
            asker.close()
        finally:
            local.close()
            await made.close()
