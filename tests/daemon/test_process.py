"""Around the loop: limits, signals, loops."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from proxy.daemon import process


def run(program: str) -> str:
    """Run a program in a process of its own; what it printed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_descriptor_limit() -> None:
    out = run("""
        import resource
        from proxy.daemon.process import descriptor_limit, raise_descriptor_limit
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = min(hard, 4096) if hard > 0 else 4096
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        raise_descriptor_limit()
        print(descriptor_limit() == hard, resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
    """)
    assert out == "True True"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_stops_and_a_second_one_kills(loop: str) -> None:
    program = f"""
        import asyncio, os, signal
        from proxy.daemon import process
        async def main():
            stop = process.stop_event()
            os.kill(os.getpid(), signal.SIGINT)
            await stop.wait()
            print("stopping", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        process.run(main(), {loop!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "stopping\n"
    assert done.returncode == -signal.SIGTERM


def raising(error: Exception, loop: str) -> None:
    """Run to the end, with a callback that raises this on the way."""

    def callback() -> None:
        raise error

    async def main() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)

    process.run(main(), loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_no_descriptor_left_is_one_line(number: int, loop: str, caplog: pytest.LogCaptureFixture) -> None:
    raising(OSError(number, os.strerror(number)), loop)
    [record] = caplog.records
    assert (record.name, record.levelno, record.exc_info) == ("usernet", logging.WARNING, None)
    assert record.getMessage().endswith(f": {os.strerror(number)}")
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ValueError("a bug")], ids=["OSError", "ValueError"])
def test_any_other_error_has_its_traceback(error: Exception, loop: str, caplog: pytest.LogCaptureFixture) -> None:
    raising(error, loop)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "in callback" in caplog.text  # of the traceback, too


def test_garbage_is_frozen_and_looked_for_seldom() -> None:
    out = run("""
        import gc
        from proxy.daemon import process
        process.freeze_garbage()
        print(gc.get_freeze_count() > 1000, gc.get_threshold()[0] == process.GARBAGE_OBJECTS, gc.isenabled())
    """)
    assert out == "True True True"


def test_loops() -> None:
    loop = process.loop_factory("asyncio")()
    assert type(loop).__module__.startswith("asyncio")
    loop.close()
    loop = process.loop_factory("auto")()
    assert type(loop).__module__.startswith("uvloop")
    loop.close()


def test_nothing_of_it_was_done_here() -> None:
    """Importing the module changes no process-wide state: a library user may do so."""
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert logging.getLogger("usernet").level == logging.NOTSET
