"""A slow and obvious oracle for burst kernels: every packet by itself, every rule written out.

It shares no code with a kernel: `checksum` adds word by word, datagrams are sealed and opened by the one-shot AEAD, and
`expected_rows` coalesces lists of parsed segments.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from usernet.burst import CHECKSUM_OK, ECN_CE, PSH, DatagramBurst, Kernel, PacketBurst, choose_kernel
from usernet.errors import UsernetError


def make_kernel(name: str) -> Kernel:
    """That kernel; skips the test where the native one is not built, which CI does not let pass."""
    try:
        return choose_kernel({"USERNET_KERNEL": name})[0]
    except UsernetError as error:
        pytest.skip(str(error))


KEY = bytes(range(32))
INDEX = 0x01020304
SOURCE = ("192.0.2.1", 51820)

FIN_FLAG, SYN_FLAG, PSH_FLAG, ACK_FLAG, ECE_FLAG, CWR_FLAG = 1, 2, 8, 16, 64, 128
TIMESTAMPS = bytes.fromhex("0101080a0000000700000009")


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(data[i] << 8 | data[i + 1] for i in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total ^ 0xFFFF


@dataclass(frozen=True)
class Segment:
    """A TCP segment in an IP packet, and ways to spoil it."""

    flow: int = 0
    version: int = 4
    seq: int = 1
    ack: int = 1
    flags: int = ACK_FLAG
    window: int = 500
    options: bytes = TIMESTAMPS
    payload: bytes = b""
    tos: int = 0
    ttl: int = 64
    ident: int = 1
    dont_fragment: bool = True
    reserved: int = 0  # the bits beside the data offset
    wrong_checksum: bool = False  # by one: errors of several never cancel
    wrong_ip_checksum: bool = False

    def encode(self) -> bytes:
        port = 1000 + self.flow
        offset = (20 + len(self.options)) // 4 << 4 | self.reserved
        tcp = struct.pack("!HHIIBBHHH", 443, port, self.seq, self.ack, offset, self.flags, self.window, 0, 0)
        tcp += self.options + self.payload
        if self.version == 4:
            source, destination = b"\x0a\0\0\1", b"\x0a\0\0\2"
        else:
            source, destination = b"\xfd" + bytes(14) + b"\1", b"\xfd" + bytes(14) + b"\2"
        value = checksum(source + destination + struct.pack("!II", len(tcp), 6) + tcp)
        tcp = tcp[:16] + struct.pack("!H", (value + self.wrong_checksum) % 65535) + tcp[18:]
        if self.version == 6:
            return struct.pack("!IHBB", 6 << 28 | self.tos << 20, len(tcp), 6, self.ttl) + source + destination + tcp
        fragment = 0x4000 if self.dont_fragment else 0
        head = struct.pack("!BBHHHBBH", 0x45, self.tos, 20 + len(tcp), self.ident, fragment, self.ttl, 6, 0)
        head += source + destination
        value = (checksum(head) + self.wrong_ip_checksum) % 65535
        return head[:10] + struct.pack("!H", value) + head[12:] + tcp

    def after(self, size: int, **changes: object) -> Segment:
        """The next segment of its flow, with `size` other bytes."""
        seq = (self.seq + len(self.payload)) % 2**32
        following = replace(self, seq=seq, ident=(self.ident + 1) % 65536, payload=pattern(size, seq))
        return replace(following, **changes)  # type: ignore[arg-type]


def pattern(size: int, seed: int = 0) -> bytes:
    return bytes((i * 7 + i // 251 + seed) % 256 for i in range(size))


def template(segment: Segment) -> bytes:
    """The header template of a super-packet."""
    return segment.encode()[: len(segment.encode()) - len(segment.payload)]


# --- datagrams ---


def seal(packet: bytes, counter: int, *, pad: bool = True, key: bytes = KEY, index: int = INDEX) -> bytes:
    if pad:
        packet += bytes(-len(packet) % 16)
    header = struct.pack("<IIQ", 4, index, counter)
    return header + ChaCha20Poly1305(key).encrypt(bytes(4) + struct.pack("<Q", counter), packet, None)


def seal_all(packets: Iterable[bytes], counter: int = 0) -> list[bytes]:
    return [seal(packet, counter + number) for number, packet in enumerate(packets)]


def open_plainly(datagram: bytes, *, key: bytes = KEY) -> tuple[int, int, bytes]:
    """Receiver index, counter, plaintext with its padding."""
    kind, index, counter = struct.unpack_from("<IIQ", datagram)
    assert kind == 4
    nonce = bytes(4) + struct.pack("<Q", counter)
    return index, counter, ChaCha20Poly1305(key).decrypt(nonce, datagram[16:], None)


def burst_of(datagrams: Sequence[bytes], *, stride: int = 0, tos: int = 0) -> DatagramBurst:
    stride = stride or max(map(len, datagrams), default=16)
    arena = b"".join(datagram.ljust(stride, b"\xee") for datagram in datagrams)
    return DatagramBurst(SOURCE, memoryview(arena), stride, list(map(len, datagrams)), tos)


# --- rows ---


@dataclass(frozen=True)
class Expected:
    """One row, with the bytes it stands for."""

    packet: bytes
    segment_size: int
    segments: int
    transport: int
    flags: int


def rows_of(burst: PacketBurst) -> list[Expected]:
    return [
        Expected(bytes(burst.buf[at : at + length]), size, segments, transport, flags)
        for at, length, size, segments, transport, flags in burst.rows
    ]


def _similar(a: Segment, b: Segment) -> bool:
    """May they be parts of one super-packet?"""
    same = replace(b, seq=a.seq, ident=a.ident, payload=a.payload, flags=a.flags, wrong_ip_checksum=a.wrong_ip_checksum)
    plain = (a.flags & ~PSH_FLAG, b.flags & ~PSH_FLAG)
    return same == a and not a.reserved and plain in ((ACK_FLAG, ACK_FLAG), (ACK_FLAG | ECE_FLAG, ACK_FLAG | ECE_FLAG))


def expected_rows(segments: Iterable[Segment], *, outer_ce: bool = False) -> list[Expected]:
    """What a kernel must make of these, sealed in this order."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if outer_ce and not segment.tos & 3:
            continue
        if segment.wrong_checksum or (segment.wrong_ip_checksum and segment.version == 4):
            continue
        mine = [group for group in groups if (group[0].flow, group[0].version) == (segment.flow, segment.version)]
        if mine and _continues(mine[-1], segment):
            mine[-1].append(segment)
        else:
            groups.append([segment])
    return [_row(group, outer_ce) for group in groups]


