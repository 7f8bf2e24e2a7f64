"""`usernet wg ARGS...`: the real `wg`, where it finds our daemons.

`wg` has /var/run/wireguard compiled in, and only root may make a socket there.  So it runs in a user and a mount
namespace of its own (user_namespaces(7), mount_namespaces(7); `unshare -rm` is the same), in which the directory of our
sockets is in that place.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import click

from proxy.admin.paths import WIREGUARD, private_directories, running
from usernet.errors import UsernetError

CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000  # sched.h
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000  # sys/mount.h


class NoWay(UsernetError):
    """`wg` cannot be run so; the text says why, and what to do."""


@click.command(
    short_help="Run wg(8) for daemons of ours.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--socket", type=click.Path(), metavar="PATH", help="The admin socket of the daemon that is meant.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="ARGS...")
def command(socket: str | None, arguments: tuple[str, ...]) -> None:
    """Run wg(8) for daemons of ours: show, showconf, set, setconf, addconf, syncconf.

    What it changes is changed in the daemon at once, and not in its file.
    """
    program = shutil.which("wg")
    if program is None:
        raise NoWay("wg is not installed; install the package wireguard-tools")
    directory = _directory(socket)
    if directory is not None:
        enter(directory)
    os.execv(program, ["wg", *arguments])


def _directory(socket: str | None) -> Path | None:
    """The one with sockets of ours that `wg` does not find by itself; None: it finds them, or there are none."""
    places = [Path(socket).absolute().parent] if socket is not None else private_directories()
    for place in places:
        directory = place / WIREGUARD.name
        if next(running([directory]), None) is not None:
            return directory
    return None


def enter(directory: Path) -> None:
    """Have this process in namespaces where `directory` is /var/run/wireguard.  Raises NoWay."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise NoWay(
            f"this system does not let us make a user namespace ({os.strerror(ctypes.get_errno())}), in which wg would"
            f" find {directory}; allow them, run both as root, or let the daemon's user write to {WIREGUARD}"
        )
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        _mount(libc, "none", Path("/"), None, MS_REC | MS_PRIVATE)
        source = os.open(directory, os.O_PATH | os.O_DIRECTORY)  # before it may be covered
        if not WIREGUARD.is_dir():
            _make_room(libc, Path(os.path.realpath(WIREGUARD.parent)))
            WIREGUARD.mkdir()
        _mount(libc, f"/proc/self/fd/{source}", WIREGUARD, None, MS_BIND | MS_REC)
    except OSError as error:
        raise NoWay(
            f"cannot show {directory} to wg as {WIREGUARD}: {error.strerror}; run both as root, or let the daemon's"
            f" user write to {WIREGUARD}"
        ) from None


def _make_room(libc: ctypes.CDLL, directory: Path) -> None:
    """Cover a directory by one that we may write to and that has the same directories in it, so that files that
    arguments name are still there.
    """
    old = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    names = [entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    _mount(libc, "none", directory, "tmpfs", 0)
    for name in names:
        (directory / name).mkdir()
        _mount(libc, f"/proc/self/fd/{old}/{name}", directory / name, None, MS_BIND | MS_REC)


def _mount(libc: ctypes.CDLL, source: str, target: Path, kind: str | None, flags: int) -> None:
    encoded = None if kind is None else kind.encode()
    if libc.mount(source.encode(), os.fsencode(target), encoded, ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
