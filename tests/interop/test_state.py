"""A machine whose clock is set back between two starts: what was kept lets the far kernel's peer hear it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lab import INNER_FAR, Lab, run, wait_for
from tests.support.skipping import skip

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def start(lab: Lab, state: str, log: str, days: int = 0) -> subprocess.Popen[bytes]:
    if not LIBRARIES:
        skip("needs libfaketime")
    behind = [f"LD_PRELOAD={LIBRARIES[0]}", f"FAKETIME=-{days}d", "DONT_FAKE_MONOTONIC=1"] if days else []
    process = lab.start(
        lab.near_command(
            "env", "USERNET_KERNEL=python", *behind, sys.executable, "-m", "proxy.cli", "run", str(lab.config()),
            "--state", state, "--socket", str(lab.dir / "state.sock"), "--loop", "asyncio",
        ),
        log=log,
    )  # fmt: skip
    lab.wait_listening(1080, process, log)
    return process


@pytest.mark.parametrize("kept", [True, False])
def test_a_clock_set_back(gso_lab: Lab, kept: bool) -> None:
    lab = gso_lab
    lab.forget_near()
    state = str(lab.dir / "wg.state") if kept else "mem:"
    first = start(lab, state, f"first-{kept}.log")
    wait_for(lambda: "completed" in lab.log(f"first-{kept}.log"), "a handshake")
    assert lab.end(first) == 0
    second = start(lab, state, f"second-{kept}.log", days=3)
    if kept:
        assert "clock is behind that of an earlier start" in lab.log("second-True.log")
        wait_for(lambda: "completed" in lab.log("second-True.log"), "a handshake")
        assert lab.curl(f"http://{INNER_FAR}/") == b"hello from the far side\n"
    else:  # without it there is none: that is what the far side's replay protection is for
        wait_for(lambda: "no handshake completes" in lab.log("second-False.log"), "the line that explains", 30)
        assert "completed" not in lab.log("second-False.log")
    assert lab.end(second) == 0


def test_a_key_that_is_made_here(gso_lab: Lab) -> None:
    """`PrivateKey = generate`: the same at each start, and the public one is said for the far side."""
    lab = gso_lab
    path = lab.config(name="made.conf")
    path.write_text(path.read_text().replace(lab.near_key, "generate"))
    state = ("--state", str(lab.dir / "made.state"))
    keys = []
    for number in range(2):
        log = f"made-{number}.log"
        process = lab.start_usernet(path, *state, log=log)
        wait_for(lambda log=log: "public key" in lab.log(log), "the public key")  # type: ignore[misc]
        keys.append(lab.log(log).partition("public key: ")[2].split()[0])
        assert lab.end(process) == 0
    assert keys[0] == keys[1]
    assert len(keys[0]) == 44
    lab.wg("set", lab.device, "peer", lab.near_public, "remove")
    lab.wg("set", lab.device, "peer", keys[0], "preshared-key", str(lab.dir / "psk"), "allowed-ips",
           "192.0.2.130/32,2001:db8:2::130/128")  # fmt: skip
    process = lab.start_usernet(path, *state, log="made-2.log")
    assert lab.curl(f"http://{INNER_FAR}/") == b"hello from the far side\n"
    assert lab.end(process) == 0
    lab.wg("set", lab.device, "peer", keys[0], "remove")
    assert run("stat", "-c", "%a", str(lab.dir / "made.state")) == "600"
