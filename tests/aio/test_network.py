"""Dialling, and what it dies of; pings; what a network says of itself."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
from collections.abc import Sequence

import pytest

from tests.support.networks import (
    LEFT,
    LEFT6,
    LEFT_OUTER,
    RIGHT,
    RIGHT6,
    RIGHT_OUTER,
    Pair,
    config_of,
    key_pair,
    memory_pair,
    udp_pair,
)
from usernet.aio import endpoints, sockets
from usernet.aio import engine as engine_module
from usernet.aio.memory import Impairment, memory_links
from usernet.aio.network import Network
from usernet.aio.runtime import boottime
from usernet.burst.packets import Address
from usernet.errors import EndpointUnresolved, HostUnreachable, NameNotFound, NameServerFailed, NoHandshake, NoRoute
from usernet.tcp.connection import Connection
from usernet.wireguard.events import HandshakeCompleted, HandshakeStarted, TunnelEvent

LOST = Impairment(loss=1.0)


class Silent(asyncio.Protocol):
    """Does nothing."""


def never(error: Exception) -> None:
    raise error


def assert_nothing_left(net: Network) -> None:
    assert not net._link._owners


async def test_a_connection_there_and_back_over_both_families() -> None:
    async with memory_pair() as pair:
        for host, own in ((RIGHT, LEFT), (RIGHT6, LEFT6)):
            server = await pair.right.create_server(Silent, host, 0)
            transport, _ = await pair.left.create_connection(Silent, host, server.port, local_port=5555)
            assert transport.get_extra_info("sockname")[:2] == (own, 5555)
            assert transport.get_extra_info("peername")[:2] == (host, server.port)
            assert transport.get_extra_info("socket") is None
            assert transport.get_extra_info("tcp_info").mss > 1000
            transport.abort()
            server.close()


async def test_no_route() -> None:
    async with memory_pair() as pair:
        with pytest.raises(NoRoute, match=r"allowed IPs cover 192\.0\.2\.77"):
            await pair.left.create_connection(Silent, "192.0.2.77", 80)
        with pytest.raises(NoRoute):
            await pair.left.ping("192.0.2.77")
        with pytest.raises(NoRoute):
            await pair.left.open_datagrams(remote_addr=("192.0.2.77", 80))


async def test_loopback_and_link_local_are_never_captured() -> None:
    (key, _), (_, peer) = key_pair(), key_pair()
    link, _ = memory_links(asyncio.get_running_loop())
    config = config_of(key, (LEFT, LEFT6), peer, ("0.0.0.0/0", "::/0"), RIGHT_OUTER)
    async with Network(config, datagram_link=link) as net:
        assert net.covers("198.51.100.1")
        assert net.covers("2001:db8::1")
        assert net.covers(LEFT)
        for address in ("127.0.0.1", "127.9.9.9", "169.254.169.254", "::1", "fe80::1", "nonsense", "fe80::1%eth0"):
            assert not net.covers(address)
        for address in ("127.0.0.1", "169.254.169.254", "::1", "fe80::1"):
            with pytest.raises(NoRoute):
                await net.create_connection(Silent, address, 80)


async def test_nobody_listens() -> None:
    async with memory_pair() as pair:
        with pytest.raises(ConnectionRefusedError):
            await pair.left.create_connection(Silent, RIGHT, 9)
        assert_nothing_left(pair.left)


async def test_no_handshake() -> None:
    async with memory_pair(LOST, dial_timeout=0.05) as pair:
        with pytest.raises(NoHandshake, match=r"no handshake with the peer for 10\.7\.0\.2 within 0\.05 s"):
            await pair.left.create_connection(Silent, RIGHT, 80)
        with pytest.raises(NoHandshake):
            await pair.left.ping(RIGHT, timeout=0.05)
        with pytest.raises(NoHandshake):
            await pair.left.reach([RIGHT])
        assert_nothing_left(pair.left)


async def test_a_session_and_no_answer() -> None:
    async with memory_pair(dial_timeout=0.1) as pair:
        assert await pair.left.ping(RIGHT) < 5
        assert pair.links is not None
        pair.links[1].impairment = LOST
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.1 s"):
            await pair.left.create_connection(Silent, RIGHT, 80)
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.1 s"):
            await pair.left.ping(RIGHT, timeout=0.1)


async def test_a_peer_without_an_endpoint() -> None:
    (key, _), (_, peer) = key_pair(), key_pair()
    link, _ = memory_links(asyncio.get_running_loop())
    async with Network(config_of(key, (LEFT,), peer, (RIGHT,), None), datagram_link=link) as net:
        with pytest.raises(HostUnreachable):
            await net.create_connection(Silent, RIGHT, 80)
        assert_nothing_left(net)


async def test_no_address_of_the_family() -> None:
    (key, _), (_, peer) = key_pair(), key_pair()
    link, _ = memory_links(asyncio.get_running_loop())
    async with Network(config_of(key, (LEFT,), peer, (RIGHT, RIGHT6), RIGHT_OUTER), datagram_link=link) as net:
        with pytest.raises(OSError, match="IPv6"):
            await net.create_connection(Silent, RIGHT6, 80)


async def test_a_cancelled_dial_leaves_nothing() -> None:
    async with memory_pair(LOST) as pair:
        task = asyncio.ensure_future(pair.left.create_connection(Silent, RIGHT, 80))
        while not pair.left._link._owners:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_nothing_left(pair.left)
        assert not pair.left.statistics().host.connections


class Told(asyncio.Protocol):
    """Notes what a dial by calls came to."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.outcome.set_result(transport)


