"""The thread that seals and sends: the kernel's own bytes, in order, and nothing lost where a send fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.networks import RIGHT, udp_pair
from usernet.aio.device import Device
from usernet.aio.family import packed
from usernet.aio.memory import memory_links
from usernet.aio.sealer import IN_FLIGHT, WORTHWHILE_BYTES, Sealer, second_core
from usernet.aio.sockets import SOL_UDP, UDP_GRO
from usernet.aio.udp import UdpLink
from usernet.burst import SuperPacket, choose_kernel, sealed_size
from usernet.burst.packets import Address, PacketBurst, SendBurst
from usernet.burst.reference import ReferenceKernel
from usernet.wireguard.tunnel import Ready

pytest.importorskip("usernet.burst._native", reason="the native kernel is not built")  # which CI does not let pass
from usernet.burst._native import Worker

MTU, MSS, DATAGRAM = 1420, 1368, 1452
KEY = bytes(range(32))
NATIVE = choose_kernel({"USERNET_KERNEL": "native"})[0]
Done = tuple[int, int, int, list[tuple[bytes, int]]]


def super_packet(segments: int, seq: int = 1, tos: int = 0, last: int = MSS) -> SuperPacket:
    tcp = struct.pack("!HHIIBBHHH", 80, 40000, seq, 1, 8 << 4, 0x18, 512, 0, 0) + bytes.fromhex(
        "0101080a0000000100000002"
    )
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, tos, 0, 1, 0x4000, 64, 6, 0, bytes(4), b"\n\0\0\2")
    return SuperPacket(ip + tcp, (os.urandom((segments - 1) * MSS), os.urandom(last)), MSS)


def expected(packets: list[SuperPacket], counter: int) -> list[bytes]:
    key = NATIVE.send_key(KEY, 7)
    key.counter = counter
    out = bytearray(sealed_size(packets, MTU))
    runs = NATIVE.seal_burst(key, packets, MTU, out, 0)
    return [bytes(out[at : min(at + size, end)]) for start, end, size in runs for at in range(start, end, size)]


def datagrams_of(unsent: Sequence[tuple[bytes | memoryview, int]]) -> list[bytes]:
    return [bytes(buf[at : at + size]) for buf, size in unsent for at in range(0, len(buf), size)]


def receiver(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    there = socket.socket(family, socket.SOCK_DGRAM)
    there.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    there.setsockopt(SOL_UDP, UDP_GRO, 1)  # a whole run is one message, or the usual buffer would be too small
    there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 19)
    there.settimeout(5)
    return there


def read(there: socket.socket, count: int) -> list[bytes]:
    """So many datagrams of one size."""
    datagrams: list[bytes] = []
    while len(datagrams) < count:
        run = there.recv(1 << 16)
        datagrams += [run[at : at + DATAGRAM] for at in range(0, len(run), DATAGRAM)]
    return datagrams


class Lane:
    """A worker, and a socket that it sends to."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.worker = Worker(self.event)
        self.there = receiver(family)
        self.here = socket.socket(family, socket.SOCK_DGRAM)
        self.key = NATIVE.send_key(KEY, 7)

    def submit(self, packets: list[SuperPacket], address: Address | None = None, control: bytes = b"") -> int:
        to = address or self.there.getsockname()
        return self.worker.submit(self.key, packets, MTU, self.here.fileno(), to, control)

    def collect(self, jobs: int) -> list[Done]:
        done: list[Done] = []
        while len(done) < jobs:
            assert select.select([self.event], [], [], 5)[0]
            os.eventfd_read(self.event)
            done += self.worker.collect()
        return done

    def received(self, count: int) -> list[bytes]:
        return read(self.there, count)

    def close(self) -> None:
        del self.worker  # which ends its thread
        os.close(self.event)
        self.there.close()
        self.here.close()


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane()
    yield lane
    lane.close()


# --- the thread alone ---


