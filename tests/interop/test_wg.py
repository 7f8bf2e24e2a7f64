"""The real `wg` against a running `usernet run`, while a download goes on: as root, as an ordinary user by `usernet
wg`, the same where nobody has made /var/run/wireguard, and in a container without any privilege.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import page
from tests.support.lab import FAR, FAR_PORT, INNER_FAR, Lab, run, wait_for
from tests.support.skipping import needs

pytestmark = pytest.mark.interop

SIZE = 48 << 20  # B, at RATE it takes five seconds
RATE = "10M"
UID = 4711
USERNET = (sys.executable, "-m", "proxy.cli")


class World:
    """Where a daemon runs, and as whom."""

    def __init__(self, lab: Lab, kind: str) -> None:
        self.lab = lab
        self.kind = kind
        self.name = f"un{kind}{os.getpid() % 100000:x}"[:15]
        self.config = lab.config(name=f"{self.name}.conf", keepalive=25)
        self.prefix = lab.near_command()
        self.wg_command = ["wg"]
        self.socket = lab.dir / f"{kind}.sock"
        self.holder: subprocess.Popen[bytes] | None = None
        if kind == "root":
            return
        self.socket = lab.dir / kind / "run" / "a.sock"
        (lab.dir / kind).mkdir(exist_ok=True)
        for path in (self.config, lab.dir / kind):
            os.chown(path, UID, UID)
        somebody = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        if kind == "container":
            somebody += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        else:
            self.wg_command = [*USERNET, "wg", "--socket", str(self.socket)]
        self.prefix = [*self._inside(), *somebody]

    def _inside(self) -> list[str]:
        """The near host; with a /run of its own where the machine's is not wanted."""
        if self.kind == "user":
            return self.lab.near_command()
        made = (
            "mkdir /run/wireguard && chown 4711 /run/wireguard" if self.kind == "container" else "mkdir -m 755 /run/u"
        )
        script = f"mount -t tmpfs none /run && {made} && touch /run/ready && exec sleep infinity"
        self.holder = self.lab.start(
            self.lab.near_command("unshare", "--mount", "sh", "-c", script), log=f"{self.kind}.holder"
        )
        ready = Path(f"/proc/{self.holder.pid}/root/run/ready")
        wait_for(ready.exists, "a mount namespace")
        return ["nsenter", "--target", str(self.holder.pid), "--mount", "--net"]

    def file(self, name: str, text: str) -> str:
        """One that the daemon's user can read; where there is one, in a directory of /run that is to be still there."""
        path = self.lab.dir / name
        if self.kind == "bare" and self.holder is not None:
            path = Path(f"/proc/{self.holder.pid}/root/run/u") / name
        path.write_text(text)
        path.chmod(0o644)
        return f"/run/u/{name}" if self.kind == "bare" else str(path)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        environment = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.getcwd()}
        log = f"{self.name}.log"
        (self.lab.dir / log).unlink(missing_ok=True)
        command = [*self.prefix, *USERNET, "run", str(self.config), "--socket", str(self.socket)]
        process = self.lab.start(command, log=log, env=environment)
        try:
            wait_for(lambda: "peers are shown by" in self.lab.log(log) or process.poll() is not None, "its sockets")
            assert process.poll() is None, self.lab.log(log)
            command_shown = "usernet wg" if self.kind in ("user", "bare") else "wg"
            assert f"peers are shown by: {command_shown} show {self.name}\n" in self.lab.log(log)
            yield
        finally:
            status = self.lab.end(process)
            if self.holder is not None:
                self.lab.end(self.holder)
        assert status == 0, self.lab.log(log)
        assert "Traceback" not in self.lab.log(log)

    def wg(self, *arguments: str, status: int = 0) -> str:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [*self.prefix, *self.wg_command, *arguments],
            capture_output=True, text=True, timeout=30, env=environment,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture(params=["root", "user", "bare", "container"])
def world(gso_lab: Lab, request: pytest.FixtureRequest) -> Iterator[World]:
    needs("setpriv", "unshare", "nsenter", "wg")
    found = World(gso_lab, request.param)
    gso_lab.forget_near()
    with found.running():
        yield found


@contextlib.contextmanager
def downloading(lab: Lab) -> Iterator[None]:
    """While the block lasts, and it is whole in the end."""
    digest = lab.blob("big.bin", SIZE)
    command = lab.near_command(
        "curl", "-sS", "--fail", "--noproxy", "", "--proxy", "socks5h://127.0.0.1:1080", "--limit-rate", RATE,
        f"http://{INNER_FAR}/big.bin",
    )  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        digester = hashlib.sha256(curl.stdout.read(1 << 20))
        yield
        assert curl.poll() is None  # it has not been done before we were
        while piece := curl.stdout.read(1 << 20):
            digester.update(piece)
        assert curl.wait() == 0
    assert digester.hexdigest() == digest


