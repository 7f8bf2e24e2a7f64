"""What a container is made of, without an engine: the lines of docker/Dockerfile, and what they installed with an
arbitrary uid, no capability, a root that cannot be written, no home, no TUN and nothing but a veth; and as process 1.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.lab import INNER_FAR, Lab, run, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
WHEELS = ROOT / "build" / "wheel"  # `make interop` has built it, as the image's builder does
PAGE = b"hello from the far side\n"
UID = 4711  # that nobody has
# The mount namespace of it: everything there is read-only but for the manifests' tmpfs.  A Python that lies where only
# root may look (pyenv in /root) is bound into its place again, in an empty directory that anybody may enter.
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
mount -t tmpfs -o mode=1777 none /tmp
mount -o remount,bind,ro /
exec setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
    --no-new-privs env -i "$@"
"""


def stages() -> list[list[str]]:
    """The instructions of each, whole, without comments."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("FROM ")]
    return [
        [line for line in lines[start:end] if line]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


def variables(**others: str) -> tuple[str, ...]:
    """The image's, with others in their place."""
    (line,) = (line for line in stages()[-1] if line.startswith("ENV "))
    found = dict(pair.split("=", 1) for pair in line.split()[1:])
    found["PATH"] = found["PATH"].replace("$PATH", "/usr/bin:/bin")
    return tuple(f"{name}={value}" for name, value in (found | others).items())


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """`usernet`, as the builder of the image installs it, where anybody may read it."""
    folder = Path("/opt") / f"usernet-test-{os.getpid()}"
    source = folder / "source"
    source.mkdir(parents=True)
    # What the tests run is on that path, and pip would find nothing left to install
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        for name in re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "target", "__pycache__")
                )
            else:
                shutil.copy(ROOT / name, source / name)
        for line in stages()[0]:
            if line.startswith("RUN ") and "apt-get" not in line:
                line = line.removeprefix("RUN ").replace("/opt/usernet", f"{folder}/venv")
                line = line.replace("/tmp/version", f"{folder}/version")
                line = re.sub(r"(?<![\w/])python -m", f"{sys.executable} -m", line)
                line = re.sub(r"(?<=pip install --no-cache-dir )\.", str(next(WHEELS.glob("*.whl"), ".")), line)
                done = subprocess.run(
                    ["sh", "-c", line], cwd=source, capture_output=True, text=True, timeout=580, env=environment
                )
                assert done.returncode == 0, done.stdout + done.stderr
        yield folder / "venv/bin/usernet"
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def secret(gso_lab: Lab, installed: Path) -> Path:
    """The file, as a mounted secret has it: readable for the group."""
    path = installed.parents[2] / "wg0.conf"
    shutil.copy(gso_lab.config(name="wg0.conf"), path)
    os.chown(path, 0, UID)
    path.chmod(0o440)
    return path


def contained(lab: Lab, program: Path, *arguments: str, pid1: bool = False, env: tuple[str, ...] = ()) -> list[str]:
    space = ["unshare", "-m", *(["-p", "-f", "--mount-proc"] if pid1 else [])]
    base = Path(sys.base_prefix)
    script = READ_ONLY.format(uid=UID, base=base, top=f"/{base.parts[1]}")
    return lab.near_command(*space, "sh", "-c", script, "sh", *(env or variables()), str(program), *arguments)


def asked(process: subprocess.Popen[bytes], program: Path, *arguments: str, env: tuple[str, ...] = ()) -> str:
    """What the command says in the same container, as `docker exec` has it."""
    return run(
        "nsenter", "-t", str(process.pid), "-m", "-n", "--", "setpriv", f"--reuid={UID}", f"--regid={UID}",
        "--clear-groups", "env", "-i", *(env or variables()), str(program), *arguments,
    )  # fmt: skip


