"""What may be at the path, and what becomes of it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.admin.binding import PATH_MAX, Bound
from proxy.admin.paths import AlreadyRunning, SocketError
from tests.support.skipping import needs

HOLD = """
import sys
from pathlib import Path
from proxy.admin.binding import Bound
bound = Bound(Path(sys.argv[1]))
print("bound", flush=True)
sys.stdin.read()
"""


def refused(path: Path) -> str:
    with pytest.raises(SocketError) as caught:
        Bound(path).close()
    return str(caught.value)


def test_a_directory_and_a_socket_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.sock"
    mask = os.umask(0)
    try:
        bound = Bound(path)
    finally:
        assert os.umask(mask) == 0  # as it was before
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    bound.close()
    bound.close()
    assert os.listdir(path.parent) == []


def test_the_socket_is_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode is right when bind returns: nothing has to close a gap."""
    modes = []
    listen = socket.socket.listen

    def look(sock: socket.socket, backlog: int) -> None:
        modes.append(stat.S_IMODE(os.lstat(sock.getsockname()).st_mode))
        listen(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", look)
    Bound(tmp_path / "a.sock").close()
    assert modes == [0o600]


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    (tmp_path / "a.sock.lock").touch()
    bound = Bound(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        bound.socket.accept()[0].close()
    bound.close()


def test_what_was_killed_leaves_nothing_that_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        with pytest.raises(AlreadyRunning, match="already running"):
            Bound(path)
        process.kill()
        process.wait()
        assert path.is_socket()
        assert (tmp_path / "a.sock.lock").exists()
    Bound(path).close()
    assert os.listdir(tmp_path) == []


def test_somebody_who_listens_without_our_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "already running" in refused(path)
        assert path.is_socket()
    assert os.listdir(tmp_path) == ["a.sock"]  # and no lock is left


def test_a_lock_that_its_owner_removes_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before, locked after it was removed: another process could lock a new one of the same name."""
    path, lock = tmp_path / "a.sock", tmp_path / "a.sock.lock"
    import fcntl

    flock, calls = fcntl.flock, []

    def late(fd: int, how: int) -> None:
        calls.append(os.fstat(fd).st_ino)
        if len(calls) == 1:
            os.unlink(lock)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    bound = Bound(path)
    assert len(calls) == 2
    assert lock.stat().st_ino == os.fstat(bound._lock).st_ino
    bound.close()


@pytest.mark.parametrize("what", ["link", "dangling", "file", "directory"])
def test_what_is_not_ours_to_remove(tmp_path: Path, what: str) -> None:
    path, target = tmp_path / "a.sock", tmp_path / "target"
    match what:
        case "link":
            target.touch()
            path.symlink_to(target)
        case "dangling":
            path.symlink_to(target)
        case "file":
            path.write_text("kept")
        case _:
            path.mkdir()
    before = sorted(os.listdir(tmp_path))
    assert ("symbolic link" if "li" in what and what != "file" else "no socket") in refused(path)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_lock_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.sock.lock").symlink_to(tmp_path / "elsewhere")
    assert "a.sock.lock is a symbolic link" in refused(tmp_path / "a.sock")
    assert not (tmp_path / "elsewhere").exists()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / "a.sock"
    assert f"is {len(str(path))} bytes long, and the path of a socket has room for {PATH_MAX}" in refused(path)
    assert os.listdir(tmp_path) == []
    longest = tmp_path / ("y" * (PATH_MAX - len(str(tmp_path)) - 1))
    Bound(longest).close()


def test_directories_where_others_could_replace_it(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert "everybody may write to" in refused(open_to_all / "a.sock")
    open_to_all.chmod(0o1777)
    Bound(open_to_all / "a.sock").close()
    (tmp_path / "file").touch()
    assert "is a link or no directory" in refused(tmp_path / "file" / "a.sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_foreign_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    os.chown(path, 4711, 4711)
    assert "belongs to uid 4711" in refused(path)
    assert path.is_socket()
    path.unlink()
    lock = tmp_path / "a.sock.lock"
    lock.touch()
    os.chown(lock, 4711, 4711)
    assert "a.sock.lock belongs to uid 4711" in refused(path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 4711, 4711)
    assert "theirs belongs to uid 4711, who could replace the socket" in refused(theirs / "a.sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_as_another_user(tmp_path: Path) -> None:
    """Root's socket, stale, in a directory that everybody uses: an ordinary user does not take its place."""
    needs("setpriv")
    shared = Path("/tmp") / f"usernet-test-{os.getpid()}"
    shared.mkdir()
    try:
        shared.chmod(0o1777)
        path = shared / "a.sock"
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(path))
        command = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", sys.executable, "-c", HOLD, str(path)]
        done = subprocess.run(
            command, input="", capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}, timeout=30
        )
        assert done.returncode == 1
        assert f"{path} belongs to uid 0; remove it, or choose another path" in done.stderr
        assert os.listdir(shared) == ["a.sock"]
    finally:
        for name in os.listdir(shared):
            (shared / name).unlink()
        shared.rmdir()
