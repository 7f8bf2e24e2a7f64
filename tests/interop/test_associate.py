"""UDP ASSOCIATE to real programs behind a real WireGuard peer: dnsmasq, and an echo on the far kernel's own sockets."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import dns.message
import pytest
import socks

from tests.interop.conftest import running
from tests.support.lab import INNER_FAR, INNER_FAR6, NAME, Lab, socket_in

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

ECHO, NOBODY = 7007, 9


@pytest.fixture(scope="module")
def proxy(lab: Lab) -> Iterator[Lab]:
    with running(lab, lab.config()):
        yield lab


@pytest.fixture(scope="module")
def echo(proxy: Lab) -> Iterator[None]:
    """On both families of the far host."""
    stop = threading.Event()
    with socket_in(proxy.far):
        servers = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
    for server, address in zip(servers, (INNER_FAR, INNER_FAR6), strict=True):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        server.bind((address, ECHO))

    def serve() -> None:
        while not stop.is_set():
            for server in select.select(servers, [], [], 0.1)[0]:
                data, client = server.recvfrom(65536)
                server.sendto(data, client)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    stop.set()
    thread.join()
    for server in servers:
        server.close()


def associate() -> socks.socksocket:
    """A UDP socket of PySocks; its association is made by the first sendto, in the namespace of then."""
    sock = socks.socksocket(type=socket.SOCK_DGRAM)
    sock.set_proxy(socks.SOCKS5, "127.0.0.1", 1080)
    sock.settimeout(20)
    return sock


@pytest.mark.parametrize("where", [INNER_FAR, INNER_FAR6, NAME])
def test_dns(proxy: Lab, where: str) -> None:
    for kind, address in (("A", INNER_FAR), ("AAAA", INNER_FAR6)):
        query = dns.message.make_query(NAME, kind)
        with socket_in(proxy.near), associate() as sock:
            sock.sendto(query.to_wire(), (where, 53))
            wire, source = sock.recvfrom(4096)
        assert source[0] == where or where == NAME
        response = dns.message.from_wire(wire)
        assert query.is_response(response)
        assert [record.address for rrset in response.answer for record in rrset] == [address]


@pytest.mark.usefixtures("echo")
def test_every_size_to_every_kind_of_destination(proxy: Lab) -> None:
    """One association; fragments of the far kernel's, and of ours."""
    with socket_in(proxy.near), associate() as sock:
        for size in (0, 1, 1391, 1392, 1393, 9000, 60_000, 65_484):
            for host in (INNER_FAR, INNER_FAR6, NAME):
                data = os.urandom(size)
                sock.sendto(data, (host, ECHO))
                got, source = sock.recvfrom(65_536)
                assert (got == data, source[1]) == (True, ECHO), (size, host)
                assert source[0] == host or host == NAME


@pytest.mark.usefixtures("echo")
def test_port_unreachable_is_not_the_end(proxy: Lab) -> None:
    with socket_in(proxy.near), associate() as sock:
        for _ in range(5):
            for host in (INNER_FAR, INNER_FAR6):
                sock.sendto(b"anybody there?", (host, NOBODY))
            sock.sendto(b"x", (INNER_FAR, ECHO))
            assert sock.recvfrom(100) == (b"x", (INNER_FAR, ECHO))


@pytest.mark.usefixtures("echo")
def test_two_hundred_at_once(proxy: Lab) -> None:
    with socket_in(proxy.near):
        clients = [associate() for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendto(b"%d" % number, (INNER_FAR, ECHO))
        for number, client in enumerate(clients):
            assert client.recvfrom(100) == (b"%d" % number, (INNER_FAR, ECHO))
            client.close()
