"""Our TCP and a kernel's at the same time on one lossy path to the same far kernel.  See tests/support/rival.py.

Needs root.  No tunnel is in between, so this is about TCP alone: what STREAMS streams of each side get through in the
same seconds, with CUBIC everywhere.  That many, because a single one's luck would hide everything else: at 1 % its rate
differs from its neighbour's by a quarter after ten seconds.  Medians of the rounds, and their ratio.

    python -m tests.bench.rivals [--rounds 5] [--streams 16] [--seconds 15] [--loss 10] [--rtt 0.05]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

from tests.support.lab import missing
from tests.support.rival import Rivals
from tests.support.traffic import DOWN, UP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--loss", type=int, default=10, help="per mille, in each direction")
    parser.add_argument("--rtt", type=float, default=0.05)
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(f"rivals: {reason}")
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, MB/s of {options.streams} streams; "
          f"loss {options.loss / 10:g} %, RTT {options.rtt * 1000:g} ms; medians of {options.rounds}")  # fmt: skip
    print(f"{'':6}{'kernel':>9}{'ours':>9}{'ratio':>7}")
    with Rivals() as rivals:
        for name, port in (("up", UP), ("down", DOWN)):
            rounds = []
            for _ in range(options.rounds):
                rivals.fresh()
                rivals.lose(options.loss)
                rivals.delay = options.rtt / 2
                rounds.append(rivals.compare(port, options.streams, options.seconds))
            ours, theirs = (statistics.median(side) / 1e6 for side in zip(*rounds, strict=True))
            ratio = statistics.median(ours / theirs for ours, theirs in rounds)
            print(f"{name:6}{theirs:9.2f}{ours:9.2f}{ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
