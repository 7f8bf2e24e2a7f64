"""Another configuration for a network at work: streams go on, and it is all of it or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.support.networks import LEFT, LEFT6, RIGHT, RIGHT6, Pair, config_of, key_pair, memory_pair, udp_pair
from usernet.aio.network import Network
from usernet.config import Access, AccessRule, Config, Peer
from usernet.config.changes import NO_CHANGES
from usernet.errors import NetworkClosed, NoRoute
from usernet.wire.ip import pack_address
from usernet.wireguard.timers import Timing

SOON = Timing(rekey_timeout=0.1)  # the next handshake

THIRD = "10.7.0.3"


def peer_of(net: Network) -> Peer:
    return net.config.peers[0]


def with_peer(config: Config, **values: object) -> Config:
    return replace(config, peers=(replace(config.peers[0], **values),))  # type: ignore[arg-type]


def with_interface(config: Config, **values: object) -> Config:
    return replace(config, interface=replace(config.interface, **values))  # type: ignore[arg-type]


def network(address: str) -> tuple[bytes, int]:
    packed = pack_address(address)
    return packed, len(packed) * 8


class Echo:
    """A stream that is answered with what it says; `check` proves that it goes on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def check(self) -> None:
        said = os.urandom(50_000)
        self.writer.write(said)
        assert await self.reader.readexactly(len(said)) == said


@contextlib.asynccontextmanager
async def echoing(pair: Pair, host: str = RIGHT):  # type: ignore[no-untyped-def]
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await pair.right.start_server(echo, None, 7)
    stream = Echo(*await pair.left.open_connection(host, 7))
    await stream.check()
    yield stream
    stream.writer.close()
    server.close()


async def test_the_same_again_is_nothing() -> None:
    async with memory_pair() as pair, echoing(pair) as stream:
        before = pair.left.statistics().tunnel.peers
        changes = await pair.left.reconfigure(replace(pair.left.config, peers=(replace(peer_of(pair.left), line=99),)))
        assert changes == NO_CHANGES
        assert pair.left.statistics().tunnel.peers == before
        await stream.check()


async def test_what_only_a_proxy_obeys_is_kept_for_the_next_change() -> None:
    """Else `wg set` after a reload would bring the rules of before back."""
    async with udp_pair() as pair:
        changed = replace(pair.left.config, access=Access(rules=(AccessRule("direct"),)))
        assert str(await pair.left.reconfigure(changed)) == "access"
        assert pair.left.config == changed


async def test_another_private_key_goes_without_losing_a_stream() -> None:
    async with memory_pair() as pair, echoing(pair) as stream:
        private, public = key_pair()
        # The far side learns of it first, or its answers would be sealed for who we no longer are
        far = replace(pair.right.config, peers=(replace(peer_of(pair.right), public_key=public),))
        await pair.right.reconfigure(far)
        changes = await pair.left.reconfigure(with_interface(pair.left.config, private_key=private))
        assert changes.private_key
        await stream.check()
        assert pair.right.statistics().tunnel.peers[0].public_key == public


def handshakes(net: Network) -> tuple[int, int]:
    """How many have completed, and how many responses were not authentic."""
    found = net.statistics().tunnel
    return found.peers[0].handshakes, found.drops.get("handshake-not-authentic", 0)


async def test_another_preshared_key_holds_from_the_next_handshake_on() -> None:
    async with memory_pair(timing=SOON) as pair, echoing(pair) as stream:
        psk = os.urandom(32)
        await pair.left.reconfigure(with_peer(pair.left.config, preshared_key=psk))
        await stream.check()  # by the session that there is
        completed, refused = handshakes(pair.left)
        pair.left.rebind()
        while (now := handshakes(pair.left)) == (completed, refused):
            await asyncio.sleep(0.01)
        assert now == (completed, refused + 1), "the far side does not have it"
        await pair.right.reconfigure(with_peer(pair.right.config, preshared_key=psk))
        while handshakes(pair.left)[0] == completed:
            await asyncio.sleep(0.01)
        await stream.check()


