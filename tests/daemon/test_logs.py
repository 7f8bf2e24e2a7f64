"""What the log's lines look like, and where they go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest


def run(program: str, env: dict[str, str] | None = None, stderr: int = subprocess.PIPE) -> str:
    """What a process of its own has written to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stderr=stderr, text=True, timeout=30, env={**os.environ, **(env or {})}, check=True,
    )  # fmt: skip
    return done.stderr or ""


@pytest.mark.parametrize(
    ("verbose", "shown"), [(0, ["info"]), (1, ["info", "debug"]), (2, ["info", "debug", "library"])]
)
def test_levels(verbose: int, shown: list[str]) -> None:
    out = run(f"""
        import logging
        from proxy.daemon import logs, process
        logs.set_up_log({verbose})
        process.log.info("info")
        logging.getLogger("usernet.proxy").debug("debug")
        logging.getLogger("library").info("library")
    """)
    assert [line.split()[-1] for line in out.splitlines()] == shown
    assert (out.splitlines()[0] == "info") is (verbose == 0)


def test_nobody_writes_lines_of_others() -> None:
    out = run(r"""
        from proxy.daemon import logs, process
        logs.set_up_log(0)
        process.log.info("a user named %s", "x\nfake line \x1b[31m\x9b\x7f\u00e9")
    """)
    assert out == "a user named x\\x0afake line \\x1b[31m\\x9b\\x7f\u00e9\n"


def test_json() -> None:
    out = run(r"""
        from proxy.daemon import limiting, logs, process
        logs.set_up_log(0, "json")
        process.log.info("one %s", "line\n", extra={"peer": "abc="})
        process.log.warning("%s", "two", extra=limiting.UNLIMITED)
        try:
            1 / 0
        except ZeroDivisionError:
            process.log.exception("three")
        process.log.debug("no")
    """)
    one, two, three = map(json.loads, out.splitlines())
    assert one == {"time": one["time"], "level": "info", "logger": "usernet", "message": "one line\n", "peer": "abc="}
    assert abs(datetime.fromisoformat(one["time"]) - datetime.now(UTC)).total_seconds() < 60
    assert one["time"].endswith("Z")
    assert two == {"time": two["time"], "level": "warning", "logger": "usernet", "message": "two"}
    assert three["traceback"].splitlines()[-1] == "ZeroDivisionError: division by zero"


PRIORITIES = """
    from proxy.daemon import logs, process
    logs.set_up_log(1)
    process.log.debug("debug")
    process.log.info("info")
    process.log.warning("warning")
    try:
        raise ValueError("a cause")
    except ValueError:
        process.log.exception("failed")
"""


def test_priorities_for_the_journal(tmp_path: Path) -> None:
    with open(tmp_path / "journal", "w+b") as file:
        found = os.fstat(file.fileno())
        run(PRIORITIES, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, stderr=file.fileno())
        file.seek(0)
        lines = file.read().decode().splitlines()
    assert lines[:5] == [
        "<7>debug", "<6>info", "<4>warning", "<3>failed", "<3>Traceback (most recent call last):"
    ]  # fmt: skip
    assert lines[-1] == "<3>ValueError: a cause"


@pytest.mark.parametrize("stream", ["", "1", "1:2", "nonsense"])
def test_no_journal(stream: str) -> None:
    out = run(PRIORITIES, {"JOURNAL_STREAM": stream})
    assert "<" not in out.partition("Traceback")[0]
