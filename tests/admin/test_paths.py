"""Where sockets are, for whom, and which daemon is meant."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.admin import paths
from proxy.admin.paths import SocketError, default_path, find, interface_name, name_of, prepare


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As an ordinary user of a desktop; who nevertheless owns what root makes."""
    real = os.geteuid()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(paths, "private_directories", lambda: [tmp_path / "usernet", tmp_path / f"usernet-{real}"])
    return tmp_path / "usernet"


def test_default_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_path("wg0") == Path("/run/usernet/wg0.sock")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(paths, "_is_of", lambda uid, directory: (uid, directory) == (1000, tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path("a/b") == tmp_path / "usernet" / "a-b.sock"
    for useless in ("relative", "", str(tmp_path / "of somebody else")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        assert default_path("wg0") == Path("/tmp/usernet-1000/wg0.sock")


def test_whose_directory(tmp_path: Path) -> None:
    owner = tmp_path.stat().st_uid
    assert paths._is_of(owner, tmp_path)
    assert not paths._is_of(owner + 1, tmp_path)
    assert not paths._is_of(owner, tmp_path / "gone")


def test_names() -> None:
    assert name_of("/etc/wireguard/wg0.conf") == "wg0"
    assert name_of(".conf") == ".conf"
    assert interface_name("my home: long enough") == "my-home--long-e"


def test_a_private_directory(runtime: Path) -> None:
    prepare(runtime, 0o700)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    runtime.chmod(0o755)
    prepare(runtime, 0o700)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


def test_a_private_directory_that_is_a_link(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    runtime.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SocketError, match="is a link or no directory; remove it"):
        prepare(runtime, 0o700)


def test_a_private_directory_of_somebody_else(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(runtime, 0o700)
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    with pytest.raises(SocketError, match=f"belongs to uid {runtime.stat().st_uid}; remove it"):
        prepare(runtime, 0o700)


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(
        SocketError, match=r"cannot make the directory .*: No such file or directory; choose another path"
    ):
        prepare(tmp_path / "a" / "b", 0o700)


def test_the_one_daemon(runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(SocketError, match=r"no daemon is running \(looked in .*usernet and .*\); start `usernet run"):
        find()
    runtime.mkdir()
    (runtime / "file.sock").touch()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / "dead.sock"))
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.bind(str(runtime / "wg1.sock"))
        one.listen()
        assert find() == runtime / "wg1.sock"
        two.bind(str(runtime / "wg0.sock"))
        two.listen()
        with pytest.raises(
            SocketError, match=r"2 daemons are running; choose one with --socket: .*wg0\.sock, .*wg1\.sock"
        ):
            find()


def test_a_service_of_systemds_is_found_in_its_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "private_directories", lambda: [tmp_path])
    folder = tmp_path / "wg0"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "wg0.sock"))
        listening.listen()
        assert paths.find() == folder / "wg0.sock"
        assert paths.path_of("wg0") == folder / "wg0.sock"
        assert paths.path_of("wg1") == tmp_path / "wg1.sock"
        (tmp_path / "wg0.sock").touch()
        assert paths.path_of("wg0") == tmp_path / "wg0.sock"
