"""usernet beside sing-box and onetun, with the same far peers, in the same run (`make bench`, `make bench-quick`).

The candidates alternate; medians of the rounds, ratios to the better rival, and the goals that are met.  Needs root.
Read goals.py for the rows, rows.py for how each is measured, and load/src/main.rs for what loads the candidates.

    python -m tests.bench.compare [--quick] [--rounds 3] [--candidates native+uvloop,sing-box] [--write FILE.md]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.candidates import DEFAULT, OURS, QUICK, RIVALS, Candidate
from tests.bench.results import Results, as_json, as_markdown, as_text, table
from tests.bench.rows import Bench, aead
from tests.support.lab import PEERS, Lab, missing, peer_binary
from tests.support.load import program
from usernet.compiled import describe_data_path

DESCRIPTORS = 20_000  # the 10,000 connections, and what else a process has open


def facts(candidates: Sequence[Candidate], rounds: int) -> dict[str, str]:
    """Where and when; the load is that before we began.  Which Python it is counts: built without its own profile, as
    pyenv does by default, it takes a tenth more for a request than a distribution's.
    """
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout.strip()
    limits = [Path(f"/proc/sys/net/core/{name}").read_text().strip() for name in ("rmem_max", "wmem_max")]
    python = f"Python {platform.python_version()} ({os.path.realpath(sys.executable)})"
    peers = [f"{name} ({kind})" for kind, name in PEERS.items()]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "machine": f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, {memory:.0f} GiB, "
        f"Linux {platform.release()}, net.core.rmem_max and wmem_max {' and '.join(limits)}",
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "versions": ", ".join([
            python, *dict.fromkeys(candidate.version() for candidate in candidates), openssl,
            f"far peers {' and '.join(peers)}",
        ]),
        "data path": f"{'compiled' if describe_data_path()[0] else 'interpreted'}; with python the sources run",
        "rounds": str(rounds),
    }  # fmt: skip


def measure(candidates: Sequence[Candidate], results: Results, options: argparse.Namespace) -> None:
    def alternate(what: str, rounds: int, work: Callable[[Candidate], None]) -> None:
        for number in range(rounds):
            turn = number % len(candidates)
            for candidate in (*candidates[turn:], *candidates[:turn]):  # who is first finds a cold machine
                began = time.monotonic()
                work(candidate)
                took = time.monotonic() - began
                print(f"{what}, round {number + 1} of {rounds}: {candidate.name}, {took:.0f} s", flush=True)

    megabytes, seconds = (64, 2.0) if options.quick else (256, 4.0)
    with Lab("go-gso") as lab:
        bench = Bench(lab, "go-gso", results, megabytes, seconds)
        bench.prepare()
        for _ in range(options.rounds):
            aead(results)
        alternate("everything", options.rounds, bench.everything)
        if options.quick:
            return
        alternate("default buffers", options.rounds, bench.default_buffers)
        alternate("10,000 held", 1, bench.many_held)
    with Lab("debian") as lab:
        bench = Bench(lab, "debian", results, megabytes, seconds)
        bench.prepare()
        alternate("far peer without GSO", options.rounds, bench.bulk_only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of what takes least, under three minutes")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--candidates", help=f"of {', '.join((*OURS, *RIVALS))}; default: {','.join(DEFAULT)}")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="write the results there, and beside it as JSON")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    names = options.candidates.split(",") if options.candidates else QUICK if options.quick else DEFAULT
    if unknown := set(names) - {*OURS, *RIVALS}:
        parser.error(f"no such candidate: {', '.join(unknown)}")
    if (
        reason := missing()
        or ("no openssl" if shutil.which("openssl") is None else None)
        or next((f"no {PEERS[k]}" for k in PEERS if peer_binary(k) is None), None)
    ):
        raise SystemExit(f"bench: {reason}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS) if hard >= 0 else DESCRIPTORS, hard))
    candidates = []
    for candidate in map(Candidate, names):
        if absent := candidate.absent():
            print(f"without {candidate.name}: {absent}")
        else:
            candidates.append(candidate)
    if not candidates:
        raise SystemExit("bench: nobody is left to measure")
    program()
    about, results = facts(candidates, options.rounds), Results()
    measure(candidates, results, options)
    present = [candidate.name for candidate in candidates]
    rows = table(results, present)
    print("\n".join(f"{name}: {value}" for name, value in about.items()), as_text(rows), sep="\n\n")
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(as_markdown(rows, about))
        options.write.with_suffix(".json").write_text(json.dumps(as_json(results, present, about), indent=1) + "\n")


if __name__ == "__main__":
    main()
