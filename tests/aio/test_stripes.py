"""Several sockets on one port, on the real kernel: whose which packet is, and in what order they are read."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.burst import make_kernel
from usernet.aio import stripes
from usernet.aio.family import FamilySocket
from usernet.aio.inlet import ROOM, MakeInlet, inlet_of
from usernet.aio.stripes import SOCKETS, STRIPE, open_others
from usernet.aio.udp import UdpLink
from usernet.burst.packets import DatagramBurst

HOSTS = ["127.0.0.1", "::1"]
KERNELS = ["python", "native"]
SMALL = 212_992  # what is asked for; Linux doubles it
ARENA = 384 << 10


def one(host: str, port: int = 0, *, shared: bool = False) -> socket.socket:
    """With the buffer that an unprivileged process usually gets."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


@contextlib.contextmanager
def striped(host: str) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(one(host))
        others = open_others(first, lambda: one(host, first.getsockname()[1], shared=True))
        yield [first, *(stack.enter_context(other) for other in others)]


def data(counter: int, peer: int = 0, size: int = 100) -> bytes:
    """Like a transport data message."""
    return (b"\4\0\0\0" + peer.to_bytes(4, "little") + counter.to_bytes(8, "little")).ljust(size, b"\0")


def counters(sock: socket.socket) -> list[int]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(int.from_bytes(sock.recv(2000)[8:16], "little"))
    return found


def drained(family: FamilySocket, *, room: int = ARENA) -> list[bytes]:
    """Everything, turn by turn."""
    arena, found = bytearray(room), []
    while True:
        groups, _, messages, dropped, stopped = family.inlet.receive(arena, 0)
        assert not dropped
        for _, start, stride, lengths, _, _ in groups:
            found += [bytes(arena[start + i * stride :][:size]) for i, size in enumerate(lengths)]
        if not messages:
            assert stopped == errno.EAGAIN
            return found


@pytest.fixture(params=KERNELS)
def make_inlet(request: pytest.FixtureRequest) -> MakeInlet:
    return inlet_of(make_kernel(request.param))


# --- the sockets ---


