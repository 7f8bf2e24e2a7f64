"""The pump, with a tunnel, an outer link and an inner link that only note what is done to them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from usernet.aio import device as device_module
from usernet.aio.device import Device
from usernet.aio.runtime import boottime
from usernet.burst.packets import DatagramBurst, PacketBurst, SendBurst, SuperPacket
from usernet.wire.icmp import IcmpError, Kind, parse_icmp
from usernet.wire.packet import encode_packet, parse_packet
from usernet.wireguard.events import HandshakeCompleted, TunnelEvent
from usernet.wireguard.tunnel import Rejected

pytestmark = pytest.mark.sources

ADDRESS = ("192.0.2.9", 51820)


class FakeTunnel:
    """Seals a packet into a datagram of its header."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.deadline: float | None = None
        self.handshakes = 0
        self.pending: list[TunnelEvent] = []
        self.reject: str | None = None
        self.sealed: list[SendBurst] = []
        self.extra: list[SendBurst] = []

    def receive_datagrams(self, burst: DatagramBurst, out: PacketBurst, now: float) -> None:
        self.log.append(f"receive {len(burst.lengths)}")
        out.rows.append((0, 20, 0, 1, 0, 0))

    def process_handshake(self, now: float) -> bool:
        if self.handshakes:
            self.handshakes -= 1
            self.log.append("handshake")
        return self.handshakes > 0

    def seal(self, packets: Sequence[SuperPacket], now: float) -> list[Rejected]:
        self.log.append(f"seal {len(packets)}")
        if self.reject is not None:
            return [Rejected(packet, self.reject) for packet in packets]  # type: ignore[arg-type]
        self.sealed = [SendBurst(ADDRESS, memoryview(packet.header), len(packet.header)) for packet in packets]
        return []

    def datagrams_to_send(self, now: float) -> list[SendBurst]:
        bursts, self.sealed, self.extra = self.extra + self.sealed, [], []
        return bursts

    def events(self) -> list[TunnelEvent]:
        events, self.pending = self.pending, []
        return events

    def next_timeout(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        self.log.append("tunnel timeout")
        self.deadline = None


class FakeDatagramLink:
    port = 1

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.arrived: list[DatagramBurst] = []
        self.blocked = False
        self.readable: Callable[[], None] = lambda: None
        self.writable: Callable[[], None] | None = None
        self.sent: list[bytes] = []

    def receive(self) -> list[DatagramBurst]:
        self.log.append("drain")
        arrived, self.arrived = self.arrived, []
        return arrived

    def send(self, burst: SendBurst) -> bool:
        if self.blocked:
            return False
        self.sent.append(bytes(burst.buf))
        return True

    def on_readable(self, callback: Callable[[], None]) -> None:
        self.readable = callback

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        self.writable = callback

    def close(self) -> None: ...


class FakePacketLink:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.packets: list[SuperPacket] = []
        self.deadline: float | None = None
        self.delivered: list[bytes] = []
        self.wake: Callable[[], None] = lambda: None
        self.answer: list[SuperPacket] = []

    def deliver(self, burst: PacketBurst, now: float) -> None:
        self.log.append(f"deliver {len(burst.rows)}")
        self.delivered += [bytes(burst.buf[at : at + length]) for at, length, *_ in burst.rows]
        if self.answer:
            self.packets += self.answer
            self.answer = []
            self.wake()

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        self.log.append("take")
        packets, self.packets = self.packets[:2], self.packets[2:]
        return packets

    def next_timeout(self) -> float | None:
        return self.deadline

    def handle_timeout(self, now: float) -> None:
        self.log.append("link timeout")
        self.deadline = None

    def path_changed(self, now: float) -> None:
        self.log.append("path changed")

    def on_wake(self, callback: Callable[[], None]) -> None:
        self.wake = callback

    def close(self) -> None: ...


class FakeSealer:
    """Takes what is larger than a byte."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.jobs = 0
        self.unsent: list[SendBurst] = []
        self.done: Callable[[], None] = lambda: None

    @property
    def is_full(self) -> bool:
        return self.jobs >= 2

    def start(self, on_done: Callable[[], None]) -> None:
        self.done = on_done

    def submit(self, packets: list[SuperPacket], now: float) -> int:
        if len(packets[0].header) == 1:
            return 0
        self.log.append(f"submit {len(packets)}")
        self.jobs += 1
        return 1

    def collect(self) -> list[SendBurst]:
        self.log.append("collect")
        self.jobs = 0
        unsent, self.unsent = self.unsent, []
        return unsent

    def finish(self) -> list[SendBurst]:
        return self.collect() if self.jobs else []

    close = finish


class Bench:
    """A device between the three."""

    def __init__(self, *, second_core: bool = False, started: bool = True) -> None:
        self.log: list[str] = []
        self.sealer = FakeSealer(self.log)
        self.tunnel = FakeTunnel(self.log)
        self.outer = FakeDatagramLink(self.log)
        self.inner = FakePacketLink(self.log)
        self.events: list[TunnelEvent] = []
        self.device = Device(
            asyncio.get_running_loop(),
            self.tunnel,  # type: ignore[arg-type]
            self.outer,
            self.inner,
            self.events.append,
            self.sealer if second_core else None,  # type: ignore[arg-type]
        )
        if started:
            self.device.start()

    def arrive(self, count: int = 1, size: int = 100) -> None:
        self.outer.arrived.append(DatagramBurst(ADDRESS, memoryview(bytes(count * size)), size, [size] * count))


async def turns(count: int = 2) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_order_of_a_turn() -> None:
    bench = Bench()
    bench.arrive(3)
    bench.tunnel.handshakes = 2
    bench.tunnel.deadline = bench.inner.deadline = 0.0
    bench.inner.answer = [SuperPacket(b"ack")]
    bench.outer.readable()
    assert bench.log == [
        "drain", "receive 3", "deliver 1", "tunnel timeout", "link timeout", "handshake", "handshake",
        "take", "seal 1", "take",
    ]  # fmt: skip
    assert bench.outer.sent == [b"ack"]
    bench.device.close()


async def test_wakes_are_coalesced() -> None:
    bench = Bench()
    bench.inner.packets = [SuperPacket(b"1"), SuperPacket(b"2")]
    for _ in range(5):
        bench.inner.wake()
    assert not bench.log
    await turns(4)
    assert bench.log == ["take", "seal 2", "take"]
    assert bench.outer.sent == [b"1", b"2"]
    bench.device.close()


async def test_a_second_core_has_only_so_much_at_a_time() -> None:
    bench = Bench(second_core=True)
    bench.sealer.jobs = 1
    bench.inner.packets = [SuperPacket(b"large")]
    bench.inner.wake()
    await turns()
    assert bench.log == ["take", "submit 1"]
    bench.inner.packets = [SuperPacket(b"large")]
    bench.inner.wake()
    await turns(4)
    assert bench.log == ["take", "submit 1"]
    bench.sealer.done()
    assert bench.log == ["take", "submit 1", "collect", "take", "submit 1", "take"]
    bench.device.close()


async def test_nothing_overtakes_a_second_core() -> None:
    bench = Bench(second_core=True)
    bench.sealer.jobs = 1
    bench.sealer.unsent = [SendBurst(ADDRESS, memoryview(b"before"), 6)]
    bench.inner.packets = [SuperPacket(b"1")]
    bench.inner.wake()
    await turns()
    assert bench.log == ["take", "collect", "seal 1", "take"]
    assert bench.outer.sent == [b"before", b"1"]
    bench.device.close()


async def test_what_a_second_core_could_not_send_waits_for_the_socket() -> None:
    bench = Bench(second_core=True)
    bench.outer.blocked = True
    for name in (b"1", b"2"):
        bench.sealer.unsent = [SendBurst(ADDRESS, memoryview(name), 1)]
        bench.sealer.done()
    assert bench.outer.sent == []
    bench.outer.blocked = False
    assert bench.outer.writable is not None
    bench.outer.writable()
    assert bench.outer.sent == [b"1", b"2"]
    bench.device.close()


async def test_a_turn_for_another_reason_serves_the_wake() -> None:
    bench = Bench()
    bench.inner.packets = [SuperPacket(b"1")]
    bench.inner.wake()
    bench.outer.readable()
    assert bench.outer.sent == [b"1"]
    bench.log.clear()
    await turns()
    assert not bench.log
    bench.device.close()


async def test_nothing_is_taken_while_the_socket_would_block() -> None:
    bench = Bench()
    bench.inner.packets = [SuperPacket(b"%d" % number) for number in range(6)]
    bench.outer.blocked = True
    bench.inner.wake()
    await turns()
    assert bench.log == ["take", "seal 2"]
    assert bench.outer.writable is not None
    bench.arrive()
    bench.outer.readable()
    bench.inner.wake()
    await turns()
    assert "take" not in bench.log[2:]
    assert bench.outer.sent == []
    bench.outer.blocked = False
    bench.outer.writable()
    assert bench.outer.sent == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert bench.outer.writable is None
    bench.device.close()


async def test_still_blocked() -> None:
    bench = Bench()
    bench.inner.packets = [SuperPacket(b"1"), SuperPacket(b"2")]
    bench.outer.blocked = True
    bench.inner.wake()
    await turns()
    assert bench.outer.writable is not None
    bench.outer.writable()
    assert bench.outer.writable is not None
    bench.outer.blocked = False
    bench.outer.writable()
    assert bench.outer.sent == [b"1", b"2"]
    bench.device.close()


async def test_much_is_handed_over_in_portions() -> None:
    bench = Bench()
    for _ in range(10):
        bench.arrive(40, 1500)
    bench.outer.readable()
    assert bench.log.count("receive 40") == 10
    assert [entry for entry in bench.log if entry.startswith("deliver")] == ["deliver 4", "deliver 4", "deliver 2"]
    bench.device.close()


async def test_what_the_link_failed_at_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def fail(burst: PacketBurst, now: float) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(bench.inner, "deliver", fail)
        bench.arrive()
        with pytest.raises(ZeroDivisionError):
            bench.outer.readable()
    bench.arrive()
    bench.outer.readable()
    assert "deliver 1" in bench.log
    bench.device.close()


async def test_a_turn_that_failed_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later, by the timer, with the deadline and the wake it did not come to; never over and over at once."""
    monkeypatch.setattr(device_module, "RETRY_SECONDS", 0.01)
    bench = Bench()
    await turns()  # its first
    failures: list[float] = []

    def fail(now: float) -> None:
        failures.append(now)
        bench.inner.wake()
        raise ZeroDivisionError

    bench.tunnel.deadline = 0.0
    bench.inner.packets = [SuperPacket(b"1")]
    with monkeypatch.context() as patch:
        patch.setattr(bench.tunnel, "handle_timeout", fail)
        with pytest.raises(ZeroDivisionError):
            bench.outer.readable()
        await turns(10)
        assert len(failures) == 1
    async with asyncio.timeout(5):
        while not bench.outer.sent:
            await asyncio.sleep(0.001)
    assert bench.tunnel.deadline is None
    bench.device.close()


async def test_closing_ends_closed_even_if_the_last_turn_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()

    def fail(budget_bytes: int, now: float) -> list[SuperPacket]:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.inner, "take", fail)
    bench.device.close()
    assert "the last turn" in caplog.text
    bench.log.clear()
    bench.outer.readable()
    bench.inner.wake()
    await turns()
    assert bench.log == []


