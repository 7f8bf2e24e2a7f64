"""Our stack and a kernel's, side by side on the same path to the same far kernel, to compare what they get through.

    Station 198.51.100.2 ─┐
                           pump ──TUN── router ──veth── kernel 203.0.113.2
    rival   198.51.100.3 ─TUN┘

The rival's packets are delayed by the same pump, and lost by the same router, as our station's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from tests.support import traffic
from tests.support.lab import run, wait_for
from tests.support.tun import MTU, OURS, THEIRS, Beside, clock, read_some
from usernet.tcp.connection import Connection
from usernet.tcp.state import State
from usernet.wire.ip import pack_address

RIVAL = "198.51.100.3"
_PIECE = bytes(128 << 10)


class Rivals(Beside):
    """Use as a context manager, as Beside."""

    def __init__(self) -> None:
        super().__init__()
        self.rival = f"{self.kernel}r"
        self._rival_fd = -1
        self._rival_address = pack_address(RIVAL)
        self._programs: list[subprocess.Popen[bytes]] = []

    def __exit__(self, *_: object) -> None:
        self._end(self._programs)
        super().__exit__()
        subprocess.run(["ip", "netns", "del", self.rival], capture_output=True)

    def _network(self) -> None:
        super()._network()
        run("ip", "netns", "add", self.rival)
        self._rival_fd = self.open_tun(self.rival)
        run("ip", "-n", self.rival, "addr", "add", f"{RIVAL}/32", "dev", "t0")
        run("ip", "-n", self.rival, "link", "set", "t0", "mtu", str(MTU), "txqueuelen", "10000", "up")
        run("ip", "-n", self.rival, "route", "add", "default", "dev", "t0", "congctl", "cubic")
        run("ip", "-n", self.router, "route", "add", f"{RIVAL}/32", "dev", "t0")
        for name in (self.rival, self.kernel):  # no run is to learn from the one before
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
        self._program(self.kernel, "serve", THEIRS)
        wait_for(lambda: self.ss(traffic.DOWN, "-l"), "the far side's listeners")

    def _program(self, namespace: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["ip", "netns", "exec", namespace, sys.executable, traffic.__file__, *arguments]
        process = subprocess.Popen(command)
        self._programs.append(process)
        return process

    def _end(self, programs: Iterable[subprocess.Popen[bytes]]) -> None:
        for program in list(programs):
            program.kill()
            program.wait()
            self._programs.remove(program)

    def _receive(self, packets: list[bytes], now: float) -> None:
        ours = []
        for packet in packets:
            if packet[16:20] == self._rival_address:
                self.fly(packet, now, self._rival_fd)
            else:
                ours.append(packet)
        super()._receive(ours, now)
        for packet in read_some(self._rival_fd):
            self.fly(packet, now, self._fd)

    def compare(self, port: int, streams: int, seconds: float, *, settle: float = 2.0) -> tuple[float, float]:
        """B/s of each side's streams together, all of them under way at the same time: ours, the rival's."""
        station = self.station
        program = self._program(self.rival, "dial", THEIRS, str(port), str(streams))
        connections = [station.host.connect(pack_address(THEIRS), port, clock()) for _ in range(streams)]
        self.run(lambda: all(connection.state is State.ESTABLISHED for connection in connections), "our streams")

        def go_on(until: float) -> None:
            self.run(lambda: self._feed(connections, port) or clock() >= until, "time to pass", seconds + settle + 5)

        go_on(clock() + settle)
        began, before = clock(), [self._moved(port, address) for address in (OURS, RIVAL)]
        go_on(began + seconds)
        elapsed, after = clock() - began, [self._moved(port, address) for address in (OURS, RIVAL)]
        self.lose(0)  # for a reset goes only once, and who has nothing to send would wait for ever
        for connection in connections:
            connection.abort(clock())
            station.host.changed(connection, clock())
        self._end([program])
        self.run(lambda: not self.ss(port, "state", "established"), "the streams' end")
        ours, theirs = ((late - early) / elapsed for early, late in zip(before, after, strict=True))
        return ours, theirs

    def _feed(self, connections: list[Connection], port: int) -> bool:
        if port == traffic.UP:
            for connection in connections:
                if connection.unsent_bytes < len(_PIECE):
                    self.station.write(connection, _PIECE, clock())
        else:
            self.station.received.clear()
        return False

    def _moved(self, port: int, address: str) -> int:
        """Bytes the far kernel has had, or knows to have arrived."""
        name = "bytes_received:" if port == traffic.UP else "bytes_acked:"
        streams = [line.split() for line in self.ss(port, "-iO").splitlines()]
        return sum(
            int(word.removeprefix(name))
            for words in streams
            for word in words
            if words[4].startswith(f"{address}:") and word.startswith(name)
        )
