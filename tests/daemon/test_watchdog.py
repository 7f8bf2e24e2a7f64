"""A real process whose loop stands still, or whose call does not end: it tells all and aborts; and who must not."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.config.test_parser import GOOD, OWN

PROLOGUE = """
import asyncio, logging, os, sys, threading, time
from proxy.daemon import logs, process
from proxy.daemon.watchdog import Watchdog
LIMIT = 0.5
logs.set_up_log(0)
beats = 0
def beat():
    global beats
    beats += 1
def until(condition):
    async def wait():
        while not condition():
            await asyncio.sleep(0.01)
    return wait()
"""


def program(body: str, loop: str = "asyncio") -> list[str]:
    """`body` is the main coroutine, in which `dog` watches."""
    main = "async def main():\n    with Watchdog(asyncio.get_running_loop(), limit=LIMIT, on_beat=beat) as dog:\n"
    code = PROLOGUE + main + textwrap.indent(textwrap.dedent(body), " " * 8) + f"\nprocess.run(main(), {loop!r})\n"
    return [sys.executable, "-c", code]


def run(body: str, loop: str = "asyncio") -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(body, loop), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_loop_that_stands_still(loop: str) -> None:
    done = run(
        """
        async def waits_for_ever():
            await asyncio.Event().wait()
        task = asyncio.create_task(waits_for_ever(), name="a task that waits")
        def stands_still():
            threading.Event().wait()
        await until(lambda: beats)
        with dog.call("status"):
            stands_still()
        """,
        loop,
    )
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert re.search(r"watchdog: the event loop's turn \(\d s\).* took longer than 0\.5 s; aborting", done.stderr)
    assert "watchdog: calls in flight: status (" in done.stderr
    assert "a task that waits" in done.stderr
    assert "in waits_for_ever" in done.stderr
    assert "in stands_still" in done.stderr.partition("most recent call first")[2]  # of the threads


def test_a_call_that_does_not_end() -> None:
    done = run(
        """
        with dog.call("status"):
            pass
        async def reconfigures():
            with dog.call("reconfigure"):
                await asyncio.Event().wait()
        await reconfigures()
        """
    )
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert re.search(r"watchdog: reconfigure \(\d s\) took longer than 0\.5 s; aborting", done.stderr)
    assert "the event loop" not in done.stderr
    assert "in reconfigures" in done.stderr


def test_a_log_that_is_stuck_does_not_keep_it_alive() -> None:
    done = run(
        """
        import proxy.daemon.watchdog
        proxy.daemon.watchdog.REPORT_SECONDS = 0.5
        logging.getLogger().handlers[0].acquire()
        def stands_still():
            threading.Event().wait()
        stands_still()
        """
    )
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert "in stands_still" in done.stderr


def test_who_goes_on_is_let_be_and_beats() -> None:
    done = run(
        """
        end = time.monotonic() + 3 * LIMIT
        while time.monotonic() < end:
            with dog.call("status"):
                await asyncio.sleep(LIMIT / 4)
        print(beats)
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert int(done.stdout) >= 9


def test_beats_as_often_as_somebody_asks() -> None:
    done = run(
        """
        with Watchdog(asyncio.get_running_loop(), on_beat=beat, interval=0.01):
            await until(lambda: beats > 20)
        """
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def started(body: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    process = subprocess.Popen(program(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        process.kill()
        process.communicate()


def test_a_process_that_was_stopped_is_not_at_fault() -> None:
    """In the middle of a call."""
    with started(
        """
        with dog.call("status"):
            print("ready", flush=True)
            sys.stdin.readline()
            await until(lambda: beats > 3)
        print("well", flush=True)
        """
    ) as (process, out):
        assert out.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:  # three times the limit have to pass, in which nothing can happen
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGCONT)
        assert out.readline() == b"well\n"
        assert process.wait(10) == 0


@pytest.mark.parametrize("debugger", ["sys.settrace(lambda *_: None)", "import bdb"])
def test_not_under_a_debugger(debugger: str) -> None:
    done = run(
        f"""
        {debugger}
        before = beats
        await until(lambda: beats > before)
        time.sleep(3 * LIMIT)
        print("well")
        """
    )
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_not_while_another_process_traces_it() -> None:
    """As gdb does."""
    done = run(
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        tracer = os.fork()
        if tracer == 0:
            # PTRACE_SEIZE stops nobody
            os._exit(0 if libc.ptrace(0x4206, os.getppid(), 0, 0) == 0 and not time.sleep(1000) else 1)
        def is_traced():
            return "TracerPid:\\t0\\n" not in open("/proc/self/status").read()
        await until(is_traced)
        time.sleep(3 * LIMIT)
        os.kill(tracer, 9)
        print("well")
        """
    )
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_the_daemon_is_watched(tmp_path: Path) -> None:
    """The real command, with a limit for the impatient, on a machine whose look at its garbage never ends."""
    file = tmp_path / "wg0.conf"
    file.touch(0o600)
    file.write_text(GOOD)
    code = """
import sys, threading
from proxy.daemon import app, watchdog
watchdog.Watchdog.__init__.__kwdefaults__["limit"] = 0.5
app.freeze_garbage = threading.Event().wait
from proxy.cli import main
sys.argv[1:] = ["run", sys.argv[1], "--socks5-server", "127.0.0.1:0"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert re.search(r"watchdog: the event loop's turn \(\d s\) took longer than 0\.5 s; aborting", done.stderr)
    assert "in _serve" in done.stderr
    assert OWN not in done.stderr
