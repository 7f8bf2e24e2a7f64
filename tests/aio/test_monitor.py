"""Changes of this machine's network: what the kernel says, when it is looked at, and what is major."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest

from usernet.burst.packets import Address
from usernet.errors import WireError
from usernet.monitor import Change, Debounce, Monitor, Notice, SleepWatch, parse_notices, source_of

# As Linux sends them to `ip monitor`, on a little-endian machine, for
LINK_UP = bytes.fromhex(  # a veth set up, attributes cut after its name
    "28000000 10000000 00000000 00000000 0000 0100 02000000 43100000 01000000 0700 0300 7630 0000"
)
ADDRESS = bytes.fromhex(  # 192.0.2.9/28 on it
    "28000000 14000000 00000000 00000000 02 1c 80 00 02000000 0800 0100 c0000209 0800 0200 c0000209"
)
ADDRESS_GONE = bytes.fromhex("20000000 15000000 00000000 00000000 02 1c 80 00 02000000 0800 0100 c0000201")
LINK_LOCAL_GONE = bytes.fromhex(
    "2c000000 15000000 00000000 00000000 0a 40 80 fd 02000000 1400 0100 fe800000000000000000000000000001"
)
ROUTE = bytes.fromhex(  # 198.51.100.0/24 by 192.0.2.2
    "34000000 18000000 00000000 00000000 02 18 00 00 fe 03 00 01 00000000"
    "0800 0100 c6336400 0800 0500 c0000202 0800 0400 02000000"
)
DEFAULT = bytes.fromhex(  # by 192.0.2.2
    "2c000000 18000000 00000000 00000000 02 00 00 00 fe 03 00 01 00000000 0800 0500 c0000202 0800 0400 02000000"
)
DEFAULT_GONE = DEFAULT[:4] + b"\x19" + DEFAULT[5:]
RULE = bytes.fromhex("1c000000 20000000 00000000 00000000 02 00 00 00 fe 00 00 01 00000000")
DONE = bytes.fromhex("14000000 03000000 00000000 00000000 00000000")
BY: tuple[object, ...] = (2, 0, 0xFE, (5, bytes([192, 0, 2, 2])), (4, b"\2\0\0\0"))

GOLDEN = [
    (LINK_UP, [Notice("link")]),
    (ADDRESS, [Notice("address")]),
    (ADDRESS_GONE, [Notice("address gone", major=True)]),
    (LINK_LOCAL_GONE, [Notice("address gone")]),
    (ROUTE, [Notice("route")]),
    (DEFAULT, [Notice("default route", major=True, route=BY)]),
    (DEFAULT_GONE, [Notice("default route gone", major=True, route=BY)]),
    (RULE, [Notice("rule")]),
    (DONE, []),
    (b"", []),
]


@pytest.fixture(autouse=True)
def _little_endian() -> None:
    assert struct.pack("=H", 1) == b"\1\0", "the golden bytes are of a little-endian machine"


@pytest.mark.parametrize(("data", "notices"), GOLDEN)
def test_what_the_kernel_says(data: bytes, notices: list[Notice]) -> None:
    assert parse_notices(data) == notices


def test_several_in_one_datagram() -> None:
    assert parse_notices(LINK_UP + DONE + ADDRESS_GONE) == [Notice("link"), Notice("address gone", major=True)]


@pytest.mark.parametrize("data", [data for data, _ in GOLDEN if data])
def test_cut_anywhere(data: bytes) -> None:
    for length in range(1, len(data)):
        with pytest.raises(WireError):
            parse_notices(data[:length])


@pytest.mark.parametrize("data", [data for data, _ in GOLDEN if data])
def test_its_own_length_is_wrong(data: bytes) -> None:
    for length in (0, 15, len(data) + 1, 0xFFFFFFFF):
        with pytest.raises(WireError):
            parse_notices(length.to_bytes(4, "little") + data[4:])


@pytest.mark.parametrize("length", [0, 3, 9, 0xFFFF])
def test_an_attribute_s_length_is_wrong(length: int) -> None:
    with pytest.raises(WireError):
        parse_notices(DEFAULT[:36] + length.to_bytes(2, "little") + DEFAULT[38:])


def test_a_cached_or_unreachable_default_is_none() -> None:
    cloned = DEFAULT[:24] + (0x200).to_bytes(4, "little") + DEFAULT[28:]
    unreachable = DEFAULT[:23] + b"\7" + DEFAULT[24:]
    assert parse_notices(cloned) == parse_notices(unreachable) == [Notice("route")]


# --- when ---


def test_a_burst_is_looked_at_when_it_is_quiet() -> None:
    debounce = Debounce()
    assert debounce.due == float("inf")
    for at in (10.0, 10.05, 10.09):
        debounce.changed(at)
    assert debounce.due == pytest.approx(10.19)


def test_and_after_a_second_at_the_latest() -> None:
    debounce = Debounce()
    for step in range(30):
        debounce.changed(10 + step * 0.05)
    assert debounce.due == pytest.approx(11.0)


def test_never_twice_within_a_second() -> None:
    debounce = Debounce()
    debounce.changed(10.0)
    debounce.acted(10.1)
    assert debounce.due == float("inf")
    debounce.changed(10.2)
    assert debounce.due == pytest.approx(11.1)


@pytest.mark.parametrize(("gap", "slept"), [(15.0, False), (22.5, False), (22.6, True), (3600.0, True)])
def test_a_check_that_comes_late(gap: float, slept: bool) -> None:
    watch = SleepWatch(100.0)
    assert watch.has_slept(100.0 + gap) is slept
    assert not watch.has_slept(115.0 + gap)


# --- the monitor, with a clock and timers that a test drives ---


class Handle:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at, self.callback, self.cancelled = at, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.handles: list[Handle] = []
        self.changes: list[Change] = []
        self.there: list[Address] = [("198.51.100.1", 51820)]
        self.source: str | None = "192.0.2.1"
        self.monitor = Monitor(
            self,  # type: ignore[arg-type]
            self.changes.append,
            lambda: self.there,
            source=lambda address: self.source,
            clock=lambda: self.now,
        )

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.handles.append(Handle(self.now + delay, callback))
        return self.handles[-1]

    def add_reader(self, *_: object) -> None: ...

    def remove_reader(self, *_: object) -> None: ...

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            live = [handle for handle in self.handles if not handle.cancelled and handle.at <= end]
            if not live:
                break
            first = min(live, key=lambda handle: handle.at)
            self.handles.remove(first)
            self.now = max(self.now, first.at)
            first.callback()
        self.now = end

    def say(self, *messages: bytes) -> None:
        self.monitor.take(parse_notices(b"".join(messages)))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("usernet.monitor._open_netlink", lambda: None)
    one = Bench()
    one.monitor.start()
    return one


def test_a_minor_change(bench: Bench) -> None:
    bench.say(LINK_UP, ADDRESS)
    bench.run(0.05)
    assert bench.changes == []
    bench.run(0.1)
    assert bench.changes == [Change(False, ("link", "address"))]


def test_major_ones(bench: Bench) -> None:
    bench.say(LINK_UP, ADDRESS_GONE)
    bench.run(2)
    bench.say(DEFAULT)
    bench.run(2)
    bench.source = "192.0.2.9"
    bench.say(ADDRESS)
    bench.run(2)
    assert bench.changes == [
        Change(True, ("address gone",)),
        Change(True, ("default route",)),
        Change(True, ("source address",)),
    ]


def test_a_default_route_that_is_only_refreshed(bench: Bench) -> None:
    for message in (DEFAULT, DEFAULT, DEFAULT_GONE, DEFAULT):
        bench.say(message)
        bench.run(2)
    assert [change.major for change in bench.changes] == [True, False, True, True]


def test_polling_where_nobody_tells(bench: Bench) -> None:
    bench.run(60)
    assert bench.changes == []
    bench.source = None
    bench.run(10)
    assert bench.changes == [Change(True, ("source address",))]


def test_a_peer_that_was_found_is_no_change(bench: Bench) -> None:
    bench.there.append(("198.51.100.2", 51820))
    bench.run(60)
    assert bench.changes == []


def test_woke_from_sleep(bench: Bench) -> None:
    bench.now += 3600
    bench.run(0)
    assert bench.changes == [Change(True, ("woke from sleep",))]
    bench.run(60)
    assert len(bench.changes) == 1


def test_closed(bench: Bench) -> None:
    bench.say(LINK_UP)
    bench.monitor.close()
    bench.monitor.close()
    bench.run(60)
    assert bench.changes == []


async def test_a_callback_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.Event()

    def fail(change: Change) -> None:
        done.set()
        raise RuntimeError("on purpose")

    monitor = Monitor(asyncio.get_running_loop(), fail, list)
    monitor.start()
    try:
        monitor.take([Notice("link")])
        await done.wait()
    finally:
        monitor.close()
    assert "on purpose" in caplog.text


def test_where_a_packet_would_leave_from() -> None:
    assert source_of(("127.0.0.1", 9)) == "127.0.0.1"
    assert source_of(("255.255.255.255", 9)) is None
