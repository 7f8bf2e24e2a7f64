"""What resolvconf is asked for, by a script in its place; the real resolvectl needs a systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from usernet.tun import names
from usernet.tun.names import NameServers, forget_names


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What resolvconf was called with, and given."""
    script, record = tmp_path / "resolvconf", tmp_path / "record"
    script.write_text(f'#!/bin/sh\necho "$@" >> {record}\n[ "$1" = -a ] && /bin/cat >> {record}\nexit 0\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return record


def test_servers_and_search_are_added_changed_and_taken_away(record: Path) -> None:
    servers = NameServers("usernet0")
    servers.become(("192.0.2.53", "2001:db8::53"), ("a.test", "b.test"))
    servers.become(("192.0.2.54",), ())
    servers.become((), ())
    servers.forget()
    assert record.read_text().splitlines() == [
        "-a usernet0 -m 0 -x", "nameserver 192.0.2.53", "nameserver 2001:db8::53", "search a.test b.test",
        "-d usernet0 -f",
        "-a usernet0 -m 0 -x", "nameserver 192.0.2.54",
        "-d usernet0 -f",
    ]  # fmt: skip


def test_after_a_crash(record: Path) -> None:
    forget_names("usernet0")
    assert record.read_text() == "-d usernet0 -f\n"


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ("lo\ntun*\ntap*\n", "tun.usernet0"),
        ("# first\nlo.!(pdns|pdns-recursor)\nwg*\n", "wg.usernet0"),
        ("lo\n", "usernet0"),
        (None, "usernet0"),
    ],
)
def test_the_first_prefix_that_resolvconf_orders(tmp_path: Path, order: str | None, name: str) -> None:
    path = tmp_path / "interface-order"
    if order is not None:
        path.write_text(order)
    assert names._record("usernet0", path) == name


def test_without_a_program_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    NameServers("usernet0").become(("192.0.2.53",), ())
    assert "neither resolvectl nor resolvconf" in caplog.text