def test_the_same_bytes_in_order(lane: Lane) -> None:
    lane.there.setsockopt(SOL_UDP, UDP_GRO, 0)
    first = [super_packet(20, last=99), super_packet(3, 99)]
    second = [super_packet(1), SuperPacket(b""), super_packet(25, last=1)]
    sizes = lane.submit(first), lane.submit(second)
    assert lane.key.counter == 23 + 27
    done = lane.collect(2)
    assert [(datagrams, size) for datagrams, size, _, _ in done] == [(23, sizes[0]), (27, sizes[1])]
    assert done[0][2] == 2  # sizes differ once, behind the first super-packet
    assert all(not unsent for *_, unsent in done)
    sealed = expected(first, 0) + expected(second, 23)
    assert lane.received(50) == sealed
    assert sum(sizes) == sum(map(len, sealed))


def test_what_is_handed_over_is_the_callers_again(lane: Lane) -> None:
    header = super_packet(1).header
    for number in range(20):
        piece = bytearray(os.urandom(40 * MSS))
        packets = [SuperPacket(header, (memoryview(piece),), MSS)]
        sealed = expected(packets, number * 40)
        lane.submit(packets)
        piece[:] = bytes(len(piece))
        del packets
        piece.clear()  # nor is it held
        assert lane.received(40) == sealed


def test_ipv6_and_what_goes_beside() -> None:
    lane = Lane(socket.AF_INET6)
    lane.there.setsockopt(SOL_UDP, UDP_GRO, 0)
    lane.there.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    packets = [super_packet(2), super_packet(1)]
    lane.submit(packets, control=packed([(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("=i", 2))]))
    for datagram in expected(packets, 0):
        got, ancillary, _, source = lane.there.recvmsg(2048, 64)
        assert got == datagram
        assert ancillary == [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("=i", 2))]
        assert source[1] == lane.here.getsockname()[1]
    lane.close()


def test_behind_a_failure_nothing_is_sent(lane: Lane) -> None:
    """Port 0 is no destination: all of that is the caller's to send, and all behind it, until it was collected."""
    packets = [super_packet(44)]
    lane.submit(packets, ("127.0.0.1", 0))
    lane.submit(packets)
    done = lane.collect(2)
    assert [sent for *sent, _ in done] == [[0, 0, 0], [0, 0, 0]]
    assert datagrams_of(done[0][3] + done[1][3]) == expected(packets, 0) + expected(packets, 44)
    lane.submit(packets)
    assert lane.collect(1)[0][0] == 44
    assert lane.received(44) == expected(packets, 88)


def test_a_wiped_key_seals_nothing_more(lane: Lane) -> None:
    packets = [super_packet(44)]
    lane.submit(packets)
    lane.key.wipe()
    assert lane.submit(packets) == 0
    assert lane.received(44) == expected(packets, 0)  # what was on its way before stays so
    assert len(lane.collect(1)) == 1


def test_the_last_counter_is_not_passed(lane: Lane) -> None:
    last = 2**64 - 2**13 - 1
    lane.key.counter = last - 43
    assert lane.submit([super_packet(44)]) == 0
    assert lane.key.counter == last - 43
    lane.key.counter = last - 44
    assert lane.submit([super_packet(44)]) > 0
    assert lane.key.counter == last
    assert lane.collect(1)[0][0] == 44


def test_the_socket_may_be_closed_meanwhile(lane: Lane) -> None:
    lane.submit([super_packet(44)])
    lane.here.close()
    assert lane.collect(1)[0][0] == 44


def test_what_cannot_be(lane: Lane) -> None:
    with pytest.raises(ValueError, match="not one of TCP"):
        lane.submit([SuperPacket(b"\x45", (b"payload",), MSS)])
    with pytest.raises(ValueError, match="invalid IP address"):
        lane.submit([super_packet(1)], ("far.example", 1))
    with pytest.raises(OSError, match="not a descriptor"):
        lane.worker.submit(lane.key, [super_packet(1)], MTU, -1, ("127.0.0.1", 1), b"")
    assert lane.key.counter == 0
    assert lane.worker.collect() == []


