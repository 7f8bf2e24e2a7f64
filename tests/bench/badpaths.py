"""usernet's TCP against kernel-to-kernel TCP over the same bad path (tests/support/badpath.py).  Needs root.

The kernel's pair are two wireguard-go with a TUN each; both kernels use CUBIC, and each candidate has a relay of its
own with the same seed.  For each impairment the same file goes down and up over one and the other in turn, and medians
are printed with their ratio; then how long after an outage, or after the path's MTU fell with all ICMP lost, streams
under way went on; then how evenly many streams share a bottleneck.  The relay passes at most RATE, save where a row
says otherwise.

    python -m tests.bench.badpaths [--size-mb 16] [--rounds 3] [--limit 30] [--only NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as File

from tests.support.badpath import PORT, BadPath, Path, bad_path
from tests.support.lab import INNER_FAR, INNER_NEAR, NEAR, SINK_PORT, Lab, missing, run, wait_for

RATE = 12.5e6  # B/s: 100 Mbit/s
CLEAN = Path(rate=RATE, delay=0.001)
IMPAIRMENTS = {
    "clean, RTT 2 ms": CLEAN,
    "loss 1 %": Path(rate=RATE, delay=0.001, loss=0.01),
    "loss 1 %, RTT 50 ms": Path(rate=RATE, delay=0.025, loss=0.01),
    "10 % 5 ms late": Path(rate=RATE, delay=0.001, late=0.1),
    "10 % 5 ms late, RTT 20 ms": Path(rate=RATE, delay=0.010, late=0.1),
    "RTT 100 ms": Path(rate=RATE, delay=0.050, queue=2 << 20),
    "RTT 100 ms, small queue": Path(rate=RATE, delay=0.050, queue=128 << 10),
    "RTT 100 ms, no bottleneck": Path(delay=0.050),
    "1 % twice, 1 % damaged": Path(rate=RATE, delay=0.001, duplicate=0.01, corrupt=0.01),
}
CALM = Path(rate=RATE, delay=0.010)
ONCE = "MTU 1300, no ICMP"  # what a path takes is remembered: the next rounds would measure nothing
CHANGES = {  # and for how long; 0: it stays
    "outage 10 s": (Path(rate=RATE, delay=0.010, outage=True), 10.0),
    "outage 30 s": (Path(rate=RATE, delay=0.010, outage=True), 30.0),
    ONCE: (Path(rate=RATE, delay=0.010, largest=1300 - 28), 0.0),
}
SHARED = "flows share it"
FLOWS = 32
MOVED = 64 << 10  # B that a stream must get through to count as going on
PATIENCE = 30.0  # s that it gets for that
KERNEL_NEAR = "192.0.2.131"
PORTS = {"down": 80, "up": SINK_PORT}  # of the far host: who sends


@dataclass(frozen=True)
class Candidate:
    """How curl goes there, from what inner address its connections then come, and the path they take."""

    through: tuple[str, ...]
    address: str
    path: BadPath


@contextlib.contextmanager
def usernet(lab: Lab) -> Iterator[Candidate]:
    with bad_path(lab) as path:
        process = lab.start_usernet(lab.config(endpoint=f"{NEAR}:{PORT}"))
        yield Candidate(("--proxy", "socks5h://127.0.0.1:1080"), INNER_NEAR, path)
        lab.end(process)


@contextlib.contextmanager
def kernel(lab: Lab) -> Iterator[Candidate]:
    """A second host, with a TUN and a key of its own."""
    device, control, port = f"{lab.device}n", File(f"/var/run/wireguard/{lab.device}n.sock"), PORT + 1
    key = lab.dir / "kernel.key"
    key.write_text(run("wg", "genkey"))
    lab.wg("set", lab.device, "peer", run("wg", "pubkey", stdin=key.read_text()), "allowed-ips", f"{KERNEL_NEAR}/32")
    with bad_path(lab, port=port) as path:
        environment = {"WG_PROCESS_FOREGROUND": "1"}
        process = lab.start(lab.near_command(lab.binary, "-f", device), log="near.log", env=environment)
        wait_for(control.exists, "the near peer's control socket")
        run(*lab.near_command("wg", "set", device, "private-key", str(key), "peer", lab.far_public,
            "endpoint", f"{NEAR}:{port}", "allowed-ips", "192.0.2.128/25"))  # fmt: skip
        run("ip", "-n", lab.near, "addr", "add", f"{KERNEL_NEAR}/25", "dev", device)
        run("ip", "-n", lab.near, "link", "set", device, "mtu", str(lab.mtu), "up")
        use_cubic(lab.near, device)
        yield Candidate(("--noproxy", "*"), KERNEL_NEAR, path)
        lab.end(process)


def use_cubic(namespace: str, device: str) -> None:
    """By route, for a namespace may not choose any congestion control; and what one run learns is forgotten."""
    run("ip", "-n", namespace, "route", "replace", "192.0.2.128/25", "dev", device, "congctl", "cubic")
    run("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")


CANDIDATES = {"kernel": kernel, "ours": usernet}
Cells = dict[tuple[str, str], list[float]]  # by direction and candidate


def target(lab: Lab, direction: str) -> list[str]:
    if direction == "down":
        return ["-o", "/dev/null", f"http://{INNER_FAR}/blob"]
    return ["-o", "/dev/null", "-T", str(lab.dir / "site" / "blob"), f"http://{INNER_FAR}:{SINK_PORT}/discard"]


def throughput(lab: Lab, candidate: Candidate, direction: str, limit: float) -> float:
    """MB/s of one whole transfer; of what there was by then, if the limit ends it."""
    command = ["curl", "-sS", *candidate.through, "--max-time", str(limit),
               "-w", f"%{{size_{direction}load}} %{{time_total}}", *target(lab, direction)]  # fmt: skip
    done = subprocess.run(lab.near_command(*command), capture_output=True, text=True, timeout=limit + 20)
    size, seconds = map(float, done.stdout.split())
    return size / seconds / 1e6 if seconds else 0.0


def moved(lab: Lab, address: str, direction: str) -> dict[str, int]:
    """Bytes that the far kernel has had (up) or knows to have arrived (down), by the stream's near address."""
    name = "bytes_received:" if direction == "up" else "bytes_acked:"
    found = {}
    for line in run(*lab.far_command("ss", "-HtinO", f"sport = :{PORTS[direction]} and dst {address}")).splitlines():
        words = line.split()
        found[words[4]] = next((int(word.removeprefix(name)) for word in words if word.startswith(name)), 0)
    return found


