"""Who beyond this process is told how the tunnel is: the service manager, and BIRD."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from proxy.daemon.presence import Presence
from proxy.daemon.process import for_as_long
from proxy.daemon.sdnotify import Notifier
from usernet.config import Config
from usernet.wireguard.events import TunnelEvent

if TYPE_CHECKING:
    from proxy.daemon.bird import Bird

ASK_AGAIN: Final = 30.0  # s; a peer that routes do not lead to any more would not be asked by any packet


class AskedNet(Protocol):
    """What is needed of a network; `usernet.Network` is one."""

    @property
    def config(self) -> Config: ...

    def on_event(self, callback: Callable[[TunnelEvent], None]) -> None: ...

    def request_handshakes(self) -> None: ...


class Outside:
    """`bird`: its control socket; None: there is none."""

    def __init__(self, network: AskedNet, notifier: Notifier, bird: Path | None = None) -> None:
        """Belongs to the event loop that runs when it is made."""
        self._loop = asyncio.get_running_loop()
        self._network = network
        self._notifier = notifier
        self._presence = Presence()
        self._bird: Bird | None = None
        if bird is not None:
            from proxy.daemon.bird import Bird  # few have one

            self._bird = Bird(bird)
        self._timer: asyncio.TimerHandle | None = None
        network.on_event(self._event)

    @contextlib.asynccontextmanager
    async def told(self, clients: Callable[[], int]) -> AsyncIterator[None]:
        """From the time that we serve, and until we do no longer.  `clients`: of the proxy, now."""
        async with contextlib.AsyncExitStack() as stack:
            if self._bird is not None:
                stack.push_async_callback(self._bird.close)
                await stack.enter_async_context(for_as_long(self._bird.run()))
                await stack.enter_async_context(for_as_long(self._ask_again()))
            stack.callback(self._disarm)
            self._notifier.ready()
            await stack.enter_async_context(for_as_long(self._notifier.run(lambda: self._line(clients()))))
            yield

    def reconfigured(self) -> None:
        self._presence.keep([peer.public_key for peer in self._network.config.peers])
        self._look()

    def _line(self, clients: int) -> str:
        peers = len(self._network.config.peers)
        return f"{self._presence.answering} of {peers} peers answer; clients: {clients}"

    def _event(self, event: TunnelEvent) -> None:
        self._presence.event(event, time.monotonic())
        self._look()

    def _on_timer(self) -> None:
        self._presence.handle_timeout(time.monotonic())
        self._look()

    def _look(self) -> None:
        if self._bird is not None:
            self._bird.want(self._presence.is_up)
        self._disarm()
        deadline = self._presence.next_timeout()
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _ask_again(self) -> None:
        while True:
            await asyncio.sleep(ASK_AGAIN)
            if not self._presence.is_up:
                self._network.request_handshakes()
