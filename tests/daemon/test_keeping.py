"""What one daemon leaves to the next: the clock of its handshakes, where peers were, a key that was made here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.daemon import keeping
from proxy.daemon.keeping import (
    AHEAD_NS,
    BORROWED_NS,
    JUMP_NS,
    RENEW_NS,
    STEP_NS,
    Keeper,
    borrowed,
    private_key,
    remembered,
)
from proxy.daemon.process import for_as_long
from proxy.state.file import FileStore, load
from proxy.state.store import MemoryStore, Store, StoreError
from tests.support.networks import RIGHT, Pair, udp_pair
from usernet import Memory

KEY = bytes(range(32))


def stored(**values: object) -> MemoryStore:
    store = MemoryStore()
    store.write("wg0.tunnel", json.dumps(values).encode())
    return store


def test_nothing_yet() -> None:
    assert remembered(MemoryStore(), "wg0") == Memory()


def test_what_was_left() -> None:
    store = stored(timestamp_ns=1000, endpoints={KEY.hex(): ["192.0.2.1", 7]})
    assert remembered(store, "wg0", lambda: 1001) == Memory(1000, {KEY: ("192.0.2.1", 7)})
    assert remembered(store, "other", lambda: 1001) == Memory()


@pytest.mark.parametrize(("behind", "is_said"), [(JUMP_NS, False), (JUMP_NS + 1, True)])
def test_a_clock_that_was_set_back(caplog: pytest.LogCaptureFixture, behind: int, is_said: bool) -> None:
    """By more than a daemon that was killed has stored beforehand."""
    mark = 5 * JUMP_NS
    store = stored(timestamp_ns=mark, endpoints={KEY.hex(): ["2001:db8::1", 7, 0, 3]})
    assert remembered(store, "wg0", lambda: mark - behind) == Memory(mark, {KEY: ("2001:db8::1", 7, 0, 3)})
    assert ("clock is behind" in caplog.text) is is_said


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"timestamp_ns": "x", "endpoints": {}}', '{"timestamp_ns": 1, "endpoints": []}',
     '{"timestamp_ns": 1, "endpoints": {"zz": ["a", 1]}}', '{"timestamp_ns": 1, "endpoints": {"00": ["a"]}}',
     '{"timestamp_ns": 1, "endpoints": {"00": [1, 1]}}', '{"timestamp_ns": 1, "endpoints": {"00": ["a", "b"]}}',
     '{"timestamp_ns": 1, "endpoints": {"00": ["192.0.2.1", 65536]}}', '{"timestamp_ns": -1, "endpoints": {}}',
     '{"timestamp_ns": 1, "endpoints": {"00": ["192.0.2.1", 1, 0, 0]}}', '{"timestamp_ns": 9e30, "endpoints": {}}',
     '{"timestamp_ns": 1e400, "endpoints": {}}', '{"timestamp_ns": 1, "endpoints": {"00": ["example.org", 1]}}'],
)  # fmt: skip
def test_what_makes_no_sense_is_not_used(text: str, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    store.write("wg0.tunnel", text.encode())
    assert remembered(store, "wg0") == Memory()
    assert "makes no sense" in caplog.text


def test_a_key_is_made_once() -> None:
    store = MemoryStore()
    made = private_key(store, "wg0", lambda: os.urandom(32))
    assert private_key(store, "wg0", lambda: os.urandom(32)) == made
    assert private_key(store, "wg1", lambda: KEY) == KEY
    store.write("wg0.private-key", b"short")
    with pytest.raises(StoreError, match="is no key"):
        private_key(store, "wg0", lambda: KEY)


@contextlib.asynccontextmanager
async def kept(store: Store, memory: Memory | None = None) -> AsyncIterator[tuple[Keeper, Pair]]:
    """A pair of which the left one's state is kept."""
    async with udp_pair(memory=memory) as pair:
        keeper = Keeper(store, "wg0", pair.left)
        yield keeper, pair
        keeper._writer.close()


