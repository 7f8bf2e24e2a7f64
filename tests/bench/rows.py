"""How each row is measured: one process of a candidate, the load generator beside it, and /proc."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.candidates import PORT, Candidate
from tests.bench.results import MACHINE, Results
from tests.support.lab import INNER_FAR, SINK_PORT, Lab
from tests.support.load import LoadFailed, load, program

TICKS = os.sysconf("SC_CLK_TCK")
CLIENTS = 50
ECHO_PORT = 7
DATAGRAM = 512
PAYLOAD = 1420 - 20 - 32  # of a full packet: less IPv4, and TCP with timestamps
AEAD = ("openssl", "speed", "-mr", "-seconds", "1", "-bytes", "1420", "-evp", "chacha20-poly1305")
SLOW_SHARE = 8  # onetun moves so much less, or the run would wait for it only
PATIENCE = 60  # s, until all connections are held
SETTLE, AFTERWARDS = 5, 10  # s


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int, field: str = "VmRSS") -> float:
    """KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {field} of {pid}")


@dataclass
class Bench:
    """Measures in a laboratory, into `results`.  A row that a candidate has failed is not tried with it again."""

    lab: Lab
    kind: str
    results: Results
    megabytes: int
    seconds: float

    def prepare(self) -> None:
        for share in (1, SLOW_SHARE):
            for streams in (1, 8):
                size = (self.megabytes << 20) // streams // share
                self.lab.blob(f"blob{size}", size)
        self.lab.start(self.lab.far_command(program(), "echo", f"at={INNER_FAR}:{ECHO_PORT}"), log="echo.log")

    def attempt(self, row: str, candidate: Candidate, measure: Callable[[], None]) -> None:
        if (row, candidate.name) in self.results.failures:
            return
        try:
            measure()
        except (LoadFailed, OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = "not supported" if str(error) == "SOCKS5 reply 7" else "failed"
            self.results.fail(row, candidate.name, reason)
            print(f"  {row}, {candidate.name}: {error}", flush=True)

    def with_process(
        self, row: str, candidate: Candidate, measure: Callable[[int], None], *, unprivileged: bool = False
    ) -> None:
        """In a process of its own, which has answered once."""

        def work() -> None:
            began = time.monotonic()
            process = candidate.start(self.lab, unprivileged=unprivileged)
            try:
                candidate.first_answer(self.lab)
                if row == "first byte":
                    self.results.add(row, candidate.name, time.monotonic() - began)
                measure(process.pid)
            finally:
                self.lab.end(process)

        self.attempt(row, candidate, work)

    def load(self, mode: str, **options: object) -> dict[str, float]:
        """Errors are failures here."""
        line = load(self.lab.near_command(), mode, **options)
        if line["errors"] and mode != "udp":
            raise LoadFailed(f"{line['errors']} errors, the first: {line['error']}")
        return line

    # -- what one process of a candidate goes through --

    def everything(self, candidate: Candidate) -> None:
        """A thousand connections have a process of their own, for onetun does nothing after them."""
        high: list[float] = []

        def measure(pid: int) -> None:
            self.results.add("start", candidate.name, resident(pid) / 1024)
            self.requests(candidate, pid)
            self.udp(candidate, pid)
            self.bulk(candidate, pid)
            high.append(resident(pid, "VmHWM") / 1024)

        def measure_held(pid: int) -> None:
            self.held(candidate, pid, 1000)
            high.append(resident(pid, "VmHWM") / 1024)

        self.with_process("first byte", candidate, measure)
        self.with_process("1000 each", candidate, measure_held)
        if high:
            self.results.add("peak", candidate.name, max(high))

    def requests(self, candidate: Candidate, pid: int) -> None:
        for via in ("socks5", "http"):
            for key, fresh in ((via, {}), (f"{via} fresh", {"fresh": 1})):
                if way := candidate.way(via=via):
                    self.attempt(key, candidate, lambda k=key, o={**way, **fresh}: self._many(candidate, pid, k, o))  # type: ignore[misc]
        self.attempt("one p50", candidate, lambda: self._one(candidate))

    def _many(self, candidate: Candidate, pid: int, key: str, options: dict[str, object]) -> None:
        cpu = cpu_seconds(pid)
        seen = self.load("get", clients=CLIENTS, seconds=self.seconds, **options)
        cpu = cpu_seconds(pid) - cpu
        self.results.add(key, candidate.name, seen["rate"])
        self.results.add(f"{key} p50", candidate.name, seen["p50_ms"])
        self.results.add(f"{key} p99", candidate.name, seen["p99_ms"])
        # Each client's first and last one are not in `requests`.
        self.results.add(f"{key} cpu", candidate.name, cpu / (seen["requests"] + 2 * CLIENTS) * 1e6)

    def _one(self, candidate: Candidate) -> None:
        seen = self.load("get", clients=1, seconds=self.seconds, **(candidate.way() or {}))
        self.results.add("one p50", candidate.name, seen["p50_ms"])
        self.results.add("one p99", candidate.name, seen["p99_ms"])

    def udp(self, candidate: Candidate, pid: int) -> None:
        if candidate.name == "onetun":  # it has no SOCKS
            return
        options = {"proxy": f"127.0.0.1:{PORT}", "to": f"{INNER_FAR}:{ECHO_PORT}", "size": DATAGRAM}

        def measure() -> None:
            cpu = cpu_seconds(pid)
            seen = self.load("udp", clients=8, seconds=self.seconds, **options)
            cpu = cpu_seconds(pid) - cpu
            self.results.add("udp", candidate.name, seen["rate"])
            self.results.add("udp cpu", candidate.name, cpu / max(1, seen["datagrams"]) * 1e6)

        self.attempt("udp", candidate, measure)

    def bulk(self, candidate: Candidate, pid: int, *, prefix: str = "", streams: tuple[int, ...] = (1, 8)) -> None:
        for count in streams:
            for mode in ("down", "up"):
                kind = prefix or self.kind
                key = f"{kind} {mode} {count}"
                if (f"{kind} {mode} 1", candidate.name) in self.results.failures:
                    self.results.fail(key, candidate.name, "failed")  # eight would not fare better
                self.attempt(key, candidate, lambda k=key, m=mode, c=count: self._transfer(candidate, pid, k, m, c))  # type: ignore[misc]

    def _transfer(self, candidate: Candidate, pid: int, key: str, mode: str, streams: int) -> None:
        size = (self.megabytes << 20) // streams // (SLOW_SHARE if candidate.name == "onetun" else 1)
        if mode == "down":
            options = {"path": f"/blob{size}", **(candidate.way() or {})}
        else:
            options = {"path": "/discard", "bytes": size, **(candidate.way(SINK_PORT) or {})}
        cpu = cpu_seconds(pid)
        seen = self.load(mode, streams=streams, **options)
        cpu = cpu_seconds(pid) - cpu
        self.results.add(key, candidate.name, seen["rate"])
        if streams == 1:
            self.results.add(f"{key} cpu", candidate.name, cpu / (seen["bytes"] / 1e9))
        if key == "go-gso down 1":
            self.results.add("packet", candidate.name, cpu / seen["bytes"] * PAYLOAD * 1e6)

    # -- what wants a process of its own --

    def default_buffers(self, candidate: Candidate) -> None:
        """One stream each way, with no right to more than the usual socket buffers."""
        self.with_process(
            "buffers down 1", candidate,
            lambda pid: self.bulk(candidate, pid, prefix="buffers", streams=(1,)), unprivileged=True,
        )  # fmt: skip

    def many_held(self, candidate: Candidate) -> None:
        self.with_process("10000 each", candidate, lambda pid: self.held(candidate, pid, 10_000))

    def bulk_only(self, candidate: Candidate) -> None:
        self.with_process(f"{self.kind} down 1", candidate, lambda pid: self.bulk(candidate, pid))

    def held(self, candidate: Candidate, pid: int, count: int) -> None:
        self.attempt(f"{count} each", candidate, lambda: self._held(candidate, pid, count))

    def _held(self, candidate: Candidate, pid: int, count: int) -> None:
        before = resident(pid)
        options = [f"{key}={value}" for key, value in (candidate.way() or {}).items()]
        command = self.lab.near_command(program(), "hold", f"count={count}", *options)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            if not select.select([holder.stdout], [], [], PATIENCE)[0]:
                holder.kill()
                raise LoadFailed(f"not {count} connections after {PATIENCE} s")
            seen = json.loads(holder.stdout.readline() or '{"up": 0, "error": "it ended"}')
            if seen["up"] != count:
                raise LoadFailed(f"{seen['up']:g} of {count} connections: {seen['error']}")
            self.results.add(f"{count} each", candidate.name, (resident(pid) - before) / count)
            if count >= 10_000:
                cpu = cpu_seconds(pid)
                time.sleep(SETTLE)
                self.results.add(f"{count} idle", candidate.name, 100 * (cpu_seconds(pid) - cpu) / SETTLE)
            with suppress(BrokenPipeError):
                holder.stdin.close()
        if count >= 10_000:
            time.sleep(AFTERWARDS)
            self.results.add(f"{count} kept", candidate.name, (resident(pid) - before) / 1024)


def aead(results: Results) -> None:
    """What sealing a full packet costs where nothing else is done, in us."""
    said = subprocess.run(AEAD, capture_output=True, text=True, check=True).stdout
    rate = next(float(line.split(":")[3]) for line in said.splitlines() if line.startswith("+F:"))
    results.add("aead", MACHINE, 1420 / rate * 1e6)
