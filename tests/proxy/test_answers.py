"""Datagrams to a client: what leaves in one call, in which order, and what happens where the machine cannot."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.session import Counters
from proxy.socks.answers import MAX_BYTES, MAX_DATAGRAMS, Answers
from usernet.aio.sockets import has_gso


class Counting:
    """A socket that counts its calls, and fails as told."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.calls: list[str] = []
        self.merged_error: OSError | None = None
        self.error: OSError | None = None

    def getsockopt(self, *arguments: Any) -> Any:
        return self.sock.getsockopt(*arguments)

    def sendto(self, data: bytes, address: Any) -> int:
        self.calls.append("sendto")
        if self.error is not None:
            raise self.error
        return self.sock.sendto(data, address)

    def sendmsg(self, buffers: list[bytes], ancillary: Any, flags: int, address: Any) -> int:
        self.calls.append("sendmsg")
        if self.merged_error is not None:
            raise self.merged_error
        return self.sock.sendmsg(buffers, ancillary, flags, address)


@pytest.fixture(params=["127.0.0.1", "::1"])
def client(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in request.param else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((request.param, 0))
        sock.setblocking(False)
        yield sock


@contextlib.contextmanager
def answering(client: socket.socket) -> Iterator[tuple[Answers, Counting, Counters]]:
    with socket.socket(client.family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        if not has_gso(sock):
            pytest.skip("this kernel has no UDP_SEGMENT")
        counting, counters = Counting(sock), Counters()
        yield Answers(asyncio.get_running_loop(), counters, counting, client.getsockname()), counting, counters  # type: ignore[arg-type]


async def heard(client: socket.socket) -> list[bytes]:
    """All there is after this turn of the loop."""
    await asyncio.sleep(0)
    datagrams = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(client.recv(65536))
    return datagrams


async def test_one_turn_is_one_call(client: socket.socket) -> None:
    with answering(client) as (answers, sock, counters):
        sent = [b"%09d" % number for number in range(10)]
        for datagram in sent:
            answers.send(datagram)
        assert sock.calls == []
        assert await heard(client) == sent
        answers.send(b"alone")
        assert await heard(client) == [b"alone"]
        assert sock.calls == ["sendmsg", "sendto"]
        assert counters.refused == {}


async def test_order_holds_for_any_sizes(client: socket.socket) -> None:
    with answering(client) as (answers, _, counters):
        for sizes in (
            [10, 11, 11, 11, 10, 10],
            [10, 10, MAX_BYTES, 10],
            [40_000, 10, 10, 40_000],
            [MAX_BYTES // 2] * 3,
        ):
            sent = [bytes([number]) * size for number, size in enumerate(sizes)]
            for datagram in sent:
                answers.send(datagram)
            assert await heard(client) == sent
        assert counters.refused == {}


async def test_calls_are_bounded(client: socket.socket) -> None:
    with answering(client) as (answers, sock, _):
        sent = [b"%09d" % number for number in range(MAX_DATAGRAMS + 1)]
        for datagram in sent:
            answers.send(datagram)
        assert sock.calls == ["sendmsg"]
        assert await heard(client) == sent
        for number in range(MAX_BYTES // 8000 + 1):
            answers.send(bytes([number]) * 8000)
        assert len(await heard(client)) == MAX_BYTES // 8000 + 1
        assert sock.calls == ["sendmsg", "sendto", "sendmsg", "sendto"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EMSGSIZE])
async def test_interface_without_segmentation(client: socket.socket, code: int) -> None:
    """Nothing is lost, and it is not tried again."""
    with answering(client) as (answers, sock, counters):
        sock.merged_error = OSError(code, "x")
        for _ in range(2):
            answers.send(b"first")
            answers.send(b"other")
            assert await heard(client) == [b"first", b"other"]
        assert sock.calls == ["sendmsg", "sendto", "sendto", "sendto", "sendto"]
        assert counters.refused == {}


@pytest.mark.parametrize(
    ("error", "reason"),
    [(BlockingIOError(errno.EAGAIN, "x"), "udp-client-full"), (OSError(errno.EMSGSIZE, "x"), "udp-too-large"),
     (OSError(errno.ENETUNREACH, "x"), "udp-client-unreachable")],
)  # fmt: skip
async def test_what_the_socket_does_not_take_is_counted(client: socket.socket, error: OSError, reason: str) -> None:
    with answering(client) as (answers, sock, counters):
        sock.error = error
        sock.merged_error = error if error.errno == errno.EAGAIN else OSError(errno.EIO, "x")
        for _ in range(3):
            answers.send(b"12345")
        assert await heard(client) == []
        assert counters.refused == {reason: 3}


async def test_nothing_is_said_after_the_end(client: socket.socket) -> None:
    with answering(client) as (answers, sock, _):
        answers.send(b"12345")
        answers.close()
        assert await heard(client) == []
        assert sock.calls == []
