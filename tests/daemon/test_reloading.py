"""Another configuration for a daemon that runs, all of it or nothing.  tests/cli/test_reload.py has real processes."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from proxy.daemon.app import Daemon, Options
from proxy.daemon.listeners import Listen
from proxy.daemon.reloading import ReloadError
from tests.support.networks import LEFT, RIGHT, config_of, key_pair
from usernet.config import Config, StdioTunnel
from usernet.errors import ConfigError, Problem, UsernetError


class Running:
    """A daemon, its file and its listeners."""

    def __init__(self) -> None:
        self.config = config_of(key_pair()[0], (LEFT,), key_pair()[1], (RIGHT,), ("127.0.0.1", 9))
        self.read: Callable[[], Config] = lambda: self.config
        self.listeners = [Listen("127.0.0.1", 0, socks5=True, http=True)]
        self.daemon = Daemon(self.config, Options(lambda: self.read(), lambda _: self.listeners, "wg7"))

    async def start(self) -> None:
        await self.daemon.network.start()
        with contextlib.ExitStack() as undo:
            commit = await self.daemon.prepare(self.config, undo)
            undo.pop_all()
        commit()

    @property
    def bound(self) -> int:
        return len(self.daemon.serving.bound)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running()
    await made.start()
    yield made
    await made.daemon.network.close()
    await made.daemon.serving.proxy.close()


async def test_a_file_that_is_the_same(running: Running) -> None:
    assert not await running.daemon.reloading.reload()
    assert running.bound == 1


async def test_what_is_new_is_so_at_once(running: Running) -> None:
    running.config = replace(running.config, interface=replace(running.config.interface, mtu=1300))
    running.listeners.append(Listen("127.0.0.1", 0, socks5=True, http=False))
    assert await running.daemon.reloading.asked({}) == "mtu"
    assert running.daemon.config is running.config
    assert running.daemon.network.mtu == 1300
    assert running.bound == 2


async def test_wg_changes_what_there_is_and_not_the_file(running: Running) -> None:
    before = running.daemon.config
    assert await running.daemon.reloading.change(lambda config: replace(config, peers=()))
    assert running.daemon.config.peers == ()
    assert await running.daemon.reloading.reload()
    assert running.daemon.config is before


async def test_standard_input_and_output_have_begun(running: Running) -> None:
    running.config = replace(running.config, stdio_tunnel=StdioTunnel(("10.0.0.1", 22)))
    with pytest.raises(ReloadError, match="cannot come, go or change while it runs"):
        await running.daemon.reloading.reload()
    assert running.daemon.config.stdio_tunnel is None


async def test_a_tunnel_that_cannot_change_undoes_what_was_opened(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(config: Config) -> None:
        raise OSError(errno.EADDRINUSE, "the port is taken")

    monkeypatch.setattr(running.daemon.network, "reconfigure", refuse)
    before, running.config = running.config, replace(running.config, peers=())
    running.listeners.append(Listen("127.0.0.1", 0, socks5=True, http=False))
    with pytest.raises(ReloadError, match="the port is taken"):
        await running.daemon.reloading.reload()
    assert running.daemon.config is before
    assert running.bound == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError((Problem("f", 1, "one", "two"),)), "1 problem in the file"),
        (ConfigError((Problem("f", 1, "one", "two"),) * 2), "2 problems in the file"),
        (
            FileNotFoundError(2, "No such file or directory", "wg7.conf"),
            "cannot read wg7.conf: No such file or directory",
        ),
        (UsernetError("a word of its own"), "a word of its own"),
    ],
)
async def test_who_hangs_up_reads_in_the_log_what_came_of_it(
    running: Running, error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Config:
        raise error

    caplog.set_level(logging.INFO, "usernet")
    running.read = fail
    await running.daemon.reloading.hung_up()
    assert f"not reloaded, everything is as before: {said}" in caplog.messages
    assert caplog.messages.count("f:1: one; two") == (len(error.problems) if isinstance(error, ConfigError) else 0)
    running.read = lambda: running.config
    await running.daemon.reloading.hung_up()
    assert caplog.messages[-1].startswith("reloaded: ")
