"""Both kernels given the same bytes must do the same.  Input for hypothesis and for the fuzzer (tests/fuzz)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.support.burst import INDEX, KEY, SOURCE, open_plainly, runs_to_datagrams, seal
from usernet.burst import DatagramBurst, Drops, Kernel, PacketBurst, SuperPacket, sealed_size


@dataclass(frozen=True)
class Incoming:
    """One datagram: a plaintext that is sealed, then cut or spoilt."""

    plaintext: bytes
    counter: int
    index: int = INDEX
    cut: int = 0  # so much is missing at its end
    flip: int = -1  # this byte is wrong

    def encode(self) -> bytes:
        datagram = bytearray(seal(self.plaintext, self.counter, pad=False, index=self.index))
        if 0 <= self.flip < len(datagram):
            datagram[self.flip] ^= 0x21
        return bytes(datagram[: max(0, len(datagram) - self.cut)])


Seen = tuple[list[tuple[int, ...]], list[tuple[int, ...]], bytes, dict[str, int]]


def opened(kernel: Kernel, bursts: list[tuple[list[Incoming], int]], room: int = 1 << 20) -> Seen:
    """What a kernel makes of bursts, each with its outer ECN field, that come one after the other."""
    key = kernel.receive_key(KEY, INDEX)
    out, drops = PacketBurst(room), Drops()
    told: list[tuple[int, ...]] = []
    for incoming, tos in bursts:
        datagrams = [datagram.encode() for datagram in incoming]
        stride = max(map(len, datagrams), default=16)
        arena = b"".join(datagram.ljust(stride, b"\xee") for datagram in datagrams)
        burst = DatagramBurst(SOURCE, memoryview(arena), stride, list(map(len, datagrams)), tos)
        number = 0
        while number < len(datagrams):
            result = kernel.open_burst(key, burst, number, out, drops)
            told.append(tuple(result))
            number += result.datagrams or 1
    end = out.rows[-1][0] + out.rows[-1][1] if out.rows else 0
    return told, list(out.rows), bytes(out.buf[:end]), dict(drops)


def sealed(kernel: Kernel, packets: list[SuperPacket], mtu: int, counter: int) -> tuple[list[tuple[int, ...]], bytes]:
    """The runs and all that was written."""
    key = kernel.send_key(KEY, INDEX)
    key.counter = counter
    out = bytearray(sealed_size(packets, mtu) + 7)
    runs = kernel.seal_burst(key, packets, mtu, out, 7)
    for datagram in runs_to_datagrams(out, runs):
        assert open_plainly(datagram)[:2] == (INDEX, counter)
        counter += 1
    assert key.counter == counter
    return [tuple(run) for run in runs], bytes(out)


def fix_sums(packet: bytearray) -> bytes:
    """Right checksums, as far as the packet has some: so that changes elsewhere get past them."""
    from tests.support.burst import checksum

    if len(packet) < 20 or packet[0] >> 4 not in (4, 6):
        return bytes(packet)
    if packet[0] >> 4 == 4:
        header, total = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)[0]
        if not 20 <= header <= total <= len(packet):
            return bytes(packet)
        packet[10:12] = bytes(2)
        packet[10:12] = struct.pack("!H", checksum(bytes(packet[:header])))
        addresses, protocol = bytes(packet[12:20]), packet[9]
    else:
        if len(packet) < 40:
            return bytes(packet)
        header, total = 40, 40 + struct.unpack_from("!H", packet, 4)[0]
        addresses, protocol = bytes(packet[8:40]), packet[6]
    at = header + {6: 16, 17: 6}.get(protocol, len(packet))
    if at + 2 <= total <= len(packet):
        packet[at : at + 2] = bytes(2)
        pseudo = addresses + struct.pack("!II", total - header, protocol)
        packet[at : at + 2] = struct.pack("!H", checksum(pseudo + bytes(packet[header:total])))
    return bytes(packet)
