"""From decrypted packets to rows: check, coalesce, lay out.  Required reading: RFC 791, 8200, 9293 (3.1), 1071.

Stages for each packet, which lies decrypted in the scratch buffer:

1. `place`: IP version, lengths, header checksum; is it a TCP segment that may be coalesced?
2. Yes: it joins its flow's open super-packet, or opens one.  Headers are compared as one integer, without the fields
   that may differ between segments.  The checksum is not verified yet, only what it promises is noted.
3. No: its checksum is verified, it becomes a row of its own and closes the super-packet of its flow, so that no packet
   overtakes another of the same flow.
4. `flush`: one sum over the payload of each super-packet against what its headers promise; then rows move together,
   and their headers take over what the outer one says of congestion (RFC 6040).

A super-packet whose sum is wrong spoils the burst: the caller opens it anew with each packet verified by itself
(`verify_each`), to find the bad one and not lose its neighbours.  One sum for all is as strong as the checksum of one
large packet: errors in several places could cancel, as they can within one segment.  Against anybody on the outer path
there is the AEAD; checksums only see what went wrong before the far end sealed, and Linux' own WireGuard does not look
at them at all.

While several flows are open, each has a room of 64 KiB, so that payload is copied to its place once.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from usernet.burst.ecn import CE, decapsulate
from usernet.burst.packets import CHECKSUM_OK, ECN_CE, PSH, PacketBurst, Row
from usernet.burst.sums import sum16
from usernet.errors import WireError

TCP = 6
UDP = 17

_ACK_FLAG = 0x10
_PSH_FLAG = 0x08
_ECE_FLAG = 0x40  # a state, not an event (RFC 3168 6.1.3): all segments of a super-packet have it or none
_ANY_FLAGS = _PSH_FLAG | _ECE_FLAG  # what data of a stream may have beside ACK
_ROOM = 65_536
_MAX_TOTAL = 65_535  # RFC 791, 3.1

# What may differ between segments of a super-packet: IPv4's ID and header checksum; sequence number, PSH, TCP checksum.
# For IPv6, which lacks the first two, words that are constant are read in their place: both families look alike.
_VARYING_4 = Struct("!4xH4xH12xI5xB2xH")
_VARYING_6 = Struct("!H4xH36xI5xB2xH")
_TCP_DIFFERS = bytes.fromhex("00000000 ffffffff 00000000 0008 0000 ffff 0000")
_DIFFERS_4 = bytes.fromhex("00000000 ffff0000 0000ffff 00000000 00000000") + _TCP_DIFFERS
_DIFFERS_6 = bytes(40) + _TCP_DIFFERS

_word = Struct("!H").unpack_from
_from_bytes = int.from_bytes

Varying = Callable[[bytearray], tuple[int, int, int, int, int]]

# Of a flow, what the fast path needs at hand: length of a full segment's plaintext with its padding; then mss, mask,
# key, varying and promises.append of `Flow`; headers and payload of a full segment in the scratch buffer.
Fast = tuple[int, int, int, int, Varying, Callable[[int], None], memoryview, memoryview]


class Flow:
    """A super-packet being put together."""

    __slots__ = (
        "constant",
        "end",
        "fast",
        "flags",
        "header",
        "key",
        "limit",
        "mask",
        "mss",
        "name",
        "next_seq",
        "promises",
        "row_flags",
        "start",
        "transport",
        "varying",
    )

    name: bytes  # addresses and ports
    start: int  # where it begins and ends in the burst's buffer, and where it must end at the latest
    end: int
    limit: int
    transport: int  # offset of the TCP header, and the length of both headers
    header: int
    mss: int  # payload of the first segment and every other but a shorter last one
    mask: int  # selects from the header as an integer what must be equal,
    key: int  # to this
    varying: Varying  # reads what may differ
    next_seq: int
    flags: int  # TCP flags of all segments, ORed
    row_flags: int
    constant: int  # sum of what is equal in the header of each full segment and covered by checksums
    promises: list[int]  # sum of what may differ, of each segment
    fast: Fast

    def __init__(self) -> None:
        self.varying = _VARYING_4.unpack_from
        self.promises = []
        self.fast = -1, 0, 0, 0, self.varying, self.promises.append, memoryview(b""), memoryview(b"")

    def is_sound(self, payload: memoryview) -> bool:
        """Do all checksums add up to zero?  (That of an IPv4 header is zero if right: it is part of this sum.)"""
        total = sum16(payload)
        promises = self.promises
        if self.mss % 2 == 0 or len(promises) == 1:
            return (total + len(promises) * self.constant + sum(promises)) % 65535 == 0
        # Every other segment begins at an odd offset, where its sum counts with its bytes swapped (RFC 1071, 2 B).
        straight, swapped = promises[::2], promises[1::2]
        total += len(straight) * self.constant + sum(straight)
        return (total + (len(swapped) * self.constant + sum(swapped)) * 256) % 65535 == 0


class Flows:
    """All packets of one burst, on their way to rows."""

    def __init__(
        self, out: PacketBurst, scratch: bytearray, *, outer_ecn: int, coalesce: bool, verify_each: bool = False
    ) -> None:
        self.spoiled = False
        self._rows = out.rows
        self.buf = memoryview(out.buf)
        self._scratch = scratch
        self._view = memoryview(scratch)
        self._outer_ecn = outer_ecn
        self._coalesce = coalesce
        self._verify_each = verify_each
        last = out.rows[-1] if out.rows else (0, 0)  # rows lie in order
        self._used = self._top = last[0] + last[1]
        self._pending: list[Flow | Row] = []  # in order of arrival
        self.open: dict[bytes, Flow] = {}  # by name
        self._topmost: Flow | None = None  # the flow whose room is the last one

    # --- stage 1 ---

    def place(self, length: int) -> Flow | None:
        """Take the packet in the scratch buffer's first `length` bytes.  WireError if it is to be dropped.

        Returns the open flow whose full segment it was, if it was one.
        """
        version, transport, total, protocol, ecn = self._parse(length)
        flags = ECN_CE if ecn == CE else 0
        if self._outer_ecn == CE:  # RFC 6040, 4.2
            if not ecn:
                raise WireError("congestion")  # its sender would not see a mark: only a loss tells it
            flags = ECN_CE
        if protocol == TCP and total >= transport + 20:
            return self._place_tcp(version, transport, length, total, flags)
        if protocol == UDP and total >= transport + 8:
            if _word(self._scratch, transport + 6)[0]:
                self._verify(version, transport, total, UDP)
                flags |= CHECKSUM_OK
            elif version == 6:  # RFC 8200, 8.1: not optional there
                raise WireError("udp-checksum")
        elif transport == 0:
            self._close_all()  # a fragment or the like: may belong to any flow
        self._append_row(total, transport, flags)
        return None

    def _parse(self, length: int) -> tuple[int, int, int, int, int]:
        """Version, transport offset (0: none, or not the whole of it), length by the IP header, protocol, ECN."""
        scratch = self._scratch
        version = scratch[0] >> 4
        if version == 4:
            header = (scratch[0] & 15) * 4
            total = _word(scratch, 2)[0]
            if length < 20 or header < 20 or not header <= total <= length:
                raise WireError("ip-length")
            if _from_bytes(self._view[:header], "big") % 65535:
                raise WireError("ip-checksum")
            if _word(scratch, 6)[0] & 0x3FFF:  # more fragments, or an offset
                return 4, 0, total, 0, scratch[1] & 3
            return 4, header, total, scratch[9], scratch[1] & 3
        if version == 6:
            total = 40 + _word(scratch, 4)[0]
            if length < 40 or total > length:
                raise WireError("ip-length")
            protocol = scratch[6]
            transport = 40 if protocol in (TCP, UDP, 58) else 0  # extension headers are for the stack to walk
            return 6, transport, total, protocol, scratch[1] >> 4 & 3
        raise WireError("ip-version")

    # --- stage 2 ---

    def recall(self, length: int) -> Flow | None:
        """The open flow of which the plaintext of `length` bytes in the scratch buffer is a full segment."""
        view = self._view
        flow = self.open.get(bytes(view[12:24] if self._scratch[0] == 0x45 else view[8:44]))
        if flow is None or flow.fast[0] != length or _from_bytes(view[: flow.header], "big") & flow.mask != flow.key:
            return None
        return flow

    def _place_tcp(self, version: int, transport: int, length: int, total: int, row_flags: int) -> Flow | None:
        scratch = self._scratch
        offset, flags = scratch[transport + 12], scratch[transport + 13]
        header = transport + (offset >> 4) * 4
        name = bytes(self._view[12 if version == 4 else 8 : transport + 4])
        plain = version == 6 or transport == 20
        joins = (
            self._coalesce
            and plain
            and flags & ~_ANY_FLAGS == _ACK_FLAG
            and offset & 15 == 0
            and transport + 20 <= header < total
        )
        if not joins or self._verify_each:
            self._verify(version, transport, total, TCP)
        if joins:
            return self._join(name, version, transport, header, length, total, row_flags)
        if not plain:
            self._close_all()  # with options in its name: whichever flow it is of
        elif (flow := self.open.get(name)) is not None:
            self._close(flow)
        self._append_row(total, transport, row_flags | CHECKSUM_OK | (PSH if flags & _PSH_FLAG else 0))
        return None

    def _join(
        self, name: bytes, version: int, transport: int, header: int, length: int, total: int, row_flags: int
    ) -> Flow | None:
        """Add the segment to its flow's super-packet, or open one with it."""
        number = _from_bytes(self._view[:header], "big")
        flow = self.open.get(name)
        if flow is not None:
            if self._append(flow, number, version, header, total):
                return flow if flow.mss == total - header else None
            self._close(flow)
        flow = self._open_flow(name, number, version, transport, header, total, row_flags)
        headers, payload = self._view[:header], self._view[header:total]
        flow.fast = length, flow.mss, flow.mask, flow.key, flow.varying, flow.promises.append, headers, payload
        return flow

    def _append(self, flow: Flow, number: int, version: int, header: int, total: int) -> bool:
        payload = total - header
        short = flow.mss - payload
        # As it would be with a full segment's length in the IP header.
        number += short << (8 * (header - (4 if version == 4 else 6)))
        first, second, seq, flags, checksum = flow.varying(self._scratch)
        if short < 0 or number & flow.mask != flow.key or seq != flow.next_seq or flow.end + payload > flow.limit:
            return False
        self.buf[flow.end : flow.end + payload] = self._view[header:total]
        flow.end += payload
        flow.next_seq = (seq + payload) & 0xFFFFFFFF
        flow.flags |= flags
        # The length is in the pseudo-header and, for IPv4, also in the header.
        flow.promises.append(first + second + seq + flags + checksum - short * (2 if version == 4 else 1))
        if short:
            self._close(flow)
        return True

    def _open_flow(
        self, name: bytes, number: int, version: int, transport: int, header: int, total: int, row_flags: int
    ) -> Flow:
        flow = Flow()
        flow.name = name
        flow.start = start = self._reserve(total, _ROOM)
        flow.end = start + total
        flow.limit = min(start + _MAX_TOTAL, len(self.buf))
        flow.transport = transport
        flow.header = header
        flow.mss = total - header
        differs = (_DIFFERS_4 if version == 4 else _DIFFERS_6) + bytes(header - transport - 20)
        flow.mask = (1 << 8 * header) - 1 - _from_bytes(differs, "big")
        flow.key = number & flow.mask
        flow.varying = (_VARYING_4 if version == 4 else _VARYING_6).unpack_from
        first, second, seq, flags, checksum = flow.varying(self._scratch)
        flow.next_seq = (seq + flow.mss) & 0xFFFFFFFF
        flow.flags = flags
        flow.row_flags = row_flags | CHECKSUM_OK
        promise = first + second + seq + flags + checksum
        # IPv4's header is part of it: its own checksum makes it zero.
        covered = number if version == 4 else _from_bytes(self._view[transport:header], "big")
        flow.constant = (covered + self._pseudo_sum(version, total - transport, TCP) - promise) % 65535
        flow.promises.append(promise)
        self.buf[start : flow.end] = self._view[:total]
        self._pending.append(flow)
        self.open[name] = flow
        self._topmost = flow
        return flow

    # --- stage 3 ---

    def _verify(self, version: int, transport: int, total: int, protocol: int) -> None:
        pseudo = self._pseudo_sum(version, total - transport, protocol)
        if (sum16(self._view[transport:total]) + pseudo) % 65535:
            raise WireError("tcp-checksum" if protocol == TCP else "udp-checksum")

    def _pseudo_sum(self, version: int, length: int, protocol: int) -> int:
        """RFC 9293, 3.1; RFC 8200, 8.1.  Not reduced modulo 65535."""
        addresses = self._view[12:20] if version == 4 else self._view[8:40]
        return _from_bytes(addresses, "big") + length + protocol

    def _append_row(self, total: int, transport: int, flags: int) -> None:
        start = self._reserve(total, total)
        self.buf[start : start + total] = self._view[:total]
        self._pending.append((start, total, 0, 1, transport, flags))
        self._topmost = None

    # --- room ---

    def _reserve(self, length: int, room: int) -> int:
        """Where `length` bytes may go, with `room` bytes to grow into if the buffer has them."""
        size = len(self.buf)
        if self._top + room > size:
            self.flush()
        start = self._top
        if start + length > size:
            raise WireError("burst-full")
        self._top = min(start + room, size)
        return start

    def _close(self, flow: Flow) -> None:
        del self.open[flow.name]
        if flow is self._topmost:
            self._top = flow.end

    def _close_all(self) -> None:
        for flow in list(self.open.values()):
            self._close(flow)

    # --- stage 4 ---

    def flush(self) -> None:
        """Verify what is open, make rows of all there is, and leave no room between them."""
        buf, used = self.buf, self._used
        for item in self._pending:
            row = item if isinstance(item, tuple) else self._finish(item)
            start, length = row[0], row[1]
            if start != used:
                buf[used : used + length] = buf[start : start + length]
                row = (used, *row[1:])
            self._rows.append(row)
            if self._outer_ecn & 1:
                decapsulate(buf, used, self._outer_ecn)
            used += length
        self._used = self._top = used
        self._pending.clear()
        self.open.clear()
        self._topmost = None

    def _finish(self, flow: Flow) -> Row:
        start, end = flow.start, flow.end
        if not flow.is_sound(self.buf[start + flow.header : end]):
            self.spoiled = True
        flags = flow.row_flags
        if flow.flags & _PSH_FLAG:
            self.buf[start + flow.transport + 13] |= _PSH_FLAG
            flags |= PSH
        segments = len(flow.promises)
        return start, end - start, flow.mss if segments > 1 else 0, segments, flow.transport, flags
