"""usernet's TCP against kernel-to-kernel TCP over the same bad path (tests/support/badpath.py).  Needs root.

The kernel's pair are two wireguard-go with a TUN each; both kernels use CUBIC.  For each impairment the same files go
down and up over both, and the ratio is printed; then how long after an outage, or after the path's MTU fell with all
ICMP lost, the first byte went through again.  The relay passes at most RATE.

    python -m tests.bench.badpaths [--size-mb 16] [--rounds 1] [--limit 30] [--only NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path as File

from tests.support.badpath import PORT, BadPath, Path, bad_path
from tests.support.lab import (
    INNER_FAR,
    INNER_NEAR,
    NEAR,
    SINK_PORT,
    Lab,
    missing,
    run,
    wait_for,
)  # fmt: skip

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
    "1 % twice, 1 % damaged": Path(rate=RATE, delay=0.001, duplicate=0.01, corrupt=0.01),
}
OUTAGES = {
    "outage 10 s": (Path(rate=RATE, delay=0.010, outage=True), 10.0),
    "MTU 1300, no ICMP": (Path(rate=RATE, delay=0.010, largest=1300 - 28), 0.0),
}
Candidate = Callable[[Lab], contextlib.AbstractContextManager[list[str]]]


@contextlib.contextmanager
def usernet(lab: Lab) -> Iterator[list[str]]:
    process = lab.start_usernet(lab.config(endpoint=f"{NEAR}:{PORT}"))
    yield ["--proxy", "socks5h://127.0.0.1:1080"]
    lab.end(process)


@contextlib.contextmanager
def kernel(lab: Lab) -> Iterator[list[str]]:
    """The same peer, but with a TUN on the near host too."""
    device = f"{lab.device}n"
    process = lab.start(lab.near_command(lab.binary, "-f", device), log="near.log", env={"WG_PROCESS_FOREGROUND": "1"})
    wait_for(File(f"/var/run/wireguard/{device}.sock").exists, "the near peer's control socket")
    key = lab.dir / "near.key"
    key.write_text(lab.near_key)
    run(*lab.near_command("wg", "set", device, "private-key", str(key), "peer", lab.far_public, "preshared-key",
        str(lab.dir / "psk"), "endpoint", f"{NEAR}:{PORT}", "allowed-ips", "192.0.2.128/25"))  # fmt: skip
    run("ip", "-n", lab.near, "addr", "add", f"{INNER_NEAR}/25", "dev", device)
    run("ip", "-n", lab.near, "link", "set", device, "mtu", str(lab.mtu), "up")
    use_cubic(lab.near, device)
    yield ["--noproxy", "*"]
    lab.end(process)


def use_cubic(namespace: str, device: str) -> None:
    """By route, for a namespace may not choose any congestion control; and what one run learns is forgotten."""
    run("ip", "-n", namespace, "route", "replace", "192.0.2.128/25", "dev", device, "congctl", "cubic")
    run("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")


CANDIDATES: dict[str, Candidate] = {"kernel": kernel, "usernet": usernet}
DIRECTIONS = ("down", "up")


def target(lab: Lab, direction: str) -> list[str]:
    if direction == "down":
        return [f"http://{INNER_FAR}/blob"]
    return [f"http://{INNER_FAR}:{SINK_PORT}/discard", "-T", str(lab.dir / "site" / "blob")]


def throughput(lab: Lab, through: list[str], direction: str, limit: float) -> float:
    """MB/s of one whole transfer; of what there was by then, if the limit ends it."""
    command = ["curl", "-sS", *through, "--max-time", str(limit), "-o", "/dev/null",
               "-w", f"%{{size_{direction}load}} %{{time_total}}", *target(lab, direction)]  # fmt: skip
    done = subprocess.run(lab.near_command(*command), capture_output=True, text=True, timeout=limit + 20)
    size, seconds = map(float, done.stdout.split())
    return size / seconds / 1e6 if seconds else 0.0


def received(lab: Lab) -> int:
    """Bytes that the far kernel has had from its present connections with us, and we acknowledged of its own."""
    words = run(*lab.far_command("ss", "-Htin", "dst", INNER_NEAR)).split()
    names = ("bytes_received", "bytes_acked")
    return sum(int(word.partition(":")[2]) for word in words if word.partition(":")[0] in names)


def back_after(lab: Lab, path: BadPath, through: list[str], direction: str, bad: Path, seconds: float) -> float:
    """Seconds from the path's return (or change, where it stays) until the stream under way has moved by 256 KiB."""
    path.set(CLEAN)
    client = lab.start(
        lab.near_command("curl", "-sS", *through, "--limit-rate", "4M", "-o", "/dev/null", *target(lab, direction)),
        log="curl.log",
    )
    wait_for(lambda: received(lab) > 1 << 20, "the transfer to run")
    path.set(bad)
    if seconds:
        time.sleep(seconds)
        path.set(CLEAN)
    else:
        time.sleep(0.5)  # what was under way has arrived
    began, before = time.monotonic(), received(lab)
    try:
        while received(lab) < before + (256 << 10):
            if time.monotonic() - began > 30 or client.poll() is not None:
                return float("inf")
            time.sleep(0.02)
        return time.monotonic() - began
    finally:
        lab.end(client)
        path.set(CLEAN)


def row(name: str, cells: list[float], ratio: Callable[[float, float], float]) -> str:
    kernel_down, kernel_up, our_down, our_up = cells
    return (
        f"{name:28}"
        + "".join(f"{cell:9.2f}" for cell in (kernel_down, our_down))
        + (f"{ratio(our_down, kernel_down):7.2f}" + "".join(f"{cell:9.2f}" for cell in (kernel_up, our_up)))
        + f"{ratio(our_up, kernel_up):7.2f}"
    )


def heading(title: str) -> str:
    return f"{title:28}" + "".join(f"{d + ' ' + c[:6]:>9}" if c != "ratio" else f"{c:>7}"
                                   for d in DIRECTIONS for c in ("kernel", "ours", "ratio"))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=30)
    parser.add_argument("--only", help="impairments whose name contains this")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(f"badpaths: {reason}")
    chosen = [name for name in (*IMPAIRMENTS, *OUTAGES) if not options.only or options.only in name]
    results: dict[str, list[float]] = {name: [] for name in chosen}
    with Lab() as lab, bad_path(lab) as path:
        lab.blob("blob", options.size_mb << 20)
        use_cubic(lab.far, lab.device)
        for candidate in CANDIDATES.values():
            path.set(CLEAN)
            with candidate(lab) as through:
                throughput(lab, through, "down", options.limit)
                for name in chosen:
                    for direction in DIRECTIONS:
                        if name in OUTAGES:
                            lab.blob("blob", 64 << 20)
                            cell = back_after(lab, path, through, direction, *OUTAGES[name])
                        else:
                            path.set(IMPAIRMENTS[name])
                            cell = statistics.median(
                                throughput(lab, through, direction, options.limit) for _ in range(options.rounds)
                            )
                        results[name].append(cell)
                lab.blob("blob", options.size_mb << 20)
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {options.rounds} x {options.size_mb} MiB")
    print(heading("MB/s"))
    for name in chosen:
        if name in IMPAIRMENTS:
            print(row(name, results[name], lambda ours, theirs: ours / theirs if theirs else float("nan")))
    print(heading("seconds until it moves"))
    for name in chosen:
        if name in OUTAGES:
            print(row(name, results[name], lambda ours, theirs: ours / theirs if theirs else float("nan")))


if __name__ == "__main__":
    main()
