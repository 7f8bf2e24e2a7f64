"""A coverage-guided fuzzer of both burst kernels: whatever comes, they must do the same.

    make fuzz [ARGS="-max_total_time=600"]        or       python -m tests.fuzz.kernels [libFuzzer's options]

The reference is instrumented, so its branches lead the way; what it finds is a file `crash-*`, which as an argument
runs that input again.  Inputs are programs: bytes that say which segments, damages and bursts there are.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["usernet.burst"]):
    from tests.burst.differ import Incoming, fix_sums, opened, sealed
    from usernet.burst import ReferenceKernel, SuperPacket, choose_kernel

from tests.support.burst import INDEX, Segment, template

NATIVE = choose_kernel({"USERNET_KERNEL": "native"})[0]
PYTHON = ReferenceKernel()
ECN = [0, 0, 0, 1, 2, 3]


def bursts_from(data: atheris.FuzzedDataProvider) -> list[tuple[list[Incoming], int]]:
    """Three flows whose segments follow each other unless something is done to them."""
    flows = [
        Segment(flow=n, version=4 + data.ConsumeIntInRange(0, 1) * 2, tos=data.PickValueInList(ECN)) for n in range(3)
    ]
    bursts, counter = [], data.PickValueInList([0, 8100, 2**64 - 2**13 - 6])
    for _ in range(data.ConsumeIntInRange(1, 3)):
        incoming = []
        wrong = False  # one at most: the reference sums up a whole super-packet, where two may cancel (flows.py)
        for _ in range(data.ConsumeIntInRange(1, 12)):
            which = data.ConsumeIntInRange(0, 2)
            flags = 16 | data.PickValueInList([0, 0, 0, 8, 64, 1, 2, 4, 128])
            flows[which] = flows[which].after(data.PickValueInList([64, 64, 64, 63, 1, 0]), flags=flags)
            packet = bytearray(flows[which].encode())
            for _ in range(data.ConsumeIntInRange(0, 7) - 4):
                packet[data.ConsumeIntInRange(0, len(packet) - 1)] = data.ConsumeIntInRange(0, 255)
            wrong_now = not wrong and not data.ConsumeIntInRange(0, 7)
            wrong = wrong or wrong_now
            plaintext = bytes(packet) if wrong_now else fix_sums(packet)
            plaintext += bytes(-len(plaintext) % 16)
            number, index, cut, flip = counter, INDEX, 0, -1
            match data.ConsumeIntInRange(0, 31):
                case 0:
                    number = (counter + data.ConsumeIntInRange(-9000, 9000)) % 2**64
                case 1:
                    index += 1
                case 2:
                    cut = data.ConsumeIntInRange(0, 200)
                case 3:
                    flip = data.ConsumeIntInRange(0, 200)
                case 4:
                    plaintext = data.ConsumeBytes(100)
            incoming.append(Incoming(plaintext, number, index, cut, flip))
            counter += 1
        bursts.append((incoming, data.PickValueInList(ECN)))
    return bursts


def packets_from(data: atheris.FuzzedDataProvider) -> list[SuperPacket]:
    packets = []
    for _ in range(data.ConsumeIntInRange(1, 6)):
        pieces = tuple(data.ConsumeBytes(data.ConsumeIntInRange(0, 300)) for _ in range(data.ConsumeIntInRange(0, 4)))
        if data.ConsumeBool():
            packets.append(SuperPacket(data.ConsumeBytes(40), pieces))
            continue
        header = bytearray(template(Segment(version=4 + data.ConsumeIntInRange(0, 1) * 2)))
        for _ in range(data.ConsumeIntInRange(0, 3)):
            header[data.ConsumeIntInRange(1, len(header) - 1)] = data.ConsumeIntInRange(0, 255)
        packets.append(SuperPacket(bytes(header), pieces, data.ConsumeIntInRange(1, 400)))
    return packets


def compare(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    if data.ConsumeIntInRange(0, 3):
        bursts = bursts_from(data)
        if opened(NATIVE, bursts) != opened(PYTHON, bursts):
            raise AssertionError(f"opened differently: {bursts}")
    else:
        packets, mtu = packets_from(data), data.ConsumeIntInRange(60, 2000)
        if sealed(NATIVE, packets, mtu, 0) != sealed(PYTHON, packets, mtu, 0):
            raise AssertionError(f"sealed differently: {packets}, MTU {mtu}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, compare)
    atheris.Fuzz()