async def test_a_dial_by_calls() -> None:
    async with memory_pair() as pair:
        server = await pair.right.create_server(Silent, RIGHT, 0)
        told = Told()
        assert pair.left.start_connection(told, RIGHT, server.port, told.outcome.set_exception) is not None
        transport = await told.outcome
        assert transport.get_extra_info("peername") == (RIGHT, server.port)
        assert transport.get_protocol() is told
        told = Told()
        pair.left.start_connection(told, RIGHT, 9, told.outcome.set_exception)
        with pytest.raises(ConnectionRefusedError):
            await told.outcome
        assert len(pair.left._link._owners) == 1


async def test_a_dial_by_calls_that_nobody_answers() -> None:
    async with memory_pair(LOST, dial_timeout=0.05) as pair:
        told, cancelled = Told(), Told()
        pair.left.start_connection(told, RIGHT, 80, told.outcome.set_exception)
        dial = pair.left.start_connection(cancelled, RIGHT, 80, cancelled.outcome.set_exception)
        assert dial is not None
        dial.cancel()
        with pytest.raises(NoHandshake, match=r"within 0\.05 s"):
            await told.outcome
        assert not cancelled.outcome.done()
        assert_nothing_left(pair.left)
        assert not pair.left.statistics().host.connections


async def test_what_a_dial_by_calls_does_not_do() -> None:
    async with memory_pair() as pair:
        assert pair.left.start_connection(Silent(), "a.example.test", 80, never) is None
        with pytest.raises(NoRoute):
            pair.left.start_connection(Silent(), "192.0.2.77", 80, never)
        assert_nothing_left(pair.left)


async def test_a_failing_protocol_factory_is_the_callers() -> None:
    def factory() -> asyncio.Protocol:
        raise KeyError("no protocol today")

    async with memory_pair() as pair:
        server = await pair.right.create_server(Silent, None, 0)
        with pytest.raises(KeyError):
            await pair.left.create_connection(factory, RIGHT, server.port)
        assert_nothing_left(pair.left)


async def test_names_without_dns() -> None:
    async with memory_pair() as pair:
        with pytest.raises(NameServerFailed, match="no DNS ="):
            await pair.left.create_connection(Silent, "www.example.test", 80)
        with pytest.raises(NameNotFound):
            await pair.left.create_connection(Silent, "fe80::1%eth0", 80)
        with pytest.raises(NoRoute):
            await pair.left.create_connection(Silent, "localhost", 80)


async def test_a_connection_to_ourselves() -> None:
    async with memory_pair() as pair:
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        class Sink(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.set_result(data)

        server = await pair.left.create_server(Sink, None, 0)
        transport, _ = await pair.left.create_connection(Silent, LEFT, server.port)
        transport.write(b"hairpin")
        assert await received == b"hairpin"
        transport.close()


async def test_our_own_address_needs_no_peer() -> None:
    """Not even where a peer's allowed IPs cover it, as 0.0.0.0/0 does."""
    links = memory_links(asyncio.get_running_loop(), addresses=(LEFT_OUTER, RIGHT_OUTER), there=LOST)
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], ("0.0.0.0/0",), RIGHT_OUTER)
    events: list[TunnelEvent] = []
    async with Network(config, datagram_link=links[0], dial_timeout=5) as net:
        net.on_event(events.append)
        assert await net.ping(LEFT) < 5
        with pytest.raises(ConnectionRefusedError):
            await net.create_connection(Silent, LEFT, 80)
    assert events == []