async def test_a_flood_of_packets_lets_the_loop_breathe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "TURN_BYTES", 10)
    bench = Bench()
    bench.inner.packets = [SuperPacket(bytes(6)) for _ in range(4)]
    bench.inner.wake()
    await turns(1)
    assert len(bench.outer.sent) == 2
    await turns(1)
    assert len(bench.outer.sent) == 4
    bench.device.close()


async def test_handshakes_do_not_hold_data_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "HANDSHAKE_SECONDS", -1.0)
    bench = Bench()
    bench.tunnel.handshakes = 7
    bench.outer.readable()
    assert bench.tunnel.handshakes == 5
    for _ in range(4):
        bench.arrive()
        bench.outer.readable()
    assert bench.tunnel.handshakes == 0
    bench.device.close()


async def test_handshakes_that_wait_need_nothing_else_to_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "HANDSHAKE_SECONDS", -1.0)
    bench = Bench()
    bench.tunnel.handshakes = 7
    bench.outer.readable()
    assert bench.tunnel.handshakes == 5
    await turns(6)
    assert bench.tunnel.handshakes == 0
    bench.log.clear()
    await turns()
    assert bench.log == []
    bench.device.close()


async def test_a_long_drain_leaves_handshakes_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.tunnel.handshakes = 7
    clock = iter([boottime() - 1.0])  # the turn began a second ago
    monkeypatch.setattr(device_module, "boottime", lambda: next(clock, boottime()))
    monkeypatch.setattr(device_module, "HANDSHAKE_SECONDS", 0.5)
    bench.outer.readable()
    assert bench.tunnel.handshakes == 0
    bench.device.close()


