"""Connections from inside the tunnel, passed on to a backend that is dialled first.

The way of one: `on_asked` starts a dial, `_dial_for` lets the client in or resets it, `on_accepted` joins the two
(relay.py).  A client that is gone before, `on_abandoned`, takes its dial or its backend with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from usernet.aio.addresses import SocketName, socket_name
from usernet.aio.reach import EVERY_ADDRESS
from usernet.aio.relay import EarlySide, end_writing
from usernet.aio.runtime import Tasks, boottime, log
from usernet.aio.transports import StreamTransport
from usernet.aio.userspace import UserspaceLink
from usernet.stack.listener import Forwarder
from usernet.stack.takers import Network
from usernet.tcp.connection import Connection
from usernet.tcp.settings import Flow


@dataclass(frozen=True, slots=True)
class Inbound:
    """A client inside the tunnel, and what it has asked for; both as a socket would name them."""

    client: SocketName
    destination: SocketName


# Connects a protocol of the factory to the backend and returns as `loop.create_connection` does.  OSError is a refusal.
Dial = Callable[[Callable[[], Any], Inbound], Awaitable[tuple[Any, Any]]]


@dataclass(frozen=True, slots=True)
class ForwarderStatistics:
    dialling: int  # now
    open: int  # now: relayed, and neither side has ended
    accepted: int
    refused: int  # the backend was not to be had
    abandoned: int  # the client was gone first


class StreamForwarder:
    """Forwards until it is closed; what it has joined lives on.  `async with` closes it."""

    def __init__(
        self, link: UserspaceLink, tasks: Tasks, forwarder: Forwarder, dial: Dial, dial_timeout: float
    ) -> None:
        self._link = link
        self._tasks = tasks
        self._forwarder: Forwarder | None = forwarder
        self._dial = dial
        self._dial_timeout = dial_timeout
        self._dialling: dict[Flow, asyncio.Task[Any] | None] = {}
        self._admitted: dict[Flow, EarlySide] = {}  # backends, while the handshake with their client goes on
        self._accepted = self._refused = self._abandoned = 0
        self.clients: set[EarlySide] = set()
        self.port = forwarder.port
        link.answer_from(forwarder, self)

    def __repr__(self) -> str:
        where = f"port {self.port}" if self.port else "every port"
        return f"<StreamForwarder {where}{'' if self._forwarder else ' closed'}>"

    # userspace.Answerer

    def on_asked(self, flow: Flow) -> None:
        client = socket_name(flow.remote, flow.remote_port)
        inbound = Inbound(client, socket_name(flow.local, flow.local_port))
        task = self._tasks.start(self._dial_for(flow, inbound), f"dial for {client[0]}:{client[1]}")
        if not task.done():
            self._dialling[flow] = task  # it may be let go before its first step

    async def _dial_for(self, flow: Flow, inbound: Inbound) -> None:
        self._dialling[flow] = asyncio.current_task()  # an eager one may end before on_asked has it
        backend = EarlySide(self.clients)
        try:
            async with asyncio.timeout(self._dial_timeout):
                await self._dial(lambda: backend, inbound)
        except OSError as error:  # TimeoutError is one
            log.debug("%s: no backend for %s: %s", self, inbound, error or "it did not answer")
            backend.give_up()
            self._settle(flow, None)
        except BaseException:  # cancelled, perhaps when it was just connected; or a Dial that is wrong
            backend.give_up()
            self._settle(flow, None)
            raise
        else:
            self._settle(flow, backend)

    def _settle(self, flow: Flow, backend: EarlySide | None) -> None:
        """A dial is over: tell the client, if it is still there."""
        if self._dialling.get(flow) is not asyncio.current_task() or self._forwarder is None:
            if backend is not None:
                backend.give_up()
            return  # it has gone, and may even have come again
        del self._dialling[flow]
        forwards = self._link.host.forwards
        if backend is None or backend.is_lost:
            self._refused += 1
            forwards.refuse(self._forwarder, flow)
        elif forwards.admit(self._forwarder, flow, boottime()):
            # Not in connection_made: uvloop begins to read behind it, whatever it has said.
            backend.transport.pause_reading()
            self._admitted[flow] = backend
        else:
            backend.give_up()
        self._link.wake()

    def on_abandoned(self, flow: Flow) -> None:
        self._abandoned += 1
        self._let_go(flow)

    def _let_go(self, flow: Flow) -> None:
        task = self._dialling.pop(flow, None)
        if task is not None:
            task.cancel()
        backend = self._admitted.pop(flow, None)
        if backend is not None:
            backend.give_up()

    def on_accepted(self, connection: Connection) -> None:
        self._accepted += 1
        backend = self._admitted.pop(connection.flow)
        client = EarlySide(self.clients)
        if backend.is_lost:
            self._link.abort(connection)
            return
        client.other, backend.other = backend, client
        self.clients.add(client)
        StreamTransport(self._link, connection, client).start()
        if not backend.ended:
            backend.transport.resume_reading()  # before the write, which may well pause it
        client.transport.write(backend.early)
        backend.early = b""
        if backend.ended:
            end_writing(client.transport)

    # The owner's side

    def statistics(self) -> ForwarderStatistics:
        return ForwarderStatistics(
            len(self._dialling), len(self.clients), self._accepted, self._refused, self._abandoned
        )

    def break_connections(self) -> int:
        """Reset what it has joined, both sides; how many that were."""
        clients = list(self.clients)
        for client in clients:
            client.abort()
        return len(clients)

    def close(self) -> None:
        """Take no more, and reset whoever waits.  Idempotent."""
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is None:
            return
        self._link.stop_accepting(forwarder)
        for flow in [*self._dialling, *self._admitted]:
            self._let_go(flow)

    async def __aenter__(self) -> StreamForwarder:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()


def networks_of(host: str | None) -> list[Network] | None:
    """ "192.168.7.0/24" or one address; None, all of our own, for what a listening socket would call any address."""
    if not host or host in EVERY_ADDRESS:
        return None
    network = ipaddress.ip_network(host, strict=False)
    return [(network.network_address.packed, network.prefixlen)]
