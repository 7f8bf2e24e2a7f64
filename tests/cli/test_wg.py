"""`usernet wg` as a real process: what it hands on, and what it says where it cannot be."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cli.support import usernet
from tests.support.skipping import needs


def test_without_wg(tmp_path: Path) -> None:
    done = usernet("wg", "show", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr == "Error: wg is not installed; install the package wireguard-tools\n"


def test_arguments_and_exit_status_are_handed_on(tmp_path: Path) -> None:
    program = tmp_path / "wg"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    program.chmod(0o755)
    done = usernet("wg", "set", "--help", "-x", "a b", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (done.returncode, done.stdout) == (7, "set\n--help\n-x\na b\n")


def test_where_namespaces_are_forbidden() -> None:
    needs("wg", "unshare")
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as daemon:
        place = Path(directory, "wireguard")
        place.mkdir()
        daemon.bind(str(place / "wg0.sock"))
        daemon.listen()
        script = (
            "echo 0 > /proc/sys/user/max_user_namespaces;"  # so that there can be none inside this one
            f" exec {sys.executable} -m proxy.cli wg --socket {directory}/wg0.sock show"
        )
        command = ["unshare", "--user", "--map-root-user", "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: this system does not let us make a user namespace (No space left on device), in which wg would find"
        f" {place}; allow them, run both as root, or let the daemon's user write to /var/run/wireguard\n"
    )
