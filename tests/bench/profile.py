"""Flame graphs of usernet under each load (`make profile`): build/profile/LOOP-LOAD.svg, and the top functions as text.

One laboratory, one process per load; py-spy looks at it while curl or the load generator keep it busy.  What a
function spends in C code below it counts as its own, unless --native shows that, too.  Needs root.

    python -m tests.bench.profile [--seconds 10] [--loop uvloop] [--peer go-gso] [--native] [LOAD ...]
"""

from __future__ import annotations

import argparse
import contextlib
import html
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.bench.rows import ECHO_PORT
from tests.support.lab import INNER_FAR, PEERS, SINK_PORT, Lab, missing, peer_binary
from tests.support.load import program

OUT = Path("build/profile")
RATE = 250  # samples a second: each stops the process for 0.3 ms
TOP = 15
BLOB_BYTES = 4 << 30  # sparse: more than any run gets through
CLIENTS = 50

GET = (f"to={INNER_FAR}:80", "proxy=127.0.0.1:1080", f"clients={CLIENTS}", "seconds=3600")
LOADS: dict[str, tuple[str, ...]] = {
    "down": ("curl", f"http://{INNER_FAR}/blob"),
    "down-8": ("curl", "--parallel", "--parallel-immediate", *(f"http://{INNER_FAR}/blob?{n}" for n in range(8))),
    "up": ("curl", "--upload-file", "BLOB", f"http://{INNER_FAR}:{SINK_PORT}/discard"),
    "requests": ("get", "via=socks5", *GET),
    "connections": ("get", "via=socks5", "fresh=1", *GET),
    "forwarding": ("get", "via=http", *GET),
    "datagrams": (
        "udp",
        f"to={INNER_FAR}:{ECHO_PORT}",
        "proxy=127.0.0.1:1080",
        "clients=8",
        "seconds=3600",
        "size=512",
    ),
}

_FRAME = re.compile(r'<title>(.*?) \(([\d,]+) samples.*?</title><rect[^>]* y="(\d+)"[^>]* fg:x="(\d+)" fg:w="(\d+)"')


@contextlib.contextmanager
def under_load(lab: Lab, name: str) -> Iterator[None]:
    """Somebody who works until he is ended: curl, or the load generator."""
    program_name, *arguments = LOADS[name]
    if program_name == "curl":
        blob = str(lab.dir / "site" / "blob")
        arguments = [blob if argument == "BLOB" else argument for argument in arguments]
        discard = ["--output", "/dev/null"] * sum(argument.startswith(f"http://{INNER_FAR}") for argument in arguments)
        command = ["curl", "-sS", "--noproxy", "", "--proxy", "socks5h://127.0.0.1:1080", *discard, *arguments]
    else:
        command = [program(), program_name, *arguments]
    process = lab.start(lab.near_command(*command), log=f"{name}.log")
    try:
        time.sleep(1)  # slow start is not what is looked at
        yield
        if process.poll() is not None:
            raise SystemExit(f"profile: the load {name} ended early: {lab.log(f'{name}.log')}")
    finally:
        lab.end(process)


def record(pid: int, path: Path, seconds: int, *, native: bool) -> None:
    command = ["py-spy", "record", "--pid", str(pid), "--output", str(path), "--duration", str(seconds)]
    command += ["--rate", str(RATE), "--function", "--format", "flamegraph", *(["--native"] if native else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise SystemExit(f"profile: py-spy: {done.stderr.strip()}")


def self_samples(svg: str) -> tuple[Counter[str], int]:
    """Samples of each function without what it calls, and of all: a frame's width less that of the frames below it."""
    frames = [(int(y), int(x), int(width), html.unescape(name)) for name, _, y, x, width in _FRAME.findall(svg)]
    if not frames:
        return Counter(), 0
    height = min({abs(a - b) for a, *_ in frames for b, *_ in frames[:1]} - {0}, default=16)
    root = max(frames, key=lambda frame: (frame[2], frame[3] == "all"))
    downward = 1 if all(frame[0] >= root[0] for frame in frames) else -1
    own: Counter[str] = Counter()
    rows: dict[int, list[tuple[int, int]]] = {}
    for y, x, width, _ in frames:
        rows.setdefault(y, []).append((x, width))
    for y, x, width, name in frames:
        below = sum(w for at, w in rows.get(y + downward * height, ()) if x <= at < x + width)
        own[name] += width - below
    return own, root[2]


def report(name: str, svg: str, cpu: float) -> str:
    own, total = self_samples(svg)
    lines = [f"\n{name}: {total} samples, {cpu:.0f} % of a core"]
    lines += [f"{100 * samples / total:6.1f} %  {function}" for function, samples in own.most_common(TOP) if total]
    return "\n".join(lines)


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"some of {', '.join(LOADS)}")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--peer", choices=list(PEERS), default="go-gso")
    parser.add_argument("--native", action="store_true", help="C functions, too, as far as they have symbols")
    options = parser.parse_args()
    if unknown := set(options.loads) - set(LOADS):
        raise SystemExit(f"profile: no load {', '.join(sorted(unknown))}; there are {', '.join(LOADS)}")
    if shutil.which("py-spy") is None:
        raise SystemExit("profile needs py-spy: make profile installs it")
    reason = missing() or (None if peer_binary(options.peer) else f"no {PEERS[options.peer]}")
    if reason:
        raise SystemExit(f"profile: {reason}")
    OUT.mkdir(parents=True, exist_ok=True)
    with Lab(options.peer) as lab:
        with (lab.dir / "site" / "blob").open("wb") as file:
            file.truncate(BLOB_BYTES)
        lab.start(lab.far_command(program(), "echo", f"at={INNER_FAR}:{ECHO_PORT}"), log="echo.log")
        for name in options.loads or LOADS:
            process = lab.start_usernet(lab.config(), "--loop", options.loop, log="usernet.log")
            lab.curl(f"http://{INNER_FAR}/")
            path = OUT / f"{options.loop}-{name}.svg"
            with under_load(lab, name):
                ticks, began = cpu_ticks(process.pid), time.monotonic()
                record(process.pid, path, options.seconds, native=options.native)
                cpu = (cpu_ticks(process.pid) - ticks) / (time.monotonic() - began)  # a tick is 10 ms
            lab.end(process)
            print(report(f"{options.loop} {name} ({path})", path.read_text(), cpu), flush=True)


if __name__ == "__main__":
    main()