async def test_events_reach_whoever_watches() -> None:
    events: list[TunnelEvent] = []

    def broken(event: TunnelEvent) -> None:
        raise ArithmeticError("what a watcher does is its own affair")

    async with memory_pair() as pair:
        pair.left.on_event(broken)
        pair.left.on_event(events.append)
        await pair.left.reach([RIGHT])
    assert [type(event) for event in events] == [HandshakeStarted, HandshakeCompleted]


async def test_a_server_on_an_address_that_is_not_ours() -> None:
    async with memory_pair() as pair:
        with pytest.raises(OSError, match="not an address of this tunnel"):
            await pair.left.create_server(Silent, RIGHT, 80)
        server = await pair.left.create_server(Silent, LEFT, 80)
        with pytest.raises(OSError, match="80"):
            await pair.left.create_server(Silent, LEFT, 80)
        server.close()
        (await pair.left.create_server(Silent, "0.0.0.0", 80)).close()


async def test_what_is_no_port() -> None:
    async with memory_pair() as pair:
        for attempt in (
            pair.left.create_server(Silent, None, 70_000),
            pair.left.create_connection(Silent, RIGHT, 70_000),
            pair.left.create_connection(Silent, RIGHT, 80, local_port=70_000),
            pair.left.create_forwarder(pair.left.create_connection, None, 70_000),  # type: ignore[arg-type]
            pair.left.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(None, 70_000)),
            pair.left.open_datagrams(remote_addr=(RIGHT, 70_000)),
        ):
            with pytest.raises(OverflowError, match="port must be 0-65535"):
                await attempt
        transport, _ = await pair.left.create_datagram_endpoint(asyncio.DatagramProtocol)
        for send in (transport.sendto, (await pair.left.open_datagrams()).send):
            with pytest.raises(OverflowError, match="port must be 0-65535"):
                send(b"x", (RIGHT, 70_000))
        assert not transport.is_closing()


async def test_pings() -> None:
    async with memory_pair(Impairment(delay=0.01)) as pair:
        times = await asyncio.gather(*(pair.left.ping(host) for host in (RIGHT, RIGHT6, RIGHT)))
        assert all(seconds >= 0.018 for seconds in times)  # uvloop counts whole ms, from where its turn began
        assert await pair.left.ping(LEFT) < 1, "we answer ourselves, too"
        assert not pair.left._link._echoes


async def test_a_port_that_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        (key, _), (_, peer) = key_pair(), key_pair()
        with pytest.raises(OSError, match=str(port)):
            await Network(config_of(key, (LEFT,), peer, (RIGHT,), None), port=port).start()


async def test_closing_aborts_what_is_open() -> None:
    lost: list[BaseException | None] = []

    class Open(asyncio.Protocol):
        def connection_lost(self, exc: BaseException | None) -> None:
            lost.append(exc)

    async with memory_pair() as pair:
        server = await pair.right.create_server(Open, None, 0)
        await pair.left.create_connection(Open, RIGHT, server.port)
        await pair.left.close()
        await pair.left.close()
        assert isinstance(lost[0], ConnectionAbortedError)
        await pair.left.__aexit__()


async def test_a_server_closes_or_aborts_its_clients() -> None:
    size = 200_000

    greeted: list[asyncio.StreamWriter] = []  # one that nobody has any more warns that it is not closed

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(writer)
        writer.write(bytes(size))

    async with memory_pair() as pair:
        server = await pair.right.start_server(greet, None, 0)
        for end, whole in ((server.close_clients, True), (server.abort_clients, False)):
            connected = [await pair.left.open_connection(RIGHT, server.port) for _ in range(2)]
            for reader, _ in connected:
                await reader.readexactly(1)
            end()
            for reader, writer in connected:
                if whole:
                    assert await reader.read() == bytes(size - 1)
                else:
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
                writer.close()
        assert server.is_serving()
        server.close()
        await server.wait_closed()


