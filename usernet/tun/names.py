"""`DNS =`: name servers for the whole machine, by systemd's resolvectl or else by resolvconf, as wg-quick has them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from usernet.aio.runtime import log
from usernet.tun.commands import run_command

_RESOLVED: Final = "/run/systemd/resolve"
_ORDER: Final = Path("/etc/resolvconf/interface-order")  # Debian's resolvconf: whose servers come first, by patterns


class NameServers:
    """Those of one interface."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._undo: list[str] = []
        self._set: tuple[Sequence[str], Sequence[str]] | None = ((), ())  # None: something failed halfway

    def become(self, servers: Sequence[str], search: Sequence[str]) -> None:
        """In place of those that were set before.  Raises OSError."""
        if self._set == (servers, search):
            return
        self.forget()
        self._set = None
        self._add(servers, search)
        self._set = servers, search

    def _add(self, servers: Sequence[str], search: Sequence[str]) -> None:
        if not servers:
            return
        if os.path.isdir(_RESOLVED) and shutil.which("resolvectl"):
            self._undo = ["resolvectl", "revert", self._name]
            run_command(["resolvectl", "dns", self._name, *servers])
            run_command(["resolvectl", "domain", self._name, "~.", *search])
        elif shutil.which("resolvconf"):
            self._undo = _removal(self._name)
            lines = [
                *(f"nameserver {server}" for server in servers),
                *([f"search {' '.join(search)}"] if search else []),
            ]
            run_command(["resolvconf", "-a", _record(self._name), "-m", "0", "-x"], "\n".join(lines) + "\n")
        else:
            log.warning(
                "DNS =: neither resolvectl nor resolvconf is here, so this machine goes on asking whom it asked; our "
                "own proxies ask through the tunnel"
            )

    def forget(self) -> None:
        command, self._undo = self._undo, []
        self._set = (), ()
        if command:
            with contextlib.suppress(OSError):
                run_command(command)


def forget_names(name: str) -> None:
    """After a crash; systemd has forgotten them with the interface.  Raises OSError."""
    if shutil.which("resolvconf"):
        run_command(_removal(name))


def _removal(name: str) -> list[str]:
    return ["resolvconf", "-d", _record(name), "-f"]


def _record(name: str, order: Path = _ORDER) -> str:
    """What resolvconf knows the interface by: under the first prefix that it orders, so that ours go before others'."""
    with contextlib.suppress(OSError):
        for line in order.read_text().splitlines():
            if prefix := re.fullmatch(r"([A-Za-z0-9-]+)\*", line):
                return f"{prefix[1]}.{name}"
    return name