class Slow(MemoryStore):
    """Takes as long as a test wants, and fails as often."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.writes: list[Memory] = []
        self.failing = 0
        self.error: Exception = StoreError("the disk is full")

    def write(self, key: str, value: bytes) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.go.wait()
        if self.failing:
            self.failing -= 1
            raise self.error
        super().write(key, value)
        self.writes.append(remembered(self, "wg0"))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_the_mark_lies_ahead_before_the_first_handshake_and_is_exact_after_the_last() -> None:
    store = Slow()
    before = time.time_ns()
    async with kept(store) as (keeper, pair):
        await keeper.begin()
        mark = store.writes[-1].timestamp_ns
        assert before + AHEAD_NS <= mark <= time.time_ns() + AHEAD_NS
        async with for_as_long(keeper.run()):
            await pair.left.ping(RIGHT)
        await keeper.close()
        (peer,) = pair.left.config.peers
        last = store.writes[-1]
        assert last.endpoints == {peer.public_key: ("127.0.0.1", pair.right.listen_port)}
        assert last.timestamp_ns == pair.left.latest_timestamp_ns <= time.time_ns()


async def test_where_a_peer_is_is_written_a_while_later_and_the_mark_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SETTLE", 0.01)
    store = Slow()
    async with kept(store) as (keeper, pair):
        await keeper.begin()
        async with for_as_long(keeper.run()):
            await pair.left.ping(RIGHT)
            await until(lambda: len(store.writes) == 2)
        assert [len(each.endpoints) for each in store.writes] == [0, 1]
        assert store.writes[0].timestamp_ns == store.writes[1].timestamp_ns


async def test_a_handshake_that_the_mark_soon_will_not_cover_is_written_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "SETTLE", 3600)
    store = Slow()
    async with kept(store) as (keeper, pair):
        await keeper.begin()
        keeper._written = Memory(time.time_ns() + RENEW_NS)  # as it is five minutes later
        async with for_as_long(keeper.run()):
            await pair.left.ping(RIGHT)
            await until(lambda: len(store.writes) == 2)
        assert store.writes[1].timestamp_ns > store.writes[0].timestamp_ns


async def test_starts_that_crash_do_not_run_away_from_the_clock() -> None:
    store = Slow()
    for _ in range(20):
        async with kept(store, remembered(store, "wg0")) as (keeper, pair):
            await keeper.begin()
            await pair.left.ping(RIGHT)
            assert pair.left.latest_timestamp_ns <= store.writes[-1].timestamp_ns
    assert store.writes[-1].timestamp_ns <= time.time_ns() + AHEAD_NS + 20 * STEP_NS
    marks = [each.timestamp_ns for each in store.writes]
    assert marks == sorted(set(marks))


@pytest.mark.parametrize("error", [StoreError("the disk is full"), ValueError("the disk is full")])
async def test_a_store_that_fails_is_said_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.INFO, "usernet")
    monkeypatch.setattr(keeping, "SETTLE", 0.001)
    monkeypatch.setattr(keeping, "RETRY", 0.001)
    store = Slow()
    async with kept(store) as (keeper, pair):
        await keeper.begin()
        store.failing, store.error = 3, error
        async with for_as_long(keeper.run()):
            await pair.left.ping(RIGHT)
            await until(lambda: keeper.trouble)
            await until(lambda: not keeper.trouble)
    assert keeper.failures == 3
    assert caplog.text.count("the disk is full; trying again") == 1
    assert "written again" in caplog.text


async def test_at_the_start_a_store_must_be_writable() -> None:
    store = Slow()
    store.failing = 1
    async with kept(store) as (keeper, _):
        with pytest.raises(StoreError, match="the disk is full"):
            await keeper.begin()


async def test_a_slow_store_holds_up_neither_the_tunnel_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SETTLE", 0.001)
    monkeypatch.setattr(keeping, "LEAVE", 0.01)
    store = Slow()
    async with kept(store) as (keeper, pair):
        await keeper.begin()
        store.go.clear()
        async with for_as_long(keeper.run()):
            await pair.left.ping(RIGHT)
            await until(lambda: store.go and not keeper._changed.is_set())
            await pair.left.ping(RIGHT)
        await keeper.close()
        assert len(store.writes) == 1
        store.go.set()
        thread = keeper._writer._thread
        assert thread is not None
        await asyncio.to_thread(thread.join)
        assert len(store.writes) == 3, "what was begun, then the last: in their order"
        assert store.writes[-1].timestamp_ns == pair.left.latest_timestamp_ns


async def test_a_network_goes_on_from_what_is_remembered() -> None:
    """Timestamps are never below, and a peer that has no endpoint here is where it was."""
    async with udp_pair() as pair:
        await pair.left.ping(RIGHT)
        memory = pair.right.memory()
        assert [address[1] for address in memory.endpoints.values()] == [pair.left.listen_port]
    floor = time.time_ns() + 10**12
    async with udp_pair(memory=Memory(floor)) as pair:
        await pair.left.ping(RIGHT)
        assert pair.left.latest_timestamp_ns > floor


def left(tmp_path: Path, ahead_ns: int) -> tuple[Path, int]:
    """The file of a daemon that is gone, and its mark, which lies so far ahead of the clock."""
    path, mark = tmp_path / "wg0.state", time.time_ns() + ahead_ns
    store = FileStore(path)
    store.write("wg0.tunnel", json.dumps({"timestamp_ns": mark, "endpoints": {KEY.hex(): ["192.0.2.1", 7]}}).encode())
    store.close()
    return path, mark


def test_a_command_goes_on_from_the_mark_of_a_daemon_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert borrowed("wg0") == Memory()
    path, mark = left(tmp_path, AHEAD_NS)
    assert [borrowed("wg0").timestamp_ns for _ in range(3)] == [mark + n * BORROWED_NS for n in range(3)]
    found = remembered(MemoryStore(load(path)), "wg0")
    assert found == Memory(mark + 3 * BORROWED_NS, {KEY: ("192.0.2.1", 7)}), "the next daemon begins beyond"
    assert borrowed("other") == Memory()


def test_a_command_goes_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is enough, where the daemon lives, and where the file is none of ours; and nothing is written."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    path, _ = left(tmp_path, -1)
    before = path.read_bytes()
    assert borrowed("wg0") == Memory()
    assert path.read_bytes() == before
    left(tmp_path, AHEAD_NS)
    living = FileStore(path)
    before = path.read_bytes()
    assert borrowed("wg0") == Memory()
    assert path.read_bytes() == before
    living.close()
    path.write_text("something else")
    assert borrowed("wg0") == Memory()