async def fill_and_close(pair: Pair, received: bytearray, size: int) -> None:
    class Sink(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.extend(data)

    server = await pair.right.create_server(Sink, None, 0)
    transport, _ = await pair.left.create_connection(Silent, RIGHT, server.port)
    transport.write(bytes(size))
    transport.close()
    await pair.left.close()


@pytest.mark.parametrize("impairment", [Impairment(), Impairment(delay=0.02)])
async def test_closing_lets_what_was_written_leave(impairment: Impairment) -> None:
    """And does not wait any longer than that."""
    received = bytearray()
    async with memory_pair(impairment) as pair:
        async with asyncio.timeout(20):
            await fill_and_close(pair, received, 300_000)
        await asyncio.sleep(0)
        assert len(received) == 300_000


async def test_an_endpoint_that_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial waits for it, as long as it may wait for anything."""
    known = asyncio.Event()

    async def look_up(host: str, port: int) -> list[Address]:
        await known.wait()
        return [RIGHT_OUTER]

    monkeypatch.setattr(endpoints, "host_look_up", look_up)
    left_link, right_link = memory_links(asyncio.get_running_loop(), addresses=(LEFT_OUTER, RIGHT_OUTER))
    (left_key, left_public), (right_key, right_public) = key_pair(), key_pair()
    left_config = config_of(left_key, (LEFT,), right_public, (RIGHT,), ("far.example.test", 51820))
    right_config = config_of(right_key, (RIGHT,), left_public, (LEFT,), None)
    async with (
        Network(left_config, datagram_link=left_link) as left,
        Network(right_config, datagram_link=right_link) as right,
    ):
        server = await right.create_server(Silent, None, 0)
        dial = asyncio.ensure_future(left.create_connection(Silent, RIGHT, server.port))
        reach = asyncio.ensure_future(left.reach([RIGHT]))
        await asyncio.sleep(0)
        assert left_link.sent == 0
        known.set()
        await reach
        transport, _ = await dial
        transport.abort()


async def test_a_session_asked_for_before_the_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known = asyncio.Event()

    async def look_up(host: str, port: int) -> list[Address]:
        await known.wait()
        return [RIGHT_OUTER]

    monkeypatch.setattr(endpoints, "host_look_up", look_up)
    (key, _), (_, peer) = key_pair(), key_pair()
    link, _ = memory_links(asyncio.get_running_loop(), addresses=(LEFT_OUTER, RIGHT_OUTER))
    begun: asyncio.Future[TunnelEvent] = asyncio.get_running_loop().create_future()
    config = config_of(key, (LEFT,), peer, (RIGHT,), ("far.example.test", 51820))
    async with Network(config, datagram_link=link) as net:
        net.on_event(begun.set_result)
        net.request_handshakes()
        await asyncio.sleep(0)
        assert link.sent == 0
        known.set()
        assert isinstance(await begun, HandshakeStarted)


async def test_an_endpoint_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int) -> list[Address]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(endpoints, "host_look_up", look_up)
    (key, _), (_, peer) = key_pair(), key_pair()
    link, _ = memory_links(asyncio.get_running_loop())
    config = config_of(key, (LEFT,), peer, (RIGHT,), ("far.example.test", 51820))
    async with Network(config, datagram_link=link, dial_timeout=0.05) as net:
        assert net.start_connection(Silent(), RIGHT, 80, never) is None, "it would have to wait for the name"
        with pytest.raises(EndpointUnresolved, match=r"far\.example\.test does not resolve: Name or service not known"):
            await net.create_connection(Silent, RIGHT, 80)


async def test_one_address_after_the_other_where_no_delay_is_given() -> None:
    async with memory_pair() as pair:
        server = await pair.right.create_server(Silent, RIGHT, 0)
        transport, _ = await pair.left.create_connection(Silent, RIGHT, server.port, happy_eyeballs_delay=None)
        assert transport.get_extra_info("peername")[0] == RIGHT


@pytest.mark.sources
async def test_happy_eyeballs_through_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The IPv6 address does not answer; the IPv4 one, tried 300 ms later, wins, and nothing is left of the other."""

    async def resolve(name: str, families: tuple[int, ...]) -> list[str]:
        return [RIGHT6, RIGHT]

    async with memory_pair() as pair:
        monkeypatch.setattr(pair.left._resolver, "resolve", resolve)
        server = await pair.right.create_server(Silent, RIGHT, 0)
        transport, _ = await pair.left.create_connection(Silent, "both.example.test", server.port)
        assert transport.get_extra_info("peername")[0] == RIGHT, "refused there, so tried here at once"
        light = await pair.right.create_server(Silent, RIGHT, 0)
        # As if a router on the way dropped all IPv6: neither an answer nor a refusal.
        refuse = pair.right._host._connections.refuse
        monkeypatch.setattr(
            type(pair.right._host._connections),
            "refuse",
            lambda self, source, *rest: None if len(source) == 16 else refuse(source, *rest),
        )
        started = asyncio.get_running_loop().time()
        transport, _ = await pair.left.create_connection(Silent, "both.example.test", light.port)
        assert transport.get_extra_info("peername")[0] == RIGHT
        assert 0.25 < asyncio.get_running_loop().time() - started < 3
        await asyncio.sleep(0)
        assert len(pair.left._link._owners) == 2


async def test_failed_dials_leave_nothing_for_the_collector() -> None:
    def connections() -> int:
        return sum(isinstance(thing, Connection | ConnectionRefusedError) for thing in gc.get_objects())

    async with memory_pair() as pair:
        await pair.left.reach([RIGHT])
        gc.collect()
        before = connections()
        gc.disable()
        try:
            for host in (RIGHT, RIGHT6):
                with pytest.raises(ConnectionRefusedError):
                    await pair.left.create_connection(Silent, host, 9)
            pair.left._resolver.resolve = both  # type: ignore[method-assign]
            with pytest.raises(ConnectionRefusedError):
                await pair.left.create_connection(Silent, "both.example.test", 9)
            await asyncio.sleep(0)
            assert connections() == before
        finally:
            gc.enable()


async def both(name: str, families: Sequence[int]) -> list[str]:
    return [RIGHT6, RIGHT]


async def test_connections_are_kept_alive() -> None:
    """A peer that vanishes from an idle connection is noticed in the end."""
    async with memory_pair() as pair:
        server = await pair.right.create_server(Silent, None, 0)
        transport, _ = await pair.left.create_connection(Silent, RIGHT, server.port)
        host = pair.left._host
        connected = boottime()
        for at in range(1, 20):  # whatever else is timed lies within the first seconds
            host.handle_timeout(connected + at)
        deadline = host.next_timeout()
        assert deadline is not None
        assert 7190 < deadline - connected < 7210
        transport.abort()


async def test_rebinding_under_a_transfer() -> None:
    """On the same port, though the second core may hold a duplicate of the socket; no byte is lost."""
    async with udp_pair() as pair:
        port = pair.left.listen_port
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.set_result(await reader.read(-1))
            writer.close()

        await pair.right.start_server(serve, RIGHT, 80)
        _, writer = await pair.left.open_connection(RIGHT, 80)
        data = os.urandom(1 << 20) * 8
        for at in range(0, len(data), 1 << 20):
            writer.write(data[at : at + (1 << 20)])
            pair.left.rebind()
            assert pair.left.listen_port == port
            await writer.drain()
        writer.write_eof()
        assert await received == data
        writer.close()


@pytest.mark.sources
async def test_a_new_socket_that_cannot_be_had_yet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, failures = sockets.open_sockets, 2  # the present port, and any

    def open_sockets(port: int, mark: int) -> list[list[socket.socket]]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(port, mark)

    monkeypatch.setattr(engine_module, "REBIND_RETRY", 0.01)
    async with udp_pair() as pair:
        await pair.left.ping(RIGHT)
        monkeypatch.setattr(sockets, "open_sockets", open_sockets)
        pair.left.rebind()
        while (udp := pair.left.statistics().udp) is None or not udp.families:
            await asyncio.sleep(0.001)
        await pair.left.ping(RIGHT)
    assert "Too many open files; trying again" in caplog.text


async def test_rebinding_a_link_that_is_no_socket() -> None:
    async with memory_pair() as pair:
        await pair.left.ping(RIGHT)
        pair.left.rebind()
        pair.left.path_changed()
        await pair.left.ping(RIGHT)


async def test_rebinding_what_is_closed_asks_for_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int) -> list[Address]:
        return [RIGHT_OUTER]

    monkeypatch.setattr(endpoints, "host_look_up", look_up)
    (key, _), (_, peer) = key_pair(), key_pair()
    link, _ = memory_links(asyncio.get_running_loop())
    config = config_of(key, (LEFT,), peer, (RIGHT,), ("far.example.test", 51820))
    async with Network(config, datagram_link=link) as net:
        before = asyncio.all_tasks()
        net.rebind()
        assert asyncio.all_tasks() > before
    before = asyncio.all_tasks()
    net.rebind()
    assert asyncio.all_tasks() == before