def _continues(group: list[Segment], segment: Segment) -> bool:
    full = len(group[0].payload)
    return (
        all(_similar(member, segment) for member in group)
        and all(len(member.payload) == full > 0 for member in group)
        and 0 < len(segment.payload) <= full
        and segment.seq == (group[-1].seq + full) % 2**32
        and sum(len(member.payload) for member in group) + len(segment.payload) + len(template(segment)) <= 65535
    )


def _row(group: list[Segment], outer_ce: bool) -> Expected:
    first = group[0]
    if outer_ce and first.tos & 3:
        first = replace(first, tos=first.tos | 3)
    packet = bytearray(first.encode() + b"".join(segment.payload for segment in group[1:]))
    transport = 20 if first.version == 4 else 40
    flags = CHECKSUM_OK
    if first.tos & 3 == 3 or (first.tos & 3 and outer_ce):
        flags |= ECN_CE
    if any(segment.flags & PSH_FLAG for segment in group):
        flags |= PSH
        packet[transport + 13] |= PSH_FLAG
    size = len(first.payload) if len(group) > 1 else 0
    return Expected(bytes(packet), size, len(group), transport, flags)


def runs_to_datagrams(out: bytes | bytearray, runs: Iterable[tuple[int, int, int]]) -> list[bytes]:
    return [bytes(out[at : min(at + size, end)]) for start, end, size in runs for at in range(start, end, size)]


def greedy_runs(sizes: Sequence[int], most: int, most_bytes: int) -> list[list[int]]:
    """Datagram sizes cut into runs: equal, the last may be shorter, within both limits."""
    runs: list[list[int]] = []
    for size in sizes:
        run = runs[-1] if runs else []
        equal = len(list(groupby(run))) == 1
        if equal and size <= run[0] and len(run) < most and sum(run) + size <= most_bytes:
            run.append(size)
        else:
            runs.append([size])
    return runs
