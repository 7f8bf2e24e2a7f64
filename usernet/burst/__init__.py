"""Bursts of super-packets and the kernels that seal and open them.  Start with `packets`, then `reference`."""

from __future__ import annotations

from usernet.burst.kernels import choose_kernel, default_kernel
from usernet.burst.packets import (
    CHECKSUM_OK,
    ECN_CE,
    MAX_RUN_BYTES,
    MAX_RUN_SEGMENTS,
    PSH,
    Address,
    Buffer,
    DatagramBurst,
    Drops,
    Kernel,
    Opened,
    PacketBurst,
    ReceiveKey,
    Row,
    SendBurst,
    SendKey,
    SuperPacket,
)
from usernet.burst.reference import ReferenceKernel
from usernet.burst.sealing import sealed_size

__all__ = [
    "CHECKSUM_OK",
    "ECN_CE",
    "MAX_RUN_BYTES",
    "MAX_RUN_SEGMENTS",
    "PSH",
    "Address",
    "Buffer",
    "DatagramBurst",
    "Drops",
    "Kernel",
    "Opened",
    "PacketBurst",
    "ReceiveKey",
    "ReferenceKernel",
    "Row",
    "SendBurst",
    "SendKey",
    "SuperPacket",
    "choose_kernel",
    "default_kernel",
    "sealed_size",
]
