"""What can be asked at the admin socket, where a real process would not show it: see tests/cli/test_commands.py."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.admin.protocol import BadArguments, CommandError
from proxy.daemon import commands
from proxy.daemon.app import Daemon, Options
from tests.support.networks import LEFT, RIGHT, config_of, key_pair
from usernet.aio.capture import header
from usernet.errors import NoRoute
from usernet.wireguard.events import HandshakeCompleted


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """With a peer that does not answer."""
    config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), ("127.0.0.1", 9))
    daemon = Daemon(config, Options(lambda: config, lambda _: (), "wg7"))
    await daemon.network.start()
    try:
        yield daemon
    finally:
        await daemon.network.close()
        await daemon.serving.proxy.close()


def ask(daemon: Daemon, name: str, **args: object) -> Any:
    return daemon.controls.admin.find(name).handler(args)


async def test_whoever_watches_hears_of_a_handshake_at_once(daemon: Daemon) -> None:
    watching = ask(daemon, "status", watch=True, interval=3600)
    assert (await anext(watching))["name"] == "wg7"
    later = asyncio.ensure_future(anext(watching))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not later.done()
    daemon.observer.event(HandshakeCompleted(daemon.config.peers[0].public_key, ("127.0.0.1", 9), True))
    assert (await later)["name"] == "wg7"
    await watching.aclose()
    assert not daemon.observer._callbacks, "who has left is told nothing"


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("status", {"watch": True, "interval": 0.01}, "interval is a number from 0.1 to 3600"),
        ("status", {"watch": True, "interval": "1"}, "interval is a number from 0.1 to 3600"),
        ("status", {"watch": True, "interval": True}, "interval is a number from 0.1 to 3600"),
        ("status", {"watch": True, "interval": float("nan")}, "interval is a number from 0.1 to 3600"),
        ("profile", {"seconds": 0}, "seconds is a number from 1 to 120"),
        ("profile", {"seconds": 121}, "seconds is a number from 1 to 120"),
        ("ping-through", {}, "host is needed"),
        ("ping-through", {"host": 5}, "host is needed"),
        ("capture", {"snaplen": 0}, "snaplen is a number from 1 to"),
        ("capture", {"count": -1}, "count is a number from 0 to"),
    ],
)
async def test_arguments(daemon: Daemon, name: str, args: dict[str, object], said: str) -> None:
    async def first() -> object:
        answer = ask(daemon, name, **args)
        return await (anext(answer) if hasattr(answer, "__anext__") else answer)

    with pytest.raises(BadArguments, match=said):
        await first()


async def test_a_daemon_that_runs_and_one_that_is_ready(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await ask(daemon, "ready", live=True) == {"ready": True, "why": "it runs"}
    monkeypatch.setattr(commands, "LONGEST", 0.01)
    found = await ask(daemon, "ready")
    assert found["ready"] is False
    assert "no handshake" in found["why"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), ("no-answer", "no answer")),
        (NoRoute("no peer's allowed IPs cover 192.0.2.1"), ("not-sent", "no peer's allowed IPs cover 192.0.2.1")),
        (PermissionError(1, "Operation not permitted"), ("no-answer", "Operation not permitted")),
        (OSError("a word of its own"), ("no-answer", "a word of its own")),
    ],
)
async def test_why_no_echo_came_back(
    daemon: Daemon, error: OSError, said: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ping(host: str, timeout: float) -> float:
        raise error

    monkeypatch.setattr(daemon.network, "ping", ping)
    with pytest.raises(CommandError) as caught:
        await ask(daemon, "ping-through", host="10.0.0.1")
    assert (caught.value.code, str(caught.value)) == said


async def test_an_echo(daemon: Daemon) -> None:
    """Of our own address, which needs no peer."""
    assert 0 <= await ask(daemon, "ping-through", host=LEFT) < commands.PING_SECONDS


async def test_stacks_name_this_task(daemon: Daemon) -> None:
    assert "test_stacks_name_this_task" in await ask(daemon, "stacks")


async def test_rebind_says_the_port_which_is_kept(daemon: Daemon) -> None:
    port = daemon.network.listen_port
    assert await ask(daemon, "rebind") == f"UDP port {port}"
    assert daemon.controls.admin.find("rebind").changes
    assert daemon.controls.admin.find("break-tcp-conns").changes
    assert not daemon.controls.admin.find("status").changes


async def test_nothing_to_break(daemon: Daemon) -> None:
    assert await ask(daemon, "break-tcp-conns") == "connections reset: 0"


# capture


class Tapped:
    """Who has asked for a capture, and what goes through the tunnel meanwhile."""

    def __init__(self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write: Any = None
        monkeypatch.setattr(daemon.network, "captured", self.captured)

    def captured(self, write: Any, snaplen: int) -> Tapped:
        self.write = write
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        self.write = None


def content(piece: dict[str, Any]) -> bytes:
    return base64.b64decode(piece["data"])


async def test_a_capture_begins_with_its_header_and_ends_after_its_packets(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    tapped = Tapped(daemon, monkeypatch)
    pieces = ask(daemon, "capture", count=3, snaplen=96)
    first = await anext(pieces)
    assert content(first) == header(96)
    assert first["whole"]
    later = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    assert not later.done()
    for record in (b"one", b"two"):
        tapped.write(record)
    assert content(await later) == b"onetwo"
    for record in (b"three", b"four"):
        tapped.write(record)
    assert content(await anext(pieces)) == b"three"
    assert [piece async for piece in pieces] == []
    assert tapped.write is None


async def test_a_long_record_is_cut_and_says_where_the_file_may_end(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    tapped = Tapped(daemon, monkeypatch)
    pieces = ask(daemon, "capture", count=1)
    await anext(pieces)
    long = bytes(range(256)) * (commands.PIECE_BYTES // 256 * 5 // 2)
    tapped.write(long)
    found = [piece async for piece in pieces]
    assert b"".join(map(content, found)) == long
    assert [piece["whole"] for piece in found] == [False, False, True]


async def test_a_reader_that_is_too_slow_is_told_what_it_lacks(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    tapped = Tapped(daemon, monkeypatch)
    pieces = ask(daemon, "capture")
    assert (await anext(pieces))["left_out"] == 0
    record = bytes(1 << 20)
    for _ in range(7):
        tapped.write(record)
    size, piece = 0, {}
    while size < commands.CAPTURE_BYTES:
        piece = await anext(pieces)
        size += len(content(piece))
    assert size == 4 * len(record), "what waits is bounded"
    assert piece["left_out"] == 3
    await pieces.aclose()
    assert tapped.write is None
