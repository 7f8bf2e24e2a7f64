"""How a server in usernet's tunnel does while it is flooded (tests/interop/hostile.py).  Needs root.

Each flood comes twice.  First good clients, the far kernel's, connect, ask and are answered, one after the other; when
all floods are through, one of them uploads again and again.  The flood takes processor time too, and so does the far
peer that carries it: in the last row initiations go where nobody listens, so compare with that the row above it.

    python -m tests.bench.floods [--rate 10000] [--rounds 1] [--only NAME]

Exit status 1 where it grew by more than 10 MB, or 1 of 100 good clients waited for more than 100 ms.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.lab import (
    INNER_FAR,
    INNER_FAR6,
    INNER_NEAR,
    INNER_NEAR6,
    NEAR,
    Lab,
    missing,
    run,
    socket_in,
    wait_for,
)
from usernet.stack.connections import MAX_TIME_WAIT

PORT = 8000
CLOSED_PORT = "9"
SIZE = 16 << 20
MAX_GROWTH = 10e6  # B
MAX_P99 = 0.1  # s
INTEROP = Path(__file__).parents[1] / "interop"


@dataclass
class Row:
    """What several rounds of one flood have shown."""

    sent: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    growth: list[int] = field(default_factory=list)  # B, at the most
    waits: list[float] = field(default_factory=list)  # s, of each good client
    rates: list[float] = field(default_factory=list)  # B/s, of each upload

    def p99(self) -> float:
        return sorted(self.waits)[len(self.waits) * 99 // 100]

    def __str__(self) -> str:
        rate = sum(self.sent) / sum(self.seconds)
        waits = f"{statistics.median(self.waits) * 1e3:8.1f}{self.p99() * 1e3:8.1f}{max(self.waits) * 1e3:8.1f}"
        return (
            f"{statistics.median(self.sent):9,.0f}{rate:9,.0f}{max(self.growth) / 1e6:8.1f}{len(self.waits):9}{waits}"
            f"{statistics.median(self.rates) / 1e6:9.1f}"
        )


class Bench:
    """A server, its good clients and its enemies."""

    def __init__(self, lab: Lab, rate: int) -> None:
        self.lab = lab
        self.environment = {"PYTHONPATH": str(INTEROP.parents[1]), "PYTHONUNBUFFERED": "1", "FLOOD_RATE": str(rate)}
        command = [sys.executable, str(INTEROP / "tunnel_server.py"), str(lab.config(keepalive=1)), str(PORT)]
        self.server = lab.start(lab.near_command(*command), log="server.log", env=self.environment)
        wait_for(lambda: "serving" in lab.log("server.log"), "the server")
        wait_for(lambda: lab.near_public in lab.wg("show", lab.device, "endpoints"), "its handshake")
        self.outer_port = lab.wg("show", lab.device, "endpoints").rpartition(":")[2]
        lab.blob("blob", SIZE)
        for _ in range(10):  # its buffers have been filled
            self.upload()
        for _ in range(MAX_TIME_WAIT):  # good clients leave these behind
            self.visit()

    def floods(self) -> dict[str, list[str]]:
        device, key = self.lab.device, self.lab.near_public
        return {
            "none": [],
            "100,000 SYNs": ["syn", device, INNER_NEAR, str(PORT), "100000"],
            "50,000 fragments, IPv4": ["fragments", device, INNER_FAR, INNER_NEAR, "50000"],
            "50,000 fragments, IPv6": ["fragments", device, INNER_FAR6, INNER_NEAR6, "50000"],
            "27,000 broken packets, IPv4": ["tun", device, INNER_FAR, INNER_NEAR],
            "27,000 broken packets, IPv6": ["tun", device, INNER_FAR6, INNER_NEAR6],
            "60,000 initiations": ["initiations", NEAR, self.outer_port, key, "60000"],
            "initiations, unheard": ["unheard", NEAR, CLOSED_PORT, key, "60000"],
        }

    def resident(self) -> int:
        """B."""
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def measure(self, floods: dict[str, list[str]], rows: dict[str, Row]) -> None:
        """One round."""
        for name, flood in floods.items():
            row, size = rows[name], self.resident()
            sent, seconds, most = self.during(flood, lambda row=row: row.waits.append(self.visit()))  # type: ignore[misc]
            row.sent.append(sent)
            row.seconds.append(seconds)
            row.growth.append(most - size)
        for name, flood in floods.items():  # after all that, for their buffers are large
            self.during(flood, lambda row=rows[name]: row.rates.append(self.upload()))  # type: ignore[misc]

    def during(self, flood: list[str], work: Callable[[], None]) -> tuple[int, float, int]:
        """Work during the flood, or three seconds; the flood's packets, its seconds, and the server's greatest size."""
        most, began = 0, time.monotonic()
        if not flood:
            while time.monotonic() < began + 3:
                work()
                most = max(most, self.resident())
            return 0, 3.0, most
        command = self.lab.far_command(sys.executable, str(INTEROP / "hostile.py"), *flood)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **self.environment}
        ) as attacker:
            while attacker.poll() is None:
                work()
                most = max(most, self.resident())
            assert attacker.stdout is not None
            return int(attacker.stdout.read()), time.monotonic() - began, most

    def visit(self) -> float:
        """Seconds until a new connection has had its answer."""
        with socket_in(self.lab.far):
            sock = socket.socket()
        with sock:
            sock.settimeout(20)
            began = time.monotonic()
            sock.connect((INNER_NEAR, PORT))
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
                raise SystemExit("a good client was not answered")
            return time.monotonic() - began

    def upload(self) -> float:
        """B/s."""
        blob = str(self.lab.dir / "site" / "blob")
        seconds = run(*self.lab.far_command(
            "curl", "-sS", "-o", "/dev/null", "-w", "%{time_total}", "-T", blob, f"http://{INNER_NEAR}:{PORT}/"
        ))  # fmt: skip
        return SIZE / float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000, help="packets per second")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(f"floods: {reason}")
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {options.rounds} rounds")
    print(f"{'':28}{'packets':>9}{'/s':>9}{'MB more':>8}{'clients':>9}{'p50 ms':>8}{'p99':>8}{'max':>8}{'MB/s up':>9}")
    with Lab() as lab:
        bench = Bench(lab, options.rate)
        floods = {name: flood for name, flood in bench.floods().items() if options.only in name}
        rows = {name: Row() for name in floods}
        for _ in range(options.rounds):
            bench.measure(floods, rows)
    for name, row in rows.items():
        print(f"{name:28}{row}", flush=True)
    failed = any(max(row.growth) > MAX_GROWTH or row.p99() > MAX_P99 for row in rows.values())
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
