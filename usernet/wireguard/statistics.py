"""Immutable snapshots of a tunnel and its peers."""

from __future__ import annotations

from dataclasses import dataclass

from usernet.burst.packets import Address


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """One peer at one time.  Bytes are those of authenticated datagrams, as `wg` counts them."""

    public_key: bytes
    endpoint: Address | None
    last_handshake: float | None  # now, when the latest session was made
    last_handshake_wall_ns: int | None  # the same in wall time, ns since 1970
    handshakes: int
    rx_bytes: int
    tx_bytes: int
    staged_packets: int
    staged_bytes: int
    session: bool  # there are keys, of whatever age


@dataclass(frozen=True, slots=True)
class TunnelStatistics:
    """A tunnel at one time.  `drops` counts datagrams and packets by reason."""

    drops: dict[str, int]
    peers: tuple[PeerStatistics, ...]
    handshakes_waiting: int
    indices: int  # receiver indices in use
