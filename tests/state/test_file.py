"""A store in a file: whole or not there, whenever the machine stops; and everything that is no such file."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.state.file import FileStore, is_held, load
from proxy.state.opening import choose, default_directory, open_store
from proxy.state.store import MemoryStore, NoValue, StoreError

WRITER = Path(__file__).with_name("writer.py")
STOPPING = Path(__file__).with_name("stopping.py")


def test_what_is_written_is_read_and_outlives_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "wg.state"
    store = FileStore(path)
    with pytest.raises(NoValue):
        store.read("a")
    store.write("a", b"\0\xff")
    store.write("b", b"")
    store.write("a", b"again")
    for each in (store, FileStore(path)):
        assert (each.read("a"), each.read("b")) == (b"again", b"")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["wg.state"]
    assert json.loads(path.read_text()) == {"a": "YWdhaW4=", "b": ""}


def test_an_empty_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()
    store = FileStore(path)
    with pytest.raises(NoValue):
        store.read("a")


@pytest.mark.parametrize("text", ["x", "[]", "3", '{"a": 1}', '{"a": "*"}', '{"a": null}', "\xff", "{"])
def test_what_holds_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=f"state file {path} holds something else; move it away"):
        FileStore(path)
    assert path.read_bytes() == text.encode("latin-1")


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    (path.parent / "target").write_text("{}")
    path.symlink_to(path.parent / "target")


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


@pytest.mark.parametrize("make", [a_directory, a_link, a_link_to_nothing, a_fifo, a_socket])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "s"
    make(path)
    with pytest.raises(StoreError, match="is no regular file; move it away"):
        FileStore(path)


def test_a_device_is_refused() -> None:
    with pytest.raises(StoreError, match="/dev/null is no regular file"):
        FileStore(Path("/dev/null"))


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    """Though root could read it: whoever wrote it would choose our key."""
    path = tmp_path / "s"
    FileStore(path).write("a", b"1")
    os.chown(path, 4321, 0)
    with pytest.raises(StoreError, match="belongs to user 4321, not to us, user 0; move it away"):
        FileStore(path)


def test_what_writers_that_were_killed_have_left_goes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    FileStore(path)
    old, young, other = (tmp_path / name for name in (".s.old.tmp", ".s.young.tmp", ".t.old.tmp"))
    for each in (old, young, other):
        each.touch()
        os.utime(each, (1, 1) if "old" in each.name else None)
    FileStore(path)
    assert sorted(tmp_path.iterdir()) == sorted([path, young, other])


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
@pytest.mark.parametrize("prepare", ["read-only directory", "foreign file"])
def test_as_somebody_who_may_not(tmp_path: Path, prepare: str) -> None:
    """That it can be written is proved at the start."""
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    path = tmp_path / "s"
    if prepare == "foreign file":
        FileStore(path).write("a", b"1")
    done = subprocess.run(
        [sys.executable, str(WRITER), str(path), "1", "4321"], input="\n", capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert f"state file {path}: Permission denied; name another with --state" in done.stderr


@pytest.mark.timeout(300)  # thousands of fsync(), on a busy machine
def test_killed_at_any_point_there_is_the_old_or_the_new(tmp_path: Path) -> None:
    """500 times: a process that writes one number after the other, killed at random."""
    path = tmp_path / "s"
    chance = random.Random(11)
    last = 0
    command = [sys.executable, str(WRITER), str(path), "500"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(500):
            process.stdin.write(b"\n")
            child, before = map(int, process.stdout.readline().split())
            time.sleep(chance.random() * 0.004)  # a point, and nothing that is waited for
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == b"gone\n"
            assert before == last
            found = int(load(path).get("number", 0))
            assert found >= last
            last = found
    assert last > 20  # it did write
    assert process.returncode == 0


def test_stopped_after_each_step_there_is_the_old_or_the_new(tmp_path: Path) -> None:
    """And in the order that lets a machine that loses its power have one of them, too."""
    path = tmp_path / "s"
    FileStore(path).write("a", b"old")
    found = []
    for steps in range(1, 20):
        FileStore(path).write("a", b"old")
        done = subprocess.run([sys.executable, str(STOPPING), str(path), str(steps)], capture_output=True, timeout=30)
        found.append(load(path)["a"])
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(done.stdout.split()) == steps
    order = done.stdout.decode().split()
    assert order == ["mkstemp", "write", "write", "fsync", "close", "open", "rename", "close", "open", "fsync", "close"]
    renamed = order.index("rename")
    assert found == [b"old"] * renamed + [b"new"] * (len(order) + 1 - renamed)


FULL_DISK = """
import os, sys
from pathlib import Path
from proxy.state.file import FileStore
from proxy.state.opening import choose
from proxy.state.store import StoreError

