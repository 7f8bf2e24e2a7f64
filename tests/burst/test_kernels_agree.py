"""The native kernel against the reference: same rows, same bytes, same drops, whatever comes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.burst.differ import Incoming, fix_sums, opened, sealed
from tests.support.burst import INDEX, Segment, make_kernel, pattern, template
from usernet.burst import Kernel, ReferenceKernel, SuperPacket, choose_kernel
from usernet.errors import UsernetError

ACK = 16
FLAGS = (ACK, ACK, ACK, ACK, ACK | 8, ACK | 64, ACK | 1, ACK | 128, 2, 0)


@pytest.fixture(scope="module")
def native() -> Kernel:
    return make_kernel("native")


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[list[Incoming], int]]:
    """Bursts of segments of several flows that go on, change, get spoilt, come again; and of anything else."""
    flows = [
        Segment(
            flow=number,
            version=draw(st.sampled_from([4, 6])),
            seq=draw(st.sampled_from([1, 2**32 - 90])),
            tos=draw(st.sampled_from([0, 0, 2, 1, 3])),
            options=draw(st.sampled_from([b"", bytes(12), bytes(40)])),
        )
        for number in range(draw(st.integers(1, 3)))
    ]
    counter = draw(st.sampled_from([0, 0, 0, 8000, 2**64 - 2**13 - 9]))
    bursts = []
    for _ in range(draw(st.integers(1, 3))):
        incoming = []
        for _ in range(draw(st.integers(1, 12))):
            which = draw(st.integers(0, len(flows) - 1))
            size = draw(st.sampled_from([0, 1, 63, 64, 64, 64, 64, 64]))
            flows[which] = flows[which].after(size, flags=draw(st.sampled_from(FLAGS)))
            packet = bytearray(flows[which].encode())
            for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
                packet[draw(st.integers(0, min(len(packet) - 1, 79)))] = draw(st.integers(0, 255))
            plaintext = fix_sums(packet) if draw(st.integers(0, 9)) else bytes(packet)
            plaintext += bytes(draw(st.sampled_from([-len(packet) % 16, 0, 5])))
            if not draw(st.integers(0, 15)):
                plaintext = draw(st.binary(max_size=90))
            datagram = Incoming(plaintext, counter)
            if not draw(st.integers(0, 7)):
                datagram = replace(
                    datagram,
                    counter=draw(st.sampled_from([0, counter - 1, counter, counter + 9000])) % 2**64,
                    index=draw(st.sampled_from([INDEX, INDEX, INDEX + 1])),
                    cut=draw(st.sampled_from([0, 0, 1, 50, 70])),
                    flip=draw(st.sampled_from([-1, -1, 0, 9, 20])),
                )
            incoming.append(datagram)
            counter += 1
        bursts.append((incoming, draw(st.sampled_from([0, 0, 1, 2, 3]))))
    return bursts


@settings(max_examples=500, deadline=None)
@given(bursts=streams(), room=st.sampled_from([1 << 20, 1 << 20, 70_000]))
def test_opening(native: Kernel, bursts: list[tuple[list[Incoming], int]], room: int) -> None:
    assert opened(native, bursts, room) == opened(ReferenceKernel(), bursts, room)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_sealing(native: Kernel, data: st.DataObject) -> None:
    packets = []
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()):
            packets.append(SuperPacket(data.draw(st.binary(max_size=90)), (data.draw(st.binary(max_size=90)),)))
            continue
        segment = Segment(
            version=data.draw(st.sampled_from([4, 6])),
            seq=data.draw(st.integers(0, 2**32 - 1)),
            ident=data.draw(st.integers(0, 2**16 - 1)),
            flags=data.draw(st.integers(0, 255)),
            window=data.draw(st.integers(0, 2**16 - 1)),
            options=data.draw(st.sampled_from([b"", bytes(range(12)), bytes(40)])),
        )
        mss = data.draw(st.sampled_from([1, 10, 99, 100, 1368]))
        payload = pattern(data.draw(st.integers(0, mss * 9)), segment.seq)
        edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=5))), len(payload)]
        pieces = tuple(memoryview(payload)[a:b] for a, b in pairwise(edges))
        packets.append(SuperPacket(template(segment), pieces, mss))
    mtu = data.draw(st.sampled_from([1420, 1421, 1433, 2000]))
    counter = data.draw(st.sampled_from([0, 77, 2**64 - 2**13 - 20]))
    assert sealed(native, packets, mtu, counter) == sealed(ReferenceKernel(), packets, mtu, counter)


def test_no_memory_is_shared(native: Kernel) -> None:
    """Sealed from where it is sealed to: refused, and not undefined."""
    out = bytearray(3000)
    with pytest.raises(ValueError, match="same memory"):
        native.seal_burst(native.send_key(bytes(32), 1), [SuperPacket(b"x", (memoryview(out),))], 1420, out, 0)


@pytest.mark.parametrize("header", [b"", b"\x45" + bytes(38), b"\x60" + bytes(58)])
def test_a_header_that_is_none(native: Kernel, header: bytes) -> None:
    with pytest.raises(ValueError, match="header"):
        native.seal_burst(native.send_key(bytes(32), 1), [SuperPacket(header, (b"x",), 10)], 1420, bytearray(999), 0)


def test_choice() -> None:
    assert choose_kernel({"USERNET_KERNEL": "python"})[0].name == "python"
    kernel, why = choose_kernel({})
    assert why.startswith("since")
    assert kernel.name in ("python", "native")
    with pytest.raises(UsernetError, match="'rust'; it may be"):
        choose_kernel({"USERNET_KERNEL": "rust"})


def test_a_kernel_of_another_version_is_not_used(native: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    from usernet.burst import _native

    assert choose_kernel({})[0].name == "native"
    monkeypatch.setattr(_native, "INTERFACE", _native.INTERFACE - 1)
    kernel, why = choose_kernel({})
    assert kernel.name == "python"
    assert "another version" in why
    with pytest.raises(UsernetError, match="another version"):
        choose_kernel({"USERNET_KERNEL": "native"})