def test_control_messages_as_the_kernel_has_them() -> None:
    assert packed([(0, 1, b"\7\0\0\0")]) == struct.pack("@Nii4s4x", 20, 0, 1, b"\7\0\0\0")


# --- what the thread gets ---


class OneSession:
    """A tunnel that has just that, for the native kernel."""

    mtu = MTU

    def __init__(self, endpoint: Address) -> None:
        self.send_key = NATIVE.send_key(KEY, 7)
        self.local = b""
        self.endpoint = endpoint
        self.is_ready = True
        self.noted: list[int] = []
        self._sealed: list[SendBurst] = []

    def ready_to_seal(self, packets: Sequence[SuperPacket], now: float) -> Any:
        return Ready(self, self, self.endpoint) if self.is_ready else None  # type: ignore[arg-type]

    def note_sealed(self, peer: Any, session: Any, sealed: int, now: float) -> None:
        self.noted.append(sealed)

    def seal(self, packets: list[SuperPacket], now: float) -> list[Any]:
        out = bytearray(sealed_size(packets, MTU))
        for start, end, size in NATIVE.seal_burst(self.send_key, packets, MTU, out, 0):
            self._sealed.append(SendBurst(self.endpoint, memoryview(out)[start:end], size))
        return []

    def datagrams_to_send(self, now: float) -> list[SendBurst]:
        sealed, self._sealed = self._sealed, []
        return sealed

    def events(self) -> list[Any]:
        return []

    def process_handshake(self, now: float) -> bool:
        return False

    def next_timeout(self) -> float | None:
        return None


