"""A crowd at the door of a real process: a thousand connections through the tunnel, and two hundred slow-loris clients.

How fast a good client is answered meanwhile is tests/bench/crowd.py's affair.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.bench.candidates import PORT
from tests.bench.crowd import ROOT, descriptors, visit
from tests.bench.rows import resident
from tests.interop.conftest import running
from tests.support.lab import INNER_FAR, Lab, socket_in, wait_for
from tests.support.load import program
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

HELD, SLOW = 1000, 200
PATIENCE = 30  # s; every deadline is over by then
MAX_GROWTH = 16 << 10  # KiB


def test_a_crowd_comes_and_goes(gso_lab: Lab) -> None:
    needs("rustc")
    with running(gso_lab, gso_lab.config()) as process, socket_in(gso_lab.near):
        for _ in range(100):
            visit()
        size, files = resident(process.pid), descriptors(process.pid)
        way = ("via=socks5", f"proxy=127.0.0.1:{PORT}", f"to={INNER_FAR}:80")
        command = gso_lab.near_command(program(), "hold", f"count={HELD}", *way)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert json.loads(holder.stdout.readline())["up"] == HELD
            assert descriptors(process.pid) >= HELD
            visit()
            holder.stdin.close()
        wait_for(lambda: descriptors(process.pid) <= files, "the descriptors")
        visit()
        assert resident(process.pid) - size < MAX_GROWTH


def test_slow_clients_are_closed(gso_lab: Lab) -> None:
    with running(gso_lab, gso_lab.config()) as process, socket_in(gso_lab.near):
        visit()
        files = descriptors(process.pid)
        counts = [str(count) for count in (SLOW // 2, SLOW // 4, SLOW // 4, PATIENCE)]
        command = [sys.executable, "-m", "tests.support.slow", "127.0.0.1", str(PORT), *counts]
        with subprocess.Popen(gso_lab.near_command(*command), stdout=subprocess.PIPE, text=True, cwd=ROOT) as slow:
            wait_for(lambda: descriptors(process.pid) >= SLOW, "the slow clients")
            visit()
            assert slow.stdout is not None
            seen = json.load(slow.stdout)
        for row in seen.values():
            assert row["closed"] == row["opened"] > 0
        wait_for(lambda: descriptors(process.pid) <= files, "the descriptors")
