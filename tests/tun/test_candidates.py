"""`--tun`: what may stand there, and what is tried."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.tun.configs import config
from usernet.tun import candidates, device
from usernet.tun.candidates import NoTun, default_candidates, open_first, parse_candidates


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("usernet0", ("usernet0",)),
        ("usernet0,userspace-networking", ("usernet0", "userspace-networking")),
        (" wg0 , ,wg1,", ("wg0", "wg1")),
        ("a.b_c-9", ("a.b_c-9",)),
    ],
)
def test_names_in_their_order(text: str, names: tuple[str, ...]) -> None:
    assert parse_candidates(text) == names


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tap:usernet0", "write usernet0 for a TUN"),
        ("a234567890123456", "1 to 15 letters"),
        ("a/b", "1 to 15 letters"),
        ("..", "1 to 15 letters"),
        ("usernet%d", "1 to 15 letters"),
        (",", "names nothing"),
        ("", "names nothing"),
    ],
)
def test_what_is_no_name(text: str, why: str) -> None:
    with pytest.raises(NoTun, match=why):
        parse_candidates(text)


def test_a_synology_has_a_try_at_a_tun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "SYNOLOGY", str(tmp_path / "syno"))
    assert default_candidates() == "userspace-networking"
    (tmp_path / "syno").mkdir()
    assert default_candidates() == "usernet0,userspace-networking"


@pytest.fixture
def no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in its place, on which no TUN can be made."""
    (tmp_path / "tun").touch()
    monkeypatch.setattr(device, "CLONE", str(tmp_path / "tun"))


@pytest.mark.usefixtures("no_device")
async def test_every_reason_is_given(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NoTun) as caught:
        await open_first(("wg0", "wg1"), config("10.0.0.2/24", "10.0.0.0/24"), 1420, hooks=False)
    assert str(caught.value).startswith("--tun wg0: Inappropriate ioctl for device (")
    assert "; --tun wg1: Inappropriate ioctl for device (" in str(caught.value)


@pytest.mark.usefixtures("no_device")
async def test_userspace_is_the_last_resort_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    names = ("wg0", "userspace-networking", "wg1")
    assert await open_first(names, config("10.0.0.2/24", "10.0.0.0/24"), 1420, hooks=False) is None
    assert "--tun wg0: Inappropriate ioctl" in caplog.text
    assert "going on without an interface (userspace-networking)" in caplog.text
    assert "wg1" not in caplog.text
