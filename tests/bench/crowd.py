"""Crowds at the proxy's door: thousands of connections, slow-loris ones, no descriptor left.  Needs root.

What is done to each candidate, each in a fresh process, while one good client connects, asks and is answered, ten times
a second:

    crowd        connections through the tunnel, each answered once, held, and all closed at once
    slow         clients that say nothing, a byte of SOCKS every five seconds, or a byte of HTTP every second
    descriptors  more silent clients than it may have descriptors, and then they leave

    python -m tests.bench.crowd [--open 10000] [--slow 2000] [--candidates native+uvloop,sing-box]

Exit status 1 where one of ours answers the good client after more than 100 ms, keeps more than 60 MB ten seconds after
a crowd has left, does not close every slow client and its descriptor, or spins or ends without descriptors.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.candidates import OURS, PORT, Candidate
from tests.bench.rows import resident
from tests.support.lab import INNER_FAR, Lab, missing, run, socket_in
from tests.support.load import LoadFailed, program

ROOT = Path(__file__).parents[2]
CANDIDATES = ("native+uvloop", "native+asyncio", "sing-box")
PERIOD = 0.1  # s between two good clients
HELD, AFTERWARDS = 3, 10  # s
OPENING = 120  # s
PATIENCE = 40  # s for the slow ones
FREE = 100  # descriptors, when there are few
WATCHED = 2.0  # s
MAX_WAIT, MAX_GROWTH, MAX_SPENT = 0.1, 60.0, 0.05  # s, MB, s
TUN_QUEUE = 50_000  # packets
REQUEST = b"\x05\x01\x00", b"\x05\x01\x00\x01" + socket.inet_aton(INNER_FAR) + (80).to_bytes(2, "big")


class GoodClient(threading.Thread):
    """Asks again and again; `waits` are the seconds of each answer, `failures` what went wrong instead."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.lab = lab
        self.waits: list[float] = []
        self.failures: list[str] = []
        self._ended = threading.Event()

    def run(self) -> None:
        with socket_in(self.lab.near):
            while not self._ended.wait(PERIOD):
                try:
                    self.waits.append(visit())
                except OSError as error:
                    self.failures.append(str(error))

    def take(self) -> list[float]:
        """What there is since the last call."""
        taken, self.waits = self.waits, []
        return taken

    def end(self) -> None:
        self._ended.set()
        self.join()


