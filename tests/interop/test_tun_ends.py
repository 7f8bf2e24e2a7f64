"""`usernet run --tun` that is ended, refused or disturbed in the middle: what was set is taken away all the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.interop.test_tun import (
    PAGE,
    TUN,
    clean,
    curl,
    everything,
    is_clean_but_for_the_interface,
    near,
    persistent,
)
from tests.support.lab import INNER_FAR, INNER_NEAR, INNER_NEAR6, Lab, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

__all__ = ["clean", "persistent"]  # fixtures

LOG = "ends.log"
HOOKS = ("PreUp", "PostUp", "PreDown", "PostDown")


@pytest.fixture
def record(clean: Lab) -> Iterator[Path]:
    path = clean.dir / "ends.record"
    yield path
    path.unlink(missing_ok=True)
    (clean.dir / LOG).unlink(missing_ok=True)


def hooked(config: Path, record: Path, slow: str) -> None:
    """Each hook says when it begins and ends, and one takes 1.5 s."""
    hooks = "".join(
        f"{name} = echo {name} >> {record}; {'sleep 1.5; ' if name == slow else ''}echo {name} ends >> {record}\n"
        for name in HOOKS
    )
    config.write_text(config.read_text().replace("MTU", f"{hooks}MTU"))


def said(record: Path) -> list[str]:
    return record.read_text().splitlines() if record.exists() else []


def has_said(lab: Lab, text: str, times: int = 1) -> bool:
    return lab.log(LOG).count(text) == times


def both(*names: str) -> list[str]:
    return [line for name in names for line in (name, f"{name} ends")]


def test_commands_may_take_their_time_at_the_end(clean: Lab, record: Path) -> None:
    config = clean.config()
    hooked(config, record, "PreDown")
    with running(clean, config, *TUN, "--run-hooks"):
        pass
    assert said(record) == both(*HOOKS)


@pytest.mark.parametrize("slow", ["PreUp", "PostUp"])
def test_told_to_stop_while_it_begins(clean: Lab, record: Path, slow: str) -> None:
    """What a thread is setting is taken back when it has been set, and not before."""
    config = everything(clean)
    hooked(config, record, slow)
    process = clean.start(clean.near_command(*clean.run_command(config, *TUN, "--run-hooks", log=LOG)), log=LOG)
    wait_for(lambda: slow in said(record), "the slow one")
    assert clean.end(process) == 0
    assert said(record) == both(*HOOKS[: HOOKS.index(slow) + 1], "PreDown", "PostDown")
    assert "SIGTERM: stopping" in clean.log(LOG)
    assert "Traceback" not in clean.log(LOG)
    assert is_clean_but_for_the_interface(clean)


def test_a_reload_that_is_refused_in_the_middle(clean: Lab) -> None:
    """It asks for a network that the near host is in already."""
    taken = near(clean, "ip", "-4", "route", "show", "proto", "kernel").split()[0]
    config = clean.config()
    good = config.read_text().replace("Address = ", "Address = 198.18.0.1/32, ")
    with running(clean, config, *TUN, log=LOG) as process:
        for attempt in (1, 2):
            config.write_text(good.replace("AllowedIPs = ", f"AllowedIPs = {taken}, "))
            process.send_signal(signal.SIGHUP)
            wait_for(partial(has_said, clean, f"as before: cannot add {taken}: File exists", attempt), "the refusal")
            assert "198.18.0.1" not in near(clean, "ip", "addr", "show", "usernet0")
            assert curl(clean, INNER_FAR) == PAGE
        config.write_text(good)
        process.send_signal(signal.SIGHUP)
        wait_for(partial(has_said, clean, "reloaded: addresses"), "the reload")
        assert "198.18.0.1" in near(clean, "ip", "addr", "show", "usernet0")
        assert "not as it was before" not in clean.log(LOG)


def test_a_refused_reload_leaves_the_mtu(clean: Lab) -> None:
    """The interface has got the address that is asked for meanwhile, so that it fails behind the MTU."""
    config = clean.config()
    with running(clean, config, *TUN, log=LOG) as process:
        near(clean, "ip", "addr", "add", "198.18.0.1/32", "dev", "usernet0")
        asked = config.read_text().replace("Address = ", "Address = 198.18.0.1/32, ")
        config.write_text(asked.replace(f"MTU = {clean.mtu}", "MTU = 1300"))
        process.send_signal(signal.SIGHUP)
        wait_for(partial(has_said, clean, "as before: cannot add 198.18.0.1: File exists"), "the refusal")
        assert f"mtu {clean.mtu}" in near(clean, "ip", "link", "show", "usernet0")


def test_a_start_that_fails_leaves_a_persistent_interface_down(persistent: Lab) -> None:
    """No IPv6 is had on it."""
    near(persistent, "sysctl", "-q", "net.ipv6.conf.usernet0.disable_ipv6=1")
    command = persistent.near_command(*persistent.run_command(persistent.config(), *TUN, log=LOG))
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"cannot add {INNER_NEAR6}: Permission denied" in done.stderr
    assert "not as it was before" not in done.stderr
    assert "UP" not in near(persistent, "ip", "-br", "link", "show", "usernet0").split()[-1]
    assert INNER_NEAR not in near(persistent, "ip", "addr", "show", "usernet0")


def test_told_to_stop_in_the_middle_of_a_reload(persistent: Lab) -> None:
    """What the reload is setting is set; then that is taken back, and then all of it."""
    tools = persistent.dir / "slow"
    tools.mkdir()
    record = tools / "record"
    script = tools / "resolvconf"
    script.write_text(f'#!/bin/sh\ncat >/dev/null\necho "$1" >> {record}\nsleep 0.7\necho "$1 ends" >> {record}\n')
    script.chmod(0o755)
    config = everything(persistent)
    search = ("env", f"PATH={tools}:{os.environ['PATH']}")
    process = persistent.start(
        persistent.near_command(*search, *persistent.run_command(config, *TUN, log=LOG)), log=LOG
    )
    persistent.wait_listening(1080, process, LOG)
    config.write_text(config.read_text().replace("DNS = ", "DNS = 192.0.2.140, "))
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: said(record).count("-a") == 2, "the second servers")
    assert persistent.end(process) == 0
    assert said(record) == both("-a", "-d", "-a", "-d", "-a", "-d")
    assert is_clean_but_for_the_interface(persistent)
    assert INNER_NEAR not in near(persistent, "ip", "addr", "show", "usernet0")
    shutil.rmtree(tools)


def test_told_to_stop_while_a_start_that_failed_is_taken_back(clean: Lab, record: Path) -> None:
    config = clean.config()
    hooked(config, record, "PreDown")
    config.write_text(config.read_text().replace("MTU", "PostUp = exit 5\nMTU"))
    process = clean.start(clean.near_command(*clean.run_command(config, *TUN, "--run-hooks", log=LOG)), log=LOG)
    wait_for(lambda: "PreDown" in said(record), "the slow one")
    assert clean.end(process) == 1
    assert said(record) == both(*HOOKS)
    assert "Error: --tun usernet0: 'exit 5' ended with status 5" in clean.log(LOG)


@pytest.mark.parametrize("after", [0, 5, 20, 50, 100])
def test_told_to_stop_just_after_it_is_there(clean: Lab, after: int) -> None:
    """By the last of its commands, `after` milliseconds later."""
    config = everything(clean)
    hook = f"PostUp = (sleep {after / 1000}; kill $PPID) &\n"
    config.write_text(config.read_text().replace("MTU", f"{hook}MTU"))
    process = clean.start(clean.near_command(*clean.run_command(config, *TUN, "--run-hooks", log=LOG)), log=LOG)
    assert process.wait(20) == 0, clean.log(LOG)
    assert is_clean_but_for_the_interface(clean)


@pytest.mark.parametrize("is_persistent", [False, True])
def test_somebody_deletes_the_interface(clean: Lab, record: Path, is_persistent: bool) -> None:
    if is_persistent:
        near(clean, "ip", "tuntap", "add", "usernet0", "mode", "tun")
    config = everything(clean)
    hooked(config, record, "")
    process = clean.start_usernet(config, *TUN, "--run-hooks", log=LOG)
    near(clean, "ip", "link", "del", "usernet0")
    assert process.wait(10) == 1
    assert "Error: the interface usernet0 is gone: somebody has deleted it" in clean.log(LOG)
    assert "Traceback" not in clean.log(LOG)
    assert "not as it was before" not in clean.log(LOG)
    assert said(record) == both(*HOOKS)
    assert is_clean_but_for_the_interface(clean)


def test_somebody_sets_a_persistent_interface_down(persistent: Lab) -> None:
    """Its routes are gone with that; rules and addresses are to be taken back all the same."""
    with running(persistent, everything(persistent), *TUN, log=LOG):
        near(persistent, "ip", "link", "set", "usernet0", "down")
    assert INNER_NEAR not in near(persistent, "ip", "addr", "show", "usernet0")
    assert is_clean_but_for_the_interface(persistent)
    assert "not as it was before" not in persistent.log(LOG)
