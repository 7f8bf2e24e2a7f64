"""The socket of `wg`, before a configuration that is kept here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.admin.binding import Bound
from proxy.admin.session import CLIENTS
from proxy.admin.uapi_server import UapiServer
from usernet.config import Config, Interface, Peer
from usernet.errors import UsernetError
from usernet.wireguard.statistics import PeerStatistics

A, B, KEY = b"\xaa" * 32, b"\xbb" * 32, b"\x11" * 32
CONFIG = Config(Interface(KEY, ()), (Peer(A),))


class Device:
    """Keeps a configuration, and says how often it became another."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.listen_port = 51820
        self.changes = 0
        self.error: Exception | None = None

    def peer_statistics(self) -> tuple[PeerStatistics, ...]:
        return tuple(
            PeerStatistics(peer.public_key, None, None, None, 0, 0, 0, 0, 0, False) for peer in self.config.peers
        )

    async def change(self, alter: Callable[[Config], Config]) -> bool:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        before, self.config = self.config, alter(self.config)
        self.changes += before != self.config
        return before != self.config


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    found = Device()
    server = UapiServer(found, lambda private_key: private_key[::-1])
    await server.listen(Bound(tmp_path / "wg0.sock"))
    yield found
    await server.close()
    await server.close()
    assert os.listdir(tmp_path) == []


async def say(path: Path, *pieces: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path / "wg0.sock")
    for piece in pieces:
        writer.write(piece.encode())
        await asyncio.sleep(0)
    writer.write_eof()
    text = (await reader.read()).decode()
    writer.close()
    return text


async def test_get_and_set_on_one_connection(device: Device, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "wg0.sock").stat().st_mode) == 0o600
    one_peer = f"private_key={KEY.hex()}\nlisten_port=51820\npublic_key={A.hex()}\nprotocol_version=1\n"
    text = await say(tmp_path, f"get=1\n\nset=1\npublic_key={B.hex()}\n\nget=1\n\n")
    first, second, third, rest = text.split("errno=0\n\n")
    assert first.startswith(one_peer)
    assert (second, rest) == ("", "")
    assert f"public_key={B.hex()}\n" in third
    assert await say(tmp_path) == ""  # as `wg` does, to see whether we are there


async def test_all_or_nothing_and_all_of_it_drained(device: Device, tmp_path: Path) -> None:
    text = f"set=1\npublic_key={B.hex()}\nwhat=1\npublic_key={A.hex()}\nremove=true\n\nset=1\nlisten_port=7\n\n"
    for at in range(0, len(text), 7):
        device.config = CONFIG
        assert await say(tmp_path, text[:at], text[at:]) == "errno=-22\n\nerrno=0\n\n"
        assert device.config == replace(CONFIG, interface=replace(CONFIG.interface, listen_port=7))


async def test_a_large_one(device: Device, tmp_path: Path) -> None:
    lines = "".join(f"allowed_ip=10.{a}.{b}.0/24\n" for a in range(20) for b in range(256))
    assert await say(tmp_path, f"set=1\npublic_key={A.hex()}\n{lines}\n") == "errno=0\n\n"
    assert len(device.config.peers[0].allowed_ips) == 20 * 256


async def test_what_is_not_whole_changes_nothing(device: Device, tmp_path: Path) -> None:
    assert await say(tmp_path, f"set=1\npublic_key={A.hex()}\nremove=true\n") == ""
    assert device.config == CONFIG


async def test_the_same_again_is_no_change(device: Device, tmp_path: Path) -> None:
    for _ in range(3):
        assert await say(tmp_path, f"set=1\npublic_key={B.hex()}\nallowed_ip=10.0.0.0/8\n\n") == "errno=0\n\n"
    assert device.changes == 1


@pytest.mark.parametrize(
    ("error", "number"), [(OSError(98, "in use"), 98), (UsernetError("no"), 22), (PermissionError(13, "no"), 13)]
)
async def test_what_the_tunnel_refuses(device: Device, tmp_path: Path, error: Exception, number: int) -> None:
    device.error = error
    assert await say(tmp_path, "set=1\nlisten_port=7\n\n") == f"errno=-{number}\n\n"


async def test_a_cause_has_the_number(device: Device, tmp_path: Path) -> None:
    device.error = UsernetError("wrapped")
    device.error.__cause__ = OSError(98, "in use")
    assert await say(tmp_path, "set=1\nlisten_port=7\n\n") == "errno=-98\n\n"


async def test_errors_of_get(device: Device, tmp_path: Path) -> None:
    assert await say(tmp_path, "get=1\nlisten_port=1\n\nget=1\n\n") != ""
    assert (await say(tmp_path, "get=2\n\n")) == "errno=71\n\n"
    assert (await say(tmp_path, "hello\n\n")) == "errno=-71\n\n"


async def test_a_client_too_many(device: Device, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CLIENTS):
            _, writer = await asyncio.open_unix_connection(tmp_path / "wg0.sock")
            stack.callback(writer.close)
        assert await say(tmp_path, "get=1\n\n") == "errno=16\n\n"
