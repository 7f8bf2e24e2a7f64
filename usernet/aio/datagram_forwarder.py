"""UDP flows from inside the tunnel, each passed on through a backend socket of its own.

`on_begun` starts a dial; what the client sends meanwhile waits in its flow, a little of it.  Both are closed together:
when nothing has moved for the flow's idle time (stack/udpflows.py), when the client's host says that nobody is there
any more, when the backend cannot be had.  A backend that refuses a datagram is a port unreachable for the client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from usernet.aio.addresses import socket_name
from usernet.aio.forwarder import Dial, Inbound
from usernet.aio.runtime import Tasks, boottime, log
from usernet.aio.userspace import UserspaceLink
from usernet.stack.udpflow import UdpFlow, UdpForwarder

_UNSENT_MAX: Final = 256 << 10  # B; what a backend's socket does not take is kept up to here, and then dropped


@dataclass(frozen=True, slots=True)
class DatagramForwarderStatistics:
    open: int  # flows now
    begun: int
    refused: int  # flows whose backend could not be had
    dropped: int  # datagrams that a backend's socket did not take


class _Relay(asyncio.DatagramProtocol):
    """One flow and its backend; the owner of both."""

    __slots__ = ("_flow", "_forwarder", "_is_closed", "_link", "_task", "_transport")

    def __init__(self, link: UserspaceLink, flow: UdpFlow, forwarder: DatagramForwarder) -> None:
        self._link = link
        self._flow = flow
        self._forwarder = forwarder
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        link.own(flow, self)

    async def dial(self, dial: Dial, inbound: Inbound, seconds: float) -> None:
        self._task = asyncio.current_task()
        try:
            async with asyncio.timeout(seconds):
                await dial(lambda: self, inbound)
        except OSError as error:  # TimeoutError is one
            log.debug("no backend for %s: %s", inbound, error or "it did not answer")
            self._task = None
            self._forwarder.refused += 1
            self._refuse()
            self._close()
        except BaseException:
            self._task = None
            self._close()
            raise
        else:
            self._task = None
            self._flow.begin()
            self._pass_on()

    # From the backend

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._is_closed:  # uvloop goes on to make what nobody waits for
            transport.close()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._is_closed:
            self._flow.send(bytes(data), None, boottime())  # where the tunnel's queue is full it is dropped and counted
            self._link.wake()

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionRefusedError):
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()

    def _refuse(self) -> None:
        self._link.host.flows.unreachable(self._flow, boottime())
        self._link.wake()

    # userspace.Owner

    def on_ready(self, readiness: int) -> None:
        if isinstance(self._flow.error, ConnectionRefusedError):  # the client has closed its socket
            self._close()
        elif self._task is None:
            self._pass_on()

    def _pass_on(self) -> None:
        while not self._is_closed and (received := self._flow.receive()) is not None:
            if self._transport.get_write_buffer_size() > _UNSENT_MAX:
                self._forwarder.dropped += 1
            else:
                self._transport.sendto(received[0])

    def is_closing(self) -> bool:
        return self._is_closed

    def end(self, error: OSError) -> None:
        self._close()

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._forwarder.relays.discard(self)
        self._link.disown(self._flow)
        self._flow.close()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()


class DatagramForwarder:
    """Forwards until it is closed, and its flows with it.  `async with` closes it."""

    def __init__(
        self, link: UserspaceLink, tasks: Tasks, forwarder: UdpForwarder, dial: Dial, dial_timeout: float
    ) -> None:
        self._link = link
        self._tasks = tasks
        self._forwarder: UdpForwarder | None = forwarder
        self._dial = dial
        self._dial_timeout = dial_timeout
        self._begun = 0
        self.refused = self.dropped = 0
        self.relays: set[_Relay] = set()
        self.port = forwarder.port
        link.begin_from(forwarder, self)

    def __repr__(self) -> str:
        where = f"port {self.port}" if self.port else "every port"
        return f"<DatagramForwarder {where}{'' if self._forwarder else ' closed'}>"

    def on_begun(self, flow: UdpFlow) -> None:
        (address, port), client = flow.local, flow.remote
        if address is None or client is None:
            raise TypeError("a flow has both its ends")
        inbound = Inbound(socket_name(*client), socket_name(address, port))
        self._begun += 1
        relay = _Relay(self._link, flow, self)
        self.relays.add(relay)
        self._tasks.start(
            relay.dial(self._dial, inbound, self._dial_timeout), f"dial for {inbound.client[0]}:{client[1]}"
        )

    def statistics(self) -> DatagramForwarderStatistics:
        return DatagramForwarderStatistics(len(self.relays), self._begun, self.refused, self.dropped)

    def close(self) -> None:
        """Take no more, and end its flows.  Idempotent."""
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is None:
            return
        self._link.stop_beginning(forwarder)
        for relay in list(self.relays):
            relay.end(ConnectionAbortedError())

    async def __aenter__(self) -> DatagramForwarder:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()
