"""Microseconds a packet for opening and sealing, by packets in a burst.  Not a test: `python tests/bench/burst.py`."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

from usernet.burst import (
    DatagramBurst,
    Drops,
    Kernel,
    PacketBurst,
    ReceiveKey,
    SuperPacket,
    choose_kernel,
    sealed_size,
)

MTU = 1420
TIMESTAMPS = bytes.fromhex("0101080a00000001 00000002")
SIZES = (44, 16, 8, 4, 2, 1)
SECONDS = 0.3
CALLS = 40


def header(flow: int = 0, *, version: int = 4) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 5201, 40000 + flow, 1, 1, 8 << 4, 0x18, 512, 0, 0) + TIMESTAMPS
    if version == 4:
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 1, 0x4000, 64, 6, 0, bytes(4), b"\n\0\0\2") + tcp
    return struct.pack("!IHBB16s16s", 0x60000000, 0, 6, 64, bytes(16), b"\xfd" + bytes(15)) + tcp


def measure(work: Callable[[], None], packets: int, prepare: Callable[[], None] = lambda: None) -> float:
    """Microseconds a packet, the best of many slices of 40 calls: the machine is shared."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        prepare()
        start = time.perf_counter()
        for _ in range(CALLS):
            work()
        best = min(best, (time.perf_counter() - start) / CALLS / packets)
    return best * 1e6


def seal_time(kernel: Kernel, packets: list[SuperPacket], count: int) -> float:
    key = kernel.send_key(bytes(32), 1)
    out = bytearray(sealed_size(packets, MTU))

    def work() -> None:
        kernel.seal_burst(key, packets, MTU, out, 0)

    return measure(work, count)


def open_time(kernel: Kernel, packets: list[SuperPacket], count: int, *, interleave: bool = False) -> float:
    send = kernel.send_key(bytes(32), 1)
    out = bytearray(sealed_size(packets, MTU))
    runs = kernel.seal_burst(send, packets, MTU, out, 0)
    datagrams = [bytes(out[at : min(at + size, end)]) for start, end, size in runs for at in range(start, end, size)]
    if interleave:
        per_flow = len(datagrams) // len(packets)
        datagrams = [datagrams[flow * per_flow + i] for i in range(per_flow) for flow in range(len(packets))]
    stride = max(map(len, datagrams))
    arena = b"".join(datagram.ljust(stride, b"\0") for datagram in datagrams)
    burst = DatagramBurst(("127.0.0.1", 1), memoryview(arena), stride, list(map(len, datagrams)))
    packet_burst, drops = PacketBurst(), Drops()
    keys: list[ReceiveKey] = []  # a key opens the burst only once: then it is a replay

    def prepare() -> None:
        keys.extend(kernel.receive_key(bytes(32), 1) for _ in range(CALLS))

    def work() -> None:
        packet_burst.clear()
        opened = kernel.open_burst(keys.pop(), burst, 0, packet_burst, drops)
        assert opened.data == count
        assert not drops

    return measure(work, count, prepare)


def super_packet(count: int, flow: int = 0, *, version: int = 4) -> SuperPacket:
    head = header(flow, version=version)
    mss = MTU - len(head)
    return SuperPacket(head, (os.urandom(mss * count),), mss)


def main() -> None:
    for name in ("python", "native"):
        report(choose_kernel({"USERNET_KERNEL": name})[0])


def report(kernel: Kernel) -> None:
    print(f"us per packet, kernel {kernel.name!r}, MTU {MTU}")
    print(f"{'packets in a burst':32}" + "".join(f"{size:7}" for size in SIZES))
    for version in (4, 6):
        bursts = [[super_packet(size, version=version)] for size in SIZES]
        for name, timing in (("open", open_time), ("seal", seal_time)):
            figures = [timing(kernel, burst, size) for burst, size in zip(bursts, SIZES, strict=True)]
            print(f"{name + f', IPv{version}, one flow':32}" + "".join(f"{figure:7.2f}" for figure in figures))
    eight = [super_packet(5, flow) for flow in range(8)]
    acks = [SuperPacket(header(), (), 1368) for _ in range(44)]
    print(f"open, 8 flows of 5 interleaved: {open_time(kernel, eight, 40, interleave=True):.2f}")
    print(f"open, 44 ACKs: {open_time(kernel, acks, 44):.2f};  seal: {seal_time(kernel, acks, 44):.2f}")


if __name__ == "__main__":
    main()
