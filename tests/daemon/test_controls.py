"""The admin socket of the real command."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.admin.client import Client
from proxy.admin.protocol import Event, Result
from tests.admin.conftest import Caller
from tests.cli.support import Daemon, usernet
from tests.support.networks import LEFT, RIGHT, key_pair
from tests.support.skipping import needs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wg7.conf"
    path.touch(mode=0o600)
    private, public = (base64.b64encode(key).decode() for key in (key_pair()[0], key_pair()[1]))
    path.write_text(
        f"[Interface]\nPrivateKey = {private}\nAddress = {LEFT}/32\n"
        f"[Peer]\nPublicKey = {public}\nAllowedIPs = {RIGHT}/32\n"
    )
    return path


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def left_in(directory: Path) -> list[str]:
    """What is no directory."""
    return [str(path) for path in directory.rglob("*") if not path.is_dir() and path.suffix != ".conf"]


SOCKS = ("--socks5-server", "127.0.0.1:0")


async def test_it_answers_and_tells_that_it_stops(file: Path, short: Path) -> None:
    path = short / "d" / "a.sock"
    async with Daemon.start("run", str(file), *SOCKS, "--socket", str(path)) as daemon:
        await daemon.line(f"admin socket: {path}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert await Client(path).call_async("ping") == "pong"
        async with Caller.at(path) as caller:
            caller.ask("ping")
            assert await caller.reply() == Result(1, "pong")
            assert await daemon.stop() == 0
            assert await caller.reply() == Event("system-shutdown")
    assert left_in(path.parent) == []


async def test_reload(file: Path, short: Path) -> None:
    path = short / "a.sock"
    async with Daemon.start("run", str(file), *SOCKS, "--socket", str(path)) as daemon:
        await daemon.line("admin socket")
        assert await Client(path).call_async("reload") == "nothing has changed"
        file.write_text(file.read_text().replace("AllowedIPs = ", "PersistentKeepalive = 25\nAllowedIPs = 192.0.2.1, "))
        assert await Client(path).call_async("reload") == "1 peer altered"
        await daemon.line("reloaded: 1 peer altered")


async def test_a_second_one_and_a_killed_one(file: Path, short: Path) -> None:
    path = short / "a.sock"
    flags = (str(file), *SOCKS, "--socket", str(path))
    async with Daemon.start("run", *flags) as daemon:
        await daemon.line("admin socket")
        second = await asyncio.to_thread(usernet, "run", *flags)
        assert second.returncode == 1
        why = (
            f"Error: already running: process {daemon.process.pid} listens on {path}; end it, or choose another path"
            " with --socket\n"
        )
        assert second.stderr.endswith(why)
        assert await Client(path).call_async("ping") == "pong"
        assert await daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert path.is_socket()
    async with Daemon.start("run", *flags) as daemon:
        await daemon.line("admin socket")
        assert await Client(path).call_async("ping") == "pong"
        assert await daemon.stop() == 0
    assert left_in(short) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write to /var/run/wireguard")
async def test_two_of_one_name(file: Path, short: Path) -> None:
    name = f"un{os.getpid()}"
    one = file.rename(file.with_name(f"{name}.conf"))
    sockets = Path("/var/run/wireguard")
    async with Daemon.start("run", str(one), *SOCKS, "--socket", str(short / "a.sock")) as first:
        await first.line(f"peers are shown by: wg show {name}$")
        mine = (sockets / f"{name}.sock").stat().st_ino
        async with Daemon.start("run", str(one), *SOCKS, "--socket", str(short / "b.sock")) as second:
            await second.line(rf"peers are shown by: usernet wg show {name} \(wg alone shows another of that name\)$")
            assert (short / "wireguard" / f"{name}.sock").is_socket()
            assert (sockets / f"{name}.sock").stat().st_ino == mine
            assert await second.stop() == 0
        assert await first.stop() == 0
    assert left_in(short) == []
    assert [path.name for path in sockets.glob(f"{name}*")] == []


async def test_a_socket_that_cannot_be(file: Path, short: Path) -> None:
    (short / "a.sock").symlink_to(short / "b")
    done = await asyncio.to_thread(usernet, "run", str(file), *SOCKS, "--socket", str(short / "a.sock"))
    assert done.returncode == 1
    assert done.stderr.endswith("a.sock is a symbolic link; remove it, or choose another path\n")


@contextlib.asynccontextmanager
async def as_somebody(uid: int, file: Path) -> AsyncIterator[Daemon]:
    """`usernet run` of an ordinary user without a session, who can read the file."""
    for path in (file, *file.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            os.chown(path, uid, uid)
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    process = await asyncio.create_subprocess_exec(
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
        sys.executable, "-m", "proxy.cli", "run", str(file), *SOCKS,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**environment, "PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    daemon = Daemon(process)
    try:
        yield daemon
    finally:
        if process.returncode is None:
            await daemon.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_an_ordinary_user(file: Path, short: Path) -> None:
    needs("setpriv")
    uid = 100_000 + os.getpid()
    directory = Path(f"/tmp/usernet-{uid}")
    theirs = short / "wg7.conf"
    theirs.write_text(file.read_text())
    theirs.chmod(0o600)
    try:
        async with as_somebody(uid, theirs) as daemon:
            await daemon.line(f"admin socket: {directory}/wg7.sock")
            found = directory.stat()
            assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (uid, 0o700)
            assert await Client(directory / "wg7.sock").call_async("ping") == "pong"  # root may, too
        assert left_in(directory) == []
        shutil.rmtree(directory)
        directory.touch()  # so that there can be none
        async with as_somebody(uid, theirs) as daemon:
            await daemon.line(f"no admin socket: {directory} is a link or no directory; remove it")
            await daemon.line("proxy: SOCKS5")
            assert await daemon.stop() == 0
        directory.unlink()
        directory.mkdir(0o700)  # root's
        async with as_somebody(uid, theirs) as daemon:
            await daemon.line(f"no admin socket: cannot open the directory {directory}: Permission denied")
            await daemon.line("proxy: SOCKS5")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        directory.unlink(missing_ok=True)
