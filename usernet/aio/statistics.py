"""Immutable snapshots of the outer sockets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FamilyStatistics:
    """Buffers are in bytes as Linux counts them: twice what was asked for.  That for receiving is all sockets'."""

    family: str  # "IPv4" or "IPv6"
    gso: bool
    gro: bool
    receive_buffer: int
    send_buffer: int
    kernel_drops: int  # since it was opened, because nobody took them out of the receive buffer in time


@dataclass(frozen=True, slots=True)
class UdpStatistics:
    """A snapshot.  Messages are system calls that moved something; errors are drops by their errno's name."""

    port: int
    received_datagrams: int
    received_bytes: int
    received_messages: int
    sent_datagrams: int
    sent_bytes: int
    sent_messages: int
    drops: tuple[tuple[str, int], ...]
    families: tuple[FamilyStatistics, ...]
