"""Files of the configuration on a disk: who can read them, and keys that stand in files of their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.config.test_parser import GOOD, OWN, PSK
from usernet.config import Config, load, parse
from usernet.errors import ConfigError

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
OPEN = "{}:1: everybody on this machine can read this file, which holds secrets; chmod 600 it"


def said(config: Config) -> list[str]:
    return [str(problem) for problem in config.warnings]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def write(path: Path, text: str, mode: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@posix
@pytest.mark.parametrize(
    ("mode", "inner", "outer", "warned"),
    [
        (0o644, 0o755, 0o755, True),
        (0o604, 0o711, 0o711, True),  # whose name is guessed
        (0o640, 0o755, 0o755, False),
        (0o600, 0o777, 0o777, False),
        (0o644, 0o700, 0o755, False),
        (0o644, 0o744, 0o755, False),  # may be listed, and no more
        (0o644, 0o755, 0o750, False),  # two directories up
    ],
)
def test_who_can_read_it(place: Path, mode: int, inner: int, outer: int, warned: bool) -> None:
    path = write(place / "inner" / "wg.conf", GOOD, mode)
    path.parent.chmod(inner)
    place.chmod(outer)
    assert said(load(path)) == [OPEN.format(path)] * warned


@posix
def test_a_link_is_not_what_is_open(place: Path) -> None:
    path = write(place / "private" / "wg.conf", GOOD, 0o644)
    path.parent.chmod(0o700)
    (place / "wg.conf").symlink_to(path)
    assert said(load(place / "wg.conf")) == []
    public = write(place / "public.conf", GOOD, 0o644)
    (path.parent / "link").symlink_to(public)
    assert said(load(path.parent / "link")) == [OPEN.format(path.parent / "link")]


@posix
def test_a_relative_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place / "wg.conf", GOOD, 0o644)
    monkeypatch.chdir(place)
    assert said(load("wg.conf")) == [OPEN.format("wg.conf")]
    place.chmod(0o700)
    assert said(load("wg.conf")) == []


@posix
@pytest.mark.parametrize(
    ("key", "more", "warned"),
    [
        (OWN, "", True),
        ("$KEY", "", False),
        ("generate", "", False),
        ("file:key", "", False),
        ("file:key", "[http]\nBindAddress = :1080\nUsername = a\nPassword = b\n", True),
        ("file:key", "[Access]\nUser = alice:word\n", True),
        ("file:key", f"PresharedKey = {PSK}\n", True),
    ],
)
def test_only_what_holds_secrets(
    place: Path, monkeypatch: pytest.MonkeyPatch, key: str, more: str, warned: bool
) -> None:
    monkeypatch.setenv("KEY", OWN)
    write(place / "key", OWN, 0o600)
    path = write(place / "wg.conf", GOOD.replace(OWN, key) + more, 0o644)
    assert (OPEN.format(path) in said(load(path, generate=lambda: bytes(range(32))))) is warned


# Keys in files of their own


@pytest.mark.parametrize("text", [OWN, OWN + "\n", OWN + "\r\n", f"  {OWN}\t\n\n"])
def test_a_key_in_a_file_of_its_own(tmp_path: Path, text: str) -> None:
    write(tmp_path / "own", text, 0o600)
    write(tmp_path / "shared", PSK, 0o600)
    lines = GOOD.replace(OWN, "file:own") + f"PresharedKey = file:{tmp_path}/shared\n"
    config = load(write(tmp_path / "wg.conf", lines, 0o600))
    assert config.interface.private_key == bytes(range(32))
    assert config.peers[0].preshared_key == bytes(range(96, 128))
    assert said(config) == []


REMEDY = "; write file: and the path of a file that holds the key alone"
WRITE = "; write the 44 characters that `usernet genkey`, `pubkey` or `genpsk` prints"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "cannot read 'own': No such file or directory" + REMEDY),
        (b"", "the key is empty" + WRITE),
        (b"\r\n", "the key is empty" + WRITE),
        (OWN[:40].encode(), "the key is 30 bytes long instead of 32" + WRITE),
        (OWN[:-1].encode(), "the key is not base64 (43 characters)" + WRITE),
        (f"{OWN}\n{OWN}\n".encode(), "the key is not base64 (89 characters)" + WRITE),
        (f"PrivateKey = {OWN}".encode(), "the key is not base64 (57 characters)" + WRITE),
        (OWN.encode("utf-16"), "'own' is in UTF-16; save the file as ASCII or UTF-8"),  # as PowerShell writes files
        ("\ufeff".encode("utf-16-be"), "'own' is in UTF-16; save the file as ASCII or UTF-8"),
        (bytes(range(128, 160)), "'own' holds no key" + REMEDY),  # raw
        (bytes(4096), "the key is not base64 (1024 characters)" + WRITE),
    ],
)
def test_what_holds_no_key(tmp_path: Path, content: bytes | None, wrong: str) -> None:
    if content is not None:
        (tmp_path / "own").write_bytes(content)
    path = write(tmp_path / "wg.conf", GOOD.replace(OWN, "file:own"), 0o600)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [str(problem) for problem in caught.value.problems] == [f"{path}:2: PrivateKey: {wrong}"]
    assert OWN not in wrong


@posix
def test_a_directory(tmp_path: Path) -> None:
    for name in (".", "", str(tmp_path)):
        with pytest.raises(ConfigError, match=r":2: PrivateKey: cannot read .*: Is a directory; write file: "):
            parse(GOOD.replace(OWN, f"file:{name}"), str(tmp_path / "wg.conf"))


def test_a_path_that_there_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":2: PrivateKey: 'a.*b' holds no key"):
        parse(GOOD.replace(OWN, "file:a\0b"), str(tmp_path / "wg.conf"))


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read all, so the kernel's word is put here."""
    config = str(write(tmp_path / "wg.conf", GOOD.replace(OWN, "file:own"), 0o600))

    def refusing(name: str, mode: str) -> None:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr("usernet.config.files.open", refusing, raising=False)
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(OWN, "file:own"), config)
    assert str(caught.value.problems[0]).endswith(":2: PrivateKey: cannot read 'own': Permission denied" + REMEDY)


@posix
def test_a_key_file_that_everybody_can_read(place: Path) -> None:
    write(place / "own", OWN, 0o644)
    path = write(place / "wg.conf", GOOD.replace(OWN, "file:own"), 0o600)
    assert said(load(path)) == [f"{path}:2: PrivateKey: everybody on this machine can read 'own'; chmod 600 it"]
    (place / "own").chmod(0o600)
    assert said(load(path)) == []


def test_only_a_private_key_can_be_made() -> None:
    made = [bytes(range(32))]
    config = parse(GOOD.replace(OWN, "generate"), "f", generate=made.pop)
    assert config.interface.private_key == bytes(range(32))
    with pytest.raises(ConfigError, match="f:2: PrivateKey: only `usernet run` can generate and keep a key; write "):
        parse(GOOD.replace(OWN, "generate"), "f")
    with pytest.raises(ConfigError, match="f:9: PresharedKey: the key is 6 bytes long"):
        parse(GOOD + "PresharedKey = generate\n", "f", generate=lambda: bytes(32))