def received(lab: Lab, address: str = INNER_NEAR, direction: str = "up") -> int:
    return sum(moved(lab, address, direction).values())


def transfers(lab: Lab, limit: float, candidates: dict[str, Candidate], path: Path) -> Cells:
    cells: Cells = {}
    for direction in PORTS:
        for name, candidate in candidates.items():
            candidate.path.set(path)
            cells[direction, name] = [throughput(lab, candidate, direction, limit)]
    return cells


def change(lab: Lab, candidates: dict[str, Candidate], bad: Path, seconds: float) -> Cells:
    """Seconds from the path's return, or its change where it stays, until streams under way have moved by MOVED.

    All of them at once: they are slow ones.
    """
    streams = [(direction, name) for direction in PORTS for name in candidates]
    clients = {
        (direction, name): lab.start(
            lab.near_command("curl", "-sS", *candidates[name].through, "--limit-rate", "2M", *target(lab, direction)),
            log="curl.log",
        )
        for direction, name in streams
    }

    def at(stream: tuple[str, str]) -> int:
        return received(lab, candidates[stream[1]].address, stream[0])

    for candidate in candidates.values():
        candidate.path.set(CALM)
    for stream in streams:
        wait_for(lambda stream=stream: at(stream) > 1 << 20, f"{stream} to be under way")  # type: ignore[misc]
    for candidate in candidates.values():
        candidate.path.set(bad)
    time.sleep(seconds or 0.5)  # the outage; or until what was under way has arrived
    before = {stream: at(stream) for stream in streams}
    if seconds:
        for candidate in candidates.values():
            candidate.path.set(CALM)
    began = time.monotonic()
    cells: Cells = {}
    while len(cells) < len(streams) and time.monotonic() - began < PATIENCE:
        for stream in streams:
            if stream not in cells and at(stream) >= before[stream] + MOVED:
                cells[stream] = [time.monotonic() - began]
    for client in clients.values():
        lab.end(client)
    return {stream: cells.get(stream, [float("inf")]) for stream in streams}


