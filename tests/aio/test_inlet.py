"""Both inlets on real sockets: the same datagrams give the same groups."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.burst import make_kernel
from usernet.aio.family import FamilySocket
from usernet.aio.inlet import LINE, MAX_SLOTS, ROOM, SLOT, MakeInlet, Received, SocketInlet, inlet_of

Datagram = tuple[int, int, int]  # which sender, size, TOS

SIZES = st.sampled_from([0, 1, 31, 1452, SLOT - 1, SLOT, SLOT + 1, 9000]) | st.integers(0, 9000)
DATAGRAMS = st.lists(st.tuples(st.integers(0, 1), SIZES, st.sampled_from([0, 1, 2, 3, 0xB8])), max_size=20)


@contextlib.contextmanager
def senders(family: socket.AddressFamily) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(2)]


def received(make_inlet: MakeInlet, host: str, datagrams: list[Datagram], room: int) -> tuple[Received, bytes]:
    """What an inlet makes of them, with the senders' numbers in the place of their ports; and the arena."""
    family = socket.AF_INET if host == "127.0.0.1" else socket.AF_INET6
    kind = (socket.IPPROTO_IP, socket.IP_TOS) if family == socket.AF_INET else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    with socket.socket(family, socket.SOCK_DGRAM) as sock, senders(family) as made:
        sock.setblocking(False)
        sock.bind((host, 0))
        inlet = FamilySocket([sock], make_inlet).inlet
        for number, (sender, size, tos) in enumerate(datagrams):
            made[sender].setsockopt(*kind, tos)
            made[sender].sendto(bytes([number + 1]) * size, sock.getsockname())
        arena = bytearray(room)
        groups, at, messages, dropped, stopped = inlet.receive(arena, 64)
        ports = {each.getsockname()[1]: number for number, each in enumerate(made)}
        groups = [((source[0], ports[source[1]], *source[2:]), *rest) for source, *rest in groups]  # type: ignore[misc]
        return (groups, at, messages, dropped, stopped), bytes(arena)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@settings(max_examples=200, deadline=None)
@example(datagrams=[(1, 1, 1), (0, 0, 0), (1, 1, 1)], room=384 << 10)  # what is dropped ends no group
@given(datagrams=DATAGRAMS, room=st.sampled_from([ROOM, ROOM + 64, ROOM + 5 * SLOT, 384 << 10]))
def test_the_same_groups(host: str, datagrams: list[Datagram], room: int) -> None:
    native = inlet_of(make_kernel("native"))
    assert received(native, host, datagrams, room) == received(SocketInlet, host, datagrams, room)


@pytest.mark.parametrize("name", ["python", "native"])
def test_slots_and_wholes(name: str) -> None:
    datagrams = [(0, 100, 0), (0, 90, 0), (0, SLOT + 1, 0), (0, 80, 0), (1, 70, 0), (1, 60, 2), (1, 0, 2), (1, 50, 2)]
    (groups, at, messages, dropped, stopped), arena = received(
        inlet_of(make_kernel(name)), "127.0.0.1", datagrams, 384 << 10
    )
    host, local = "127.0.0.1", socket.inet_aton("127.0.0.1")
    large = 64 + 2 * SLOT
    after = large + SLOT + LINE
    assert groups == [
        ((host, 0), 64, SLOT, [100, 90], 0, local),
        ((host, 0), large, SLOT + 1, [SLOT + 1], 0, local),
        ((host, 0), after, SLOT, [80], 0, local),
        ((host, 1), after + SLOT, SLOT, [70], 0, local),
        ((host, 1), after + 2 * SLOT, SLOT, [60, 50], 2, local),
    ]
    assert (at, messages, dropped, stopped) == (after + 4 * SLOT, 8, ["empty"], errno.EAGAIN)
    assert arena[64 + SLOT : 64 + SLOT + 90] == bytes([2]) * 90


@pytest.mark.parametrize("name", ["python", "native"])
def test_no_more_than_there_is_room_for(name: str) -> None:
    datagrams = [(0, 10, 0)] * (MAX_SLOTS + 6)
    make_inlet = inlet_of(make_kernel(name))
    (groups, at, messages, _, stopped), _ = received(make_inlet, "127.0.0.1", datagrams, 384 << 10)
    assert [len(group[3]) for group in groups] == [MAX_SLOTS, 6]
    assert (messages, stopped) == (MAX_SLOTS + 6, errno.EAGAIN)
    (groups, at, messages, _, stopped), _ = received(make_inlet, "127.0.0.1", datagrams, ROOM + 3 * SLOT)
    assert (at, messages, stopped) == (64 + 3 * SLOT, 3, 0)
    (groups, at, messages, _, stopped), _ = received(make_inlet, "127.0.0.1", datagrams, 100)
    assert (groups, at, messages, stopped) == ([], 64, 0, 0)


@pytest.mark.parametrize("name", ["python", "native"])
def test_errors_are_told(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        inlet = FamilySocket([sock], inlet_of(make_kernel(name))).inlet
        assert inlet.receive(bytearray(ROOM), 0) == ([], 0, 0, [], errno.EAGAIN)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            sock.connect(gone.getsockname())
        sock.send(b"to nobody")
        assert inlet.receive(bytearray(ROOM), 0) == ([], 0, 0, [], errno.ECONNREFUSED)
    assert inlet.receive(bytearray(ROOM), 0) == ([], 0, 0, [], errno.EBADF)