def visit(timeout: float = 10.0) -> float:
    """One page of the far web server through SOCKS5, over a new connection."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", PORT), timeout=timeout) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for words, length in zip(REQUEST, (2, 10), strict=True):
            sock.sendall(words)
            if len(sock.recv(length, socket.MSG_WAITALL)) != length:
                raise OSError("the proxy has closed it")
        sock.sendall(b"GET / HTTP/1.1\r\nHost: far\r\n\r\n")
        if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
            raise OSError("no answer")
    return time.monotonic() - began


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def spent(pid: int) -> float:
    """Seconds of processor time, of all threads."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def shown(waits: list[float]) -> str:
    """p50, p99, max in ms."""
    if not waits:
        return "none"
    ordered = sorted(waits)
    return " / ".join(
        f"{1e3 * wait:.1f}" for wait in (statistics.median(waits), ordered[len(ordered) * 99 // 100], ordered[-1])
    )


class Bench:
    """One candidate at a time in a laboratory."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.failed = False

    @contextmanager
    def running(self, candidate: Candidate) -> Iterator[tuple[subprocess.Popen[bytes], GoodClient]]:
        process = candidate.start(self.lab)
        good = GoodClient(self.lab)
        try:
            candidate.first_answer(self.lab)
            with socket_in(self.lab.near):
                for _ in range(100):  # everything is imported, and every buffer has been used
                    visit()
            good.start()
            yield process, good
        finally:
            good.end()
            self.lab.end(process)

    def say(self, candidate: Candidate, row: str, figure: str, *, right: bool = True) -> None:
        wrong = not right and candidate.name in OURS
        self.failed |= wrong
        print(f"  {row:34}{figure}{'   FAILED' if wrong else ''}", flush=True)

    def say_waits(self, candidate: Candidate, row: str, good: GoodClient) -> None:
        waits = good.take()
        figure = shown(waits) + (f", {len(good.failures)} failed: {good.failures[0]}" if good.failures else "")
        self.say(candidate, row, figure, right=bool(waits) and not good.failures and max(waits) <= MAX_WAIT)
        good.failures.clear()

    def crowd(self, candidate: Candidate, count: int) -> None:
        with self.running(candidate) as (process, good):
            time.sleep(2)
            before = resident(process.pid)
            self.say_waits(candidate, "good client alone, ms", good)
            options = [f"{key}={value}" for key, value in (candidate.way() or {}).items()]
            command = self.lab.near_command(program(), "hold", f"count={count}", *options)
            began = time.monotonic()
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
                assert holder.stdin is not None
                assert holder.stdout is not None
                if not select.select([holder.stdout], [], [], OPENING)[0]:
                    holder.kill()
                    raise LoadFailed(f"not {count} connections after {OPENING} s")
                seen = json.loads(holder.stdout.readline() or '{"up": 0}')
                self.say(candidate, "open connections", f"{seen['up']:.0f} in {time.monotonic() - began:.1f} s",
                         right=seen["up"] == count)  # fmt: skip
                self.say_waits(candidate, "good client while they open, ms", good)
                time.sleep(HELD)
                self.say_waits(candidate, "good client while they are held", good)
                held = resident(process.pid)
                holder.stdin.close()
            time.sleep(AFTERWARDS)
            self.say_waits(candidate, "good client while they close, ms", good)
            after = resident(process.pid)
            figure = ", ".join(f"{size / 1024:.1f}" for size in (before, held, after))
            self.say(candidate, "MB before, held, 10 s afterwards", figure, right=after - before < MAX_GROWTH * 1024)
            self.say(candidate, "descriptors left", str(descriptors(process.pid)))

    def slow(self, candidate: Candidate, count: int) -> None:
        with self.running(candidate) as (process, good):
            time.sleep(1)
            good.take()
            before = descriptors(process.pid)
            numbers = [str(number) for number in (count // 2, count // 4, count // 4, PATIENCE)]
            command = [sys.executable, "-m", "tests.support.slow", "127.0.0.1", str(PORT), *numbers]
            done = subprocess.run(
                self.lab.near_command(*command), capture_output=True, text=True, timeout=PATIENCE + 60, cwd=ROOT
            )
            if done.returncode:
                raise LoadFailed(done.stderr)
            seen = json.loads(done.stdout)
            left = descriptors(process.pid) - before
            for kind, row in seen.items():
                figure = f"{row['closed']} of {row['opened']} closed, the last after {row['last']:.1f} s"
                self.say(candidate, f"slow, {kind}", figure, right=row["closed"] == row["opened"])
            self.say_waits(candidate, "good client meanwhile, ms", good)
            self.say(candidate, "descriptors left", str(left), right=left <= 2)  # the good client's

    def descriptors(self, candidate: Candidate) -> None:
        with self.running(candidate) as (process, good):
            good.end()
            pid = process.pid
            usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) + FREE, usual[1]))
            lines = self.lab.log(f"{candidate.name}.log").count("\n")
            with ExitStack() as silent, socket_in(self.lab.near):
                for _ in range(2 * FREE):
                    silent.enter_context(socket.create_connection(("127.0.0.1", PORT)))
                time.sleep(0.5)
                before = spent(pid)
                time.sleep(WATCHED)
                cost = spent(pid) - before
            began = time.monotonic()
            recovered = process.poll() is None and self.served(began)
            took = time.monotonic() - began
            lines = self.lab.log(f"{candidate.name}.log").count("\n") - lines
            self.say(candidate, "CPU ms in 2 s, no descriptor left", f"{1e3 * cost:.1f}", right=cost < MAX_SPENT)
            state = f"served after {took:.2f} s" if recovered else f"no (exit status {process.poll()})"
            self.say(candidate, "recovers when they leave", state, right=recovered)
            self.say(candidate, "lines of log", str(lines), right=lines <= 1)

    def served(self, began: float) -> bool:
        with socket_in(self.lab.near):
            while time.monotonic() < began + PATIENCE:
                try:
                    visit(2.0)
                    return True
                except OSError:
                    time.sleep(0.05)
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open", type=int, default=10_000, help="connections at once")
    parser.add_argument("--slow", type=int, default=2000, help="slow clients")
    parser.add_argument("--candidates", default=",".join(CANDIDATES))
    parser.add_argument("--only", default="", help="crowd, slow or descriptors")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(f"crowd: {reason}")
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}", flush=True)
    print("the good client's waits: p50 / p99 / max", flush=True)
    with Lab() as lab:
        # Ten thousand FINs at once: what the far TUN drops of its answers would be waited for by RTO, and is not ours.
        run("ip", "-n", lab.far, "link", "set", lab.device, "txqueuelen", str(TUN_QUEUE))
        bench = Bench(lab)
        parts: dict[str, Callable[[Candidate], None]] = {
            "crowd": lambda candidate: bench.crowd(candidate, options.open),
            "slow": lambda candidate: bench.slow(candidate, options.slow),
            "descriptors": bench.descriptors,
        }
        for candidate in map(Candidate, options.candidates.split(",")):
            print(f"{candidate.name} ({candidate.absent() or candidate.version()})", flush=True)
            for name, part in parts.items():
                if options.only not in name or candidate.absent():
                    continue
                try:
                    part(candidate)
                except (OSError, RuntimeError, LoadFailed, subprocess.SubprocessError) as error:
                    bench.say(candidate, name, f"failed: {error}", right=False)
    raise SystemExit(bench.failed)


if __name__ == "__main__":
    main()
