"""Opening a burst: authenticate, replay window, then `flows`.  Required reading: the WireGuard paper, 5.4.6; RFC 6479.

The loop in `_open` is the hottest place of the program: some 2 us a datagram, of which decryption is 1.3.  So it takes
care of a full segment of the flow it saw last by itself and hands everything else to `Flows.place`.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from usernet.burst.flows import Flow, Flows
from usernet.burst.packets import Buffer, DatagramBurst, Drops, Opened, PacketBurst
from usernet.burst.replay import ReplayWindow
from usernet.errors import WireError

TRANSPORT_DATA = 4
HEADER_BYTES = 16
TAG_BYTES = 16
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES
MAX_DATAGRAM = 65_535
REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1  # the paper, 6.1

_transport_header = Struct("<IIQ").unpack_from
_set_counter = Struct("<Q").pack_into
_from_bytes = int.from_bytes
_NONE = Flow()  # no packet is a segment of it


class OpeningKey:
    """One direction of a session: what `ReceiveKey` is for this kernel."""

    __slots__ = ("decrypt_into", "local_index", "window")

    def __init__(self, key: bytes, local_index: int) -> None:
        self.decrypt_into: Callable[[Buffer, Buffer, None, Buffer], int] = ChaCha20Poly1305(key).decrypt_into
        self.local_index = local_index
        self.window = ReplayWindow()

    def wipe(self) -> None:
        """Drop the key: what arrives for it from now on does not authenticate."""
        self.decrypt_into = _refuse


def _refuse(_nonce: Buffer, _data: Buffer, _associated: None, _out: Buffer) -> int:
    raise InvalidTag


def open_burst(
    key: OpeningKey, burst: DatagramBurst, start: int, out: PacketBurst, drops: Drops, scratch: bytearray
) -> Opened:
    """See `Kernel.open_burst`."""
    rows = len(out.rows)
    outer_ecn = burst.tos & 3
    flows = Flows(out, scratch, outer_ecn=outer_ecn, coalesce=len(burst.lengths) - start > 1)
    dropped: set[int] = set()
    opened = _open(key, burst, start, flows, drops, scratch, dropped)
    flows.flush()
    if flows.spoiled:
        del out.rows[rows:]
        flows = Flows(out, scratch, outer_ecn=outer_ecn, coalesce=True, verify_each=True)
        kept = [number for number in range(start, start + opened.datagrams) if number not in dropped]
        _open_again(key, burst, kept, flows, drops, scratch)
    return opened


def _open(
    key: OpeningKey,
    burst: DatagramBurst,
    start: int,
    flows: Flows,
    drops: Drops,
    scratch: bytearray,
    dropped: set[int],
) -> Opened:
    buf, stride, lengths = burst[1:4]
    decrypt, local_index, window = key.decrypt_into, key.local_index, key.window
    view, out = memoryview(scratch), flows.buf
    nonce = bytearray(12)
    run_end = window.next  # counters from window.next up to here were accepted, but are not marked yet
    authentic = authentic_bytes = keepalives = last_size = 0
    flow = _NONE  # the one of the last packet
    full, mss, mask, same, varying, promise, headers, payload = flow.fast
    stop = len(lengths)
    for number in range(start, stop):
        size = lengths[number]
        at = number * stride
        if size < HEADER_BYTES:
            stop = number
            break
        kind, index, counter = _transport_header(buf, at)
        if kind != TRANSPORT_DATA or index != local_index:
            stop = number
            break
        if size != last_size:
            if not OVERHEAD_BYTES <= size <= MAX_DATAGRAM:
                drops.count("length")
                dropped.add(number)
                continue
            last_size = size
            length = size - OVERHEAD_BYTES
            plaintext = view[:length]
        _set_counter(nonce, 4, counter)
        try:
            decrypt(nonce, buf[at + HEADER_BYTES : at + size], None, plaintext)
        except InvalidTag:
            drops.count("authentication")
            dropped.add(number)
            continue
        if counter == run_end and counter < REJECT_AFTER_MESSAGES:
            run_end += 1
        else:
            window.advance(run_end)
            reason = _judge(window, counter)
            run_end = window.next
            if reason is not None:
                drops.count(reason)
                dropped.add(number)
                continue
        authentic += 1
        authentic_bytes += size
        if length != full or _from_bytes(headers, "big") & mask != same:
            # Not another full segment of the last packet's flow: of another one?
            flow = flows.recall(length) or _NONE if flows.open else _NONE
            full, mss, mask, same, varying, promise, headers, payload = flow.fast
        if full == length:
            first, second, seq, flags, checksum = varying(scratch)
            end = flow.end
            if seq == flow.next_seq and end + mss <= flow.limit:
                out[end : end + mss] = payload
                flow.end = end + mss
                flow.next_seq = (seq + mss) & 0xFFFFFFFF
                flow.flags |= flags
                promise(first + second + seq + flags + checksum)
                continue
        if length == 0:
            keepalives += 1
            continue
        try:
            flow = flows.place(length) or _NONE
        except WireError as error:
            drops.count(error.reason)
            dropped.add(number)
            flow = _NONE
        full, mss, mask, same, varying, promise, headers, payload = flow.fast
    window.advance(run_end)
    return Opened(stop - start, authentic, authentic_bytes, authentic - keepalives)


def _judge(window: ReplayWindow, counter: int) -> str | None:
    """Why an authentic packet is to be dropped, if it is.  Marks it as seen if not."""
    if counter >= REJECT_AFTER_MESSAGES:
        return "counter-limit"
    return None if window.accept(counter) else "replay"


def _open_again(
    key: OpeningKey, burst: DatagramBurst, numbers: list[int], flows: Flows, drops: Drops, scratch: bytearray
) -> None:
    """Open what was found authentic and new once more, each packet verified by itself."""
    view = memoryview(scratch)
    for number in numbers:
        at, size = number * burst.stride, burst.lengths[number]
        if size == OVERHEAD_BYTES:
            continue
        nonce = bytes(4) + burst.buf[at + 8 : at + HEADER_BYTES]
        ciphertext = burst.buf[at + HEADER_BYTES : at + size]
        try:
            key.decrypt_into(nonce, ciphertext, None, view[: size - OVERHEAD_BYTES])
            flows.place(size - OVERHEAD_BYTES)
        except WireError as error:
            drops.count(error.reason)
    flows.flush()
