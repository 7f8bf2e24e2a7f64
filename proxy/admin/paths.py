"""Where the sockets are, and whose a directory must be for one to be made in it.

A daemon is called by the stem of its FILE: `wg0.conf` is wg0, and its admin socket /run/usernet/wg0.sock as root, else
$XDG_RUNTIME_DIR/usernet/wg0.sock, or /tmp/usernet-UID/wg0.sock.  `wg` finds it at /var/run/wireguard/wg0.sock where we
may make that one, else (by `usernet wg`) in the directory `wireguard` beside the admin socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from usernet.errors import UsernetError

WIREGUARD: Final = Path("/var/run/wireguard")  # compiled into `wg`
SUFFIX: Final = ".sock"
INTERFACE_MAX: Final = 15  # IFNAMSIZ, without its zero
_CREDENTIALS: Final = struct.Struct("iII")
OVERFLOW_UID: Final = 65534  # whoever has no uid in this user namespace: the owner of / there, for one


class SocketError(UsernetError):
    """There can be no socket at this path; the text says why, and what to do."""


class AlreadyRunning(SocketError):
    """Somebody answers there."""


def name_of(file: str) -> str:
    """What the daemon of a configuration file is called."""
    return Path(file).stem or "usernet"


def interface_name(name: str) -> str:
    """The same as `wg` takes it."""
    return re.sub(r"[^A-Za-z0-9_=+.-]", "-", name)[:INTERFACE_MAX]


def private_directories() -> list[Path]:
    """Where admin sockets are by default, the one for new ones first."""
    uid = os.geteuid()
    if uid == 0:
        return [Path("/run/usernet")]
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    places = [runtime / "usernet"] if runtime.is_absolute() and _is_of(uid, runtime) else []
    return [*places, Path(f"/tmp/usernet-{uid}")]


def _is_of(uid: int, directory: Path) -> bool:
    """Whose it is; after `su` the variable may still name the directory of somebody else."""
    try:
        return os.stat(directory).st_uid == uid
    except OSError:
        return False


def _of_services(directory: Path) -> list[Path]:
    """systemd gives each service a directory of its own below: /run/usernet/NAME (see proxy/cli/system.py)."""
    try:
        return [each for each in sorted(directory.iterdir()) if each.is_dir() and each.name != WIREGUARD.name]
    except OSError:
        return []


def path_of(name: str) -> Path:
    """Of the admin socket of the daemon that is called so, wherever it runs; the default place where it does not."""
    default = default_path(name)
    service = default.with_suffix("") / default.name
    return service if not default.exists() and service.exists() else default


def default_path(name: str) -> Path:
    """Of the admin socket.  `name` without what would make it another directory's."""
    return private_directories()[0] / (name.replace("/", "-") + SUFFIX)


def wireguard_directories(admin: Path | None) -> list[Path]:
    """Where sockets for `wg` are made: where it looks, if we may, and else beside the admin socket."""
    public = [WIREGUARD] if os.geteuid() == 0 or os.access(WIREGUARD, os.W_OK | os.X_OK) else []
    return [*public, *([admin.parent / WIREGUARD.name] if admin is not None else [])]


def prepare(directory: Path, mode: int) -> None:
    """Make it, or see that nobody else can put things in our place there.  Raises SocketError."""
    private = directory in private_directories()
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        pass
    except OSError as error:
        raise SocketError(
            f"cannot make the directory {directory}: {error.strerror}; choose another path with --socket"
        ) from None
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if private else 0)
    try:
        fd = os.open(directory, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise SocketError(f"{directory} is a link or no directory; remove it") from None
        if error.errno == errno.EACCES and not private:
            return  # one may be allowed to make files where one may not look
        raise SocketError(f"cannot open the directory {directory}: {error.strerror}") from None
    try:
        _judge(directory, fd, private)
    finally:
        os.close(fd)


def _judge(directory: Path, fd: int, private: bool) -> None:
    found = os.fstat(fd)
    if private:
        if found.st_uid != os.geteuid():
            raise SocketError(f"{directory} belongs to uid {found.st_uid}; remove it")
        if found.st_mode & 0o077:
            os.fchmod(fd, 0o700)
        return
    if found.st_uid not in (os.geteuid(), 0, OVERFLOW_UID):
        raise SocketError(f"{directory} belongs to uid {found.st_uid}, who could replace the socket; choose another")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise SocketError(f"everybody may write to {directory}; chmod o-w {directory}, or choose another")


def credentials(sock: socket.socket) -> tuple[int, int]:
    """Who is at the other end: pid and uid.  Where there is no SO_PEERCRED the directory's mode guards alone."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0, os.geteuid()
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def listener(path: Path) -> int:
    """The process that listens there; 0 where that cannot be told."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        probe.connect(str(path))
        return credentials(probe)[0]
    return 0


def is_live(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES, errno.EPERM)  # the first: it has a long queue
        return True


def running(directories: list[Path]) -> Iterator[Path]:
    """The sockets in these directories where somebody listens."""
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = directory / name
            if name.endswith(SUFFIX) and path.is_socket() and is_live(path):
                yield path


def all_running() -> Iterator[Path]:
    """The admin sockets of the daemons that we may ask, but for those elsewhere by --socket."""
    directories = private_directories()
    return running([*directories, *_of_services(directories[0])])


def find() -> Path:
    """The admin socket of the one daemon that runs.  Raises SocketError where there are none, or several."""
    found = list(all_running())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(map(str, found))
        raise SocketError(f"{len(found)} daemons are running; choose one with --socket: {names}")
    looked = " and ".join(map(str, private_directories()))
    raise SocketError(f"no daemon is running (looked in {looked}); start `usernet run FILE`, or name its --socket")
