"""Sockets of the kernel's as a tunnel uses them, here over the loopback interface."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

import pytest

from usernet.burst.packets import Drops
from usernet.tun import sockets
from usernet.tun.sockets import KEEPALIVE_IDLE, RECEIVED_MAX, Datagrams, bound_socket, echo_socket, family_of

LOOPBACK = "127.0.0.1"


def test_families() -> None:
    assert family_of(bytes(4)) is socket.AF_INET
    assert family_of(bytes(16)) is socket.AF_INET6


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("interface", ["", "lo"])
def test_what_is_set(interface: str, family: int, kind: int) -> None:
    with bound_socket(interface, family, kind) as sock:
        assert (sock.family, sock.type, sock.getblocking()) == (family, kind, False)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0").decode() == interface
        if family == socket.AF_INET6:  # else it would take what is IPv4's
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        if kind == socket.SOCK_STREAM:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE


def test_an_interface_that_is_gone() -> None:
    """Nothing is left open: a ResourceWarning would be an error."""
    with pytest.raises(OSError, match="No such device") as caught:
        bound_socket("none-such", socket.AF_INET, socket.SOCK_DGRAM)
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize(
    ("family", "protocol"), [(socket.AF_INET, socket.IPPROTO_ICMP), (socket.AF_INET6, socket.IPPROTO_ICMPV6)]
)
def test_who_may_not_ping_tries_a_raw_socket(family: int, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """That depends on a sysctl of the machine, so the kernel's word is put here."""
    tried = []

    def refusing(*arguments: object) -> socket.socket:
        tried.append(arguments)
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(sockets, "bound_socket", refusing)
    with pytest.raises(PermissionError):
        echo_socket("wg0", family)
    assert tried == [("wg0", family, socket.SOCK_DGRAM, protocol), ("wg0", family, socket.SOCK_RAW, protocol)]


# Datagrams


async def opened(remote: tuple[str, int] | None = None, drops: Drops | None = None) -> Datagrams:
    made = Drops() if drops is None else drops
    sock = bound_socket("", socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((LOOPBACK, 0))
    if remote is not None:
        sock.connect(remote)
    _, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Datagrams(made), sock=sock)
    return datagrams


@pytest.fixture
async def ours() -> AsyncIterator[Datagrams]:
    async with await opened() as datagrams:
        yield datagrams


@pytest.fixture
async def theirs() -> AsyncIterator[Datagrams]:
    async with await opened() as datagrams:
        yield datagrams


def at(datagrams: Datagrams) -> tuple[str, int]:
    host, port = datagrams.local_address[:2]
    return host, port


async def test_there_and_back(ours: Datagrams, theirs: Datagrams) -> None:
    ours.send(b"there", at(theirs))
    assert await theirs.receive() == (b"there", at(ours))
    async with await opened(at(theirs)) as connected:
        connected.send(b"one")
        assert await theirs.receive() == (b"one", at(connected))


async def test_each_who_waits_gets_one(ours: Datagrams, theirs: Datagrams) -> None:
    waiting = [asyncio.ensure_future(theirs.receive()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    for word in (b"1", b"2"):
        ours.send(word, at(theirs))
    assert sorted(data for data, _ in await asyncio.gather(*waiting)) == [b"1", b"2"]


async def test_a_socket_without_a_remote_end_needs_an_address(ours: Datagrams) -> None:
    with pytest.raises(ValueError, match="an address is needed"):
        ours.send(b"whereto")


async def test_no_name_is_resolved_here(ours: Datagrams) -> None:
    with pytest.raises(ValueError, match="localhost"):
        ours.send(b"x", ("localhost", 9))


async def test_nobody_there_is_said_once(theirs: Datagrams) -> None:
    gone = at(theirs)
    theirs.close()
    async with await opened(gone) as connected:
        waiting = asyncio.ensure_future(connected.receive())
        connected.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            await waiting
        waiting = asyncio.ensure_future(connected.receive())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


async def test_what_a_slow_reader_has_no_room_for_is_counted() -> None:
    drops = Drops()
    async with await opened(drops=drops) as ours:
        for number in range(RECEIVED_MAX + 2):
            ours.datagram_received(b"%d" % number, (LOOPBACK, 9))
        assert drops == {"udp-queue-full": 2}
        heard = [(await ours.receive())[0] for _ in range(RECEIVED_MAX)]
        assert heard == [b"%d" % number for number in range(RECEIVED_MAX)]
        ours.datagram_received(b"again", (LOOPBACK, 9))
        assert (await ours.receive())[0] == b"again"
        assert drops == {"udp-queue-full": 2}


@pytest.mark.parametrize("abort", [False, True])
async def test_closing_wakes_all_who_wait(abort: bool) -> None:
    datagrams = await opened()
    waiting = [asyncio.ensure_future(datagrams.receive()) for _ in range(2)]
    await asyncio.sleep(0)
    if abort:
        datagrams._transport.abort()  # as the end of the network does it
    else:
        datagrams.close()
        datagrams.close()
    for one in waiting:
        with pytest.raises(OSError, match="the datagram socket is closed"):
            await one
    assert datagrams.is_closing()
    with pytest.raises(OSError, match="the datagram socket is closed"):
        datagrams.send(b"x", (LOOPBACK, 9))
    with pytest.raises(OSError, match="the datagram socket is closed"):
        await datagrams.receive()
