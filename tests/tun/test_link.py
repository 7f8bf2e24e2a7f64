"""A TUN as a PacketLink, over a socket that keeps packets apart as the device does."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from usernet.burst.packets import PacketBurst
from usernet.tun.link import TunLink
from usernet.tun.offload import PLAIN

PACKETS = [bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / Raw(bytes([n]) * 100)) for n in range(8)]


class Ends:
    def __init__(self) -> None:
        ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.kernel.setblocking(False)
        self.link = TunLink(asyncio.get_running_loop(), ours.detach())
        self.woken = asyncio.Event()
        self.link.on_wake(self.woken.set)
        self.woken.clear()

    def deliver(self, *packets: bytes) -> None:
        burst = PacketBurst(4096)
        for packet in packets:
            at = sum(row[1] for row in burst.rows)
            burst.buf[at : at + len(packet)] = packet
            burst.rows.append((at, len(packet), 0, 0, 20, 0))
        self.link.deliver(burst, 0.0)

    def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.kernel.send(PLAIN + packet)

    def take(self, budget: int = 1 << 20) -> list[bytes]:
        return [b"".join((packet.header, *packet.pieces)) for packet in self.link.take(budget, 0.0)]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    both = Ends()
    yield both
    both.link.close()
    both.kernel.close()


async def test_it_wakes_at_once_and_nothing_is_read_before_it_is_asked_for(ends: Ends) -> None:
    woken = []
    ends.link.on_wake(lambda: woken.append(True))
    assert woken  # there may be something already
    ends.send(PACKETS[0])
    assert ends.take() == PACKETS[:1]


async def test_packets_to_the_kernel_keep_their_borders(ends: Ends) -> None:
    ends.deliver(*PACKETS[:3])
    assert [ends.kernel.recv(4096) for _ in range(3)] == [PLAIN + packet for packet in PACKETS[:3]]
    statistics = ends.link.statistics()
    assert (statistics.received_packets, statistics.received_bytes) == (3, sum(map(len, PACKETS[:3])))
    assert statistics.drops == {}


async def test_the_loop_looks_only_where_nothing_was_left(ends: Ends) -> None:
    ends.send(*PACKETS[:4])
    assert ends.take(len(PACKETS[0]) * 2) == PACKETS[:2]  # the rest stays with the kernel
    assert ends.take() == PACKETS[2:4]
    assert not ends.woken.is_set()
    ends.send(PACKETS[4])
    await asyncio.wait_for(ends.woken.wait(), 5)
    assert ends.take() == PACKETS[4:5]


async def test_while_it_waits_nothing_is_read(ends: Ends) -> None:
    assert ends.take() == []
    ends.send(PACKETS[0])
    assert ends.take() == []  # the reader will say so
    await asyncio.wait_for(ends.woken.wait(), 5)
    assert ends.take() == PACKETS[:1]


async def test_what_is_no_packet_is_counted_and_what_follows_comes(ends: Ends) -> None:
    ends.kernel.send(b"short")
    ends.kernel.send(b"\0\x07" + PLAIN[2:] + PACKETS[0])
    ends.send(PACKETS[1])
    assert ends.take() == PACKETS[1:2]
    assert ends.link.statistics().drops == {"tun-short": 1, "tun-gso-kind": 1}


async def test_a_kernel_that_takes_nothing_is_counted_not_raised(ends: Ends) -> None:
    ends.kernel.close()
    ends.deliver(PACKETS[0])
    assert ends.link.statistics().drops == {"tun-epipe": 1}
    assert ends.link.statistics().received_packets == 0


async def test_closed_twice(ends: Ends) -> None:
    ends.take()
    ends.link.close()
    ends.link.close()
    assert ends.take() == []


@pytest.mark.parametrize(("code", "is_gone"), [(errno.EBADFD, True), (errno.EIO, False)])
async def test_an_interface_that_is_deleted_is_not_looked_at_again(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, code: int, is_gone: bool
) -> None:
    """Its descriptor is ready for ever; that of one that is only down is not."""

    def read(*_: object) -> bytes:
        raise OSError(code, "")

    gone: list[bool] = []
    ends.link.on_gone(lambda: gone.append(True))
    with monkeypatch.context() as patch:
        patch.setattr("usernet.tun.link.os.read", read)
        assert ends.take() == []
    assert gone == [True] * is_gone
    assert ends.link.statistics().drops == {"tun-down": 1}
    assert asyncio.get_running_loop().remove_reader(ends.link._fd) is not is_gone