def jain(sizes: list[int]) -> float:
    return sum(sizes) ** 2 / (len(sizes) * sum(size * size for size in sizes))


def evenness(lab: Lab, candidate: Candidate, direction: str, seconds: float = 10.0) -> float:
    """Jain's index of FLOWS streams over one bottleneck, after a moment to settle."""
    candidate.path.set(CALM)
    command = ["curl", "-sS", *candidate.through, "-Z", "--parallel-immediate", "--parallel-max", str(FLOWS)]
    client = lab.start(lab.near_command(*command, *target(lab, direction) * FLOWS), log="curl.log")
    wait_for(lambda: len(moved(lab, candidate.address, direction)) == FLOWS, "the streams")
    time.sleep(3)
    before = moved(lab, candidate.address, direction)
    time.sleep(seconds)
    after = moved(lab, candidate.address, direction)
    lab.end(client)
    candidate.path.set(Path())  # what is still under way may be over quickly
    wait_for(lambda: not moved(lab, candidate.address, direction), "their end")
    return jain([after[stream] - before[stream] for stream in before])


def shares(lab: Lab, candidates: dict[str, Candidate]) -> Cells:
    return {(to, name): [evenness(lab, candidates[name], to)] for to in PORTS for name in candidates}


def row(name: str, cells: Cells) -> str:
    words = [f"{name:26}"]
    for direction in PORTS:
        theirs, ours = (statistics.median(cells[direction, candidate]) for candidate in CANDIDATES)
        words.append(f"{theirs:9.2f}{ours:9.2f}{ours / theirs if theirs else float('nan'):7.2f}")
    return "".join(words)


def heading(title: str) -> str:
    return f"{title:26}" + "".join(f"{direction + ' kernel':>12}{'ours':>6}{'ratio':>7}" for direction in PORTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=30)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(f"badpaths: {reason}")
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, medians of {options.rounds}")
    with Lab() as lab, contextlib.ExitStack() as stack:
        use_cubic(lab.far, lab.device)
        candidates = {name: stack.enter_context(candidate(lab)) for name, candidate in CANDIDATES.items()}

        def section(title: str, size: int, rows: dict[str, Callable[[], Cells]]) -> None:
            chosen = {name: measure for name, measure in rows.items() if options.only in name}
            if chosen:
                lab.blob("blob", size)
                print(heading(title), flush=True)
            for name, measure in chosen.items():
                found: Cells = {}
                for _ in range(1 if name == ONCE else options.rounds):
                    for key, cells in measure().items():
                        found.setdefault(key, []).extend(cells)
                print(row(name, found), flush=True)

        for candidate in candidates.values():
            candidate.path.set(CLEAN)
        lab.blob("blob", 1 << 20)
        transfers(lab, options.limit, candidates, CLEAN)  # handshakes are over
        section(f"MB/s, {options.size_mb} MiB", options.size_mb << 20, {
            name: lambda path=path: transfers(lab, options.limit, candidates, path)  # type: ignore[misc]
            for name, path in IMPAIRMENTS.items()
        })  # fmt: skip
        section("seconds until it goes on", 256 << 20, {
            name: lambda bad=bad: change(lab, candidates, *bad)  # type: ignore[misc]
            for name, bad in CHANGES.items()
        })  # fmt: skip
        section("Jain index", 256 << 20, {f"{FLOWS} {SHARED}": lambda: shares(lab, candidates)})


if __name__ == "__main__":
    main()
