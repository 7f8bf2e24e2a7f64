"""UDP ASSOCIATE through a real tunnel, with clients of other people's: PySocks, dnspython, aioquic."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any

import dns.message
import dns.rdatatype
import pytest
import socks
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ProtocolNegotiated, QuicEvent
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.proxy.datagrams import Associated, Peer, associated, echo, header, peer
from tests.proxy.support import Bench, until
from tests.proxy.test_over_tunnel import Through, proxied
from tests.support.nameserver import NameServer
from tests.support.networks import LEFT, LEFT6, RIGHT, RIGHT6, Pair, config_of, key_pair, udp_pair
from usernet.aio.network import Network


@contextlib.asynccontextmanager
async def through(*hosts: str) -> AsyncIterator[tuple[Pair, Through, list[Peer]]]:
    """An echo at each of these addresses on the far side; the proxy on the near one."""
    async with udp_pair() as pair, proxied(pair.left) as made, contextlib.AsyncExitStack() as stack:
        echoes = [await stack.enter_async_context(peer(host, echo, net=pair.right)) for host in hosts]
        yield pair, made, echoes


@contextlib.asynccontextmanager
async def named(zone: dict[str, dict[str, list[str]]]) -> AsyncIterator[tuple[Network, Through, NameServer]]:
    """Two networks, a name server in the far one, which is the near one's, and the proxy."""
    (left_key, left_public), (right_key, right_public) = key_pair(), key_pair()
    right_end = config_of(right_key, (RIGHT, RIGHT6), left_public, (LEFT, LEFT6), None)
    async with Network(right_end, port=0) as right:
        endpoint = ("127.0.0.1", right.listen_port)
        left_end = config_of(left_key, (LEFT, LEFT6), right_public, (RIGHT, RIGHT6), endpoint, dns=(RIGHT,))
        async with Network(left_end, port=0) as left, proxied(left) as made:
            server = NameServer(zone)
            await server.serve(right, RIGHT)
            yield right, made, server


def refused(made: Bench) -> dict[str, int]:
    return dict(made.proxy.statistics().refused)


@pytest.mark.parametrize("host", [RIGHT, RIGHT6])
async def test_sizes_both_ways(host: str) -> None:
    async with through(host) as (_, made, [server]), associated(made) as client:
        for size in (0, 1, 512, 1400, 9000, 60_000, 65_507 - len(header(host, 1))):
            data = os.urandom(size)
            client.send(host, server.port, data)
            await client.expect(host, server.port, data)


async def test_two_thousand_in_order() -> None:
    async with through(RIGHT) as (_, made, [server]), associated(made) as client:
        sent = 0
        for number in range(2000):
            while sent < min(number + 32, 2000):
                client.send(RIGHT, server.port, b"%d" % sent)
                sent += 1
            await client.expect(RIGHT, server.port, b"%d" % number)
        assert refused(made) == {}


async def test_what_the_tunnel_says_no_to_does_not_end_it() -> None:
    async with through(RIGHT) as (_, made, [server]), associated(made) as client:
        client.send("198.51.100.1", 53, b"x")  # no peer carries it
        await until(lambda: refused(made) == {"udp-no-route": 1})
        client.send(RIGHT, 9, b"x")  # nobody there
        client.send("127.0.0.1", 53, b"x")
        client.send(RIGHT, server.port, b"and then?")
        await client.expect(RIGHT, server.port, b"and then?")
        assert refused(made) == {"udp-no-route": 1, "udp-forbidden": 1}


async def test_connection_ends_with_the_tunnel() -> None:
    async with through(RIGHT) as (pair, made, [server]), associated(made) as client:
        client.send(RIGHT, server.port, b"x")
        await client.expect(RIGHT, server.port, b"x")
        await pair.left.close()
        assert await client.control.rest() == b""
        await until(lambda: made.proxy.statistics().associations == 0)


async def test_names_are_resolved_inside() -> None:
    zone = {"www.test": {"AAAA": [RIGHT6]}, "v4.test": {"A": [RIGHT]}, "evil.test": {"A": ["127.0.0.1"]}}
    async with (
        named(zone) as (right, made, names), peer(RIGHT, echo, net=right) as server,
        peer(RIGHT6, echo, net=right) as server6, associated(made) as client,
    ):  # fmt: skip
        for _ in range(3):
            client.send(b"www.test", server6.port, b"hello")
            await client.expect(RIGHT6, server6.port, b"hello")
            client.send(b"v4.test", server.port, b"hello")
            await client.expect(RIGHT, server.port, b"hello")
        for name in (b"nowhere.test", b"evil.test", b"localhost"):
            client.send(name, server.port, b"x")
        await until(lambda: sum(refused(made).values()) == 3)
        assert refused(made) == {"udp-no-name": 1, "udp-forbidden": 2}
        assert len([asked for asked in names.questions if asked[0] == "www.test."]) == 2  # A and AAAA, once


