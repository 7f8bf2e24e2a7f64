"""What a container is made of, without an engine: the installed command with an arbitrary uid, no capability, a root
that cannot be written, no home and nothing but a veth; and as process 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import INNER_FAR, Lab, run, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PAGE = b"hello from the far side\n"
UID = 4711  # that nobody has
# The mount namespace of it: everything there is read-only but for one tmpfs.  A Python that lies where only root may
# look (pyenv in /root) is bound into its place again, in an empty directory that anybody may enter.
READ_ONLY = """
set -e
mount --make-rprivate /
if ! setpriv --reuid={uid} --regid={uid} --clear-groups test -x {base}/bin; then
    mount --bind {base} /mnt
    mount -t tmpfs -o mode=755 none {top}
    mkdir -p {base}
    mount --move /mnt {base}
fi
mount -t tmpfs none /dev/net
mount -t tmpfs -o mode=1777 none /run
mount -o remount,bind,ro /
exec setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
    --no-new-privs env -i "$@"
"""


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """A fresh virtual environment that holds the wheel, where anybody may read it; its `usernet`."""
    folder = Path("/opt") / f"usernet-test-{os.getpid()}"
    folder.mkdir()
    try:
        source = folder / "source"
        kept = ("pyproject.toml", "README.md", "LICENSE", "usernet", "proxy")  # as docker/Dockerfile copies them
        source.mkdir()
        for name in kept:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
        run(sys.executable, "-m", "venv", str(folder / "venv"))
        subprocess.run(
            [str(folder / "venv/bin/python"), "-m", "pip", "install", "-q", str(source)],
            check=True, timeout=280, capture_output=True,
        )  # fmt: skip
        run("chmod", "-R", "a+rX", str(folder))
        yield folder / "venv/bin/usernet"
    finally:
        shutil.rmtree(folder)


def contained(lab: Lab, program: Path, *arguments: str, pid1: bool = False, env: tuple[str, ...] = ()) -> list[str]:
    space = ["unshare", "-m", *(["-p", "-f", "--mount-proc"] if pid1 else [])]
    base = Path(sys.base_prefix)
    script = READ_ONLY.format(uid=UID, base=base, top=f"/{base.parts[1]}")
    variables = ("PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1", *env)
    return lab.near_command(*space, "sh", "-c", script, "sh", *variables, str(program), *arguments)


@pytest.fixture
def secret(gso_lab: Lab) -> Path:
    """The file, as a mounted secret has it: readable for the group."""
    path = gso_lab.config(name="wg0.conf")
    gso_lab.dir.chmod(0o755)
    os.chown(path, 0, UID)
    path.chmod(0o440)
    return path


SOCKET = "/run/usernet.sock"


def test_without_any_privilege(gso_lab: Lab, installed: Path, secret: Path) -> None:
    """curl goes through it, the probe says so, it ends within 2 s; and it is the wheel with the native kernel."""
    lab = gso_lab
    version = run(*contained(lab, installed, "--version"))
    assert "burst kernel: native" in version
    env = (f"USERNET_FILE={secret}", f"USERNET_SOCKET={SOCKET}")
    process = lab.start(contained(lab, installed, "run", "--socks5-server", "127.0.0.1:1080", env=env), log="c.log")
    lab.wait_listening(1080, process, "c.log")
    wait_for(lambda: "completed" in lab.log("c.log"), "the handshake")
    assert lab.curl(f"http://{INNER_FAR}/") == PAGE
    assert "no state is kept: " in lab.log("c.log")  # no home, and nothing to write to
    inside = ["nsenter", "-t", str(process.pid), "-m", "-n", "--"]
    asked = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", "-i", f"USERNET_SOCKET={SOCKET}"]
    for command, answer in (("healthcheck", ""), ("status", "The tunnel works.")):
        assert run(*inside, *asked, str(installed), command).startswith(answer)
    written = subprocess.run([*inside, "touch", "/written"], capture_output=True, text=True)
    assert "Read-only file system" in written.stderr
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert f"Uid:\t{UID}" in status
    assert lab.end(process) == 0
    alone = subprocess.run(contained(lab, installed, "healthcheck"), capture_output=True, text=True, timeout=60)
    assert (alone.returncode, alone.stdout) == (1, "")
    assert "no daemon is running" in alone.stderr


def test_as_process_1(gso_lab: Lab, installed: Path, secret: Path) -> None:
    """Signals have no default action there: it must have asked for them."""
    lab = gso_lab
    command = contained(lab, installed, "run", str(secret), "--socket", SOCKET, "--state", "mem:", pid1=True)
    process = lab.start(command, log="one.log")
    lab.wait_listening(1080, process, "one.log")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = map(int, children)
    assert "NSpid:\t" in Path(f"/proc/{child}/status").read_text()
    assert Path(f"/proc/{child}/status").read_text().partition("NSpid:")[2].split()[1] == "1"
    assert lab.curl(f"http://{INNER_FAR}/") == PAGE
    os.kill(child, signal.SIGTERM)
    assert process.wait(10) == 0, lab.log("one.log")
    lab.processes.remove(process)
    assert "SIGTERM: stopping" in lab.log("one.log")
