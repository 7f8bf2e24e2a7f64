"""UDP ASSOCIATE through a real listener to real UDP servers: RFC 1928 sections 4, 6 and 7, and RFC 4787."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import socket
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.accesslog import AccessLog
from proxy.routes import DIRECT, HostNet, Route
from proxy.session import Limits
from proxy.socks import handler, mapping
from proxy.socks.associate import Association
from proxy.socks.handler import SocksHandler
from tests.proxy.datagrams import associated, echo, header, peer, read_reply
from tests.proxy.support import Bench, LoopNet, bench, until
from tests.proxy.test_socks_handler import CREDENTIALS, HELLO, LOGIN, answer, request
from usernet.aio.relay import LINGER_ZERO
from usernet.errors import NameNotFound, NameServerFailed, NoRoute


def refused(made: Bench) -> dict[str, int]:
    return dict(made.proxy.statistics().refused)


# -- the association --


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_relay_is_at_the_local_address_of_the_connection(host: str) -> None:
    async with bench() as made, peer(reply=echo) as server:
        [listener] = await made.proxy.listen(host, 0)
        async with associated(made, host=host, port=listener.port) as client:
            assert client.relay[0] == host
            assert client.relay[1] not in (0, listener.port)
            client.send("127.0.0.1", server.port, b"hello")
            await client.expect("127.0.0.1", server.port, b"hello")


async def test_after_a_login() -> None:
    async with bench(credentials=CREDENTIALS) as made, peer(reply=echo) as server:
        async with associated(made, LOGIN) as client:
            client.send("127.0.0.1", server.port, b"hello")
            await client.expect("127.0.0.1", server.port, b"hello")
        other = await made.client()
        assert await other.exchange(HELLO + request("0.0.0.0", 0, 3)) == b"\x05\xff"


@pytest.mark.parametrize("asked", [request("0.0.0.0", 0, 3), request("::", 0, 3), request(b"0", 0, 3),
                                   request("192.0.2.7", 0, 3)])  # fmt: skip
async def test_every_cut(asked: bytes) -> None:
    """What the client thinks of its own address is not believed, and what it says after the request is ignored."""
    async with bench() as made:
        whole = HELLO + asked
        for cuts in ([], [1], list(range(1, len(whole)))):
            control = await made.client()
            await control.send(whole + b"trailing" * 20_000, cuts=cuts)
            assert await control.exactly(2) == b"\x05\x00"
            assert (await read_reply(control))[0] == "127.0.0.1"
            await control.close()
        await until(lambda: made.proxy.statistics().connections == 0)


@pytest.mark.parametrize("reset", [False, True])
async def test_everything_ends_with_the_connection(reset: bool) -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        client.send("127.0.0.1", server.port, b"x")
        await client.expect("127.0.0.1", server.port, b"x")
        assert made.proxy.statistics().associations == 1
        assert made.proxy.statistics().connections == 1
        if reset:
            client.control.writer.transport.abort()
        else:
            client.control.end()
            assert await client.control.rest() == b""
        await until(lambda: made.proxy.statistics().associations == 0 and made.net.endpoints[0].is_closing())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(client.relay)  # nobody has it any more


async def test_request_after_the_end_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been reset, which the first write finds out."""
    opened: list[Association] = []

    def open_association(*args: Any) -> Association:
        opened.append(Association(*args))
        return opened[-1]

    monkeypatch.setattr(handler, "Association", open_association)
    async with bench() as made:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            client.connect(("127.0.0.1", made.port))
            client.sendall(HELLO + request("0.0.0.0", 0, 3))
        await until(lambda: made.proxy.statistics().socks5 == 1 and made.proxy.statistics().connections == 0)
    assert opened == []


