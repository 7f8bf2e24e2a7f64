"""When a peer has stopped answering what the kernel's connections send, sooner than the protocol's own 15 s tell.

The userspace stack knows which of its connections sends again in vain; those of the kernel are not seen into.  But who
is sent data by TCP acknowledges it within a round trip, and that is something authentic from the peer: a second of
none, after data, with more of it on its way, is worth a new session.  The negotiator lets that be one in 5 s.
"""

from __future__ import annotations

from typing import Final, Protocol

from usernet.burst.packets import SuperPacket
from usernet.wire.ip import TCP

PATIENCE: Final = 1.0  # seconds; the kernel has sent again two or three times by then
_FIN_OR_SYN: Final = 0x03


class Peers(Protocol):
    """What the tunnel knows."""

    def route(self, address: bytes) -> bytes | None: ...

    def unanswered_since(self, public_key: bytes) -> float | None: ...


def asked(packet: SuperPacket) -> bytes | None:
    """The address that owes an acknowledgement for this packet."""
    header = packet.header
    if header[0] >> 4 == 4:
        protocol, start, remote = header[9], (header[0] & 15) * 4, header[16:20]
    else:
        protocol, start, remote = header[6], 40, header[24:40]
    if protocol != TCP or len(header) < start + 14:
        return None
    end = start + (header[start + 12] >> 4) * 4
    owes = len(header) + packet.payload_bytes > end or header[start + 13] & _FIN_OR_SYN
    return remote if owes else None


class Silence:
    """Since when each peer owes an acknowledgement."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._since: dict[bytes, float] = {}  # by public key; as many as there are peers

    def sent(self, remote: bytes, now: float) -> bool:
        """Such a packet goes to `remote`; whether its peer should be asked for a new session."""
        public_key = self._peers.route(remote)
        if public_key is None:
            return False
        silent = self._peers.unanswered_since(public_key)
        since = self._since.get(public_key)
        if since is None or silent is None or silent > since:  # the first since something came
            self._since[public_key] = now
            return False
        return now - since >= PATIENCE