async def test_another_port_is_moved_to_and_streams_follow() -> None:
    async with udp_pair() as pair, echoing(pair) as stream:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
            port = probe.getsockname()[1]
        pair.left._own_port = None
        assert (await pair.left.reconfigure(with_interface(pair.left.config, listen_port=port))).listen_port
        assert pair.left.listen_port == port
        await stream.check()
        (endpoint,) = pair.right.endpoints()
        assert endpoint[1] == port


async def test_a_port_that_is_taken_leaves_everything_as_it_was() -> None:
    async with udp_pair() as pair, echoing(pair) as stream:
        pair.left._own_port = None
        config = pair.left.config
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("0.0.0.0", 0))
            wanted = with_peer(with_interface(config, listen_port=taken.getsockname()[1]), allowed_ips=())
            with pytest.raises(OSError, match="in use") as caught:
                await pair.left.reconfigure(wanted)
        assert caught.value.errno == errno.EADDRINUSE
        assert pair.left.config == config
        await stream.check()
        # Once it is free the same is no longer a failure, and not taken for something already done
        assert (await pair.left.reconfigure(wanted)).listen_port
        assert not pair.left.covers(RIGHT)


async def test_allowed_ips_and_peers_change_under_a_stream() -> None:
    async with memory_pair() as pair, echoing(pair) as stream:
        _, other = key_pair()
        narrow = with_peer(pair.left.config, allowed_ips=(network(RIGHT),))
        config = replace(narrow, peers=(*narrow.peers, Peer(other, allowed_ips=(network(RIGHT6), network(THIRD)))))
        changes = await pair.left.reconfigure(config)
        assert (changes.added, changes.altered) == ((other,), (peer_of(pair.left).public_key,))
        assert pair.left.covers(THIRD)
        await stream.check()
        await pair.left.reconfigure(replace(config, peers=config.peers[:1]))
        assert not pair.left.covers(RIGHT6)
        assert not pair.left.covers(THIRD)
        with pytest.raises(NoRoute):
            await pair.left.open_connection(THIRD, 7)
        await stream.check()


async def test_a_network_that_two_peers_claim_returns_to_who_is_left() -> None:
    async with memory_pair() as pair, echoing(pair) as stream:
        config = pair.left.config
        thief = Peer(key_pair()[1], allowed_ips=(network(RIGHT),))
        await pair.left.reconfigure(replace(config, peers=(*config.peers, thief)))
        assert pair.left._tunnel.route(pack_address(RIGHT)) == thief.public_key
        await pair.left.reconfigure(config)
        assert pair.left._tunnel.route(pack_address(RIGHT)) == peer_of(pair.left).public_key
        await stream.check()


async def test_a_peer_that_is_taken_away_and_comes_back() -> None:
    async with memory_pair(timing=SOON) as pair, echoing(pair) as stream:
        config = pair.left.config
        await pair.left.reconfigure(replace(config, peers=()))
        assert pair.left.endpoints() == []
        await pair.left.reconfigure(config)
        await stream.check()


async def test_another_address_ends_only_what_belongs_to_the_old_one() -> None:
    async with memory_pair() as pair, echoing(pair) as four, echoing_on(pair, RIGHT6) as six:
        both = with_peer(pair.right.config, allowed_ips=tuple(map(network, (LEFT, LEFT6, THIRD))))
        await pair.right.reconfigure(both)
        six_socket = await pair.left.open_datagrams(remote_addr=(RIGHT6, 9))
        four_socket = await pair.left.open_datagrams(remote_addr=(RIGHT, 9))
        changes = await pair.left.reconfigure(
            with_interface(pair.left.config, addresses=(network(THIRD), network(LEFT6)))
        )
        assert changes.addresses
        assert pair.left.addresses == (THIRD, LEFT6)
        with pytest.raises(OSError, match=f"no longer has {LEFT}"):
            await four.check()
        with pytest.raises(OSError, match=f"no longer has {LEFT}"):
            await four_socket.receive()
        await six.check()
        four_socket.close()
        six_socket.close()
        _, writer = await pair.left.open_connection(RIGHT, 7)
        assert writer.get_extra_info("sockname")[0] == THIRD
        writer.close()