async def test_request_with_the_end_of_the_connection_right_behind_it() -> None:
    async with bench() as made:
        control = await made.client()
        control.writer.write(HELLO + request("0.0.0.0", 0, 3))
        control.end()
        assert (await control.rest())[:5] == b"\x05\x00\x05\x00\x00"
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_end_that_came_before_the_request_was_looked_at() -> None:
    """There is no end to come any more that would end the association."""
    async with bench() as made:
        control = await made.client()
        await control.send(HELLO)
        await control.expect(b"\x05\x00")
        [session] = [session for session in made.proxy._context.sessions if isinstance(session, SocksHandler)]
        session.ended = True
        session.data_received(request("0.0.0.0", 0, 3))
        assert made.proxy.statistics().associations == 0
        assert await control.rest() == b""


async def test_connection_ends_when_the_network_is_closed() -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        client.send("127.0.0.1", server.port, b"x")
        await client.expect("127.0.0.1", server.port, b"x")
        made.net.endpoints[0].abort()
        assert await client.control.rest() == b""


async def test_closing_the_proxy_ends_associations() -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        client.send("127.0.0.1", server.port, b"x")
        await client.expect("127.0.0.1", server.port, b"x")
        await made.proxy.close()
        assert made.net.endpoints[0].is_closing()


# -- what is relayed --


@pytest.mark.parametrize("size", [1, 512, 8192, 9000, 65_000, 65_507 - 10])
async def test_sizes_both_ways(size: int) -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        data = os.urandom(size)
        client.send("127.0.0.1", server.port, data)
        await client.expect("127.0.0.1", server.port, data)
        seen = made.proxy.statistics()
        assert (seen.bytes_up, seen.bytes_down) == (size, size)


async def test_answer_that_does_not_fit_behind_its_header() -> None:
    async with bench() as made, associated(made) as client, peer(reply=lambda data: bytes(int(data))) as server:
        client.send("127.0.0.1", server.port, b"65498")
        await until(lambda: refused(made) == {"udp-too-large": 1})
        client.send("127.0.0.1", server.port, b"65497")
        await client.expect("127.0.0.1", server.port, bytes(65_497))


async def test_both_families_and_names_from_one_association() -> None:
    async with bench() as made, peer(reply=echo) as server, peer("::1", echo) as server6, associated(made) as client:
        for _ in range(3):
            for host, real, there in (
                ("127.0.0.1", "127.0.0.1", server), ("::1", "::1", server6), (b"origin.test", "127.0.0.1", server),
                (b"ORIGIN.test", "127.0.0.1", server), (b"v6.test", "::1", server6), (b"::1", "::1", server6),
                ("::ffff:127.0.0.1", "127.0.0.1", server),
            ):  # fmt: skip
                client.send(host, there.port, b"to " + real.encode())
                await client.expect(real, there.port, b"to " + real.encode())  # the true source
        assert made.net.resolved == ["origin.test", "origin.test", "v6.test"]  # once for each spelling
        assert len(made.net.endpoints) == 2


async def test_many_in_order() -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        sent = 0
        for number in range(300):
            while sent < min(number + 32, 300):
                client.send("127.0.0.1", server.port, b"%d" % sent)
                sent += 1
            await client.expect("127.0.0.1", server.port, b"%d" % number)


async def test_one_mapping_for_all_destinations() -> None:
    """RFC 4787 REQ-1."""
    async with bench() as made, peer() as first, peer() as second, associated(made) as client:
        client.send("127.0.0.1", first.port, b"x")
        client.send("127.0.0.1", second.port, b"x")
        client.send(b"origin.test", second.port, b"x")
        assert len({(await one.next())[1] for one in (first, second, second)}) == 1


# -- who may use it --


async def test_foreign_sources() -> None:
    async with (
        bench() as made, peer(reply=echo) as server, associated(made) as client, peer("127.0.0.2") as far,
        peer() as neighbour,
    ):  # fmt: skip
        far.transport.sendto(header("127.0.0.1", server.port) + b"x", client.relay)  # another address, first
        await client.expect_nothing("127.0.0.1", server.port)
        assert refused(made) == {"udp-foreign-source": 1}
        neighbour.transport.sendto(header("127.0.0.1", server.port) + b"x", client.relay)  # another port, later
        await client.expect_nothing("127.0.0.1", server.port)
        assert refused(made) == {"udp-foreign-source": 2}
        assert far.heard.empty()
        assert neighbour.heard.empty()


