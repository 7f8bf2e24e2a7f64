"""Forwards into the tunnel, UDP: a local socket, and for each of its clients a socket of its own in the tunnel.

A client is an address and port.  Its socket goes when nothing has moved for the idle time, or when there are too many
and it is the one that has been silent longest.  What comes while the target's name is looked up waits, a little of it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from proxy.routes import let_in
from proxy.session import log

FLOWS_MAX: Final = 4096
WAITING_MAX: Final = 16  # datagrams of one client
UNSENT_MAX: Final = 256 << 10  # B; what the local socket does not take is kept up to here, and then dropped
IDLE_TIMEOUT: Final = 120.0  # s; RFC 4787 REQ-5: two minutes at least
SWEEPS: Final = 8  # per idle time


class DatagramNet(Protocol):
    """What is needed of a network; `usernet.Network` is one."""

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], *, remote_addr: tuple[str, int]
    ) -> tuple[Any, Any]: ...


class Flow(asyncio.DatagramProtocol):
    """One client's socket in the tunnel."""

    __slots__ = ("_client", "_forward", "_revoke", "_task", "_transport", "_waiting", "active")

    def __init__(self, forward: UdpForward, client: Any) -> None:
        self._forward = forward
        self._client = client
        self._transport: asyncio.DatagramTransport | None = None
        self._revoke: Callable[[], None] | None = None
        self._waiting: list[bytes] = []
        self.active = 0.0  # of the loop's clock
        self._task: asyncio.Task[None] | None = forward.loop.create_task(self._dial())

    async def _dial(self) -> None:
        forward = self._forward
        try:
            await forward.net.create_datagram_endpoint(lambda: self, remote_addr=forward.target)
        except OSError as error:
            forward.refused += 1
            log.info("%s port %d: %s", *forward.target, error.strerror or "the destination did not answer in time")
            forward.forget(self._client)
        else:
            self._task = None
            for data in self._waiting:
                self.send(data)
            self._waiting.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        # A packet filter would know the latest few hundred of all flows, and a client may be silent and only listen.
        self._revoke = let_in(self._forward.net, "udp", transport.get_extra_info("sockname")[1])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._revoke is not None:
            self._revoke()

    def send(self, data: bytes) -> None:
        if self._task is None and self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append(data)
        else:
            self._forward.dropped += 1

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._forward.answer(self._client, data)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()


class UdpForward(asyncio.DatagramProtocol):
    """The local socket's protocol.  `idle_timeout` 0: only who makes room for another goes."""

    def __init__(self, net: DatagramNet, target: tuple[str, int], idle_timeout: float = IDLE_TIMEOUT) -> None:
        self.loop = asyncio.get_running_loop()
        self.net = net
        self.target = target
        self.flows: OrderedDict[Any, Flow] = OrderedDict()  # the one that has been silent longest first
        self.refused = self.dropped = 0
        self._idle_timeout = idle_timeout
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def lead_to(self, target: tuple[str, int], idle_timeout: float) -> None:
        """Another target for whoever comes from now on."""
        self.target = target
        self._idle_timeout = idle_timeout
        if self.flows:
            self._arm()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        flow = self.flows.get(addr)
        if flow is None:
            if len(self.flows) >= FLOWS_MAX:
                self.forget(next(iter(self.flows)))
            flow = self.flows[addr] = Flow(self, addr)
            self._arm()
        self._touch(addr, flow)
        flow.send(data)

    def answer(self, client: Any, data: bytes) -> None:
        flow = self.flows.get(client)
        if flow is None:
            return
        self._touch(client, flow)
        if self._transport.get_write_buffer_size() > UNSENT_MAX:
            self.dropped += 1
        else:
            self._transport.sendto(data, client)

    def forget(self, client: Any) -> None:
        flow = self.flows.pop(client, None)
        if flow is not None:
            flow.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for client in list(self.flows):
            self.forget(client)

    def _touch(self, client: Any, flow: Flow) -> None:
        flow.active = self.loop.time()
        self.flows.move_to_end(client)

    def _arm(self) -> None:
        if self._idle_timeout and self._timer is None:
            self._timer = self.loop.call_later(self._idle_timeout / SWEEPS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        silent_since = self.loop.time() - self._idle_timeout
        while self.flows:
            client, flow = next(iter(self.flows.items()))
            if flow.active > silent_since:
                self._arm()
                return
            self.forget(client)
