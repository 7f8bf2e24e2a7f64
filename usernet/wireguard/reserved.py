"""Bytes 1 to 3 of a datagram, for peers that have something there (`PeerSettings.reserved`).

MACs and headers are computed with zeros.  So the outbox writes these bytes last, into what is finished, and here
they are zeroed first, in what has just come, where they are their peer's own.  All others must be zero and remain
what they are, an unknown type.
"""

from __future__ import annotations

from usernet.burst.packets import DatagramBurst
from usernet.wireguard.constants import TYPE_COOKIE_REPLY, TYPE_DATA, TYPE_INITIATION, TYPE_RESPONSE
from usernet.wireguard.intake import Intake
from usernet.wireguard.peer import NO_RESERVED, Peer
from usernet.wireguard.session import IndexTable, data_header


def clear_reserved(
    burst: DatagramBurst, values: frozenset[bytes], intake: Intake, table: IndexTable[Peer]
) -> DatagramBurst:
    """The burst with zeros in place of its peers' reserved bytes, of which `values` are all there are."""
    buf, stride = burst.buf, burst.stride
    for number, length in enumerate(burst.lengths):
        at = number * stride
        head = bytes(buf[at : at + 12])
        if length < 12 or head[1:4] not in values or not _is_own(head, intake, table):
            continue
        if buf.readonly:
            buf = memoryview(bytearray(buf))
        buf[at + 1 : at + 4] = NO_RESERVED
    return burst._replace(buf=buf)


def _is_own(head: bytes, intake: Intake, table: IndexTable[Peer]) -> bool:
    """Whether the sender may have these bytes: by the receiver index, which an initiation has not yet."""
    kind, value = head[0], head[1:4]
    peer: Peer | None = None
    if kind == TYPE_INITIATION:
        return True
    if kind in (TYPE_RESPONSE, TYPE_COOKIE_REPLY):
        peer = intake.addressee(head)
    elif kind == TYPE_DATA:
        found = table.sessions.get(data_header(int.from_bytes(head[4:8], "little")))
        peer = found[0] if found is not None else None
    return peer is not None and peer.settings.reserved == value
