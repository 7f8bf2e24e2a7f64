"""A unix socket at a path: made, kept for oneself, and taken away again.

The order matters.  The directory is judged; a lock file beside the path is locked, for as long as the socket is there,
so that two daemons never both find a stale socket and each remove the other's; what is at the path is judged; then the
socket is made under a umask, so that there is no moment in which others may connect.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

from proxy.admin.paths import AlreadyRunning, SocketError, is_live, listener, prepare

PATH_MAX: Final = 107  # unix(7): sun_path has 108 bytes, with the zero
BACKLOG: Final = 32


class Bound:
    """A listening socket, mode 0600, in a directory that may be a new one.

    Raises SocketError, and AlreadyRunning where another process has it.
    """

    def __init__(self, path: Path, directory_mode: int = 0o700) -> None:
        size = len(os.fsencode(path))
        if size > PATH_MAX:
            raise SocketError(
                f"{path} is {size} bytes long, and the path of a socket has room for {PATH_MAX}; choose a shorter one"
            )
        prepare(path.parent, directory_mode)
        self.path = path
        self._lock_path = Path(f"{path}.lock")
        self._lock = _lock(self._lock_path, path)
        try:
            _clear(path)
            self.socket = _listen(path)
        except BaseException:
            self._unlock()
            raise
        found = os.lstat(path)
        self._identity = (found.st_dev, found.st_ino)

    def close(self) -> None:
        """Remove it, unless somebody put something else in its place; once."""
        if self._lock < 0:
            return
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._identity:
                os.unlink(self.path)
        except OSError:
            pass  # it has gone already, or its file system has become read-only
        self.socket.close()
        self._unlock()

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._lock_path)  # while it is locked: who has opened it meanwhile sees that it is another
        os.close(self._lock)
        self._lock = -1


def _lock(lock: Path, path: Path) -> int:
    while True:
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise _refusal(path, error, lock) from None
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid():
                raise SocketError(f"{lock} belongs to uid {found.st_uid}; remove it, or choose another path")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(lock, found):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise _running(path) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its owner has just gone, and it with him


def _is_still(lock: Path, locked: os.stat_result) -> bool:
    try:
        found = os.lstat(lock)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (locked.st_dev, locked.st_ino)


def _clear(path: Path) -> None:
    """Remove a socket of ours that nobody listens to any more.  Nothing else is ever removed."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(path, error) from None
    if stat.S_ISLNK(found.st_mode):
        raise SocketError(f"{path} is a symbolic link; remove it, or choose another path")
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketError(f"{path} is there and no socket; remove it, or choose another path")
    if found.st_uid != os.geteuid():
        raise SocketError(f"{path} belongs to uid {found.st_uid}; remove it, or choose another path")
    if is_live(path):
        raise _running(path)
    try:
        os.unlink(path)
    except OSError as error:
        raise _refusal(path, error) from None


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _refusal(path, error) from None
    finally:
        os.umask(mask)
    return sock


def _running(path: Path) -> AlreadyRunning:
    pid = listener(path)
    who = f"process {pid}" if pid else "another process"
    return AlreadyRunning(f"already running: {who} listens on {path}; end it, or choose another path with --socket")


def _refusal(path: Path, error: OSError, lock: Path | None = None) -> SocketError:
    if lock is not None and error.errno == errno.ELOOP:
        return SocketError(f"{lock} is a symbolic link; remove it, or choose another path")
    return SocketError(f"cannot listen on {path}: {error.strerror or error}")
