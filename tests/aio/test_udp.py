"""Real sockets on loopback, on both loops."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

from tests.support.burst import make_kernel
from usernet.aio import family as family_module
from usernet.aio import sockets
from usernet.aio.inlet import MAX_MESSAGES, MAX_SLOTS, ROOM, SLOT, MakeInlet, Received, inlet_of
from usernet.aio.statistics import UdpStatistics
from usernet.aio.udp import ARENA_BYTES, UdpLink
from usernet.burst.packets import Address, DatagramBurst, SendBurst

Test = Callable[[], Awaitable[None]]
Run = Callable[[Test], None]

V4, V6 = "127.0.0.1", "::1"


def has_ipv6() -> bool:
    made = sockets.open_sockets(0)
    sockets.close_sockets(made)
    return len(made) == 2


HAS_IPV6 = has_ipv6()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test's coroutine on a loop of its own, in debug mode."""
    factory: Any = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(debug=True, loop_factory=factory) as runner:

        def run_one(test: Test) -> None:
            async def limited() -> None:
                await asyncio.wait_for(test(), 10)

            runner.run(limited())

        yield run_one


class Opened:
    """Links that are closed when the test is done."""

    def __init__(self, make_inlet: MakeInlet) -> None:
        self.links: list[UdpLink] = []
        self.make_inlet = make_inlet

    def __call__(self, port: int = 0) -> UdpLink:
        return self.keep(UdpLink.open(asyncio.get_running_loop(), port, make_inlet=self.make_inlet))

    def keep(self, link: UdpLink) -> UdpLink:
        self.links.append(link)
        return link


@pytest.fixture(params=["python", "native"])
def opened(request: pytest.FixtureRequest) -> Opened:
    return Opened(inlet_of(make_kernel(request.param)))


@pytest.fixture(autouse=True)
def _close(opened: Opened, run: Run) -> Iterator[None]:
    yield

    async def close() -> None:
        for link in opened.links:
            link.close()

    run(close)


def address_of(link: UdpLink, host: str = V4) -> Address:
    return (host, link.port) if host == V4 else (host, link.port, 0, 0)


def datagrams_of(bursts: list[DatagramBurst]) -> list[bytes]:
    return [
        bytes(burst.buf[number * burst.stride : number * burst.stride + length])
        for burst in bursts
        for number, length in enumerate(burst.lengths)
    ]


class Inbox:
    """What a link has received, as bursts' shapes and as datagrams."""

    def __init__(self, link: UdpLink) -> None:
        self.link = link
        self.sources: list[Address] = []
        self.shapes: list[tuple[int, int]] = []  # datagrams, stride
        self.datagrams: list[bytes] = []
        self._more = asyncio.Event()
        link.on_readable(self._read)

    def _read(self) -> None:
        bursts = self.link.receive()
        self.sources += [burst.address for burst in bursts]
        self.shapes += [(len(burst.lengths), burst.stride) for burst in bursts]
        self.datagrams += datagrams_of(bursts)
        self._more.set()

    async def wait_for(self, count: int) -> list[bytes]:
        while len(self.datagrams) < count:
            self._more.clear()
            await self._more.wait()
        return self.datagrams


def datagrams(count: int, size: int, last: int | None = None) -> list[bytes]:
    made = [struct.pack("!H", number) + bytes([number % 256]) * (size - 2) for number in range(count)]
    if last is not None:
        made[-1] = made[-1][:last]
    return made


def send_burst(address: Address, content: list[bytes], tos: int = 0) -> SendBurst:
    return SendBurst(address, memoryview(b"".join(content)), len(content[0]), tos)


def drops(link: UdpLink) -> dict[str, int]:
    return dict(link.statistics().drops)


# --- sockets ---


def test_one_port_for_both_families(run: Run, opened: Opened) -> None:
    async def test() -> None:
        link = opened()
        families = [family.family for family in link.statistics().families]
        assert families == (["IPv4", "IPv6"] if HAS_IPV6 else ["IPv4"])
        assert link.port

    run(test)


def test_a_port_in_use_is_named(run: Run, opened: Opened) -> None:
    async def test() -> None:
        link = opened()
        with pytest.raises(OSError, match=f"UDP port {link.port}: Address already in use") as caught:
            opened(link.port)
        assert caught.value.errno == errno.EADDRINUSE

    run(test)


