"""The table that nftables gets, and when rp_filter asks for more; tests/interop/test_tun.py has the kernel obey it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.tun.configs import config
from usernet.tun.firewall import Firewall, is_strict, table
from usernet.tun.wanted import wanted


@pytest.mark.parametrize(
    ("values", "strict"),
    [
        ({"all": 0, "default": 0, "eth0": 0}, False),
        ({"all": 1, "default": 0, "eth0": 0}, True),
        ({"all": 0, "default": 1, "eth0": 0}, True),  # what comes later
        ({"all": 0, "default": 0, "eth0": 1}, True),
        ({"all": 2, "default": 1, "eth0": 1}, False),  # the larger counts
        ({"all": 1, "default": 2, "eth0": 2}, False),
        ({}, False),
    ],
)
def test_the_larger_of_two_settings_counts(tmp_path: Path, values: dict[str, int], strict: bool) -> None:
    for name, value in values.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "rp_filter").write_text(f"{value}\n")
    assert is_strict(tmp_path) is strict


def test_every_address_is_guarded_and_marks_are_for_the_strict() -> None:
    got = wanted(config("10.0.0.2/24, fd00::2/64", "0.0.0.0/0", extra="FwMark = 0x77"), "usernet0", 1420)
    lines = list(table("usernet0", got.addresses, got.mark, strict=False))
    guards = [line for line in lines if line.startswith('iifname != "usernet0"')]
    assert [line.split()[3:6] for line in guards] == [["ip", "daddr", "10.0.0.2"], ["ip6", "daddr", "fd00::2"]]
    assert not any("mark" in line for line in lines)
    assert sum("mark 0x77" in line for line in table("usernet0", got.addresses, got.mark, strict=True)) == 2


def test_what_is_missing_is_said_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("PATH", str(tmp_path))
    firewall = Firewall("usernet0")
    got = wanted(config("10.0.0.2/24", "0.0.0.0/0"), "usernet0", 1420)
    firewall.become(got)
    firewall.become(got)
    assert caplog.text.count("nft (Debian: apt install nftables) is not here") == 1
    record, nft = tmp_path / "record", tmp_path / "nft"
    nft.write_text(f"#!/bin/sh\necho $1 $2 >> {record}\n")
    nft.chmod(0o755)
    for _ in range(2):
        firewall.become(got)
    firewall.close()
    assert record.read_text().splitlines() == ["-f -", "delete table"]
