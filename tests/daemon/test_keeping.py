"""What one daemon leaves to the next: the clock of its handshakes, where peers were, a key that was made here."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time

import pytest

from proxy.daemon import keeping
from proxy.daemon.keeping import MARGIN_NS, Keeper, private_key, remembered
from proxy.daemon.process import for_as_long
from proxy.state.store import MemoryStore, StoreError
from tests.support.networks import RIGHT, udp_pair
from usernet import Memory

KEY = bytes(range(32))


def stored(**values: object) -> MemoryStore:
    store = MemoryStore()
    store.write("wg0.tunnel", json.dumps(values).encode())
    return store


def test_nothing_yet() -> None:
    assert remembered(MemoryStore(), "wg0") == Memory()


def test_a_clock_that_is_right_needs_no_help() -> None:
    store = stored(timestamp_ns=1000, endpoints={KEY.hex(): ["192.0.2.1", 7]})
    assert remembered(store, "wg0", lambda: 1001) == Memory(0, {KEY: ("192.0.2.1", 7)})
    assert remembered(store, "other", lambda: 1001) == Memory()


def test_a_clock_that_was_set_back(caplog: pytest.LogCaptureFixture) -> None:
    store = stored(timestamp_ns=5000, endpoints={KEY.hex(): ["2001:db8::1", 7, 0, 3]})
    assert remembered(store, "wg0", lambda: 4000) == Memory(5000 + MARGIN_NS, {KEY: ("2001:db8::1", 7, 0, 3)})
    assert "clock is behind" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"timestamp_ns": "x", "endpoints": {}}', '{"timestamp_ns": 1, "endpoints": []}',
     '{"timestamp_ns": 1, "endpoints": {"zz": ["a", 1]}}', '{"timestamp_ns": 1, "endpoints": {"00": ["a"]}}',
     '{"timestamp_ns": 1, "endpoints": {"00": [1, 1]}}', '{"timestamp_ns": 1, "endpoints": {"00": ["a", "b"]}}'],
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


async def test_a_handshake_is_written_down_a_while_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SETTLE", 0.01)
    store = MemoryStore()
    async with udp_pair() as pair:
        keeper = Keeper(store, "wg0", pair.left)
        async with for_as_long(keeper.run()):
            before = time.time_ns()
            await pair.left.ping(RIGHT)
            while not store._values:
                await asyncio.sleep(0.001)
        found = remembered(store, "wg0", lambda: 0)
        (peer,) = pair.left.config.peers
        assert found.endpoints == {peer.public_key: ("127.0.0.1", pair.right.listen_port)}
        assert before <= found.timestamp_ns - MARGIN_NS <= time.time_ns()


async def test_a_store_that_fails_is_said_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usernet")
    monkeypatch.setattr(keeping, "SETTLE", 0.001)
    monkeypatch.setattr(keeping, "RETRY", 0.001)

    class Failing(MemoryStore):
        tries = 0

        def write(self, key: str, value: bytes) -> None:
            self.tries += 1
            if self.tries < 4:
                raise StoreError("the disk is full")
            super().write(key, value)

    store = Failing()
    async with udp_pair() as pair:
        keeper = Keeper(store, "wg0", pair.left)
        async with for_as_long(keeper.run()):
            await pair.left.ping(RIGHT)
            while not keeper.trouble:
                await asyncio.sleep(0.0001)
            while keeper.trouble:
                await asyncio.sleep(0.0001)
    assert caplog.text.count("the disk is full; trying again") == 1
    assert "written again" in caplog.text


async def test_a_network_goes_on_from_what_is_remembered() -> None:
    """Timestamps are never below, and a peer that has no endpoint here is where it was."""
    async with udp_pair() as pair:
        await pair.left.ping(RIGHT)
        memory = pair.right.memory()
        assert list(memory.endpoints.values()) == [("127.0.0.1", pair.left.listen_port)] or "::ffff" in str(memory)
    floor = time.time_ns() + 10**12
    async with udp_pair() as pair:
        pair.left._tunnel._timestamp_floor_ns = floor
        peer = pair.left.config.peers[0]
        pair.left._tunnel.remove_peer(peer.public_key)
        pair.left._add_peer(peer)
        await pair.left.ping(RIGHT)
        assert pair.left.memory().timestamp_ns > floor