def shown(world: World, what: str) -> dict[str, str]:
    """By peer's public key: what `wg show NAME WHAT` says."""
    lines = world.wg("show", world.name, what).splitlines()
    return {key: value for key, _, value in (line.partition("\t") for line in lines)}


def test_wg(world: World) -> None:
    lab, name = world.lab, world.name
    far, other, psk = lab.far_public, Lab.keypair()[1], run("wg", "genpsk")
    allowed = "192.0.2.128/25 2001:db8:2::/64"
    with downloading(lab):
        # show
        assert name in world.wg("show", "interfaces").split()
        text = world.wg("show", name)
        for words in (f"public key: {lab.near_public}", f"peer: {far}", f"endpoint: {FAR}:{FAR_PORT}", "handshake: "):
            assert words in text
        assert shown(world, "allowed-ips") == {far: allowed}
        assert int(shown(world, "transfer")[far].split("\t")[0]) > 1 << 20
        configured = world.wg("showconf", name)
        assert f"PrivateKey = {lab.near_key}\n" in configured
        assert f"PresharedKey = {lab.psk}\n" in configured
        # set
        world.wg("set", name, "peer", other, "allowed-ips", "10.0.0.0/8,fd00::/8", "endpoint", "192.0.2.9:7",
                 "persistent-keepalive", "9", "preshared-key", world.file("psk2", psk))  # fmt: skip
        assert shown(world, "allowed-ips") == {far: allowed, other: "10.0.0.0/8 fd00::/8"}
        assert shown(world, "endpoints")[other] == "192.0.2.9:7"
        assert shown(world, "preshared-keys") == {far: lab.psk, other: psk}
        world.wg("set", name, "peer", far, "persistent-keepalive", "11", "peer", other, "persistent-keepalive", "off")
        assert shown(world, "persistent-keepalive") == {far: "11", other: "off"}
        world.wg("set", name, "peer", other, "preshared-key", "/dev/null")
        assert shown(world, "preshared-keys")[other] == "(none)"
        # addconf, of a network that another has
        third = f"[Peer]\nPublicKey = {lab.keypair()[1]}\nAllowedIPs = 10.0.0.0/8\n"
        world.wg("addconf", name, world.file("third.conf", third))
        assert len(shown(world, "allowed-ips")) == 3
        assert shown(world, "allowed-ips")[other] == "fd00::/8"
        # refused, and all of it
        before = world.wg("showconf", name)
        error = world.wg("set", name, "fwmark", "1", "peer", other, "remove", status=1)
        assert error == "Unable to modify interface: Operation not supported\n"
        assert world.wg("showconf", name) == before
        # syncconf and setconf
        world.wg("syncconf", name, world.file("whole.conf", configured))
        assert world.wg("showconf", name) == configured
        world.wg("set", name, "peer", other)
        world.wg("setconf", name, world.file("whole.conf", configured))
        assert world.wg("showconf", name) == configured
        world.wg("set", name, "peer", other)
        world.wg("set", name, "peer", other, "remove")
        assert list(shown(world, "endpoints")) == [far]


@pytest.mark.parametrize("world", ["root"], indirect=True)
def test_another_key_and_port(world: World) -> None:
    """A preshared key that both ends learn live, and a port."""
    lab, name, psk = world.lab, world.name, run("wg", "genpsk")
    assert page(lab)
    path = world.file("psk3", psk)
    world.wg("set", name, "peer", lab.far_public, "preshared-key", path)
    lab.wg("set", lab.device, "peer", lab.near_public, "remove")
    allowed = ",".join(f"{address}/{bits}" for address, bits in (("192.0.2.130", 32), ("2001:db8:2::130", 128)))
    lab.wg("set", lab.device, "peer", lab.near_public, "preshared-key", path, "allowed-ips", allowed)
    assert page(lab, seconds=60)  # which takes a new handshake: the far end has forgotten the sessions
    world.wg("set", name, "listen-port", "40404")
    assert world.wg("show", name, "listen-port") == "40404\n"
    assert page(lab)
    wait_for(lambda: ":40404" in lab.wg("show", lab.device, "endpoints"), "the far end to know the new port")
    lab.wg("set", lab.device, "peer", lab.near_public, "preshared-key", str(lab.dir / "psk"))
