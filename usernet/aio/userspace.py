"""The userspace stack as a PacketLink, and who owns each of its connections.

A connection or UDP socket has one owner here: a transport, or a dial that waits for its answer.  After every burst,
timeout and pull the stack's `ready` list is walked and each owner told, in that same turn.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import Final, Protocol, assert_never

from usernet.aio.runtime import boottime
from usernet.burst.packets import PacketBurst, SuperPacket
from usernet.errors import NetworkClosed
from usernet.stack.events import Abandoned, Accepted, Asked, EchoFailed, EchoReply, FlowBegun, FlowEnded, Stalled
from usernet.stack.host import Host
from usernet.stack.listener import Forwarder, Listener
from usernet.stack.udp import UdpSocket
from usernet.stack.udpflow import UdpFlow, UdpForwarder
from usernet.tcp.connection import Connection
from usernet.tcp.settings import Flow
from usernet.tcp.state import State

Endpoint = Connection | UdpSocket

_FLUSHING: Final = (State.FIN_WAIT_1.value, State.CLOSING.value, State.LAST_ACK.value)


class Owner(Protocol):
    """Who is told that a connection or socket has become ready."""

    def on_ready(self, readiness: int) -> None: ...

    def is_closing(self) -> bool: ...

    def end(self, error: OSError) -> None:
        """The network is closed, or what it owns has ended by itself."""


class Acceptor(Protocol):
    """Who is told of a listener's new connections."""

    def on_accepted(self, connection: Connection) -> None: ...

    def close(self) -> None: ...


class Answerer(Acceptor, Protocol):
    """Who dials for a forwarder's clients, and so hears of them before they are accepted."""

    def on_asked(self, flow: Flow) -> None: ...

    def on_abandoned(self, flow: Flow) -> None: ...


class Beginner(Protocol):
    """Who becomes the owner of each new flow of a UDP forwarder."""

    def on_begun(self, flow: UdpFlow) -> None: ...

    def close(self) -> None: ...


