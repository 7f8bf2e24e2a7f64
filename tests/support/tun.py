"""Our stack beside the real kernel: a TUN that a Host drives, in real time, and a kernel in a namespace of its own.

    Station 198.51.100.2, 2001:db8:a::2  ──TUN──  router  ──veth──  kernel 203.0.113.2, 2001:db8:b::2

The router loses packets by nftables, on the way, so that no sender is told; the pump itself can delay packets or let a
seeded share of them arrive late, which nftables cannot.  The Host is used by the thread that calls `run` only; what
the kernel's side does, blocking sockets and all, is given to `submit`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Self, TypeVar

from tests.support.lab import run, socket_in, wait_for
from tests.support.stack import Station, burst_of, cut
from usernet.burst.packets import SuperPacket
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings
from usernet.wire.ip import pack_address

OURS, THEIRS = "198.51.100.2", "203.0.113.2"
OURS6, THEIRS6 = "2001:db8:a::2", "2001:db8:b::2"
MTU = 1420
_OUR_HOST = -1  # where packets are under way to; else a TUN
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

T = TypeVar("T")


def clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Reader(Station):
    """A station whose application can stop reading for a while."""

    paused = False

    def _read(self, connection: Connection, now: float) -> None:
        if not self.paused:
            super()._read(connection, now)

    def resume(self, connection: Connection) -> None:
        self.paused = False
        self._read(connection, clock())


class Beside:
    """Use as a context manager.  `fresh` begins anew with a host that knows nothing."""

    def __init__(self) -> None:
        tag = f"{os.getpid() % 100000:x}"
        self.router, self.kernel = f"ut{tag}r", f"ut{tag}k"
        self.delay = 0.0  # s, in each direction
        self.late = 0.0  # this share of packets, in each direction, arrives LATE_BY later
        self.late_by = 0.005
        self.packets_out = self.packets_in = 0
        self.station = Reader()
        self._random = random.Random(7)
        self._flight: list[tuple[float, int, int, bytes]] = []  # when, how many before, to whom
        self._count = 0
        self._pool = concurrent.futures.ThreadPoolExecutor(8)
        self._fd = -1  # the TUN that our host drives
        self._fds: list[int] = []  # and others that are waited for
        self._sockets: list[socket.socket] = []
        self._sysctls: dict[str, str] = {}  # as they were before a test changed them

    def __enter__(self) -> Self:
        try:
            self._network()
        except BaseException:
            self.__exit__()
            raise
        self.fresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.close_sockets()
        self._pool.shutdown(cancel_futures=True)
        for fd in self._fds:
            os.close(fd)
        for name in (self.router, self.kernel):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def _network(self) -> None:
        for name in (self.router, self.kernel):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        self._fd = self.open_tun(self.router)
        run("ip", "link", "add", "v0", "netns", self.router, "type", "veth", "peer", "name", "v0", "netns", self.kernel)
        for name, address, address6 in (
            (self.router, "203.0.113.1/24", "2001:db8:b::1/64"),
            (self.kernel, f"{THEIRS}/24", f"{THEIRS6}/64"),
        ):
            run("ip", "-n", name, "addr", "add", address, "dev", "v0")
            run("ip", "-n", name, "addr", "add", address6, "dev", "v0", "nodad")
            # Segments leave one by one, for a router that loses a super-packet loses all of it.
            run("ip", "-n", name, "link", "set", "v0", "mtu", str(MTU), "gso_max_segs", "1", "up")
        run("ip", "-n", self.router, "link", "set", "t0", "mtu", str(MTU), "txqueuelen", "10000", "up")
        run("ip", "-n", self.router, "route", "add", f"{OURS}/32", "dev", "t0")
        run("ip", "-n", self.router, "route", "add", f"{OURS6}/128", "dev", "t0")
        run("ip", "netns", "exec", self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1")  # fmt: skip
        # Loss-based, whatever the machine's default: how much BBR resends depends on how busy the machine is.
        for gateway in ("203.0.113.1", "2001:db8:b::1"):
            run("ip", "-n", self.kernel, "route", "add", "default", "via", gateway, "congctl", "cubic")
        for name in (self.router, self.kernel):
            wait_for(lambda name=name: " UP " in run("ip", "-n", name, "-br", "link", "show", "v0"), "the link")  # type: ignore[misc]

    def open_tun(self, namespace: str) -> int:
        """A TUN called t0, closed when we are."""
        with socket_in(namespace):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._fds.append(fd)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"t0", IFF_TUN | IFF_NO_PI))
        return fd

    def close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def fresh(self, settings: TcpSettings | None = None) -> Reader:
        """A path that does no harm, and a host without a past."""
        self.delay, self.late, self.late_by = 0.0, 0.0, 0.005
        self.lose(0)
        self._flight.clear()
        self.packets_out = self.packets_in = 0
        addresses = (pack_address(OURS), pack_address(OURS6))
        self.station = Reader(*addresses, seed=int.from_bytes(os.urandom(4), "big"), mtu=MTU, settings=settings)
        return self.station

    def lose(self, per_mille: int) -> None:
        """The router loses this share of TCP segments, of both directions."""
        these = f"numgen random mod 1000 < {per_mille}" if per_mille < 1000 else ""
        self.filter(f"meta l4proto tcp {these} counter drop" if per_mille else "")

    def mark(self, per_mille: int) -> None:
        """The router says of this share of ECN-capable packets, of both directions, that it is congested."""
        these = f"numgen random mod 1000 < {per_mille}"
        self.filter("\n".join(f"{ip} ecn != not-ect {these} counter {ip} ecn set ce" for ip in ("ip", "ip6")))

    def filter(self, rule: str) -> None:
        """The router does this, in nftables' words, to what passes; instead of what it did before."""
        chain = f"chain forward {{\n type filter hook forward priority 0;\n{rule}\n}}\n"
        run("ip", "netns", "exec", self.router, "nft", "-f", "-",
            stdin=f"table inet loss\ndelete table inet loss\ntable inet loss {{\n{chain}}}\n")  # fmt: skip

    def sysctl(self, name: str, value: int | str) -> None:
        """Of the kernel's TCP, until `restore`."""
        command = ["ip", "netns", "exec", self.kernel, "sysctl"]
        if name not in self._sysctls:
            self._sysctls[name] = run(*command, "-n", f"net.ipv4.{name}")
        run(*command, "-qw", f"net.ipv4.{name}={value}")

    def restore(self) -> None:
        """The kernel's TCP is as it was before the test."""
        self.close_sockets()
        for name, value in self._sysctls.items():
            self.sysctl(name, value)
        self._sysctls.clear()

    def nstat(self, name: str) -> int:
        """One of the kernel's counters, since its namespace began."""
        words = run("ip", "netns", "exec", self.kernel, "nstat", "-asz", name).split()
        return int(words[words.index(name) + 1])

    def ss(self, port: int, *options: str) -> str:
        """What the kernel says of its socket at this port of its own."""
        return run("ip", "netns", "exec", self.kernel, "ss", "-Htan", *options, f"sport = :{port}").strip()

    # -- the kernel's side --

    def submit(self, work: Callable[[], T]) -> concurrent.futures.Future[T]:
        return self._pool.submit(work)

    def open_socket(
        self,
        family: int = socket.AF_INET,
        kind: int = socket.SOCK_STREAM,
        protocol: int = 0,
        *,
        namespace: str | None = None,
    ) -> socket.socket:
        """A socket of the kernel beside us, or the router's."""
        with socket_in(namespace or self.kernel):
            sock = socket.socket(family, kind, protocol)
        return self._keep(sock)

    def _keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(30)
        self._sockets.append(sock)
        return sock

    def listener(self, family: int = socket.AF_INET, *, receive_buffer: int = 0) -> socket.socket:
        """Listens at a port of the kernel's choice."""
        sock = self.open_socket(family)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((THEIRS if family == socket.AF_INET else THEIRS6, 0))
        sock.listen()
        return sock

    def accept(self, listener: socket.socket) -> socket.socket:
        return self._keep(listener.accept()[0])

    # -- ours --

    def run(self, until: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Drive our host until the condition holds.  Raises TimeoutError."""
        end = clock() + seconds
        while True:
            now = clock()
            self._receive(read_some(self._fd), now)
            self._arrive(now)
            host = self.station.host
            due = host.next_timeout()
            if due is not None and due <= now:
                host.handle_timeout(now)
            self.station.look(now)
            while packets := host.take(64 << 10, now):
                self._send(packets, now)
                self.station.look(now)
            if until():
                return
            if now > end:
                raise TimeoutError(f"waited {seconds:g} s for {what}; {self.station.host.statistics()}")
            times = [at for at in (host.next_timeout(), self._flight[0][0] if self._flight else None) if at is not None]
            # Threads of the kernel's side may fulfil the condition unseen, so look again soon.
            wait = min([at - now for at in times] + [0.01])
            select.select(self._fds, [], [], max(0.0, wait))

    def linger(self, seconds: float) -> None:
        """Go on for a while, to see that nothing more happens."""
        end = clock() + seconds
        self.run(lambda: clock() >= end, "time to pass", seconds + 5)

    def _receive(self, packets: list[bytes], now: float) -> None:
        """What the router has for us."""
        self.packets_in += len(packets)
        if self.delay or self.late:
            for packet in packets:
                self.fly(packet, now, _OUR_HOST)
        elif packets:
            self.station.host.receive_packets(burst_of([*packets]), now)

    def _send(self, packets: list[SuperPacket], now: float) -> None:
        for packet in packets:
            for data in cut(packet):
                self.packets_out += 1
                if self.delay or self.late:
                    self.fly(data, now, self._fd)
                else:
                    os.write(self._fd, data)

    def fly(self, data: bytes, now: float, to: int) -> None:
        """Put a packet on its way to a TUN, or to our host."""
        late = self.late_by if self._random.random() < self.late else 0.0
        self._count += 1
        heapq.heappush(self._flight, (now + self.delay + late, self._count, to, data))

    def _arrive(self, now: float) -> None:
        arrived: list[bytes | SuperPacket] = []
        while self._flight and self._flight[0][0] <= now:
            _, _, to, data = heapq.heappop(self._flight)
            if to == _OUR_HOST:
                arrived.append(data)
            else:
                os.write(to, data)
        if arrived:
            self.station.host.receive_packets(burst_of(arrived), now)


def read_some(fd: int) -> list[bytes]:
    """Packets that wait in a TUN."""
    packets: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while len(packets) < 64:
            packets.append(os.read(fd, 65536))
    return packets
