"""`--tun`: names that are tried in order, an interface of the kernel's each, or no interface at all.

tailscaled's `tap:NAME[:BRIDGE]` is refused: an interface of Ethernet would have to answer ARP and neighbour discovery
for a network that has no Ethernet addresses, and WireGuard carries IP only.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from usernet.aio.runtime import log
from usernet.errors import UsernetError

if TYPE_CHECKING:
    from usernet.config import Config
    from usernet.tun.interface import Interface

USERSPACE: Final = "userspace-networking"
SYNOLOGY: Final = "/usr/syno"
_NO_DEVICE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")


class NoTun(UsernetError):
    """None of the candidates; the text has what became of each."""


def default_candidates() -> str:
    """On a Synology NAS a TUN is worth a try: its own packages have it, but not every model does."""
    return f"usernet0,{USERSPACE}" if os.path.isdir(SYNOLOGY) else USERSPACE


def parse_candidates(text: str) -> tuple[str, ...]:
    """Raises NoTun where one is none."""
    names = tuple(name for name in (word.strip() for word in text.split(",")) if name)
    for name in names:
        if name.startswith("tap:"):
            raise NoTun(
                f"--tun {name}: WireGuard carries IP and no Ethernet, so there is no TAP; write {name[4:]} for a TUN"
            )
        if name != USERSPACE and (not _NAME.fullmatch(name) or name in (".", "..")):
            raise NoTun(f"--tun {name!r}: the name of an interface is 1 to 15 letters, digits, '-', '_' and '.'")
    if not names:
        raise NoTun(f"--tun names nothing; write an interface such as usernet0, or {USERSPACE}")
    return names


async def open_first(names: Sequence[str], config: Config, mtu: int, *, hooks: bool) -> Interface | None:
    """The first interface that can be had; None is userspace networking.  NoTun, with every reason, where none can."""
    failures: list[str] = []
    for name in names:
        if name == USERSPACE:
            for failure in failures:
                log.warning("%s; going on without an interface (%s)", failure, USERSPACE)
            return None
        try:
            fd, name = await _device(name)
        except OSError as error:
            failures.append(f"--tun {name}: {error.strerror or error}{_why(name, error)}")
            continue
        from usernet.tun.interface import Interface

        try:
            return await Interface.open(config, fd, name, mtu, hooks=hooks)
        except OSError as error:
            failures.append(f"--tun {name}: {error.strerror or error}")
    raise NoTun("; ".join(failures))


async def _device(name: str) -> tuple[int, str]:
    """As open_tun; where there is no device, twice, with the module asked for in between."""
    from usernet.tun.device import open_tun
    from usernet.tun.diagnosis import load_module

    try:
        return open_tun(name)
    except OSError as error:
        if error.errno not in _NO_DEVICE:
            raise
    said = await asyncio.to_thread(load_module)
    try:
        return open_tun(name)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; {said}") from None


def _why(name: str, error: OSError) -> str:
    from usernet.tun.diagnosis import diagnose

    lines = list(diagnose(name, error))
    return f" ({'; '.join(lines)})" if lines else ""
