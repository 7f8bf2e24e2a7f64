"""Fixtures of the proxy's tests."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from asyncio import constants
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.certificate import Certificate
from tests.support.certificates import Authority, Pair

_ON_BOTH = (
    "test_relay.py",
    "test_upstreams.py",
    "test_over_tunnel.py",
    "test_crowd.py",
    "test_deadlines.py",
    "test_server.py",
    "test_socks_bind.py",
    "test_tls.py",
    "test_associate.py",
    "test_associate_over_tunnel.py",
)


@pytest.fixture(autouse=True)
async def strict_loop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The loop in debug mode; whatever reaches its exception handler, or a socket left open, fails the test.

    Where each handle and each future was made is noted in two frames: all of them took two thirds of the time.
    """
    monkeypatch.setattr(constants, "DEBUG_STACK_DEPTH", 2)
    monkeypatch.setattr(sys, "tracebacklimit", 2, raising=False)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 5.0
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    yield
    gc.collect()  # a leaked transport or task reports itself when it is collected
    assert reports == []


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that is bound, so nobody else's, and does not listen."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue()


@pytest.fixture
def certificate(pair: Pair) -> Certificate:
    return Certificate(str(pair.chain), str(pair.key))


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What depends on a loop's transports runs on both."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in _ON_BOTH:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
