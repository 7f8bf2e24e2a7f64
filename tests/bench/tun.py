"""iperf3 over our TUN and over wireguard-go's own, both ways, alternating, against the same far peer.  Needs root.

    python -m tests.bench.tun [--seconds 3] [--rounds 3]

CPU is that of the near side's tunnel process, in seconds per GB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.lab import FAR, FAR_PORT, INNER_FAR, INNER_NEAR, Lab, run, wait_for

TICK = os.sysconf("SC_CLK_TCK")
WAYS = {"up": (), "down": ("-R",), "up, 8 streams": ("-P", "8"), "down, 8 streams": ("-P", "8", "-R")}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextlib.contextmanager
def usernet(lab: Lab) -> Iterator[int]:
    process = lab.start_usernet(lab.config(), "--tun", "bench0", "--state", "mem:")
    yield process.pid
    lab.end(process)


@contextlib.contextmanager
def wireguard_go(lab: Lab) -> Iterator[int]:
    name = "bench1"
    process = lab.start(lab.near_command(lab.binary, "-f", name), log="near.log", env={"WG_PROCESS_FOREGROUND": "1"})
    wait_for(Path(f"/var/run/wireguard/{name}.sock").exists, "its control socket")
    (lab.dir / "near.key").write_text(lab.near_key)
    run(*lab.near_command(
        "wg", "set", name, "private-key", str(lab.dir / "near.key"), "peer", lab.far_public,
        "preshared-key", str(lab.dir / "psk"), "endpoint", f"{FAR}:{FAR_PORT}", "allowed-ips", "192.0.2.128/25",
    ))  # fmt: skip
    run("ip", "-n", lab.near, "addr", "add", f"{INNER_NEAR}/25", "dev", name)
    run("ip", "-n", lab.near, "link", "set", name, "mtu", str(lab.mtu), "up")
    yield process.pid
    lab.end(process)


CANDIDATES = {"usernet": usernet, "wireguard-go": wireguard_go}


def measure(lab: Lab, pid: int, flags: tuple[str, ...], seconds: int) -> tuple[float, float]:
    """MB/s at the receiver, and CPU seconds per GB."""
    before = cpu_seconds(pid)
    command = lab.near_command("iperf3", "-J", "-c", INNER_FAR, "-t", str(seconds), *flags)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    end = json.loads(done.stdout)["end"]["sum_received"]
    spent = cpu_seconds(pid) - before
    return end["bits_per_second"] / 8e6, spent / (end["bytes"] / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with Lab("go-gso") as lab:
        lab.start(lab.far_command("iperf3", "-s"), log="iperf.log")
        wait_for(lambda: run(*lab.far_command("ss", "-Hltn", "sport = :5201")), "iperf3")
        for _ in range(options.rounds):
            for name, start in CANDIDATES.items():
                lab.forget_near()
                with start(lab) as pid:
                    run(*lab.near_command("ping", "-c", "1", "-W", "10", INNER_FAR))
                    for way, flags in WAYS.items():
                        found.setdefault((way, name), []).append(measure(lab, pid, flags, options.seconds))
    print(f"{'':<18}{'usernet':>22}{'wireguard-go':>22}{'ratio':>8}")
    for way in WAYS:
        medians = {
            name: [statistics.median(each) for each in zip(*found[way, name], strict=True)] for name in CANDIDATES
        }
        cells = [f"{rate:7.0f} MB/s {cpu:5.2f} s/GB" for rate, cpu in medians.values()]
        print(f"{way:<18}{cells[0]:>22}{cells[1]:>22}{medians['usernet'][0] / medians['wireguard-go'][0]:8.2f}")


if __name__ == "__main__":
    main()