async def test_source_port_as_the_client_said() -> None:
    async with (
        bench() as made, peer(reply=echo) as server, associated(made, said_port=-1) as client, peer() as thief
    ):  # fmt: skip
        thief.transport.sendto(header("127.0.0.1", server.port) + b"x", client.relay)
        await client.expect_nothing("127.0.0.1", server.port)
        assert thief.heard.empty()
        assert refused(made) == {"udp-foreign-source": 1}


async def test_what_is_dropped_does_not_pin_the_port() -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client, peer() as neighbour:
        neighbour.transport.sendto(b"?", client.relay)
        await until(lambda: refused(made) == {"udp-short": 1})
        await client.expect_nothing("127.0.0.1", server.port)


# -- what is dropped, and counted --

DATAGRAMS = [
    (b"\0", "udp-short"),
    (b"\0\0\0\x01\x7f\0\0\x01\0", "udp-short"),
    (b"\x01\0\0\x01\x7f\0\0\x01\0\x35x", "udp-reserved"),
    (b"\0\x01\0\x01\x7f\0\0\x01\0\x35x", "udp-reserved"),
    (b"\0\0\x01\x01\x7f\0\0\x01\0\x35x", "udp-fragment"),
    (b"\0\0\x81\x01\x7f\0\0\x01\0\x35x", "udp-fragment"),
    (b"\0\0\0\x02\x7f\0\0\x01\0\x35x", "udp-address-type"),
    (header("127.0.0.1", 0) + b"x", "udp-bad-port"),
    (header(b"", 53) + b"data", "udp-bad-name"),
    (header(b"a\0.test", 53), "udp-bad-name"),
    (header(b"nowhere.test", 53), "udp-no-name"),
    (header(b"localhost", 53), "udp-forbidden"),
    (header("169.254.169.254", 80), "udp-forbidden"),
    (header("64:ff9b::a9fe:a9fe", 80), "udp-forbidden"),
    (header("224.0.0.251", 5353), "udp-forbidden"),
    (header(b"metadata.test", 80), "udp-forbidden"),
]


@pytest.mark.parametrize(("datagram", "reason"), DATAGRAMS)
async def test_dropped_and_counted(datagram: bytes, reason: str) -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        made.net.names["metadata.test"] = ["169.254.169.254"]
        for _ in range(2):
            client.transport.sendto(datagram, client.relay)
        await until(lambda: refused(made) == {reason: 2})
        await client.expect_nothing("127.0.0.1", server.port)
        assert refused(made) == {reason: 2}


@pytest.mark.parametrize(
    ("error", "reason"),
    [(NoRoute("x"), "udp-no-route"), (NameServerFailed("x"), "udp-no-name-server"), (OSError("x"), "udp-failed"),
     (NameNotFound("x"), "udp-no-name"), (TimeoutError(), "udp-timeout")],
)  # fmt: skip
async def test_why_a_destination_has_no_socket(error: BaseException, reason: str) -> None:
    async with bench() as made, associated(made) as client:
        made.net.fail = error
        client.send("127.0.0.1", 9, b"x")
        await until(lambda: refused(made) == {reason: 1})


async def test_a_failure_is_remembered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        for count in (1, 2, 3):
            client.send(b"late.test", server.port, b"x")
            await until(lambda expected=count: refused(made).get("udp-no-name") == expected)  # type: ignore[misc]
        assert made.net.resolved == ["late.test"]
        monkeypatch.setattr(mapping, "REFUSED_SECONDS", 0.0)
        client.send(b"later.test", server.port, b"x")
        await until(lambda: refused(made).get("udp-no-name") == 4)
        made.net.names["later.test"] = ["127.0.0.1"]
        client.send(b"later.test", server.port, b"x")
        await client.expect("127.0.0.1", server.port, b"x")