@pytest.mark.sources
@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
def test_any_port_is_free_for_both(monkeypatch: pytest.MonkeyPatch, run: Run, opened: Opened) -> None:
    """The port the first family was given may be in use in the second: then another one is tried."""
    real, busy = sockets._open_one, [True, True]

    def open_one(family: socket.AddressFamily, port: int, mark: int) -> socket.socket | None:
        if family == socket.AF_INET6 and busy.pop():
            raise OSError(errno.EADDRINUSE, "in use")
        return real(family, port, mark)

    async def test() -> None:
        busy.insert(0, False)
        monkeypatch.setattr(sockets, "_open_one", open_one)
        assert len(opened().statistics().families) == 2
        assert not busy

    run(test)


@pytest.mark.sources
def test_one_family_alone(monkeypatch: pytest.MonkeyPatch, run: Run, opened: Opened) -> None:
    real = sockets._open_one

    async def test() -> None:
        monkeypatch.setattr(
            sockets, "_open_one", lambda family, *others: None if family == socket.AF_INET6 else real(family, *others)
        )
        link = opened()
        assert [family.family for family in link.statistics().families] == ["IPv4"]
        assert link.send(send_burst((V6, 9, 0, 0), datagrams(3, 100)))
        assert drops(link) == {"no-ipv6": 3}
        monkeypatch.setattr(sockets, "_open_one", lambda *_: None)
        with pytest.raises(OSError, match="neither IPv4 nor IPv6"):
            opened()

    run(test)


def test_buffers(run: Run, opened: Opened) -> None:
    """7 MiB (which Linux reports doubled) where privileged; what the system allows otherwise."""

    async def test() -> None:
        for family in opened().statistics().families:
            for granted, limit in (
                (family.receive_buffer, "/proc/sys/net/core/rmem_max"),
                (family.send_buffer, "/proc/sys/net/core/wmem_max"),
            ):
                with open(limit) as file:
                    allowed = int(file.read())
                assert granted in {2 * sockets.BUFFER_BYTES, 2 * min(allowed, sockets.BUFFER_BYTES)}

    run(test)


