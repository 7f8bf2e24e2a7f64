"""Inbound connections that somebody behind us is to answer: the backend is dialled before the client's handshake ends.

So a client learns at `connect` what it would have learned from the backend itself.  The way of a connection:

1. A SYN that a Forwarder takes becomes an `Asking` and an `Asked` event; nothing is sent yet.
2. The client repeats its SYN (RFC 6298 5.5: ever later), which only shows that it is still there.
3. The owner has dialled: `admit` makes the half-open connection, whose SYN-ACK leaves; or `refuse` sends a reset.
4. The handshake completes: `Accepted`.  Or it does not, or the client has hung up or fallen silent before: `Abandoned`.

From 1 to 4 it counts as pending.  Pending connections are bounded, in all and for each client address; a SYN beyond
that is dropped, and a client that means it sends another.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from usernet.burst.packets import Drops
from usernet.stack.events import Abandoned, Asked, HostEvent
from usernet.stack.flows import flow_key
from usernet.stack.listener import Forwarder, Listener
from usernet.stack.ports import check_port
from usernet.stack.takers import Network, Takers, whole
from usernet.stack.timers import Timer, TimerWheel
from usernet.tcp.seq import MASK
from usernet.tcp.settings import Flow
from usernet.wire.tcp import TcpSegment

if TYPE_CHECKING:
    from usernet.stack.connections import Connections

PENDING_MAX: Final = 8192
SYN_ACK_RETRIES: Final = 3  # a backend waits too: 15 s for a client that asked seconds ago are enough

# A client that repeats its SYN after 1, 2, 4, ... s is thought to be gone after three times as long as it has been
# there and this: one of its SYNs may be lost, two in a row are one too many.
SILENCE_SECONDS: Final = 5.0
_PATIENCE: Final = 3.0


class Asking(Timer):
    """A client that has asked, until its handshake is over.  The timer runs until the backend has answered."""

    __slots__ = ("began", "flow", "forwarder", "is_admitted", "key", "syn")

    def __init__(self, forwarder: Forwarder, flow: Flow, key: bytes, syn: TcpSegment, now: float) -> None:
        super().__init__()
        self.forwarder = forwarder
        self.flow = flow
        self.key = key
        self.syn = syn
        self.began = now
        self.is_admitted = False


class Forwards:
    """The forwarders of a host and all that is pending for them."""

    __slots__ = ("_by_client", "_connections", "_drops", "_emit", "_pending", "_wheel", "pending_max", "takers")

    def __init__(
        self, connections: Connections, wheel: TimerWheel, drops: Drops, emit: Callable[[HostEvent], None]
    ) -> None:
        self._connections = connections
        self._wheel = wheel
        self._drops = drops
        self._emit = emit
        self._pending: dict[bytes, Asking] = {}
        self._by_client: Counter[bytes] = Counter()
        self.pending_max = PENDING_MAX
        self.takers: Takers[Listener] = Takers()

    def __len__(self) -> int:
        return len(self._pending)

    # From the client

    def ask(self, forwarder: Forwarder, flow: Flow, key: bytes, syn: TcpSegment, now: float) -> None:
        """A SYN, the first of its flow or a repetition."""
        syn = syn._replace(payload=b"")  # the client sends it again, and it is a view of the burst it came in
        asking = self._pending.get(key)
        if asking is None:
            if not self._has_room(flow.remote):
                return
            asking = self._pending[key] = Asking(forwarder, flow, key, syn, now)
            self._by_client[flow.remote] += 1
            self._emit(Asked(forwarder, flow))
        asking.syn = syn  # a client that has begun anew from the same port asks for the same
        self._wheel.schedule(asking, now + SILENCE_SECONDS + _PATIENCE * (now - asking.began))

    def _has_room(self, client: bytes) -> bool:
        if len(self._pending) >= self.pending_max:
            self._drops.count("forward-full")
            return False
        if self._by_client[client] >= self.pending_max * 2 // 3:  # one client leaves room for the others
            self._drops.count("forward-client-full")
            return False
        return True

    def hang_up(self, key: bytes, reset: TcpSegment) -> bool:
        """A reset of a flow that has no connection yet: whether it ended what was asked for.

        It must fit exactly, as in RFC 9293 3.10.7.4 for SYN-RECEIVED: the number behind the SYN, or the SYN's own.
        """
        asking = self._pending.get(key)
        if asking is None or (reset.seq - asking.syn.seq) & MASK > 1:
            return False
        self._abandon(asking)
        return True

    def expire(self, asking: Asking) -> None:
        """Its client has fallen silent."""
        self._drops.count("forward-client-silent")
        self._abandon(asking)

    # From the owner

    def open(self, networks: Iterable[Network] | None, port: int) -> Forwarder:
        """Connections for somebody behind us: `Asked` events, each to be answered by `admit` or `refuse`.

        `networks` may be of others than ourselves; None is all of our own addresses.  Port 0 is every port that nobody
        listens to.  Raises OSError (EADDRINUSE).
        """
        check_port(port)
        connections = self._connections
        taken = whole(connections.addresses) if networks is None else list(networks)
        for address, _ in taken:
            if port and connections.is_listening(address, port):
                raise OSError(errno.EADDRINUSE, f"TCP port {port} is in use")
        forwarder = Forwarder(port, None, 1, self._close)
        self.takers.add(taken, port, forwarder, everywhere=networks is None)
        return forwarder

    def admit(self, forwarder: Forwarder, flow: Flow, now: float) -> bool:
        """The backend is there: complete the client's handshake (`Accepted`), or False where it is gone."""
        asking = self._waiting(forwarder, flow)
        if asking is None:
            return False
        connections = self._connections
        if asking.key in connections.by_flow:  # we have dialled out by the very same ports meanwhile
            self._forget(asking)
            return False
        asking.is_admitted = True
        self._wheel.cancel(asking)  # the connection's own timers take over
        settings = replace(connections.settings, syn_retries=SYN_ACK_RETRIES)
        connections.accept(forwarder, flow, asking.key, asking.syn, settings, now)
        return True

    def refuse(self, forwarder: Forwarder, flow: Flow) -> None:
        """There is no backend: a reset, as from a host where nobody listens."""
        asking = self._waiting(forwarder, flow)
        if asking is not None:
            self._forget(asking)
            self._connections.refuse(flow.remote, flow.local, asking.syn)

    def is_taken(self, address: bytes | None, port: int) -> bool:
        return address is not None and self.takers.is_taken(address, port)

    def _waiting(self, forwarder: Forwarder, flow: Flow) -> Asking | None:
        """Whoever still waits for the backend."""
        asking = self._pending.get(flow_key(flow.remote, flow.local, flow.remote_port, flow.local_port))
        return None if asking is None or asking.is_admitted or asking.forwarder is not forwarder else asking

    def _close(self, forwarder: Listener) -> None:
        """Reset whoever waits; accepted connections live on."""
        self.takers.remove(forwarder)
        connections = self._connections
        for asking in [asking for asking in self._pending.values() if asking.forwarder is forwarder]:
            self._forget(asking)
            if asking.is_admitted:
                connections.remove(connections.by_flow[asking.key])
            connections.refuse(asking.flow.remote, asking.flow.local, asking.syn)

    # The end

    def handshake_over(self, key: bytes, *, failed: bool) -> None:
        """A half-open connection has left the backlog."""
        asking = self._pending[key]
        if failed:
            self._abandon(asking)
        else:
            self._forget(asking)

    def _abandon(self, asking: Asking) -> None:
        self._forget(asking)
        self._emit(Abandoned(asking.forwarder, asking.flow))

    def _forget(self, asking: Asking) -> None:
        """It is pending no longer."""
        self._wheel.cancel(asking)
        del self._pending[asking.key]
        client = asking.flow.remote
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
