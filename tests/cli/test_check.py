"""`usernet check`, and the commands that need no tunnel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from proxy.cli import cli
from tests.cli.support import usernet
from tests.config.test_parser import GOOD, OWN
from tests.support.skipping import skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wg.conf"
    path.touch(mode=0o600)
    path.write_text(GOOD)
    return path


def test_good(file: Path) -> None:
    done = usernet("check", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: can be used: 1 peer\n", "")


def test_warnings(file: Path) -> None:
    file.write_text(re.sub("DNS = .*", "Table = 7", GOOD))
    done = usernet("check", str(file))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{file}:1: warning: there is no DNS: names cannot be resolved through the tunnel; write DNS = and an address",
        f"{file}:4: warning: Table is not applicable here: without --tun usernet sets no routes on this machine; "
        "take the line out, or ignore this",
        f"{file}: can be used: 1 peer, 2 warnings",
    ]


def test_problems(file: Path) -> None:
    file.write_text(GOOD.replace("Address", "Adress").replace("0.0.0.0/0", "0.0.0.0/40"))
    done = usernet("check", str(file))
    assert done.returncode == 1
    first, second, last = done.stdout.splitlines()
    assert first == f"{file}:3: [Interface] has no key 'Adress'; did you mean Address?"
    assert second.startswith(f"{file}:8: AllowedIPs: '40' is not a number from 0 to 32; ")
    assert last == f"{file}: cannot be used: 2 problems"


def test_a_peer_with_our_own_key(file: Path) -> None:
    public = usernet("pubkey", stdin=OWN).stdout.strip()
    file.write_text(GOOD + f"[Peer]\nPublicKey = {public}\nAllowedIPs = 10.0.0.9/32\n")
    assert f"{file}:9: warning: this [Peer] has our own key" in usernet("check", str(file)).stdout


def test_no_such_file(tmp_path: Path) -> None:
    done = usernet("check", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_run_refuses_a_bad_file_with_all_its_problems(file: Path) -> None:
    file.write_text(GOOD.replace("Address", "Adress").replace("0.0.0.0/0", "0.0.0.0/40"))
    done = usernet("run", str(file))
    assert done.returncode == 1
    assert done.stderr.count(str(file)) == 3
    assert OWN not in done.stderr


def test_run_takes_one_file(file: Path) -> None:
    assert usernet("run", str(file), "more").returncode == 2
    assert usernet("run").returncode == 2


def test_ping_without_file_or_daemon_says_what_to_do() -> None:
    done = usernet("ping", "10.0.0.1", "--socket", "none-of-this-name")
    assert done.returncode == 1
    assert "none-of-this-name.sock" in done.stderr
    assert "is `usernet run` running?" in done.stderr
    assert usernet("ping").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("command", ["genkey", "--help", "check"])
def test_a_full_disk_is_one_line(command: str, file: Path) -> None:
    arguments = [sys.executable, "-m", "proxy.cli", command, *([str(file)] if command == "check" else [])]
    with open("/dev/full", "w") as full:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(arguments, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "Error: No space left on device\n"


def test_a_reader_that_has_gone_is_no_error(file: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "proxy.cli", "check", str(file)], stdout=pipe, stderr=subprocess.PIPE, timeout=30
        )
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("command", [["run", "FILE"], ["demo", "--once"]])
def test_a_loop_that_is_not_installed(command: list[str], file: Path, tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError\n")
    arguments = [str(file) if word == "FILE" else word for word in command]
    done = usernet(*arguments, "--loop", "uvloop", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr == "Error: uvloop is not installed; pip install uvloop, or leave --loop out\n"


def test_a_timeout_that_is_no_number(file: Path) -> None:
    done = usernet("run", str(file), "--dial-timeout", "nan")
    assert done.returncode == 2
    assert "'nan' is not a valid number of seconds" in done.stderr


def test_version() -> None:
    done = usernet("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("usernet ")
    assert "burst kernel: " in done.stdout
    assert "data path: " in done.stdout


def test_help_names_every_command() -> None:
    done = usernet("--help")
    for name in ("run", "demo", "check", "ping", "genkey", "pubkey", "genpsk", "completion"):
        assert f"\n  {name} " in done.stdout


def test_the_readme_names_every_command_and_flag() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert name in readme
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in readme, parameter.opts


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    done = usernet("completion", shell)
    assert done.returncode == 0
    assert "_USERNET_COMPLETE" in done.stdout
    if shutil.which(shell):
        syntax = subprocess.run([shell, "-n"], input=done.stdout, text=True, capture_output=True)
        assert syntax.returncode == 0, syntax.stderr
    elif shell == "bash":
        skip("needs bash")


def test_completion_completes() -> None:
    env = {"_USERNET_COMPLETE": "bash_complete", "COMP_WORDS": "usernet ch", "COMP_CWORD": "1"}
    assert usernet(env=env).stdout.split() == ["plain,check"]