async def test_dns_through_pysocks() -> None:
    """Each question is a socket, and so an association, of its own, as a stub resolver's is."""

    def ask(port: int, where: str | bytes, name: str) -> list[str]:
        with socks.socksocket(type=socks.socket.SOCK_DGRAM) as sock:
            sock.set_proxy(socks.SOCKS5, "127.0.0.1", port)
            sock.settimeout(10)
            query = dns.message.make_query(name, "A")
            sock.sendto(query.to_wire(), (where, 53))
            answer, source = sock.recvfrom(4096)
            assert source == (RIGHT, 53)
        response = dns.message.from_wire(answer)
        assert query.is_response(response)
        return [record.address for rrset in response.answer for record in rrset]

    zone = {"www.test": {"A": ["192.0.2.80"]}, "ns.test": {"A": [RIGHT]}}
    async with named(zone) as (_, made, _):
        for where in (RIGHT, "ns.test"):
            assert await asyncio.to_thread(ask, made.port, where, "www.test") == ["192.0.2.80"]
        asked = [asyncio.to_thread(ask, made.port, RIGHT, "www.test") for _ in range(50)]
        assert await asyncio.gather(*asked) == [["192.0.2.80"]] * 50
        await until(lambda: made.proxy.statistics().associations == 0)


# -- HTTP/3 --

PAGE = os.urandom(300_000)


class SocksTransport(asyncio.DatagramTransport):
    """What aioquic sends goes through an association; what comes goes to its protocol."""

    def __init__(self, client: Associated, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__()
        self._client = client
        self._protocol = protocol
        self._is_closing = False
        client.datagram_received = self._received  # type: ignore[method-assign]
        protocol.connection_made(self)

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._client.send(addr[0], addr[1], data)

    def _received(self, data: bytes, addr: Any) -> None:
        head = 22 if data[3] == 4 else 10
        host = RIGHT6 if data[3] == 4 else RIGHT
        assert data[:head] == header(host, int.from_bytes(data[head - 2 : head]))
        self._protocol.datagram_received(data[head:], (host, int.from_bytes(data[head - 2 : head])))

    def close(self) -> None:
        self._is_closing = True

    def is_closing(self) -> bool:
        return self._is_closing


class Website(QuicConnectionProtocol):
    """Answers every request with PAGE."""

    _http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if self._http is None:
            return
        for got in self._http.handle_event(event):
            if isinstance(got, HeadersReceived):
                self._http.send_headers(got.stream_id, [(b":status", b"200")])
                self._http.send_data(got.stream_id, PAGE, end_stream=True)
                self.transmit()


class Browser(QuicConnectionProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._body = bytearray()
        self._done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def get(self, host: str) -> bytes:
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", host.encode()), (b":path", b"/")]
        self._http.send_headers(self._quic.get_next_available_stream_id(), fields, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self._done, 20)

    def quic_event_received(self, event: QuicEvent) -> None:
        for got in self._http.handle_event(event):
            if isinstance(got, DataReceived):
                self._body += got.data
                if got.stream_ended:
                    self._done.set_result(bytes(self._body))


def website_configuration() -> QuicConfiguration:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    made = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    made.certificate, made.private_key = builder.sign(key, hashes.SHA256()), key
    return made


@pytest.mark.parametrize("host", [RIGHT, RIGHT6])
async def test_http3(host: str) -> None:
    async with udp_pair() as pair, proxied(pair.left) as made, associated(made) as client:
        configuration = website_configuration()
        transport, _ = await pair.right.create_datagram_endpoint(
            lambda: QuicServer(configuration=configuration, create_protocol=Website), local_addr=(host, 0)
        )
        asks = QuicConfiguration(is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE)
        browser = Browser(QuicConnection(configuration=asks))
        SocksTransport(client, browser)
        browser.connect((host, transport.get_extra_info("sockname")[1]))
        await asyncio.wait_for(browser.wait_connected(), 20)
        assert await browser.get(host) == PAGE
        browser.close()
        await asyncio.wait_for(browser.wait_closed(), 20)
        transport.close()
        assert refused(made) == {}
