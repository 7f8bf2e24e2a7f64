"""What is known of the paths that are narrower than the tunnel, by destination.  Read RFC 1191 6.3, RFC 8201 5.3.

One table for a host.  It learns from ICMP that a connection or a UDP socket believes and from what connections find
out (blackhole.py); new connections begin with what it knows, UDP cuts datagrams by it.  It is bounded, the path that
nobody has asked about for longest makes room, and what it knows ends after ten minutes: the path may be wider by then.
"""

from __future__ import annotations

from typing import Final

MIN_MTU_V4: Final = 576  # no ICMP is believed that says less (RFC 1122 3.3.2, RFC 1191 3)
MIN_MTU_V6: Final = 1280  # RFC 8201 4
PATH_MTU_SECONDS: Final = 600.0  # RFC 1191 6.3, RFC 8201 5.3, RFC 8899 5.1.1
MAX_PATHS: Final = 1024


class PathMtus:
    """Sizes are those of IP packets, times seconds; `largest` is the tunnel's MTU."""

    __slots__ = ("_known", "largest", "reductions")

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.reductions = 0  # for statistics
        self._known: dict[bytes, tuple[int, float]] = {}  # remote -> MTU and when it ends, longest unused first

    def __len__(self) -> int:
        return len(self._known)

    def to(self, remote: bytes, now: float) -> int:
        """The largest packet that is known to reach `remote`, or that nothing is known against."""
        known = self._known.pop(remote, None)
        if known is None or known[1] <= now:
            return self.largest
        self._known[remote] = known
        return known[0]

    def narrows(self, remote: bytes, mtu: int, now: float) -> None:
        """No more than `mtu` reaches `remote`."""
        if mtu < self.to(remote, now):
            self.reductions += 1
            self._known.pop(remote, None)
            while len(self._known) >= MAX_PATHS:
                del self._known[next(iter(self._known))]
            self._known[remote] = mtu, now + PATH_MTU_SECONDS

    def widens(self, remote: bytes, mtu: int, now: float) -> None:
        """As much as `mtu` does reach it."""
        if mtu >= self.largest:
            self._known.pop(remote, None)
        elif mtu > self.to(remote, now):
            self._known[remote] = mtu, now + PATH_MTU_SECONDS


def believable(mtu: int, remote: bytes) -> int:
    """What an ICMP message may at most make of it."""
    return max(mtu, MIN_MTU_V4 if len(remote) == 4 else MIN_MTU_V6)
