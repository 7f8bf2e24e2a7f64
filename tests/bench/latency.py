"""What a bulk flow adds to an interactive one: GETs of a small page, one after the other over one kept SOCKS5
connection, alone and beside downloads and uploads through the same proxy and tunnel.  Needs root.

    python -m tests.bench.latency [--seconds 4] [--rounds 3] [--candidates native+uvloop,sing-box] [--peer go-gso]

The machine's processor and the far peer's queues are shared with the bulk, whoever carries it.  So each row asks by
turns through the candidate that carries the bulk and through a second process, an idle usernet with a key of its own to
the same far peer: `added` is what the first one's p95 is above the second's, and that much is the candidate's own.
Rounds alternate the candidates.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench.candidates import PORT, Candidate
from tests.bench.rows import cpu_seconds
from tests.support.lab import FAR, FAR_PORT, INNER_FAR, PEERS, SINK_PORT, Lab, missing, peer_binary, socket_in

CANDIDATES = ("native+asyncio", "native+uvloop", "sing-box")
APART_PORT, APART = 1081, "192.0.2.131"  # where the second process listens, and its inner address
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

    def __init__(self, lab: Lab, port: int) -> None:
        with socket_in(lab.near):
            self._sock = socket.create_connection(("127.0.0.1", port), timeout=20)
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


@contextlib.contextmanager
def apart(lab: Lab) -> Iterator[None]:
    """The second process."""
    key, public = lab.keypair()
    lab.wg("set", lab.device, "peer", public, "allowed-ips", f"{APART}/32")
    path = lab.dir / "apart.conf"
    path.touch(mode=0o600)
    path.write_text(
        f"[Interface]\nPrivateKey = {key}\nAddress = {APART}/25\nMTU = {lab.mtu}\n\n"
        f"[Peer]\nPublicKey = {lab.far_public}\nEndpoint = {FAR}:{FAR_PORT}\nAllowedIPs = 192.0.2.128/25\n"
    )
    address = f"127.0.0.1:{APART_PORT}"
    process = lab.start_usernet(path, "--socks5-server", address, log="apart.log", port=APART_PORT)
    try:
        yield
    finally:
        lab.end(process)


@dataclass
class Row:
    """Latencies, s, through the candidate and apart from it; the candidate's shares of a core in each round."""

    through: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)

    def measure(self, lab: Lab, pid: int, name: str, seconds: float) -> None:
        clients = ((Client(lab, PORT), self.through), (Client(lab, APART_PORT), self.beside))
        try:
            with bulk(lab, *BULK[name]):
                for client, _ in clients:
                    client.ask()
                cpu, began = cpu_seconds(pid), time.monotonic()
                while time.monotonic() < began + seconds:
                    for client, samples in clients:
                        samples.append(client.ask())
                        time.sleep(0.003)  # interactive: at no fixed phase of anything, and no load itself
                self.cores.append((cpu_seconds(pid) - cpu) / (time.monotonic() - began))
        finally:
            for client, _ in clients:
                client.close()


def quantile(samples: list[float], share: float) -> float:
    """ms."""
    return 1000 * sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]


def table(candidate: str, rows: dict[str, Row]) -> str:
    titles = ("samples", "p50 ms", "p95", "p99", "max", "apart p95", "added", "% core")
    lines = [f"\n{candidate:16}" + "".join(f"{title:>10}" for title in titles)]
    for name, row in rows.items():
        p50, p95, p99, most = (quantile(row.through, share) for share in (0.5, 0.95, 0.99, 1.0))
        beside, core = quantile(row.beside, 0.95), 100 * sum(row.cores) / len(row.cores)
        figures = "".join(f"{figure:10.2f}" for figure in (p50, p95, p99, most, beside, p95 - beside))
        lines.append(f"{name:16}{len(row.through):10}{figures}{core:10.0f}")
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
    results = {candidate: {name: Row() for name in BULK} for candidate in candidates}
    with Lab(options.peer) as lab, apart(lab):
        with (lab.dir / "site" / "blob").open("wb") as file:
            file.truncate(BLOB_BYTES)
        for _ in range(options.rounds):
            for candidate in candidates:
                process = Candidate(candidate).start(lab)
                lab.curl(f"http://{INNER_FAR}/")
                for name, row in results[candidate].items():
                    row.measure(lab, process.pid, name, options.seconds)
                lab.end(process)
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.rounds} rounds"
    )
    for candidate in candidates:
        print(table(candidate, results[candidate]))


if __name__ == "__main__":
    main()
