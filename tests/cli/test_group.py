"""The list of commands, by what they are for."""

from __future__ import annotations

import subprocess
import sys

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


def test_completion_knows_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli"], capture_output=True, text=True, timeout=50,
        env={"_USERNET_COMPLETE": "bash_complete", "COMP_WORDS": "usernet he", "COMP_CWORD": "1", "PATH": "/bin"},
    )  # fmt: skip
    assert done.stdout == "plain,healthcheck\n"
