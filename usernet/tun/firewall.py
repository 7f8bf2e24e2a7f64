"""What nftables sees to while the tunnel has a default route.  Read add_default in wg-quick's linux.bash.

Packets to the tunnel's own addresses come through the tunnel alone: otherwise a neighbour on the local network could
find out what those addresses are, and what they are connected to (CVE-2019-14899).

Where the kernel lets a packet in only by the interface that leads back to its source (rp_filter = 1), the endpoints'
would not come in, since the way to them is the tunnel for all but our own.  So what comes in answer to our packets is
marked as they are.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from usernet.aio.runtime import log
from usernet.config import Network
from usernet.tun.commands import run_command
from usernet.tun.wanted import Wanted
from usernet.wire.ip import format_address

_SETTINGS: Final = Path("/proc/sys/net/ipv4/conf")
_BY_MARK: Final = _SETTINGS / "all" / "src_valid_mark"


class Firewall:
    """The table of one interface, called usernet-NAME."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._text = self._tried = ""

    def become(self, wanted: Wanted) -> None:
        """In place of what was.  Never raises: the tunnel works without, and what it lacks is said."""
        strict = bool(wanted.ruled) and is_strict()
        text = "\n".join(table(self._name, wanted.addresses, wanted.mark, strict)) if wanted.ruled else ""
        if text == self._text:
            return
        is_news, self._tried = text != self._tried, text
        try:
            if not shutil.which("nft"):
                raise OSError(errno.ENOENT, "nft (Debian: apt install nftables) is not here")
            run_command(["nft", "-f", "-"], f"{_none(self._name)}{text}\n")
            self._text = text
            if strict and _BY_MARK.read_text().strip() != "1":  # stays: other tunnels may have come to need it
                _BY_MARK.write_text("1")
        except OSError as error:
            why = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
            if not is_news:
                return
            if strict:
                log.warning(
                    "%s: net.ipv4.conf.*.rp_filter is 1, and will not let the endpoint's packets in (%s); set it to 2, "
                    "or help with that",
                    self._name, why,
                )  # fmt: skip
            else:
                log.info("%s: its addresses answer on other interfaces, too (%s)", self._name, why)

    def close(self) -> None:
        """Never raises; idempotent."""
        if self._text:
            remove_table(self._name)
            self._text = ""


def remove_table(name: str) -> bool:
    """Whether there was one."""
    try:
        run_command(["nft", "delete", "table", "inet", f"usernet-{name}"])
    except OSError:
        return False
    return True


def _none(name: str) -> str:
    """Whether there is one or not: deleting needs one."""
    return f"table inet usernet-{name}\ndelete table inet usernet-{name}\n"


def table(name: str, addresses: Iterable[Network], mark: int, strict: bool) -> Iterator[str]:
    """Lines for `nft -f`."""
    yield f"table inet usernet-{name} {{"
    yield "chain preraw { type filter hook prerouting priority -300;"
    for packed, _ in addresses:
        family = "ip" if len(packed) == 4 else "ip6"
        yield f'iifname != "{name}" {family} daddr {format_address(packed)} fib saddr type != local drop'
    yield "}"
    if strict:
        yield "chain premangle { type filter hook prerouting priority -150;"
        yield f"meta l4proto udp ct mark {mark:#x} meta mark set ct mark"
        yield "}"
        yield "chain postmangle { type filter hook postrouting priority -150;"
        yield f"meta l4proto udp meta mark {mark:#x} ct mark set meta mark"
        yield "}"
    yield "}"


def is_strict(settings: Path = _SETTINGS) -> bool:
    """Whether some interface has rp_filter = 1; the larger number of its own and everybody's is the one that counts."""

    def value(name: str) -> int:
        try:
            return int((settings / name / "rp_filter").read_text())
        except (OSError, ValueError):
            return 0

    everybody = value("all")
    return any(max(everybody, value(path.name)) == 1 for path in settings.glob("*") if path.name != "all")