async def test_keepalives_and_handshakes_leave_without_packets() -> None:
    bench = Bench()
    bench.tunnel.extra = [SendBurst(ADDRESS, memoryview(b"keepalive"), 9)]
    bench.outer.readable()
    assert bench.outer.sent == [b"keepalive"]
    bench.device.close()


async def test_the_timer_is_armed_once_and_moved_only_forward_in_time() -> None:
    loop = asyncio.get_running_loop()
    armed: list[float] = []
    call_later = loop.call_later

    def counting(delay: float, callback: Any, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        armed.append(delay)
        return call_later(delay, callback, *args, **kwargs)

    bench = Bench()
    loop.call_later = counting  # type: ignore[method-assign, assignment]
    try:
        bench.inner.deadline = boottime() + 10
        bench.outer.readable()
        bench.inner.deadline += 10  # later: let the timer that runs fire for nothing
        bench.outer.readable()
        assert len(armed) == 1
        bench.tunnel.deadline = boottime() + 5
        bench.outer.readable()
        assert [round(delay) for delay in armed] == [10, 5]
    finally:
        del loop.call_later
    bench.device.close()


@pytest.mark.parametrize("which", ["tunnel", "inner"])
async def test_the_timer_fires(which: str) -> None:
    bench = Bench()
    part = bench.tunnel if which == "tunnel" else bench.inner
    part.deadline = boottime() + 0.01
    bench.outer.readable()
    async with asyncio.timeout(5):
        while part.deadline is not None:
            await asyncio.sleep(0.001)
    assert any(entry.endswith("timeout") for entry in bench.log)
    bench.device.close()


async def test_idle_is_idle() -> None:
    bench = Bench()
    bench.outer.readable()
    bench.log.clear()
    await asyncio.sleep(0.05)
    assert bench.log == []
    bench.device.close()


async def test_events_and_a_path_that_has_come_back() -> None:
    bench = Bench()
    event = HandshakeCompleted(bytes(32), ADDRESS, True)
    bench.tunnel.pending = [event]
    bench.outer.readable()
    assert bench.events == [event]
    assert "path changed" in bench.log
    bench.device.close()


@pytest.mark.parametrize("reason", ["no-route", "no-endpoint"])
@pytest.mark.parametrize("size", [4, 16])
async def test_rejected_packets_come_back_as_errors(reason: str, size: int) -> None:
    bench = Bench()
    source, destination = bytes([10]) * size, bytes([11]) * size
    packet = encode_packet(source, destination, 17, bytes(20))
    bench.tunnel.reject = reason
    bench.inner.packets = [SuperPacket(packet[:-5], (packet[-5:-2], packet[-2:]))]
    bench.inner.wake()
    await turns()
    (error,) = bench.inner.delivered
    parsed = parse_packet(error)
    assert (parsed.source, parsed.destination) == (destination, source)
    message = parse_icmp(error, parsed.payload, parsed.end, parsed.source, parsed.destination)
    assert isinstance(message, IcmpError)
    assert message.kind is Kind.HOST_UNREACHABLE  # ICMP 3, 1; ICMPv6 1, 3: address unreachable
    assert message.quoted.destination == destination
    bench.device.close()


async def test_nothing_moves_before_the_start() -> None:
    bench = Bench(started=False)
    bench.inner.packets = [SuperPacket(b"early")]
    bench.tunnel.deadline = 0.0
    bench.device.wake()
    bench.device.path_changed()
    await turns()
    bench.device.close()
    assert bench.outer.sent == []
    bench.device.start()
    await turns()
    assert bench.outer.sent == [b"early"]
    bench.device.close()


async def test_closed_means_quiet() -> None:
    bench = Bench()
    bench.tunnel.deadline = boottime() + 0.005
    bench.outer.readable()
    bench.inner.packets = [SuperPacket(b"goodbye")]
    bench.device.close()
    bench.device.close()
    assert bench.outer.sent == [b"goodbye"]
    bench.log.clear()
    bench.inner.wake()
    bench.outer.readable()
    await asyncio.sleep(0.02)
    assert bench.log == []
    gc.collect()
