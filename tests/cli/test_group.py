"""The list of commands, by what they are for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.admin.paths import private_directories
from proxy.cli import PARTS
from tests.cli.support import usernet


def test_every_command_is_listed_under_a_title_and_its_help_is_not_cut_off() -> None:
    text = usernet("--help").stdout
    for title, commands in PARTS.items():
        part = text[text.index(f"\n{title}:\n") :].split("\n\n")[0]
        for name in commands:
            assert f"\n  {name} " in part
    assert "..." not in text.partition("Options:")[2]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("stat", "No such command 'stat'. Did you mean status?"),
        ("pong", "No such command 'pong'. Did you mean ping?"),
        ("install", "No such command 'install'. Did you mean install-system-daemon?"),
        ("xyzzy", "No such command 'xyzzy'."),
    ],
)
def test_a_command_that_is_misspelt(word: str, said: str) -> None:
    done = usernet(word)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"Error: {said}")


def completions(*words: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli"], capture_output=True, text=True, timeout=50,
        env={**os.environ, "_USERNET_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("usernet", *words)),
             "COMP_CWORD": str(len(words)), **environment},
    )  # fmt: skip
    return done.stdout.splitlines()


def test_completion_knows_the_commands() -> None:
    assert completions("he") == ["plain,healthcheck"]
    assert "plain,capture" in completions("debug", "c")


async def test_completion_knows_who_runs(tmp_path: Path) -> None:
    directory = private_directories()[0] if os.geteuid() == 0 else tmp_path / "usernet"
    directory.mkdir(mode=0o700, exist_ok=True)
    name = f"completed-{os.getpid()}"
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), directory / f"{name}.sock")
    try:
        found = await asyncio.to_thread(completions, "status", "--socket", "completed-", XDG_RUNTIME_DIR=str(tmp_path))
        assert found == [f"plain,{name}"]
    finally:
        server.close()
        (directory / f"{name}.sock").unlink(missing_ok=True)
    assert completions("status", "--socket", "./x") == ["file,./x"]