class UserspaceLink:
    """`host` behind the PacketLink interface; `on_stalled` hears of destinations that have stopped answering."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: Host, on_stalled: Callable[[bytes], None]) -> None:
        self.loop = loop
        self.host = host
        self._on_stalled = on_stalled
        self._owners: dict[Endpoint, Owner] = {}
        self._acceptors: dict[Listener, Acceptor] = {}
        self._answerers: dict[Forwarder, Answerer] = {}
        self._beginners: dict[UdpForwarder, Beginner] = {}
        self._echoes: dict[tuple[bytes, int, int], asyncio.Future[None]] = {}
        self._changed: dict[Connection, None] = {}
        self._wake: Callable[[], None] = _nobody
        self._is_over = False

    # links.PacketLink

    def deliver(self, burst: PacketBurst, now: float) -> None:
        if self._changed:
            self._tell(now)
        self.host.receive_packets(burst, now)
        self._dispatch()

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        host = self.host
        if self._changed:
            self._tell(now)
        packets = host.take(budget_bytes, now)
        if host.ready:
            self._dispatch()
        return packets

    def next_timeout(self) -> float | None:
        if self._changed:
            self._tell(boottime())
        return self.host.next_timeout()

    def handle_timeout(self, now: float) -> None:
        if self._changed:
            self._tell(now)
        self.host.handle_timeout(now)
        self._dispatch()

    def path_changed(self, now: float) -> None:
        self.host.path_changed(now)

    def readdress(self, addresses: Sequence[bytes], mtu: int) -> None:
        self.host.readdress(addresses, mtu, boottime())
        self._dispatch()

    def on_wake(self, callback: Callable[[], None]) -> None:
        self._wake = callback

    def close(self) -> None:
        """Nobody is woken any more."""
        self._wake = _nobody

    # For transports and dials

    def own(self, endpoint: Endpoint, owner: Owner) -> None:
        """Raises NetworkClosed, as all do that something new begins with."""
        self._check()
        self._owners[endpoint] = owner

    def _check(self) -> None:
        if self._is_over:
            raise NetworkClosed

    def disown(self, endpoint: Endpoint) -> None:
        self._owners.pop(endpoint, None)

    def end(self, *, flushing: bool) -> None:
        """Accept no more and end what is open; `flushing`: but what was closed may still send what it has left."""
        self._is_over = True
        for acceptor in list(self._acceptors.values()):
            acceptor.close()
        for beginner in list(self._beginners.values()):
            beginner.close()
        for owner in list(self._owners.values()):
            if not (flushing and owner.is_closing()):
                owner.end(NetworkClosed())
        for future in list(self._echoes.values()):
            if not future.done():
                future.set_exception(NetworkClosed())

    def is_flushing(self) -> bool:
        """Whether connections that the application has closed still have data, or their FIN, unacknowledged."""
        states = self.host.statistics().connections
        return bool(self._owners) or any(states.get(state) for state in _FLUSHING)

    def changed(self, connection: Connection) -> None:
        """The application wrote to, read from or closed it: the stack is told before it is asked for anything again."""
        self._changed[connection] = None
        self._wake()

    def _tell(self, now: float) -> None:
        """Once for each connection, however often it was written to or read from in this turn."""
        changed, self._changed = self._changed, {}
        for connection in changed:
            self.host.changed(connection, now)

    def abort(self, connection: Connection) -> None:
        """End a connection that nobody owns any more."""
        self.disown(connection)
        connection.abort(boottime())
        self.changed(connection)

    def wake(self) -> None:
        self._wake()

    def accept_from(self, listener: Listener, acceptor: Acceptor) -> None:
        self._check()
        self._acceptors[listener] = acceptor

    def answer_from(self, forwarder: Forwarder, answerer: Answerer) -> None:
        self.accept_from(forwarder, answerer)
        self._answerers[forwarder] = answerer

    def stop_accepting(self, listener: Listener) -> None:
        if isinstance(listener, Forwarder):
            self._answerers.pop(listener, None)
        if self._acceptors.pop(listener, None) is not None:
            listener.close()
            self._wake()

    def begin_from(self, forwarder: UdpForwarder, beginner: Beginner) -> None:
        self._check()
        self._beginners[forwarder] = beginner

    def stop_beginning(self, forwarder: UdpForwarder) -> None:
        if self._beginners.pop(forwarder, None) is not None:
            forwarder.close()

    def expect_echo(self, remote: bytes, ident: int, sequence: int) -> asyncio.Future[None]:
        """Done when that reply arrives; cancel it to stop waiting."""
        self._check()
        key = (remote, ident, sequence)
        future: asyncio.Future[None] = self.loop.create_future()
        self._echoes[key] = future
        future.add_done_callback(lambda _: self._echoes.pop(key, None))
        return future

    def _dispatch(self) -> None:
        host, owners = self.host, self._owners
        while host.ready:
            ready = host.ready[:]
            host.ready.clear()
            for endpoint in ready:
                readiness, endpoint.readiness = endpoint.readiness, 0
                owner = owners.get(endpoint)
                if readiness and owner is not None:
                    try:
                        owner.on_ready(readiness)
                    except Exception as error:  # noqa: BLE001 - one connection's failure is not the others'
                        self._report(error, owner)
        for event in host.events():
            if isinstance(event, Accepted):
                self._on_accepted(event)
            elif isinstance(event, EchoReply | EchoFailed):
                self._on_echo(event)
            elif isinstance(event, Asked | Abandoned):
                self._on_client(event)
            elif isinstance(event, FlowBegun):
                self._on_flow(event.flow)
            elif isinstance(event, FlowEnded):
                if (owner := owners.get(event.flow)) is not None:
                    owner.end(TimeoutError(errno.ETIMEDOUT, "the flow was idle"))
            elif isinstance(event, Stalled):
                self._on_stalled(event.remote)
            else:
                assert_never(event)

    def _report(self, error: Exception, whose: object) -> None:
        self.loop.call_exception_handler({"message": f"callback of {whose!r} failed", "exception": error})

    def _on_accepted(self, event: Accepted) -> None:
        acceptor = self._acceptors.get(event.listener)
        if acceptor is None:  # closed in this very turn
            self.abort(event.connection)
            return
        try:
            acceptor.on_accepted(event.connection)
        except Exception as error:  # noqa: BLE001 - as above
            self._report(error, acceptor)

    def _on_client(self, event: Asked | Abandoned) -> None:
        answerer = self._answerers.get(event.forwarder)
        if answerer is None:  # as above
            return
        try:
            if isinstance(event, Asked):
                answerer.on_asked(event.flow)
            else:
                answerer.on_abandoned(event.flow)
        except Exception as error:  # noqa: BLE001 - as above
            self._report(error, answerer)

    def _on_flow(self, flow: UdpFlow) -> None:
        beginner = self._beginners.get(flow.forwarder)
        if beginner is None or flow.is_closed:  # as above
            return
        try:
            beginner.on_begun(flow)
        except Exception as error:  # noqa: BLE001 - as above
            self._report(error, beginner)

    def _on_echo(self, event: EchoReply | EchoFailed) -> None:
        future = self._echoes.get((event.remote, event.ident, event.sequence))
        if future is None or future.done():
            return
        if isinstance(event, EchoFailed):
            future.set_exception(event.error)
        else:
            future.set_result(None)


def _nobody() -> None:
    """No pump is attached."""
