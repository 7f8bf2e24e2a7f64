"""genkey, pubkey and genpsk against the real `wg`."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import usernet
from tests.support.skipping import needs


@pytest.fixture(scope="module")
def wg() -> str:
    needs("wg")
    return "wg"


def test_genkey_is_a_clamped_key_that_wg_takes(wg: str) -> None:
    first, second = usernet("genkey"), usernet("genkey")
    assert first.returncode == 0
    assert first.stdout != second.stdout
    assert len(first.stdout) == 45
    raw = base64.b64decode(first.stdout, validate=False)
    assert len(raw) == 32
    assert raw[0] & 7 == 0
    assert raw[31] & 192 == 64
    theirs = subprocess.run([wg, "pubkey"], input=first.stdout, capture_output=True, text=True, check=True)
    assert usernet("pubkey", stdin=first.stdout).stdout == theirs.stdout


def test_genpsk() -> None:
    first, second = usernet("genpsk").stdout, usernet("genpsk").stdout
    assert first != second
    assert len(base64.b64decode(first)) == 32


@pytest.mark.parametrize(
    "stdin",
    [
        "",
        "short\n",
        "A" * 43,
        "A" * 44,
        "!" * 43 + "=",
        "A" * 43 + "=",
        "A" * 43 + "=\n\n \t",
        "A" * 43 + "= trailing",
        "A" * 42 + "B=",
        " " + "A" * 43 + "=",
        "A" * 45,
    ],
)
def test_pubkey_takes_and_refuses_what_wg_does(wg: str, stdin: str) -> None:
    theirs = subprocess.run([wg, "pubkey"], input=stdin, capture_output=True, text=True)
    ours = usernet("pubkey", stdin=stdin)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert bool(ours.stderr) == bool(theirs.stderr)
    assert len(ours.stderr.splitlines()) <= 1


def test_a_word_about_a_file_that_everybody_can_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for mode, warned in ((0o644, True), (0o600, False)):
        path.touch()
        path.chmod(mode)
        with path.open("wb") as out:
            done = subprocess.run([sys.executable, "-m", "proxy.cli", "genkey"], stdout=out, stderr=subprocess.PIPE)
        assert (b"world accessible" in done.stderr) is warned
