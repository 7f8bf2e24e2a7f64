"""Why there is no TUN, for a person: what this machine has, what was tried, and what would help.

After tailscaled's diagnosis (net/tstun/tun_linux.go), by what its users ran into.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from usernet.tun.device import CLONE

_MODPROBE: Final = "/sbin/modprobe"
_COMMAND_SECONDS: Final = 10.0


def load_module() -> str:
    """Have the kernel load its TUN; what became of it, in words."""
    if not os.path.exists(_MODPROBE):
        return f"{_MODPROBE} is not here, so the module was not asked for"
    try:
        done = subprocess.run([_MODPROBE, "tun"], capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"modprobe tun: {error}"
    return "modprobe tun succeeded" if done.returncode == 0 else f"modprobe tun: {done.stderr.strip()}"


def diagnose(name: str, error: OSError, root: Path = Path("/")) -> Iterator[str]:
    """Lines; `root` is where the file system of the machine begins."""
    if error.errno == errno.EBUSY:
        holders = ", ".join(_holders(name)) or "another process, or a persistent interface"
        yield f"{name} is in use by {holders}: end it, or choose another name"
        return
    release = os.uname().release
    yield f"the kernel is Linux {release}"
    clone = root / CLONE.lstrip("/")
    try:
        mode = clone.stat().st_mode
    except FileNotFoundError:
        yield f"{CLONE} is missing: in a container, pass it in (docker: --device {CLONE} --cap-add NET_ADMIN)"
    except OSError as trouble:
        yield f"{CLONE} cannot be looked at: {trouble.strerror}"
    else:
        if not stat.S_ISCHR(mode):
            yield f"{CLONE} is no character device: remove it, and mknod {CLONE} c 10 200"
        elif error.errno in (errno.EPERM, errno.EACCES):
            yield f"{CLONE} has mode {stat.S_IMODE(mode):04o}, and CAP_NET_ADMIN is needed, too: run as root"
    if error.errno not in (errno.EPERM, errno.EACCES):
        yield from _modules(root, release)


def _modules(root: Path, release: str) -> Iterator[str]:
    """Whether there is a module for the kernel that runs."""
    here = root / "lib/modules" / release
    if not (root / "lib/modules").is_dir():
        yield "there is no /lib/modules: in a container, load the module on the host (modprobe tun)"
    elif not here.is_dir():
        others = sorted(path.name for path in (root / "lib/modules").iterdir())
        has = f" (it has {', '.join(others)})" if others else ""
        yield f"/lib/modules has nothing for {release}{has}: was the kernel updated? reboot into the new one"
    elif not _has_module(here):
        yield f"/lib/modules/{release} has no tun.ko: {_package_hint(root)}"


def _has_module(modules: Path) -> bool:
    builtin = modules / "modules.builtin"
    if builtin.is_file() and "/tun.ko" in builtin.read_text(errors="replace"):
        return True
    return any((modules / "kernel/drivers/net").glob("tun.ko*"))


def _package_hint(root: Path) -> str:
    if (root / "etc/openwrt_release").exists():
        return "opkg install kmod-tun"
    if (root / "etc/debian_version").exists() and shutil.which("dpkg"):
        found = subprocess.run(
            ["dpkg", "-S", "kernel/drivers/net/tun.ko"], capture_output=True, text=True, timeout=_COMMAND_SECONDS
        )
        return f"it is in {found.stdout.strip()}" if found.stdout else "install the linux-image package of that kernel"
    if (root / "etc/arch-release").exists():
        return "pacman -S linux, and reboot"
    return "install the kernel's modules"


def _holders(name: str) -> Iterator[str]:
    """Processes with a TUN of that name open, as far as we may look."""
    for path in Path("/proc").glob("[0-9]*/fdinfo/*"):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        if f"iff:\t{name}" in lines:
            process = path.parts[2]
            try:
                yield f"{Path('/proc', process, 'comm').read_text().strip()} ({process})"
            except OSError:
                continue