class Bench:
    """A sealer for that one session, its socket, and where it sends to."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.there = receiver()
        self.tunnel = OneSession(self.there.getsockname())
        self.link = UdpLink.open(self.loop)
        self.sealer = Sealer(self.loop, self.tunnel, self.link)  # type: ignore[arg-type]
        self.done = asyncio.Event()
        self.sealer.start(self.done.set)

    def submit(self, *packets: SuperPacket) -> int:
        return self.sealer.submit(list(packets), 1.0)

    def received(self, count: int) -> list[bytes]:
        return read(self.there, count)

    def close(self) -> None:
        assert self.sealer.close() == []
        self.link.close()
        self.there.close()


@pytest.fixture
async def bench() -> Any:
    bench = Bench()
    yield bench
    bench.close()


def threads() -> int:
    """How many of this process seal."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            count += (task / "comm").read_text() == "sealing\n"
    return count


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.sources
async def test_too_little_is_not_worth_it(bench: Bench) -> None:
    little = super_packet(WORTHWHILE_BYTES // MSS)
    assert bench.submit(little) == 0
    assert bench.sealer._worker is None
    much = super_packet(WORTHWHILE_BYTES // MSS + 1)
    sizes = [bench.submit(much), bench.submit(little)]  # nor may it overtake what the thread has
    assert bench.tunnel.noted == sizes
    assert bench.sealer.finish() == []
    assert bench.submit(little) == 0
    count = 2 * (WORTHWHILE_BYTES // MSS) + 1
    assert bench.received(count) == expected([much, little], 0)
    statistics = bench.link.statistics()
    assert (statistics.sent_datagrams, statistics.sent_bytes) == (count, sum(sizes))


@pytest.mark.sources
async def test_the_thread_ends_with_its_owner() -> None:
    await until(lambda: threads() == 0)
    bench = Bench()
    assert bench.submit(super_packet(44)) > 0
    await until(lambda: threads() == 1)
    bench.close()
    await until(lambda: threads() == 0)


@pytest.mark.sources
async def test_it_tells_when_it_is_done(bench: Bench) -> None:
    for number in range(IN_FLIGHT):
        assert not bench.sealer.is_full
        assert bench.submit(super_packet(44, number)) > 0
    assert bench.sealer.is_full
    while bench.sealer.jobs:
        bench.done.clear()
        await bench.done.wait()
        assert bench.sealer.collect() == []
    assert not bench.sealer.is_full


@pytest.mark.sources
async def test_one_congestion_mark_only(bench: Bench) -> None:
    assert bench.submit(super_packet(44, tos=2), super_packet(44)) == 0
    bench.there.setsockopt(SOL_UDP, UDP_GRO, 0)
    bench.there.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    assert bench.submit(super_packet(44, tos=2)) > 0
    _, ancillary, _, _ = bench.there.recvmsg(2048, 64)
    assert ancillary == [(socket.IPPROTO_IP, socket.IP_TOS, b"\2")]


@pytest.mark.sources
async def test_no_session(bench: Bench) -> None:
    bench.tunnel.is_ready = False
    assert bench.submit(super_packet(44)) == 0


@pytest.mark.sources
async def test_a_key_that_has_ended(bench: Bench) -> None:
    bench.tunnel.send_key.wipe()
    assert bench.submit(super_packet(44)) == 0
    assert not bench.sealer.jobs
    assert bench.tunnel.noted == []


@pytest.mark.sources
async def test_a_way_out_that_cannot_segment(bench: Bench) -> None:
    burst = SendBurst(bench.there.getsockname(), memoryview(b""), 0)
    assert bench.link.route(burst) is not None
    bench.link._ipv4.gso = False  # type: ignore[union-attr]
    assert bench.link.route(burst) is None
    assert bench.submit(super_packet(44)) == 0


@pytest.mark.sources
async def test_more_than_usual(bench: Bench) -> None:
    packets = [super_packet(44, number) for number in range(4)]
    assert bench.submit(*packets) == sum(map(len, expected(packets, 0)))
    assert bench.received(44 * 4) == expected(packets, 0)


@pytest.mark.sources
@pytest.mark.parametrize("what", ["os.eventfd", "usernet.burst._native.Worker"])
async def test_no_thread_and_no_descriptor(monkeypatch: pytest.MonkeyPatch, bench: Bench, what: str) -> None:
    def fail(*_: int) -> NoReturn:
        raise OSError(errno.EAGAIN, "none left")

    events: list[int] = []
    eventfd = os.eventfd

    def noted(*arguments: int) -> int:
        events.append(eventfd(*arguments))
        return events[-1]

    monkeypatch.setattr("os.eventfd", noted)
    monkeypatch.setattr(what, fail)
    assert bench.submit(super_packet(44)) == 0
    for event in events:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(event)
    monkeypatch.undo()
    assert bench.submit(super_packet(44)) > 0


class OneByOne:
    """A worker that is done with one job at a time."""

    def __init__(self, worker: Worker, event: int) -> None:
        self._worker, self._event = worker, event
        self._done: list[Done] = []
        self.submit = worker.submit

    def collect(self) -> list[Done]:
        self._done += self._worker.collect()
        first, self._done = self._done[:1], self._done[1:]
        if self._done:
            os.eventfd_write(self._event, 1)
        return first


@pytest.mark.sources
async def test_what_it_could_not_send_comes_back_whole(bench: Bench) -> None:
    """And whatever was on its way behind it."""
    packets = [super_packet(44, number) for number in range(4)]
    worker: Any = OneByOne(bench.sealer._begin(), bench.sealer._event)
    bench.sealer._worker = worker
    bench.tunnel.endpoint = ("127.0.0.1", 0)
    assert bench.submit(packets[0]) > 0
    bench.tunnel.endpoint = bench.there.getsockname()
    assert bench.submit(packets[1]) > 0
    assert bench.submit(packets[2]) > 0
    await bench.done.wait()
    unsent = bench.sealer.collect()
    assert not bench.sealer.jobs
    assert datagrams_of([(burst.buf, burst.segment_size) for burst in unsent]) == expected(packets[:3], 0)
    assert [burst.address[1] == 0 for burst in unsent] == [True, False, False]
    assert bench.submit(packets[3]) > 0
    assert bench.received(44) == expected(packets[3:], 3 * 44)


@pytest.mark.sources
async def test_closing_gives_back_what_could_not_be_sent() -> None:
    bench = Bench()
    packets = [super_packet(44, number) for number in range(IN_FLIGHT)]
    bench.tunnel.endpoint = ("127.0.0.1", 0)
    for packet in packets:
        assert bench.submit(packet) > 0
    unsent = bench.sealer.close()
    assert datagrams_of([(burst.buf, burst.segment_size) for burst in unsent]) == expected(packets, 0)
    bench.close()


@pytest.mark.sources
async def test_closed_with_jobs_in_flight() -> None:
    bench = Bench()
    packets = [super_packet(44, number) for number in range(IN_FLIGHT)]
    for packet in packets:
        assert bench.submit(packet) > 0
    there, bench.there = bench.there, receiver()
    bench.close()
    assert read(there, 44 * IN_FLIGHT) == expected(packets, 0)
    there.close()


@pytest.mark.sources
async def test_where_there_is_one(bench: Bench) -> None:
    tunnel: Any = bench.tunnel
    assert second_core(bench.loop, tunnel, bench.link, ReferenceKernel()) is None
    assert second_core(bench.loop, tunnel, memory_links(bench.loop)[0], NATIVE) is None
    assert (second_core(bench.loop, tunnel, bench.link, NATIVE) is not None) == Worker.has_core()


def test_pinned_to_one_core_there_is_none() -> None:
    seen: list[bool] = []

    def look() -> None:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # this thread's alone
        seen.append(Worker.has_core())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [False]


# --- with the pump ---


class Queue:
    """An inner link that has takes ready."""

    def __init__(self) -> None:
        self.takes: list[list[SuperPacket]] = []
        self.wake: Callable[[], None] = lambda: None

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        return self.takes.pop(0) if self.takes else []

    def next_timeout(self) -> float | None:
        return None

    def on_wake(self, callback: Callable[[], None]) -> None:
        self.wake = callback

    def deliver(self, burst: PacketBurst, now: float) -> None: ...

    def path_changed(self, now: float) -> None: ...


@pytest.mark.sources
async def test_the_loop_and_the_thread_keep_the_order() -> None:
    """By counters on the wire, where every third take has two marks, and so is the loop's."""
    bench, inner = Bench(), Queue()
    device = Device(bench.loop, bench.tunnel, bench.link, inner, lambda event: None, bench.sealer)  # type: ignore[arg-type]
    device.start()
    counters: list[int] = []
    full = asyncio.Event()
    total = 0
    for number in range(60):
        mixed = number % 3 == 0
        inner.takes.append([super_packet(30, tos=2), super_packet(2)] if mixed else [super_packet(44)])
        total += 32 if mixed else 44
    jobs = 0
    submit = bench.sealer.submit

    def counted(packets: list[SuperPacket], now: float) -> int:
        nonlocal jobs
        size = submit(packets, now)
        jobs += size > 0
        return size

    bench.sealer.submit = counted  # type: ignore[method-assign]

    def receive() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                counters.extend(struct.unpack_from("<Q", datagram, 8)[0] for datagram in read(bench.there, 1))
        if len(counters) == total:
            full.set()

    bench.there.setblocking(False)
    bench.loop.add_reader(bench.there, receive)
    inner.wake()
    async with asyncio.timeout(10):
        await full.wait()
    bench.loop.remove_reader(bench.there)
    device.close()
    assert counters == list(range(total))
    assert jobs == 40
    bench.close()


@pytest.mark.sources
async def test_bulk_has_a_thread_and_requests_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Sealer] = []
    begin = Sealer._begin

    def noted(sealer: Sealer) -> Worker:
        begun.append(sealer)
        return begin(sealer)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 18):
            writer.write(b".")
        writer.close()

    monkeypatch.setattr(Sealer, "_begin", noted)
    async with udp_pair() as pair:
        server = await pair.right.start_server(swallow, None, 0)
        reader, writer = await pair.left.open_connection(RIGHT, server.port)
        for _ in range(20):
            writer.write(bytes(1000))
            await reader.readexactly(1)
        assert begun == []
        for _ in range(64):
            writer.write(bytes(1 << 16))
            await writer.drain()
        writer.write_eof()
        await reader.read()
        assert len(begun) == Worker.has_core()
        writer.close()
