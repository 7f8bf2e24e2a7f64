"""The burst kernel in pure Python, on `cryptography`'s ChaCha20-Poly1305.  Works everywhere.

`opening` and `flows` are the way in, `sealing` and `headers` the way out, `sums` the checksums of both.  The calls of a
kernel share one scratch buffer, so one thread uses it at a time.  Other implementations are tested against this one.
"""

from __future__ import annotations

from typing import cast

from usernet.burst import opening, sealing
from usernet.burst.packets import DatagramBurst, Drops, Opened, PacketBurst, ReceiveKey, SendKey, SuperPacket


class ReferenceKernel:
    """Implements `Kernel`."""

    name = "python"

    def __init__(self) -> None:
        self._scratch = bytearray(65_536)

    def receive_key(self, key: bytes, local_index: int) -> opening.OpeningKey:
        return opening.OpeningKey(key, local_index)

    def send_key(self, key: bytes, remote_index: int) -> sealing.SealingKey:
        return sealing.SealingKey(key, remote_index)

    def open_burst(self, key: ReceiveKey, burst: DatagramBurst, start: int, out: PacketBurst, drops: Drops) -> Opened:
        return opening.open_burst(cast(opening.OpeningKey, key), burst, start, out, drops, self._scratch)

    def seal_burst(
        self, key: SendKey, packets: list[SuperPacket], mtu: int, out: bytearray, at: int
    ) -> list[tuple[int, int, int]]:
        return sealing.seal_burst(cast(sealing.SealingKey, key), packets, mtu, out, at, self._scratch)
