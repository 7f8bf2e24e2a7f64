"""Sealing super-packets for one peer: cut, fill in headers, checksum, pad, seal, frame.

Required reading: the WireGuard paper, 5.4.6; RFC 9293 (3.1), 1071 and 1624 for the checksums.  Each plaintext is put
together in the scratch buffer and sealed straight to its place in the output, so that payload is copied once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from usernet.burst.headers import Filler4, Filler6
from usernet.burst.opening import HEADER_BYTES, OVERHEAD_BYTES, REJECT_AFTER_MESSAGES, TRANSPORT_DATA
from usernet.burst.packets import MAX_RUN_BYTES, MAX_RUN_SEGMENTS, Buffer, SuperPacket
from usernet.burst.sums import little_sum

_frame = Struct("<IIQ").pack_into
_set_counter = Struct("<Q").pack_into


class SealingKey:
    """One direction of a session: what `SendKey` is for this kernel."""

    __slots__ = ("counter", "encrypt_into", "remote_index")

    def __init__(self, key: bytes, remote_index: int) -> None:
        self.encrypt_into: Callable[[Buffer, Buffer, None, Buffer], int] | None = ChaCha20Poly1305(key).encrypt_into
        self.remote_index = remote_index
        self.counter = 0  # of the next packet

    def wipe(self) -> None:
        """Drop the key: nothing is sealed with it from now on."""
        self.encrypt_into = None


def sealed_size(packets: Sequence[SuperPacket], mtu: int) -> int:
    """Bytes of output that sealing these needs at most."""
    return sum(count * (size + 15 + OVERHEAD_BYTES) for count, size in map(_extent, packets))


def _extent(packet: SuperPacket) -> tuple[int, int]:
    """Number of segments, size of a full one with its headers."""
    header, payload = len(packet.header), packet.payload_bytes
    if packet.mss == 0 or payload <= packet.mss:
        return 1, header + payload
    return -(-payload // packet.mss), header + packet.mss


def seal_burst(
    key: SealingKey, packets: Sequence[SuperPacket], mtu: int, out: bytearray, at: int, scratch: bytearray
) -> list[tuple[int, int, int]]:
    """See `Kernel.seal_burst`.  Seals nothing at all if the counter could pass its limit, or the key is wiped."""
    encrypt, counter, remote_index = key.encrypt_into, key.counter, key.remote_index
    end = counter + sum(_extent(packet)[0] for packet in packets)
    if encrypt is None or end > REJECT_AFTER_MESSAGES:
        return []
    key.counter = end  # before anything is sealed: no failure may make a nonce be used again
    view = memoryview(out)
    nonce = bytearray(12)
    runs = []
    start, run_size, count = at, 0, 0  # of the run being put together; no run at first
    for packet in packets:
        for plaintext in _segments(packet, mtu, scratch) if packet.mss else _finished(packet, mtu, scratch):
            size = len(plaintext) + OVERHEAD_BYTES
            if size > run_size or count == MAX_RUN_SEGMENTS or at + size - start > MAX_RUN_BYTES:
                if count:
                    runs.append((start, at, run_size))
                start, run_size, count = at, size, 0
            _frame(out, at, TRANSPORT_DATA, remote_index, counter)
            _set_counter(nonce, 4, counter)
            encrypt(nonce, plaintext, None, view[at + HEADER_BYTES : at + size])
            counter += 1
            count = count + 1 if size == run_size else MAX_RUN_SEGMENTS  # a shorter one ends its run
            at += size
    if count:
        runs.append((start, at, run_size))
    return runs


def _padded(size: int, mtu: int) -> int:
    """To a multiple of 16, but not beyond the MTU."""
    return max(size, min(-(-size // 16) * 16, mtu))


def _finished(packet: SuperPacket, mtu: int, scratch: bytearray) -> Iterator[memoryview]:
    """A finished packet, or the nothing that is a keepalive."""
    at = 0
    for piece in (packet.header, *packet.pieces):
        end = at + len(piece)
        scratch[at:end] = piece
        at = end
    size = _padded(at, mtu)
    scratch[at:size] = bytes(size - at)
    yield memoryview(scratch)[:size]


def _segments(packet: SuperPacket, mtu: int, scratch: bytearray) -> Iterator[memoryview]:
    """Each segment's packet."""
    header = packet.header
    fill = Filler4(header) if header[0] >> 4 == 4 else Filler6(header)
    view = memoryview(scratch)
    start = len(header)
    scratch[:start] = header
    left, last_size = packet.payload_bytes, -1
    for chunk in _chunks(packet.pieces, packet.mss) if left else (b"",):
        size = len(chunk)
        left -= size
        if size != last_size:
            last_size, end = size, start + size
            padded = _padded(end, mtu)
            payload, plaintext = view[start:end], view[:padded]
            scratch[end:padded] = bytes(padded - end)
        payload[:] = chunk
        fill(scratch, size, little_sum(chunk), left == 0)
        yield plaintext


def _chunks(pieces: tuple[Buffer, ...], mss: int) -> Iterator[Buffer]:
    """The pieces' bytes in chunks of mss; the last one may be shorter."""
    straddling: list[Buffer] = []  # the beginning of a chunk, from pieces before
    have = 0
    for piece in pieces:
        view = memoryview(piece)
        size, at = len(view), 0
        if have:
            at = min(mss - have, size)
            straddling.append(view[:at])
            have += at
            if have < mss:
                continue
            yield b"".join(straddling)
            straddling, have = [], 0
        whole = at + (size - at) // mss * mss
        for begin in range(at, whole, mss):
            yield view[begin : begin + mss]
        if whole < size:
            straddling, have = [view[whole:]], size - whole
    if have:
        yield b"".join(straddling)