@contextlib.asynccontextmanager
async def echoing_on(pair: Pair, host: str):  # type: ignore[no-untyped-def]
    """A second stream to the server of `echoing`."""
    stream = Echo(*await pair.left.open_connection(host, 7))
    await stream.check()
    yield stream
    stream.writer.close()


async def test_who_listens_everywhere_listens_on_a_new_address() -> None:
    async with memory_pair() as pair, echoing(pair):
        there = await pair.right.open_datagrams(local_addr=(None, 9))

        async def dial(factory, inbound):  # type: ignore[no-untyped-def]
            raise ConnectionRefusedError

        forwarder = await pair.right.create_forwarder(dial, None, 8)
        await pair.left.reconfigure(with_peer(pair.left.config, allowed_ips=(network(THIRD), network(RIGHT6))))
        await pair.right.reconfigure(with_interface(pair.right.config, addresses=(network(THIRD), network(RIGHT6))))
        stream = Echo(*await pair.left.open_connection(THIRD, 7))
        await stream.check()
        stream.writer.close()
        here = await pair.left.open_datagrams(remote_addr=(THIRD, 9))
        here.send(b"hello")
        assert (await there.receive())[0] == b"hello"
        with pytest.raises(ConnectionRefusedError):
            await pair.left.open_connection(THIRD, 8)
        assert pair.right._host.forwards.takers.find(pack_address(RIGHT), 8) is None
        assert pair.right._host.forwards.takers.find(pack_address(THIRD), 8) is not None
        for each in (here, there, forwarder):
            each.close()


@pytest.mark.parametrize("mtu", [1280, 8000])
async def test_another_mtu_holds_for_old_streams_and_new_ones(mtu: int) -> None:
    async with memory_pair() as pair, echoing(pair) as stream:
        for net in (pair.left, pair.right):
            assert (await net.reconfigure(with_interface(net.config, mtu=mtu))).mtu
        await stream.check()
        async with echoing_on(pair, RIGHT) as new:
            await new.check()
            connections = pair.left._host._connections._attached
            assert max(connection.sender.mss for connection in connections) <= mtu - 40
            assert any(connection.sender.mss > min(mtu, 1420) - 60 for connection in connections)


async def test_name_servers_are_others() -> None:
    async with memory_pair() as pair:
        await pair.left.reconfigure(with_interface(pair.left.config, dns=("10.7.0.9",), dns_search=("x.test",)))
        assert pair.left._resolver.servers_for("a.test.") == ("10.7.0.9",)
        assert pair.left._reach.servers == [pack_address("10.7.0.9")]


async def test_what_we_dialled_by_an_endpoint_name_is_forgotten_with_it() -> None:
    private, _ = key_pair()
    peer, public = key_pair()
    named = config_of(private, (LEFT,), public, (RIGHT,), ("nowhere.invalid", 51820))
    async with Network(named, port=0) as net:
        waiting = asyncio.ensure_future(net.open_connection(RIGHT, 7))
        while not net._peers.endpoints.trouble(public):
            await asyncio.sleep(0.01)
        theirs = config_of(peer, (RIGHT,), net._tunnel.public_key, (LEFT,), None)
        async with Network(theirs, port=0) as far:
            server = await far.start_server(lambda reader, writer: writer.close(), None, 7)
            await net.reconfigure(with_peer(named, endpoint=("127.0.0.1", far.listen_port)))
            _, writer = await waiting
            writer.close()
            server.close()
        assert net._peers.endpoints.trouble(public) == ""


