"""The unit that systemd is given: it is one, it gives little away, and nobody else's is touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import system
from tests.cli.support import usernet
from tests.config.test_parser import GOOD
from tests.support.skipping import needs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wg0.conf"
    path.touch(mode=0o600)
    path.write_text(GOOD)
    return path


def printed(file: Path, *flags: str) -> str:
    done = usernet("install-system-daemon", str(file), "--print", *flags)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.parametrize(
    "flags", [(), ("--tun", "usernet0,userspace-networking"), ("--", "--socks5-server", "127.0.0.1:1080")]
)
def test_systemd_takes_it(file: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    needs("systemd-analyze")
    text = printed(file, *flags)
    path = tmp_path / "usernet-wg0.service"
    path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    # Of 10; a service without a sandbox has 9.6
    threshold = 25 if "--tun" in flags else 17
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", str(path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]
    assert ("CAP_NET_ADMIN" in text) is ("--tun" in flags)


def test_a_key_is_in_no_unit(file: Path) -> None:
    text = printed(file)
    for key in re.findall(r"= (\S{43}=)", GOOD):
        assert key not in text
    assert f"LoadCredential=wg0.conf:{file}" in text


def test_what_cannot_be_used_is_not_installed(file: Path) -> None:
    file.write_text("[Interface]\n")
    done = usernet("install-system-daemon", str(file))
    assert done.returncode == 1
    assert "has no PrivateKey" in done.stderr


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose systemctl says what it is asked."""
    folder = tmp_path / "units"
    folder.mkdir()
    tool = tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(system, "UNITS", folder)
    monkeypatch.setattr(system, "RUNNING", folder)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return folder


def test_there_and_back(file: Path, units: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    for said in ("written", "as it was"):
        done = runner.invoke(system.install, [str(file)])
        assert done.exit_code == 0, done.output
        assert f"usernet-wg0.service: {said}" in done.output
    assert [path.name for path in units.iterdir()] == ["usernet-wg0.service"]
    done = runner.invoke(system.uninstall, [str(file)])
    assert done.output == f"{units}/usernet-wg0.service: removed\n"
    assert list(units.iterdir()) == []
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:3] == ["daemon-reload", "enable usernet-wg0.service", "restart usernet-wg0.service"]
    assert asked[-2:] == ["disable --now usernet-wg0.service", "daemon-reload"]


def test_a_unit_of_somebody_else_is_left_alone(file: Path, units: Path) -> None:
    path = units / "usernet-wg0.service"
    path.write_text("[Service]\n")
    for command in (system.install, system.uninstall):
        done = CliRunner().invoke(command, [str(file)])
        assert isinstance(done.exception, system.NotInstalled)
        assert "was not written by usernet: move it away first" in str(done.exception)
    assert path.read_text() == "[Service]\n"


def test_without_root_or_systemd(file: Path, units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "RUNNING", units / "nothing")
    done = CliRunner().invoke(system.install, [str(file)])
    assert "systemd does not run here" in str(done.exception)
    assert list(units.iterdir()) == []
    monkeypatch.setattr(system, "RUNNING", units)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    done = CliRunner().invoke(system.install, [str(file)])
    assert "systemd does not run here" in str(done.exception)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = CliRunner().invoke(system.install, [str(file)])
    assert "this needs root" in str(done.exception)
    assert "is not there" in str(CliRunner().invoke(system.uninstall, ["nothing"]).exception)
