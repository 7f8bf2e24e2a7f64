"""From flags to a store."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.state.store import MemoryStore, Store, StoreError


def default_directory() -> Path:
    """systemd's StateDirectory=; /var/lib/usernet as root; else the user's own (XDG Base Directory Specification)."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/usernet")
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home, "usernet")


def left_by(name: str) -> Path | None:
    """The default file, if there is one, of a daemon of this name that lives no longer."""
    from proxy.state.file import is_held

    path = default_directory() / f"{name}.state"
    return path if path.exists() and not is_held(path) else None


def open_store(where: str) -> Store:
    """By the text of --state: a path, `mem:`, `kube:SECRET` or `arn:aws:ssm:...`.  Raises StoreError."""
    if where == "mem:":
        return MemoryStore()
    if where.startswith("kube:"):
        from proxy.state.kube import KubeStore

        return KubeStore.in_cluster(where.removeprefix("kube:"))
    if where.startswith("arn:"):
        from proxy.state.ssm import SsmStore

        return SsmStore.of(where)
    head = where.partition(":")[0]
    if ":" in where and head.isalpha() and "/" not in where:
        raise StoreError(
            f"--state {where}: there is no store {head}:; write a path, mem:, kube:SECRET or arn:aws:ssm:..."
        )
    from proxy.state.file import FileStore

    return FileStore(Path(where))


def choose(state: str | None, directory: str | None, name: str) -> tuple[Store, str]:
    """The store, and why it is but memory where nobody asked for that.

    StoreError where what was asked for fails.  A file that is there and can be read is used also where it cannot be
    written: another key, say, would not do.  One that is none of ours is not passed over in silence.
    """
    if state is not None:
        return open_store(state), ""
    from proxy.state.file import FileStore, load

    parent = Path(directory) if directory is not None else default_directory()
    path = parent.absolute() / f"{name}.state"
    try:
        return FileStore(path), ""
    except StoreError as error:
        if directory is not None:
            raise
        try:
            return MemoryStore(load(path) if os.path.lexists(path) else None), str(error)
        except OSError:
            raise error from None
