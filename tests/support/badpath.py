"""A bad path: a relay of UDP between the near host and the far one that delays, reorders, loses, repeats, damages and
shapes what passes, from a seed.

It runs as a process of its own in the near host's namespace, and is the Endpoint there.  `python badpath.py CONTROL
LISTEN_PORT HOST PORT SEED` obeys datagrams at the Unix socket CONTROL, each the JSON of a Path for both directions, or
`{"up": ..., "down": ...}`.  A datagram's way: too big or outage? lost? the queue, which empties at `rate`, and is full
at `queue` bytes; then the delay, and for some a little more.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path as File
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.lab import Lab

PORT = 51830


@dataclass(frozen=True)
class Path:
    """One direction.  Shares of datagrams, seconds, bytes; 0 is none of it."""

    delay: float = 0.0
    late: float = 0.0
    late_by: float = 0.005
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate: float = 0.0  # B/s, of UDP payload
    queue: int = 256 << 10
    largest: int = 0  # UDP payload; larger ones vanish, and no ICMP says so
    outage: bool = False


class Direction:
    """What is on its way in one direction."""

    def __init__(self, seed: str) -> None:
        self.path = Path()
        self.flight: list[tuple[float, int, bytes]] = []
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._count = 0

    def take_in(self, data: bytes, now: float) -> None:
        path, chance = self.path, self._random.random
        if path.outage or (path.largest and len(data) > path.largest) or (path.loss and chance() < path.loss):
            return
        if path.rate:
            begins = max(now, self._free_at)
            if (begins - now) * path.rate > path.queue:
                return
            now = self._free_at = begins + len(data) / path.rate
        if path.corrupt and chance() < path.corrupt:
            at = int(chance() * len(data))
            data = data[:at] + bytes([data[at] ^ 1 << int(chance() * 8)]) + data[at + 1 :]
        for _ in range(2 if path.duplicate and chance() < path.duplicate else 1):
            late = path.late_by if path.late and chance() < path.late else 0.0
            self._count += 1
            heapq.heappush(self.flight, (now + path.delay + late, self._count, data))


class Relay:
    """The process.  Whoever wrote last at the near side is answered."""

    def __init__(self, control: str, port: int, far: tuple[str, int], seed: str) -> None:
        self.up, self.down = Direction(f"{seed} up"), Direction(f"{seed} down")
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("", port))
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.connect(far)
        self._client: tuple[str, int] | None = None
        for sock in (self._near, self._far):
            sock.setblocking(False)
            for option in (33, 32):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE: what we lose is to be chance's choice
                sock.setsockopt(socket.SOL_SOCKET, option, 16 << 20)
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._control.bind(control)

    def run(self) -> None:
        directions = (self.up, self.down)
        while True:
            now = time.monotonic()
            times = [direction.flight[0][0] for direction in directions if direction.flight]
            wait = max(0.0, min(times) - now) if times else None
            ready, _, _ = select.select([self._near, self._far, self._control], [], [], wait)
            if self._control in ready:
                self._obey(json.loads(self._control.recv(65536)))
            if self._near in ready:
                self._receive(self._near, self.up)
            if self._far in ready:
                self._receive(self._far, self.down)
            for direction in directions:
                self._emit(direction, time.monotonic())

    def _obey(self, order: dict[str, dict[str, float]]) -> None:
        self.up.path = Path(**order["up"])  # type: ignore[arg-type]
        self.down.path = Path(**order["down"])  # type: ignore[arg-type]

    def _receive(self, sock: socket.socket, direction: Direction) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            for _ in range(64):
                data, address = sock.recvfrom(65536)
                if sock is self._near:
                    self._client = address
                direction.take_in(data, time.monotonic())

    def _emit(self, direction: Direction, now: float) -> None:
        flight = direction.flight
        while flight and flight[0][0] <= now:
            data = heapq.heappop(flight)[2]
            with contextlib.suppress(OSError):  # full, or nobody is there at this moment: lost, as on any path
                if direction is self.up:
                    self._far.send(data)
                elif self._client is not None:
                    self._near.sendto(data, self._client)


class BadPath:
    """The relay's owner: `set` changes both directions, `endpoint` is what a configuration names."""

    def __init__(self, control: File) -> None:
        self._control = str(control)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def set(self, path: Path, down: Path | None = None) -> None:
        order = {"up": asdict(path), "down": asdict(down or path)}
        self._socket.sendto(json.dumps(order).encode(), self._control)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def bad_path(lab: Lab, *, seed: int = 1, port: int = PORT) -> Iterator[BadPath]:
    """A relay from the near host's `port` to the far peer, harmless until told otherwise."""
    from tests.support.lab import FAR, wait_for

    control = lab.dir / f"badpath{port}"
    command = [sys.executable, __file__, str(control), str(port), FAR, str(lab.far_port), str(seed)]
    process: subprocess.Popen[bytes] = lab.start(lab.near_command(*command), log="badpath.log")
    path = BadPath(control)
    try:
        wait_for(control.exists, f"the relay: {lab.log('badpath.log')}")
        yield path
        assert process.poll() is None, lab.log("badpath.log")
    finally:
        path.close()
        lab.end(process)
        control.unlink(missing_ok=True)


if __name__ == "__main__":
    Relay(sys.argv[1], int(sys.argv[2]), (sys.argv[3], int(sys.argv[4])), sys.argv[5]).run()
