"""The daemon's tunnel: how it starts, or says why not, and that its end is in time."""

from __future__ import annotations

import asyncio
import errno

import pytest

from proxy.daemon import tunnel
from proxy.daemon.process import StartError


class Failing:
    def __init__(self, code: int, port: int) -> None:
        self.code = code
        self.listen_port = port

    async def open(self) -> None:
        raise OSError(self.code, f"UDP port {self.listen_port}: the kernel's word")


@pytest.mark.parametrize(
    ("code", "port", "said"),
    [
        (errno.EADDRINUSE, 51820, "UDP port 51820 is in use; end what uses it, or choose another with --port"),
        (
            errno.EACCES,
            53,
            "the tunnel cannot start on UDP port 53: the kernel's word; choose one from 1024 up",
        ),
        (errno.EMFILE, 0, "the tunnel cannot start: the kernel's word"),
    ],
)
async def test_why_it_cannot_start(code: int, port: int, said: str) -> None:
    with pytest.raises(StartError) as caught:
        await tunnel.prepare(Failing(code, port))  # type: ignore[arg-type]
    assert str(caught.value) == said


class Stuck:
    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_a_stop_never_hangs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "STOP_WITHIN", 0.01)
    await tunnel.close(Stuck())  # type: ignore[arg-type]
    assert "took longer" in caplog.text
