"""Links in memory do what they say, and the same each time."""

from __future__ import annotations

import asyncio

import pytest

from usernet.aio.memory import QUEUE_BYTES, Impairment, MemoryLink, memory_links
from usernet.burst.packets import SendBurst

A, B = ("192.0.2.1", 51820), ("192.0.2.2", 51820)


def burst(count: int, size: int = 4, tos: int = 0) -> SendBurst:
    return SendBurst(B, memoryview(b"".join(n.to_bytes(size, "big") for n in range(count))), size, tos)


def drain(link: MemoryLink) -> list[bytes]:
    datagrams: list[bytes] = []
    for arrived in link.receive():
        for number, length in enumerate(arrived.lengths):
            at = number * arrived.stride
            datagrams.append(bytes(arrived.buf[at : at + length]))
    return datagrams


async def sent(count: int, impairment: Impairment | None = None, seed: int = 0) -> list[int]:
    """Which of `count` datagrams arrive, in order."""
    left, right = memory_links(asyncio.get_running_loop(), there=impairment, seed=seed)
    arrived: list[bytes] = []
    right.on_readable(lambda: arrived.extend(drain(right)))
    left.send(burst(count))
    for _ in range(30):
        await asyncio.sleep(0.002)
    return [int.from_bytes(datagram, "big") for datagram in arrived]


async def test_a_perfect_path() -> None:
    assert await sent(200) == list(range(200))


async def test_loss() -> None:
    arrived = await sent(1000, Impairment(loss=0.2))
    assert 700 < len(arrived) < 900
    assert arrived == sorted(arrived)


async def test_duplicates() -> None:
    arrived = await sent(1000, Impairment(duplicate=0.1))
    assert 1050 < len(arrived) < 1150
    assert sorted(set(arrived)) == list(range(1000))


async def test_reordering() -> None:
    arrived = await sent(1000, Impairment(reorder=0.1, reorder_delay=0.005))
    assert sorted(arrived) == list(range(1000))
    assert arrived != list(range(1000))


async def test_the_same_seed_gives_the_same_path() -> None:
    bad = Impairment(loss=0.1, duplicate=0.1)
    assert await sent(300, bad, seed=7) == await sent(300, bad, seed=7)
    assert await sent(300, bad, seed=7) != await sent(300, bad, seed=8)


async def test_delay() -> None:
    loop = asyncio.get_running_loop()
    left, right = memory_links(loop, there=Impairment(delay=0.02), back=Impairment())
    arrived: asyncio.Future[float] = loop.create_future()
    right.on_readable(lambda: arrived.set_result(loop.time()))
    start = loop.time()
    left.send(burst(1))
    assert 0.015 < await arrived - start < 1


async def test_bursts_are_as_udp_gro_makes_them() -> None:
    left, right = memory_links(asyncio.get_running_loop(), addresses=(A, B))
    left.send(burst(3, 8))
    left.send(SendBurst(B, memoryview(b"short"), 5))
    left.send(burst(70, 8, tos=0x88))
    bursts = right.receive()
    assert [(b.stride, len(b.lengths), b.tos, b.address) for b in bursts] == [
        (8, 4, 0, A), (8, 64, 0x88, A), (8, 6, 0x88, A),
    ]  # fmt: skip
    assert bursts[0].lengths == [8, 8, 8, 5]


async def test_an_eavesdropper_and_a_forger() -> None:
    left, right = memory_links(asyncio.get_running_loop(), there=Impairment(loss=1.0))
    heard: list[bytes] = []
    left.eavesdrop(heard.append)
    left.send(burst(2))
    assert heard == [bytes(4), b"\0\0\0\1"]
    assert right.receive() == []
    assert (left.sent, left.lost) == (2, 2)
    right.inject(b"forged")
    assert drain(right) == [b"forged"]


async def test_a_link_that_would_block() -> None:
    left, right = memory_links(asyncio.get_running_loop())
    left.block(True)
    assert not left.send(burst(1))
    writable = asyncio.Event()
    left.on_writable(writable.set)
    await asyncio.sleep(0)
    assert not writable.is_set()
    left.block(False)
    await writable.wait()
    assert left.send(burst(1))
    assert len(drain(right)) == 1


async def test_the_queue_is_bounded() -> None:
    left, right = memory_links(asyncio.get_running_loop())
    for _ in range(QUEUE_BYTES // 1000 + 10):
        left.send(SendBurst(B, memoryview(bytes(1000)), 1000))
    assert right.lost > 0
    assert sum(map(len, drain(right))) <= QUEUE_BYTES


@pytest.mark.parametrize("end", [0, 1])
async def test_a_closed_link_is_silent(end: int) -> None:
    links = memory_links(asyncio.get_running_loop())
    links[end].on_readable(lambda: pytest.fail("closed"))
    links[1 - end].send(burst(1))
    links[end].close()
    links[1 - end].send(burst(1))
    await asyncio.sleep(0)
    assert links[end].receive() == []