async def test_socket_that_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in it is bounded."""
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        await client.expect_nothing("127.0.0.1", server.port)
        with monkeypatch.context() as patch:
            patch.setattr(mapping, "UNSENT_BYTES", -1)
            client.send("127.0.0.1", server.port, b"x")
            await until(lambda: refused(made) == {"udp-queue-full": 1})
        await client.expect_nothing("127.0.0.1", server.port)


async def test_port_unreachable_does_not_end_it(unused_port: int) -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        for _ in range(5):
            client.send("127.0.0.1", unused_port, b"x")
            await client.expect_nothing("127.0.0.1", server.port)
        # Of the host's sockets only one that is connected is told
        made.net.endpoints[0].get_protocol().error_received(ConnectionRefusedError())  # type: ignore[attr-defined]
        assert refused(made) == {"udp-refused": 1}
        await client.expect_nothing("127.0.0.1", server.port)


# -- filtering (RFC 4787 REQ-8) --


async def test_answers_only_from_addresses_that_were_asked() -> None:
    async with (
        bench() as made, peer(reply=echo) as server, peer() as other, peer("127.0.0.2") as stranger,
        associated(made) as client,
    ):  # fmt: skip
        client.send("127.0.0.1", server.port, b"x")
        await client.expect("127.0.0.1", server.port, b"x")
        mapped = ("127.0.0.1", made.net.endpoints[0].get_extra_info("sockname")[1])
        stranger.transport.sendto(b"unsolicited", mapped)
        await until(lambda: refused(made) == {"udp-unsolicited": 1})
        other.transport.sendto(b"from another port", mapped)  # as a TFTP server does
        await client.expect("127.0.0.1", other.port, b"from another port")


# -- names --


async def test_datagrams_wait_while_a_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "LOOK_UPS", 2)
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        made.net.names_gate = asyncio.Event()
        for number in range(70):
            client.send(b"origin.test", server.port, b"%d" % number)
        client.send(b"nowhere.test", server.port, b"x")
        client.send(b"third.test", server.port, b"x")
        await until(lambda: refused(made) == {"udp-waiting-full": 6, "udp-too-many-look-ups": 1})
        assert made.net.resolved == ["origin.test", "nowhere.test"]
        made.net.names_gate.set()
        for number in range(64):
            await client.expect("127.0.0.1", server.port, b"%d" % number)
        await until(lambda: refused(made).get("udp-no-name") == 1)


async def test_waiting_is_bounded_in_bytes() -> None:
    async with bench() as made, peer(reply=echo) as server, associated(made) as client:
        for count, name in enumerate((b"origin.test", b"ORIGIN.test"), 1):  # the second finds as much room as the first
            made.net.names_gate = asyncio.Event()
            for _ in range(5):
                client.send(name, server.port, bytes(60_000))
            await until(lambda expected=count: refused(made) == {"udp-waiting-full": expected})  # type: ignore[misc]
            made.net.names_gate.set()
            for _ in range(4):
                await client.expect("127.0.0.1", server.port, bytes(60_000))


async def test_client_that_leaves_ends_its_look_ups() -> None:
    async with bench() as made:
        made.net.names_gate = asyncio.Event()
        async with associated(made) as client:
            client.send(b"origin.test", 9, b"x")
            await until(lambda: made.net.resolved == ["origin.test"])
        await until(lambda: made.net.cancelled == 1)
        assert made.net.endpoints == []


async def test_a_look_up_has_a_time_limit() -> None:
    async with bench(dial_timeout=0.05) as made, associated(made) as client:
        made.net.names_gate = asyncio.Event()
        client.send(b"origin.test", 9, b"x")
        await until(lambda: refused(made) == {"udp-timeout": 1})


# -- routes --


class Streams:
    """A network without datagrams, as an upstream proxy is."""

    def __init__(self) -> None:
        self._net = LoopNet()

    async def create_connection(self, protocol_factory: Any, host: str, port: int) -> tuple[Any, Any]:
        return await self._net.create_connection(protocol_factory, host, port)

    async def resolve(self, name: str) -> Sequence[str]:
        return await self._net.resolve(name)


async def test_routes_are_by_destination() -> None:
    rules = ["upstream up.test", "refuse no.test", "direct direct.test", "tunnel 127.0.0.0/8"]
    routes = {"upstream": Route("upstream", Streams(), takes_names=True), DIRECT: Route(DIRECT, HostNet())}
    lines: list[str] = []
    log = AccessLog(lines.append, as_json=True)
    async with bench(rules=rules, routes=routes, access_log=log) as made, peer(reply=echo) as server:
        async with associated(made) as client:
            client.send(b"up.test", server.port, b"x")
            client.send(b"no.test", server.port, b"x")
            await until(lambda: refused(made) == {"udp-no-datagrams": 1, "udp-forbidden": 1})
            await client.expect_nothing("127.0.0.1", server.port)
            assert len(made.net.endpoints) == 1
        await until(lambda: bool(lines))
        [line] = map(json.loads, lines)
        assert line["method"] == "SOCKS5 UDP ASSOCIATE"
        assert line["outcome"] == "ok"
        assert (line["bytes_up"], line["bytes_down"]) == (11, 9)


# -- limits and time --


@pytest.mark.parametrize("limits", [Limits(associations=2), Limits(associations_per_client=2), Limits(connections=5)])
async def test_too_many(limits: Limits) -> None:
    async with bench(limits=limits) as made:
        async with associated(made), associated(made):
            control = await made.client()
            assert await control.exchange(HELLO + request("0.0.0.0", 0, 3)) == answer(1)
            assert refused(made) == {"connection_limit_reached": 1}
        await until(lambda: made.proxy.statistics().associations == 0)
        async with associated(made):
            assert made.proxy.statistics().associations == 1


async def test_no_descriptors_left() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with bench() as made:
        control = await made.client()
        await control.send(HELLO)
        assert await control.exactly(2) == b"\x05\x00"
        next_one = os.dup(0)
        os.close(next_one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, limits[1]))
        try:
            assert await control.exchange(request("0.0.0.0", 0, 3)) == answer(1)[2:]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert made.proxy.statistics().associations == 0


async def test_idle_mapping_is_given_back_and_the_association_lives() -> None:
    limits = Limits(mapping_timeout=0.05)
    async with bench(limits=limits) as made, peer(reply=echo) as server, associated(made) as client:
        client.send("127.0.0.1", server.port, b"x")
        await client.expect("127.0.0.1", server.port, b"x")
        await until(lambda: made.net.endpoints[0].is_closing())
        client.send("127.0.0.1", server.port, b"y")
        await client.expect("127.0.0.1", server.port, b"y")
        assert len(made.net.endpoints) == 2
        assert refused(made) == {}


async def test_idle_association_ends_with_its_connection() -> None:
    async with bench(limits=Limits(idle_timeout=0.08)) as made, associated(made) as client:
        assert await client.control.rest() == b""
        assert refused(made) == {"idle": 1}


async def test_idle_association_is_small() -> None:
    """One that has relayed nothing owns a socket and its object, and no table, queue or buffer."""
    async with bench() as made, associated(made):
        [one] = [session for session in made.proxy._context.sessions if isinstance(session, Association)]
        asyncio.get_running_loop().set_debug(False)  # it would keep a stack for each reader
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            more = [Association(one._context, one.client, one._transport, 0) for _ in range(100)]
            each = (tracemalloc.get_traced_memory()[0] - before) / len(more)
        finally:
            tracemalloc.stop()
        for extra in more:
            one._context.open += 1  # as for a connection of its own
            extra.connection_lost(None)
        one._transport.set_protocol(one)
        assert each < 1500