def test_without_any_privilege(gso_lab: Lab, installed: Path, secret: Path) -> None:
    """No argument but the image's own: curl goes through it, the probe says so, and it ends well."""
    lab = gso_lab
    assert stages()[-1][-2:] == ['ENTRYPOINT ["usernet"]', 'CMD ["run"]']
    process = lab.start(contained(lab, installed, "run", env=variables(USERNET_FILE=str(secret))), log="c.log")
    lab.wait_listening(1080, process, "c.log")
    wait_for(lambda: "completed" in lab.log("c.log"), "the handshake")
    assert lab.curl(f"http://{INNER_FAR}/") == PAGE
    assert "no state is kept: " in lab.log("c.log")  # no volume was given for it
    assert f"admin socket: /tmp/usernet-{UID}/wg0.sock" in lab.log("c.log")
    assert asked(process, installed, "healthcheck") == ""
    assert asked(process, installed, "status").startswith("The tunnel works.")
    written = subprocess.run(
        ["nsenter", "-t", str(process.pid), "-m", "--", "touch", "/written"], capture_output=True, text=True
    )
    assert "Read-only file system" in written.stderr
    status = Path(f"/proc/{process.pid}/status").read_text()
    for what in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", f"Uid:\t{UID}"):
        assert what in status
    (resident,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    assert int(resident) < asked_for() * 1024
    assert lab.end(process) == 0
    alone = subprocess.run(contained(lab, installed, "healthcheck"), capture_output=True, text=True, timeout=60)
    assert (alone.returncode, alone.stdout) == (1, "")
    assert "no daemon is running" in alone.stderr


def asked_for() -> int:
    """MiB of memory that the sidecar asks for."""
    pod = yaml.safe_load((DOCKER / "kubernetes/sidecar.yaml").read_text())
    text = pod["spec"]["initContainers"][0]["resources"]["requests"]["memory"]
    return int(text.removesuffix("Mi"))


def test_nothing_can_be_written_at_all(gso_lab: Lab, installed: Path, secret: Path) -> None:
    """Without a tmpfs, too, it runs; but there is nobody to ask how it is."""
    lab = gso_lab
    env = variables(USERNET_FILE=str(secret))
    command = contained(lab, installed, "run", env=env)
    command[command.index("-c") + 1] = command[command.index("-c") + 1].replace("mode=1777", "mode=1777,ro")
    process = lab.start(command, log="ro.log")
    lab.wait_listening(1080, process, "ro.log")
    assert lab.curl(f"http://{INNER_FAR}/") == PAGE
    assert "no admin socket: " in lab.log("ro.log")
    assert lab.end(process) == 0


def test_by_containerboots_variables(gso_lab: Lab, installed: Path, secret: Path) -> None:
    """Manifests for tailscale's image say where everything is by TS_...; the probe finds the socket, too."""
    lab = gso_lab
    env = variables(
        USERNET_FILE=str(secret), TS_USERSPACE="true", TS_SOCKS5_SERVER="127.0.0.1:1055", TS_STATE_DIR="/tmp/state",
        TS_OUTBOUND_HTTP_PROXY_LISTEN="127.0.0.1:1055", TS_SOCKET="/tmp/tailscaled.sock",
        TS_ENABLE_HEALTH_CHECK="true", TS_LOCAL_ADDR_PORT="127.0.0.1:9002",
    )  # fmt: skip
    process = lab.start(contained(lab, installed, "run", env=env), log="ts.log")
    lab.wait_listening(1055, process, "ts.log")
    for proxy in ("socks5h://127.0.0.1:1055", "http://127.0.0.1:1055"):
        assert lab.curl(f"http://{INNER_FAR}/", proxy=proxy) == PAGE
    assert lab.curl("http://127.0.0.1:9002/healthz", proxy="")
    assert asked(process, installed, "healthcheck", env=env) == ""
    assert lab.end(process) == 0


def test_without_a_tun(gso_lab: Lab, installed: Path, secret: Path) -> None:
    """What runs on a Synology by default: no TUN is there, and why, and on without it."""
    lab = gso_lab
    env = variables(USERNET_FILE=str(secret), USERNET_TUN="usernet0,userspace-networking")
    process = lab.start(contained(lab, installed, "run", env=env), log="tun.log")
    lab.wait_listening(1080, process, "tun.log")
    assert lab.curl(f"http://{INNER_FAR}/") == PAGE
    assert "usernet0" in lab.log("tun.log")
    assert lab.end(process) == 0


def test_as_process_1(gso_lab: Lab, installed: Path, secret: Path) -> None:
    """Signals have no default action there: it must have asked for them."""
    lab = gso_lab
    env = variables(USERNET_FILE=str(secret))
    process = lab.start(contained(lab, installed, "run", pid1=True, env=env), log="one.log")
    lab.wait_listening(1080, process, "one.log")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = map(int, children)
    assert Path(f"/proc/{child}/status").read_text().partition("NSpid:")[2].split()[1] == "1"
    assert lab.curl(f"http://{INNER_FAR}/") == PAGE
    os.kill(child, signal.SIGTERM)
    assert process.wait(10) == 0, lab.log("one.log")
    lab.processes.remove(process)
    assert "SIGTERM: stopping" in lab.log("one.log")