async def test_a_thousand_times_under_load_and_not_a_byte_is_lost() -> None:
    """Keys of others, allowed IPs, keepalive, preshared keys of strangers: a download goes on through all of it."""
    async with memory_pair() as pair:
        data = os.urandom(1 << 20) * 24

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()
            writer.close()

        server = await pair.right.start_server(serve, None, 80)
        base = pair.left.config
        reader, writer = await pair.left.open_connection(RIGHT, 80)
        digest, size, number = hashlib.sha256(), 0, 0
        while piece := await reader.read(24_000):
            digest.update(piece)
            size += len(piece)
            number += 1
            stranger = Peer(
                number.to_bytes(32, "big"), allowed_ips=(network(f"10.9.{number >> 8 & 255}.{number & 255}"),)
            )
            config = with_peer(base, persistent_keepalive=number % 60, allowed_ips=(network(RIGHT), network(THIRD)))
            assert await pair.left.reconfigure(replace(config, peers=(*config.peers, stranger)))
        assert number >= 1000
        assert (size, digest.digest()) == (len(data), hashlib.sha256(data).digest())
        assert len(pair.left.statistics().tunnel.peers) == 2
        writer.close()
        server.close()


@pytest.mark.parametrize("verb", ["ping", "reach", "resolve", "reverse", "open_connection"])
async def test_who_waits_for_a_peer_that_is_taken_away(verb: str) -> None:
    (private, _), (_, peer) = key_pair(), key_pair()
    async with Network(config_of(private, (LEFT,), peer, (RIGHT,), ("127.0.0.1", 9), dns=(RIGHT,))) as net:
        verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "ping": lambda: net.ping(RIGHT),
            "reach": lambda: net.reach([RIGHT]),
            "resolve": lambda: net.resolve("example.org"),
            "reverse": lambda: net.reverse(RIGHT),
            "open_connection": lambda: net.open_connection("example.org", 80),
        }
        waiting = asyncio.ensure_future(verbs[verb]())
        while not net._reach._waiters._futures:
            await asyncio.sleep(0)
        await net.reconfigure(replace(net.config, peers=()))
        with pytest.raises(NoRoute, match=f"no peer's allowed IPs cover {RIGHT}"):
            await asyncio.wait_for(waiting, 5)


async def test_the_port_that_it_has_already() -> None:
    """As who has read in the log which one was chosen, and writes it into the file."""
    async with udp_pair() as pair:
        (private, _), (_, peer) = key_pair(), key_pair()
        config = config_of(private, (LEFT,), peer, (RIGHT,), ("127.0.0.1", pair.right.listen_port))
        async with Network(config) as net:
            port = net.listen_port
            assert (await net.reconfigure(with_interface(config, listen_port=port))).listen_port
            assert net.listen_port == port
            net.rebind()
            assert net.listen_port == port


async def test_another_port_between_open_and_begin(unused_udp_port: int) -> None:
    (private, _), (_, peer) = key_pair(), key_pair()
    net = Network(config_of(private, (LEFT,), peer, (RIGHT,), ("127.0.0.1", 9)))
    await net.open()
    await net.reconfigure(with_interface(net.config, listen_port=unused_udp_port))
    net.begin()
    statistics = net.statistics().udp
    assert statistics is not None
    assert statistics.port == net.listen_port == unused_udp_port
    await net.close()


async def test_closed_in_the_middle_of_a_change(unused_udp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is opened in what is closed, nor left."""
    (private, _), (_, peer) = key_pair(), key_pair()
    net = Network(config_of(private, (LEFT,), peer, (RIGHT,), ("127.0.0.1", 9)))
    await net.start()

    async def change(*_: object) -> None:
        await net.close()

    monkeypatch.setattr(net, "_change_inside", change)
    with pytest.raises(NetworkClosed):
        await net.reconfigure(with_interface(net.config, listen_port=unused_udp_port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", unused_udp_port))  # nobody has it