directory = Path(sys.argv[1])
store = FileStore(directory / "wg0.state")
store.write("a", b"old")
filler = open(directory / "filler", "wb", buffering=0)
try:
    while True:
        filler.write(bytes(4096))
except OSError:
    pass
for _ in range(3):
    try:
        store.write("a", bytes(4096))
    except StoreError as error:
        print(error)
assert store.read("a") == b"old"
print(sorted(os.listdir(directory)))
try:
    FileStore(directory / "wg0.state")
except StoreError as error:
    print("start:", error)
os.environ["STATE_DIRECTORY"] = str(directory)
kept, why = choose(None, None, "wg0")
print("by default:", kept.where, kept.read("a"), why)
filler.close()
os.unlink(directory / "filler")
store.write("a", b"new")
store.close()  # a file that is open and replaced would be in the way of the mount
print(FileStore(directory / "wg0.state").read("a"))
os.system(f"mount -o remount,ro {directory}")
try:
    store.write("a", b"newer")
except StoreError as error:
    print(error)
kept, why = choose(None, None, "wg0")
print("by default:", kept.where, kept.read("a"), why)
kept, why = choose(None, None, "wg1")
print("by default:", kept.where, why)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own is needed")
def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path: Path) -> None:
    """What is there stays, and is used even where it cannot be written; with room it is written again."""
    mount = 'mount -t tmpfs -o size=64k usernet "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, str(tmp_path), sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    full = (
        f"state file {tmp_path}/wg0.state: No space left on device; name another with --state, or --state mem: for none"
    )
    locked = full.replace("No space left on device", "Read-only file system")
    assert done.stdout.splitlines() == [
        full, full, full,
        "['filler', 'wg0.state']",
        f"start: {full}",
        f"by default: mem: b'old' {full}",
        "b'new'",
        locked,
        f"by default: mem: b'new' {locked}",
        f"by default: mem: {locked.replace('wg0', 'wg1')}",
    ], done.stderr  # fmt: skip


def test_a_file_of_another_kind_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    (tmp_path / "wg0.state").write_text("hello")
    with pytest.raises(StoreError, match="holds something else"):
        choose(None, None, "wg0")


@pytest.mark.parametrize("call", ["mkstemp", "fsync", "rename", "open"])
def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "s"
    store = FileStore(path)
    store.write("a", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "mkstemp":
            patch.setattr("proxy.state.file.tempfile.mkstemp", fail)
        else:
            patch.setattr(f"proxy.state.file.os.{call}", fail)
        with pytest.raises(StoreError, match="No space left on device; name another with --state"):
            store.write("a", b"new")
        assert store.read("a") == b"old"
    assert FileStore(path).read("a") in (b"old", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["s"]
    store.write("a", b"newer")
    assert FileStore(path).read("a") == b"newer"


def test_memory() -> None:
    store = open_store("mem:")
    with pytest.raises(NoValue):
        store.read("a")
    store.write("a", b"1")
    assert store.read("a") == b"1"
    assert not store.lasts


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("redis:x", "there is no store redis:; write a path, mem:, kube:SECRET or arn:aws:ssm:"),
        ("arn:aws:s3:::bucket", "write arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/x?foo=1", "there is no option foo; the only one is kmsKey"),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/x?junk", "there is no option junk"),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/x?kmsKey=", "kmsKey names one key"),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/x?kmsKey=a&kmsKey=b", "kmsKey names one key"),
        ("kube:Bad_Name", "a Secret's name is lower-case"),
    ],
)
def test_what_is_no_store(where: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    with pytest.raises(StoreError) as caught:
        open_store(where)
    assert message in str(caught.value)


def test_where_it_is_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    assert default_directory() == tmp_path / "one"
    store, why = choose(None, None, "wg0")
    assert (store.where, why) == (f"{tmp_path}/one/wg0.state", "")
    (tmp_path / "file").touch()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "file"))
    store, why = choose(None, None, "wg0")
    assert isinstance(store, MemoryStore)
    assert "wg0.state" in why
    with pytest.raises(StoreError):
        choose(None, str(tmp_path / "file"), "wg0")
    assert choose("mem:", None, "wg0")[1] == ""
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == Path("/var/lib/usernet")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "usernet"


def test_whoever_may_write_again_is_seen_to_live(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert not is_held(path)
    store = FileStore(path)
    assert is_held(path)
    store.write("a", b"1")
    assert is_held(path), "it is another file now"
    store.close()
    assert not is_held(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert is_held(path)
        process.kill()
    assert not is_held(path)


HOLDER = """
import pathlib, sys
from proxy.state.file import FileStore
store = FileStore(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "x" / "y"):
        with pytest.raises(StoreError, match=f"state file {path}: Not a directory; name another"):
            FileStore(path)