@pytest.mark.parametrize("host", HOSTS)
def test_the_counter_chooses(host: str) -> None:
    with striped(host) as socks, socket.socket(socks[0].family, socket.SOCK_DGRAM) as peer:
        assert len(socks) == SOCKETS
        for counter in range(0x1F0, 0x1F0 + 256):
            peer.sendto(data(counter), socks[0].getsockname())
        for stripe, sock in enumerate(socks):
            found = counters(sock)
            assert len(found) == STRIPE
            assert all(counter % 256 // STRIPE == stripe for counter in found)
        for short in (b"", b"\4", bytes(8)):
            peer.sendto(short, socks[0].getsockname())
            assert socks[0].recv(100) == short


def test_one_is_enough_if_it_is_large() -> None:
    with one("127.0.0.1") as sock:
        sock.setsockopt(socket.SOL_SOCKET, 33, stripes.ENOUGH // 2)  # SO_RCVBUFFORCE; Linux doubles it
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < stripes.ENOUGH:
            pytest.skip("needs the right to a large buffer")
        assert open_others(sock, lambda: pytest.fail("no other is wanted")) == []
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0


@pytest.mark.parametrize("reuses_address", [0, 1])
def test_nobody_joins(reuses_address: int) -> None:
    """Sharing is for our own sockets: whoever wants the port still finds it in use."""
    with striped("127.0.0.1") as socks, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuses_address)
        with pytest.raises(OSError, match="in use"):
            other.bind(socks[0].getsockname())


@pytest.mark.parametrize("after", range(SOCKETS))
def test_one_alone_where_the_system_does_not_share_out(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The others cannot be had (there are as many files as may be), or there is no BPF (gVisor)."""
    made: list[socket.socket] = []

    class NoBpf(socket.socket):
        def setsockopt(self, *args: Any) -> None:
            if args[1] == 51:
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")
            super().setsockopt(*args)

    with one("127.0.0.1") as plain, NoBpf(fileno=plain.detach()) as first:

        def another() -> socket.socket:
            if len(made) == after:
                raise OSError(errno.EMFILE, "Too many open files")
            made.append(one("127.0.0.1", first.getsockname()[1], shared=True))
            return made[-1]

        assert open_others(first, another) == []
        assert len(made) == min(after, SOCKETS - 1)
        assert all(sock.fileno() == -1 for sock in made)
        assert first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for counter in range(256):
                peer.sendto(data(counter), first.getsockname())
        assert counters(first) == list(range(256))


# --- what is read ---


@pytest.mark.parametrize("host", HOSTS)
def test_what_was_sent_in_order_is_read_in_order(make_inlet: MakeInlet, host: str) -> None:
    """Plain datagrams, and such as GRO merged across the bounds of stripes; more than the arena has room for."""
    with striped(host) as socks, socket.socket(socks[0].family, socket.SOCK_DGRAM) as peer:
        family = FamilySocket(socks, make_inlet)
        peer.sendto(data(4999), socks[0].getsockname())
        assert drained(family) == [data(4999)]  # now it knows where the sender is
        sent = [data(counter, size=300) for counter in range(5000, 5000 + 3 * 256)]
        for datagram in sent[:256]:
            peer.sendto(datagram, socks[0].getsockname())
        peer.setsockopt(17, 103, 300)  # UDP_SEGMENT
        for at in range(256, len(sent), 46):
            peer.sendto(b"".join(sent[at : at + 46]), socks[0].getsockname())
        assert drained(family) == sent
        more = [data(counter) for counter in range(5000 + 3 * 256, 5000 + 3 * 256 + 100)]
        peer.setsockopt(17, 103, 0)
        for datagram in more:
            peer.sendto(datagram, socks[0].getsockname())
        assert drained(family, room=ROOM + 8192) == more  # turns that end for want of room, not of data


@settings(max_examples=100, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1000), st.integers(1, 40)), max_size=8),
    reads=st.sets(st.integers(0, 8)),
    kernel=st.sampled_from(KERNELS),
)
def test_nothing_stays_behind(runs: list[tuple[int, int, int]], reads: set[int], kernel: str) -> None:
    """Whatever comes: peers by turns, what was lost, handshakes whose bytes are no counter."""
    with striped("127.0.0.1") as socks, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        family = FamilySocket(socks, inlet_of(make_kernel(kernel)))
        sent, found = [], []
        for number, (index, counter, count) in enumerate(runs):
            if number in reads:
                found += drained(family)
            for each in range(counter, counter + count):
                sent.append(data(each, index))
                peer.sendto(sent[-1], socks[0].getsockname())
        found += drained(family)
        assert sorted(found) == sorted(sent)


@pytest.mark.parametrize("sizes", [(46,), (46, 3), (1, 2, 10)])
def test_each_peers_packets_come_in_order(make_inlet: MakeInlet, sizes: tuple[int, ...]) -> None:
    """Though others' cross them: where one's stripe ends another's goes on."""
    last = {1: 0, 2: 7000, 3: 100_000}
    chosen = random.Random(5)
    with striped("127.0.0.1") as socks, contextlib.ExitStack() as stack:
        family = FamilySocket(socks, make_inlet)
        peers = {one: stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for one in last}
        for peer in peers.values():
            peer.setsockopt(17, 103, 200)  # UDP_SEGMENT
        for _ in range(20):
            sent: dict[int, list[bytes]] = {1: [], 2: [], 3: []}
            for _ in range(12):
                index = chosen.choice(list(last))
                burst = [data(last[index] + i, index, 200) for i in range(chosen.choice(sizes))]
                last[index] += len(burst)
                sent[index] += burst
                peers[index].sendto(b"".join(burst), socks[0].getsockname())
            found = drained(family)
            for index, datagrams in sent.items():
                assert [one for one in found if one[4] == index] == datagrams


def test_the_largest_message_may_end_with_a_byte_of_no_packet(make_inlet: MakeInlet) -> None:
    """Where the arena ends, too."""
    with striped("::1") as socks, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        family = FamilySocket(socks, make_inlet)
        peer.setsockopt(17, 103, 600)  # UDP_SEGMENT
        peer.sendto(bytes(109 * 600 + 1), socks[0].getsockname())
        groups, *_, stopped = family.inlet.receive(bytearray(ROOM), 0)
        assert [group[3] for group in groups] == [[600] * 109 + [1]]
        assert stopped == 0


# --- the link ---


async def test_a_link_reads_them_all_and_says_what_they_hold(make_inlet: MakeInlet) -> None:
    with striped("127.0.0.1") as socks:
        link = UdpLink(asyncio.get_running_loop(), [socks], make_inlet=make_inlet)
        try:
            held = socks[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            assert link.statistics().families[0].receive_buffer == SOCKETS * held
            assert link.receive_room == SOCKETS * held // 2
            arrived: asyncio.Queue[int] = asyncio.Queue()

            def read() -> None:
                for burst in link.receive():
                    for i in range(len(burst.lengths)):
                        arrived.put_nowait(int.from_bytes(burst.buf[i * burst.stride + 8 :][:8], "little"))

            link.on_readable(read)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for counter in (3, 200, 70, 130, 4):
                    peer.sendto(data(counter), ("127.0.0.1", link.port))
                    assert await arrived.get() == counter
        finally:
            link.close()
        assert all(sock.fileno() == -1 for sock in socks)


async def test_what_one_of_them_turned_away_is_counted() -> None:
    with striped("127.0.0.1") as socks:
        link = UdpLink(asyncio.get_running_loop(), [socks])
        socks[2].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for counter in range(256):
                peer.sendto(data(counter, size=1400), ("127.0.0.1", link.port))
        came = sum(len(burst.lengths) for burst in iter_received(link))
        assert 0 < 256 - came < STRIPE
        assert link.statistics().families[0].kernel_drops == 256 - came
        link.close()


def iter_received(link: UdpLink) -> Iterator[DatagramBurst]:
    while bursts := link.receive():
        yield from bursts