def test_unprivileged_buffers() -> None:
    class Unprivileged(socket.socket):
        def setsockopt(self, *args: Any) -> None:
            if args[1] in (32, 33):
                raise PermissionError(errno.EPERM, "no")
            super().setsockopt(*args)

    with Unprivileged(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        sockets.enlarge_buffers(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= before


@pytest.mark.parametrize(
    ("release", "counts"), [("5.11.22", False), ("4.19", False), ("5.12.0", True), ("6.1-x", True)]
)
def test_gro_of_old_kernels_counts_as_absent(release: str, counts: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sockets.enable_gro(sock, release) is counts


def test_rebind_keeps_the_port_if_it_can(run: Run, opened: Opened) -> None:
    async def test() -> None:
        first, second = opened(), opened()
        inbox, port = Inbox(second), second.port
        second.rebind()
        assert second.port == port
        first.send(send_burst(address_of(second), datagrams(1, 50)))
        assert await inbox.wait_for(1) == datagrams(1, 50)

    run(test)


@pytest.mark.sources
def test_rebind_falls_back(monkeypatch: pytest.MonkeyPatch, run: Run, opened: Opened) -> None:
    """The requested port, then the current one, then any."""
    asked: list[int] = []
    real = sockets.open_sockets

    def open_sockets(port: int, mark: int) -> list[list[socket.socket]]:
        asked.append(port)
        if port:
            raise OSError(errno.EADDRINUSE, "in use")
        return real(port, mark)

    async def test() -> None:
        probe = opened()
        requested = probe.port
        probe.close()
        link = opened(requested)
        monkeypatch.setattr(sockets, "open_sockets", open_sockets)
        link.rebind()
        current = link.port
        link.rebind()
        assert asked == [requested, 0, requested, current, 0]

    run(test)


# --- there and back ---


@pytest.mark.parametrize("host", [V4, pytest.param(V6, marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here"))])
@pytest.mark.parametrize("last", [1452, 700, 1])
def test_gso_arrives_as_one_burst(run: Run, opened: Opened, host: str, last: int) -> None:
    async def test() -> None:
        sender, receiver = opened(), opened()
        inbox = Inbox(receiver)
        content = datagrams(45, 1452, last)
        assert sender.send(send_burst(address_of(receiver, host), content))
        assert await inbox.wait_for(45) == content
        assert inbox.shapes == [(45, 1452)]
        assert inbox.sources == [address_of(sender, host)]
        sent, received = sender.statistics(), receiver.statistics()
        size = 44 * 1452 + last
        assert (sent.sent_datagrams, sent.sent_bytes, sent.sent_messages) == (45, size, 1)
        assert (received.received_datagrams, received.received_bytes, received.received_messages) == (45, size, 1)
        assert sent.drops == received.drops == ()

    run(test)


def test_plain_datagrams_of_one_source_are_one_burst(run: Run, opened: Opened) -> None:
    """A peer without GSO."""

    async def test() -> None:
        receiver = opened()
        content = datagrams(100, 1452)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for datagram in content:
                peer.sendto(datagram[: 1452 - datagram[1]], (V4, receiver.port))
            bursts = receiver.receive()
            assert datagrams_of(bursts) == [datagram[: 1452 - datagram[1]] for datagram in content]
            assert [(burst.address[1], len(burst.lengths), burst.stride) for burst in bursts] == [
                (peer.getsockname()[1], MAX_SLOTS, SLOT),
                (peer.getsockname()[1], 36, SLOT),
            ]
            assert receiver.receive() == []

    run(test)


def test_sources_and_sizes_mixed(run: Run, opened: Opened) -> None:
    async def test() -> None:
        receiver, merged = opened(), opened()
        one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with one, two:
            to = (V4, receiver.port)
            one.sendto(b"a", to)
            one.sendto(b"b" * SLOT, to)
            two.sendto(b"c", to)
            two.sendto(b"d" * (SLOT + 1), to)  # larger than a slot
            two.sendto(b"e", to)
            merged.send(send_burst(to, datagrams(3, 500)))
            one.sendto(b"f", to)
            one.sendto(b"g" * 65_000, to)
            bursts = receiver.receive()
            names = {one.getsockname()[1]: "one", two.getsockname()[1]: "two", merged.port: "merged"}
            assert [(names[burst.address[1]], burst.lengths) for burst in bursts] == [
                ("one", [1, SLOT]),
                ("two", [1]),
                ("two", [SLOT + 1]),
                ("two", [1]),
                ("merged", [500] * 3),
                ("one", [1]),
                ("one", [65_000]),
            ]
            expected = [b"a", b"b" * SLOT, b"c", b"d" * (SLOT + 1), b"e", *datagrams(3, 500), b"f", b"g" * 65_000]
            assert datagrams_of(bursts) == expected

    run(test)


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
def test_both_families_at_once(run: Run, opened: Opened) -> None:
    async def test() -> None:
        sender, receiver = opened(), opened()
        inbox = Inbox(receiver)
        for host in (V4, V6):
            sender.send(send_burst(address_of(receiver, host), datagrams(4, 200)))
        await inbox.wait_for(8)
        assert sorted(map(len, inbox.sources)) == [2, 4]
        assert set(inbox.sources) == {address_of(sender, V4), address_of(sender, V6)}

    run(test)


def test_a_drain_is_bounded_by_the_arena(run: Run, opened: Opened) -> None:
    async def test() -> None:
        sender, receiver = opened(), opened()
        content = datagrams(40, 1400)
        count = 50
        for _ in range(count):
            sender.send(send_burst(address_of(receiver), content))
        drained = []
        while datagrams_of(bursts := receiver.receive()):
            drained.append(sum(len(burst.lengths) for burst in bursts))
        lost = receiver.statistics().families[0].kernel_drops
        assert len(drained) > 1
        assert max(drained) * 1400 <= ARENA_BYTES
        assert lost % 40 == 0 or lost <= count
        assert receiver.statistics().received_messages + lost // (40 if lost > count else 1) <= count

    run(test)


def test_the_room_is_that_of_the_smallest_socket(run: Run, opened: Opened) -> None:
    async def test() -> None:
        link = opened()
        link._sockets[-1].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
        assert link.receive_room == 150_000

    run(test)


def test_the_kernels_drops_are_counted(run: Run, opened: Opened) -> None:
    async def test() -> None:
        receiver = opened()
        for entry in receiver._sockets:
            entry.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(40):
                peer.sendto(bytes(1400), (V4, receiver.port))
        arrived = len(datagrams_of(receiver.receive()))
        assert 0 < arrived < 40
        assert receiver.statistics().families[0].kernel_drops == 40 - arrived

    run(test)


def test_empty_datagrams(run: Run, opened: Opened) -> None:
    async def test() -> None:
        receiver = opened()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for content in (b"a", b"", b"b"):
                peer.sendto(content, (V4, receiver.port))
        bursts = receiver.receive()
        assert datagrams_of(bursts) == [b"a", b"b"]
        assert len(bursts) == 1
        assert drops(receiver) == {"empty": 1}

    run(test)


def test_a_flood_of_nothing_does_not_hold_the_loop(run: Run, opened: Opened) -> None:
    async def test() -> None:
        receiver = opened()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for content in [b""] * (MAX_MESSAGES + 5) + [b"a"]:
                peer.sendto(content, (V4, receiver.port))
        assert receiver.receive() == []
        assert drops(receiver) == {"empty": MAX_MESSAGES}
        assert datagrams_of(receiver.receive()) == [b"a"]

    run(test)


@pytest.mark.parametrize("between", [0, 10])
def test_a_flood_of_errors_does_not_hold_the_loop(run: Run, opened: Opened, between: int) -> None:
    """Such as ICMP messages that somebody makes up."""

    class Refused:
        def receive(self, arena: bytearray, at: int) -> Received:
            return [], at, between, ["empty"] * between, errno.ECONNREFUSED

    async def test() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((V4, 0))
        receiver = opened.keep(UdpLink(asyncio.get_running_loop(), [[sock]], make_inlet=lambda *_: Refused()))
        assert receiver.receive() == []
        calls = -(-MAX_MESSAGES // (between + 1))
        assert drops(receiver) == {"ECONNREFUSED": calls, **({"empty": calls * between} if between else {})}

    run(test)


def test_tos(run: Run, opened: Opened) -> None:
    """A handshake's mark is on its datagram and on no later one."""

    async def test() -> None:
        sender = opened()
        for family, host, level, option, kind in (
            (socket.AF_INET, V4, socket.IPPROTO_IP, socket.IP_RECVTOS, socket.IP_TOS),
            (socket.AF_INET6, V6, socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, socket.IPV6_TCLASS),
        ):
            if family == socket.AF_INET6 and not HAS_IPV6:
                continue
            with socket.socket(family, socket.SOCK_DGRAM) as peer:
                peer.bind((host, 0))
                peer.setsockopt(level, option, 1)
                for content, tos in ((datagrams(1, 148), 0x88), (datagrams(1, 148), 0), (datagrams(3, 148), 0x88)):
                    assert sender.send(send_burst(peer.getsockname(), content, tos))
                marks = []
                for _ in range(5):
                    _, ancillary, _, _ = peer.recvmsg(200, 64)
                    marks += [data[0] for found, what, data in ancillary if (found, what) == (level, kind)]
                assert marks == [0x88, 0, 0x88, 0x88, 0x88]

    run(test)


@pytest.mark.parametrize("host", [V4, pytest.param(V6, marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here"))])
def test_tos_of_what_arrives(run: Run, opened: Opened, host: str) -> None:
    """Plain datagrams of one burst have one; a merged message has its own."""

    async def test() -> None:
        sender, receiver = opened(), opened()
        to = address_of(receiver, host)
        for tos in (0, 0, 3, 3, 3, 0x8A, 0):
            sender.send(send_burst(to, datagrams(1, 100), tos))
        for tos in (3, 0):
            sender.send(send_burst(to, datagrams(4, 100), tos))
        bursts = receiver.receive()
        assert [(burst.tos, len(burst.lengths)) for burst in bursts] == [
            (0, 2), (3, 3), (0x8A, 1), (0, 1), (3, 4), (0, 4),
        ]  # fmt: skip
        sender.send(send_burst(to, datagrams(1, 100), 3))
        assert [burst.tos for burst in receiver.receive()] == [3]

    run(test)


# --- answers leave from where it was asked ---

LOCAL4, LOCAL6 = bytes([127, 0, 0, 2]), bytes(15) + b"\1"


def asked_at(link: UdpLink, peer: socket.socket, host: str) -> DatagramBurst:
    """The peer sends to one of our addresses."""
    peer.sendto(b"question", address_of(link, host) if ":" in host else (host, link.port))
    [burst] = link.receive()
    return burst


@pytest.mark.parametrize("count", [1, 3])
def test_the_answer_leaves_from_the_address_that_was_asked(run: Run, opened: Opened, count: int) -> None:
    async def test() -> None:
        link = opened()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((V4, 0))
            assert asked_at(link, peer, "127.0.0.3").local == bytes([127, 0, 0, 3])
            burst = asked_at(link, peer, "127.0.0.2")
            assert (burst.address, burst.local) == (peer.getsockname(), LOCAL4)
            for local, expected in ((LOCAL4, "127.0.0.2"), (b"", V4), (bytes([127, 0, 0, 3]), "127.0.0.3")):
                assert link.send(send_burst(burst.address, datagrams(count, 100))._replace(local=local))
                assert [peer.recvfrom(200)[1] for _ in range(count)] == [(expected, link.port)] * count

    run(test)


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
@pytest.mark.parametrize("count", [1, 3])
def test_the_answer_over_ipv6(run: Run, opened: Opened, count: int) -> None:
    async def test() -> None:
        link = opened()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
            peer.bind((V6, 0))
            burst = asked_at(link, peer, V6)
            assert burst.local == LOCAL6
            for tos in (0, 0x88):
                link.send(send_burst(burst.address, datagrams(count, 100), tos)._replace(local=LOCAL6))
            assert [peer.recvfrom(200)[1][:2] for _ in range(2 * count)] == [(V6, link.port)] * 2 * count
        assert drops(link) == {}

    run(test)


def test_datagrams_to_two_addresses_are_two_bursts(run: Run, opened: Opened) -> None:
    async def test() -> None:
        link = opened()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for host in (V4, V4, "127.0.0.2", V4):
                peer.sendto(b"question", (host, link.port))
            assert [(burst.local[-1], len(burst.lengths)) for burst in link.receive()] == [(1, 2), (2, 1), (1, 1)]

    run(test)


def test_a_source_nothing_came_to_is_not_one(run: Run, opened: Opened) -> None:
    """Nor is one that something came to before the sockets were made anew."""

    async def test() -> None:
        link = opened()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((V4, 0))
            answer = send_burst(peer.getsockname(), datagrams(1, 100))._replace(local=LOCAL4)
            link.send(answer)
            assert peer.recvfrom(200)[1] == (V4, link.port)
            asked_at(link, peer, "127.0.0.2")
            link.rebind()
            link.send(answer)
            assert peer.recvfrom(200)[1] == (V4, link.port)

    run(test)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH])
@pytest.mark.parametrize("count", [1, 3])
def test_a_source_that_is_gone_is_forgotten_until_asked_there_again(
    run: Run, opened: Opened, number: int, count: int
) -> None:
    """Nothing of the burst is lost, and what follows does not try it again."""

    async def test() -> None:
        link = stubborn(opened)
        failures = [("source", number)] * (1 + (count > 1) + (number == errno.ENETUNREACH))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((V4, 0))
            asked_at(link, peer, "127.0.0.2")
            sock = link._sockets[0].sock
            assert isinstance(sock, Stubborn)
            sock.failures = list(failures)
            for _ in range(2):
                assert link.send(send_burst(peer.getsockname(), datagrams(count, 100))._replace(local=LOCAL4))
                assert [peer.recvfrom(200)[1] for _ in range(count)] == [(V4, link.port)] * count
            assert sock.failures == []
            assert asked_at(link, peer, "127.0.0.2").local == LOCAL4
            link.send(send_burst(peer.getsockname(), datagrams(1, 100))._replace(local=LOCAL4))
            assert peer.recvfrom(200)[1] == ("127.0.0.2", link.port)
        assert sum(drops(link).values()) == 0
        assert link.statistics().sent_datagrams == 2 * count + 1

    run(test)


@pytest.mark.sources
def test_sources_are_bounded(monkeypatch: pytest.MonkeyPatch, run: Run, opened: Opened) -> None:
    """A whole network may be routed to this host."""

    async def test() -> None:
        monkeypatch.setattr(family_module, "MAX_SOURCES", 4)
        link = opened()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((V4, 0))
            for number in range(1, 20):
                burst = asked_at(link, peer, f"127.0.0.{number}")
                assert len(link._sockets[0]._sources) + len(link._sockets[-1]._sources) <= 4
                link.send(send_burst(burst.address, datagrams(1, 100))._replace(local=burst.local))
                assert peer.recvfrom(200)[1][0] == f"127.0.0.{number}"

    run(test)


# --- what goes wrong ---


class Stubborn(socket.socket):
    """A socket whose next calls fail as told: names of the calls, and the errno of each."""

    failures: list[tuple[str, int]]

    def _fail(self, name: str) -> None:
        if self.failures and self.failures[0][0] == name:
            number = self.failures.pop(0)[1]
            if number:
                raise OSError(number, "as told")

    def sendmsg(self, buffers: Any, ancillary: Any = (), *rest: Any) -> int:
        if any((level, kind) == (socket.IPPROTO_IP, 8) for level, kind, _ in ancillary):  # IP_PKTINFO
            self._fail("source")
        merged = any(kind == sockets.UDP_SEGMENT for _, kind, _ in ancillary)
        self._fail("gso" if merged else "send")
        return super().sendmsg(buffers, ancillary, *rest)

    def sendto(self, *args: Any) -> int:
        self._fail("send")
        return super().sendto(*args)

    def recvmsg_into(self, buffers: Any, *rest: Any) -> Any:
        if self.failures and self.failures[0][0] == "small":
            self.failures.pop(0)
            buffers = [buffers[0][:10]]
        self._fail("receive")
        return super().recvmsg_into(buffers, *rest)


def stubborn(opened: Opened, *failures: tuple[str, int]) -> UdpLink:
    sock = Stubborn(socket.AF_INET, socket.SOCK_DGRAM)
    sock.failures = list(failures)
    sock.setblocking(False)
    sock.bind(("0.0.0.0", 0))
    sockets.enlarge_buffers(sock)
    return opened.keep(UdpLink(asyncio.get_running_loop(), [[sock]]))


@pytest.mark.parametrize("number", [errno.EIO, errno.EOPNOTSUPP])
def test_without_gso_from_the_first_error_on(run: Run, opened: Opened, number: int) -> None:
    async def test() -> None:
        sender, receiver = stubborn(opened, ("gso", number)), opened()
        inbox = Inbox(receiver)
        content = datagrams(20, 1452, 99)
        for _ in range(2):
            assert sender.send(send_burst(address_of(receiver), content))
        assert await inbox.wait_for(40) == content * 2
        statistics = sender.statistics()
        assert not statistics.families[0].gso
        assert (statistics.sent_datagrams, statistics.sent_messages) == (40, 40)
        assert statistics.drops == ((errno.errorcode[number], 0),)

    run(test)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EMSGSIZE])
def test_one_destination_without_gso(run: Run, opened: Opened, number: int) -> None:
    async def test() -> None:
        sender, receiver = stubborn(opened, ("gso", number)), opened()
        inbox = Inbox(receiver)
        content = datagrams(20, 1452, 99)
        for _ in range(2):
            assert sender.send(send_burst(address_of(receiver), content))
        assert await inbox.wait_for(40) == content * 2
        statistics = sender.statistics()
        assert statistics.families[0].gso
        assert (statistics.sent_datagrams, statistics.sent_messages) == (40, 21)
        assert statistics.drops == ((errno.errorcode[number], 0),)

    run(test)


def test_nowhere_to_send(run: Run, opened: Opened) -> None:
    async def test() -> None:
        sender = opened()
        assert sender.send(send_burst((V4, 0), datagrams(20, 1452, 99)))
        assert sender.statistics().families[0].gso
        assert drops(sender) == {"EINVAL": 20}

    run(test)


def test_would_block(run: Run, opened: Opened) -> None:
    async def test() -> None:
        sender, receiver = stubborn(opened, ("gso", errno.EAGAIN), ("send", errno.EAGAIN)), opened()
        inbox = Inbox(receiver)
        bursts = [send_burst(address_of(receiver), datagrams(count, 300)) for count in (5, 1)]
        for burst in bursts:
            writable = asyncio.Event()
            assert not sender.send(burst)
            sender.on_writable(writable.set)
            await writable.wait()
            sender.on_writable(None)
            assert sender.send(burst)
        await inbox.wait_for(6)
        assert inbox.shapes[0] == (5, 300)
        assert sender.statistics().drops == ()

    run(test)


def test_writable_calls_back_until_told_not_to(run: Run, opened: Opened) -> None:
    async def test() -> None:
        sender = opened()
        calls: list[int] = []
        done = asyncio.Event()

        def writable() -> None:
            calls.append(1)
            if len(calls) == 5:
                sender.on_writable(None)
                done.set()

        sender.on_writable(writable)
        await done.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(calls) == 5

    run(test)


def test_would_block_in_the_middle_of_a_plain_burst(run: Run, opened: Opened) -> None:
    """What is left goes as soon as the socket takes more, before anything else, even if the owner does not ask."""

    async def test() -> None:
        failures = [("gso", errno.EIO), ("send", 0), ("send", 0), ("send", errno.EAGAIN), ("send", errno.EAGAIN)]
        sender, receiver = stubborn(opened, *failures), opened()
        inbox = Inbox(receiver)
        first, second = datagrams(5, 100), datagrams(2, 200)
        buf = bytearray(b"".join(first))
        assert sender.send(SendBurst(address_of(receiver), memoryview(buf), 100))
        buf[:] = bytes(500)  # the buffer is the owner's again
        assert not sender.send(send_burst(address_of(receiver), second))
        assert await inbox.wait_for(5) == first
        assert sender.send(send_burst(address_of(receiver), second))
        assert await inbox.wait_for(7) == first + second

    run(test)


def test_errors_are_counted_and_never_raised(run: Run, opened: Opened) -> None:
    async def test() -> None:
        failures = [
            ("gso", errno.ENETUNREACH),  # asynchronous: of another datagram, so it goes again, plainly
            ("gso", errno.EPERM),
            ("send", errno.ENOBUFS),
            ("send", errno.ECONNREFUSED),
            ("send", 0),
            ("send", errno.ECONNREFUSED),
            ("send", errno.ECONNREFUSED),
        ]
        sender, receiver = stubborn(opened, *failures), opened()
        to = address_of(receiver)
        assert sender.send(send_burst(to, datagrams(3, 100)))
        assert sender.send(send_burst(to, datagrams(4, 100)))
        for _ in range(3):
            assert sender.send(send_burst(to, datagrams(1, 100)))
        assert len(datagrams_of(receiver.receive())) == 4
        assert drops(sender) == {"EPERM": 4, "ENOBUFS": 1, "ECONNREFUSED": 1}
        assert sender.statistics().sent_datagrams == 4
        assert sender.statistics().families[0].gso

    run(test)


def test_errors_while_receiving(run: Run, opened: Opened) -> None:
    async def test() -> None:
        receiver = stubborn(opened, ("receive", errno.ECONNREFUSED), ("receive", 0), ("receive", errno.ENOMEM))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"a", (V4, receiver.port))
            peer.sendto(b"b", (V4, receiver.port))
        assert datagrams_of(receiver.receive()) == [b"a"]
        assert datagrams_of(receiver.receive()) == [b"b"]
        assert drops(receiver) == {"ECONNREFUSED": 1, "ENOMEM": 1}

    run(test)


def test_truncated(run: Run, opened: Opened) -> None:
    async def test() -> None:
        receiver = stubborn(opened, ("receive", 0), ("small", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for content in (b"first", b"longer than ten", b"third"):
                peer.sendto(content, (V4, receiver.port))
        assert datagrams_of(receiver.receive()) == [b"first", b"third"]
        assert drops(receiver) == {"truncated": 1}

    run(test)


def test_too_large(run: Run, opened: Opened) -> None:
    async def test() -> None:
        sender, receiver = opened(), opened()
        assert sender.send(send_burst(address_of(receiver), [bytes(ROOM)]))
        assert drops(sender) == {"EMSGSIZE": 1}

    run(test)


def test_closed(run: Run, opened: Opened) -> None:
    async def test() -> None:
        link, other = opened(), opened()
        link.on_readable(lambda: None)
        link.close()
        link.close()
        assert link.receive() == []
        assert link.send(send_burst(address_of(other), datagrams(2, 50)))
        assert drops(link) == {"no-ipv4": 2}
        assert isinstance(link.statistics(), UdpStatistics)

    run(test)
