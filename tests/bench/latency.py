"""What a bulk flow adds to an interactive one: GETs of a small page, one after the other over one kept SOCKS5
connection, alone and beside downloads and uploads through the same proxy and tunnel.  Needs root.

    python -m tests.bench.latency [--seconds 4] [--rounds 3] [--candidates native+uvloop,sing-box] [--peer go-gso]

Rounds alternate the candidates.  Queues of the far peer and the processor's other users count in all of them alike: the
same row of another candidate says what they come to.  `added` is a row's p95 less that of the row `alone`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.bench.candidates import Candidate
from tests.bench.rows import cpu_seconds
from tests.support.lab import INNER_FAR, PEERS, SINK_PORT, Lab, missing, peer_binary, socket_in

CANDIDATES = ("native+asyncio", "native+uvloop", "sing-box")
BLOB_BYTES = 8 << 30  # sparse: more than any row gets through
REQUEST = f"GET / HTTP/1.1\r\nHost: {INNER_FAR}\r\n\r\n".encode()

BULK: dict[str, tuple[str, int]] = {
    "alone": ("", 0),
    "1 down": ("down", 1),
    "8 down": ("down", 8),
    "1 up": ("up", 1),
    "8 up": ("up", 8),
}


class Client:
    """One interactive client."""

    def __init__(self, lab: Lab) -> None:
        with socket_in(lab.near):
            self._sock = socket.create_connection(("127.0.0.1", 1080), timeout=20)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.sendall(b"\x05\x01\x00")
        self._sock.recv(2)
        self._sock.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(INNER_FAR) + (80).to_bytes(2, "big"))
        if self._sock.recv(10)[:2] != b"\x05\x00":
            raise SystemExit("latency: the proxy refused")

    def ask(self) -> float:
        """Seconds from a request to the end of its answer."""
        began = time.perf_counter()
        self._sock.sendall(REQUEST)
        answer = b""
        while not answer.endswith(b"far side\n"):
            piece = self._sock.recv(65536)
            if not piece:
                raise SystemExit("latency: the far side hung up")
            answer += piece
        return time.perf_counter() - began

    def close(self) -> None:
        self._sock.close()


@contextlib.contextmanager
def bulk(lab: Lab, direction: str, streams: int) -> Iterator[None]:
    blob = str(lab.dir / "site" / "blob")
    arguments = {"down": [f"http://{INNER_FAR}/blob"], "up": ["-T", blob, f"http://{INNER_FAR}:{SINK_PORT}/discard"]}
    curl = ["curl", "-sS", "--noproxy", "", "--proxy", "socks5h://127.0.0.1:1080", "-o", "/dev/null"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(streams):
            processes.append(lab.start(lab.near_command(*curl, *arguments[direction]), log="curl.log"))
        time.sleep(1 if streams else 0)  # past slow start
        yield
        if any(process.poll() is not None for process in processes):
            raise SystemExit(f"latency: the bulk ended early: {lab.log('curl.log')}")
    finally:
        for process in processes:
            lab.end(process)


def row(lab: Lab, pid: int, name: str, seconds: float) -> tuple[list[float], float]:
    """The latencies, and the candidate's share of a core meanwhile."""
    client = Client(lab)
    try:
        with bulk(lab, *BULK[name]):
            client.ask()
            cpu, began = cpu_seconds(pid), time.monotonic()
            samples = []
            while time.monotonic() < began + seconds:
                samples.append(client.ask())
                time.sleep(0.003)  # interactive: at no fixed phase of anything, and no load itself
            return samples, (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    finally:
        client.close()


def quantile(samples: list[float], share: float) -> float:
    """ms."""
    return 1000 * sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]


def table(candidate: str, results: dict[str, tuple[list[float], list[float]]]) -> str:
    alone = quantile(results["alone"][0], 0.95)
    lines = [f"\n{candidate:16}{'samples':>9}{'p50 ms':>9}{'p95':>9}{'p99':>9}{'max':>9}{'added':>9}{'% core':>9}"]
    for name, (samples, cores) in results.items():
        p50, p95, p99, most = (quantile(samples, share) for share in (0.5, 0.95, 0.99, 1.0))
        core = 100 * sum(cores) / len(cores)
        lines.append(f"{name:16}{len(samples):9}{p50:9.2f}{p95:9.2f}{p99:9.2f}{most:9.2f}{p95 - alone:9.2f}{core:9.0f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", choices=list(PEERS), default="go-gso")
    parser.add_argument("--candidates", default=",".join(CANDIDATES))
    options = parser.parse_args()
    reason = missing() or (None if peer_binary(options.peer) else f"no {PEERS[options.peer]}")
    if reason:
        raise SystemExit(f"latency: {reason}")
    candidates = options.candidates.split(",")
    for candidate in candidates:
        if absent := Candidate(candidate).absent():
            raise SystemExit(f"latency: {candidate}: {absent}")
    results: dict[str, dict[str, tuple[list[float], list[float]]]] = {
        candidate: {name: ([], []) for name in BULK} for candidate in candidates
    }
    with Lab(options.peer) as lab:
        with (lab.dir / "site" / "blob").open("wb") as file:
            file.truncate(BLOB_BYTES)
        for _ in range(options.rounds):
            for candidate in candidates:
                process = Candidate(candidate).start(lab)
                lab.curl(f"http://{INNER_FAR}/")
                for name, (samples, cores) in results[candidate].items():
                    more, core = row(lab, process.pid, name, options.seconds)
                    samples += more
                    cores.append(core)
                lab.end(process)
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.rounds} rounds"
    )
    for candidate in candidates:
        print(table(candidate, results[candidate]))


if __name__ == "__main__":
    main()
