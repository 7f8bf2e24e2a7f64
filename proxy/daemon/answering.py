"""Ports inside the tunnel that this machine, or one behind it, answers: [TCPServerTunnel], [UDPServerTunnel]."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Sequence
from typing import Any

import usernet
from proxy.daemon.narrator import format_endpoint
from proxy.daemon.process import descriptor_limit
from proxy.proxyprotocol import encode
from usernet.config import ClientTunnel, Config, ServerTunnel
from usernet.wire.ip import format_address


class Answer:
    """One port.  `tunnel` says who answers, for whoever comes next."""

    __slots__ = ("_has_room", "forwarder", "tunnel")

    def __init__(self, tunnel: ServerTunnel, has_room: Callable[[], bool]) -> None:
        self.tunnel = tunnel
        self._has_room = has_room
        self.forwarder: usernet.StreamForwarder | usernet.DatagramForwarder | None = None

    async def open(self, net: usernet.Network) -> None:
        create = net.create_forwarder if self.tunnel.kind == "tcp" else net.create_datagram_forwarder
        self.forwarder = await create(self._dial, None, self.tunnel.listen_port)

    async def _dial(self, factory: Callable[[], Any], inbound: usernet.Inbound) -> tuple[Any, Any]:
        if not self._has_room():
            raise OSError(errno.EMFILE, "too many connections are forwarded")
        tunnel, loop = self.tunnel, asyncio.get_running_loop()
        if tunnel.kind == "udp":
            return await loop.create_datagram_endpoint(factory, remote_addr=tunnel.target)
        transport, protocol = await loop.create_connection(factory, *tunnel.target)
        if tunnel.header is not None:
            transport.write(encode(tunnel.header, inbound.client[:2], inbound.destination[:2]))
        return transport, protocol

    @property
    def open_now(self) -> int:
        return self.forwarder.statistics().open if self.forwarder is not None else 0

    @property
    def taken(self) -> int:
        """Descriptors."""
        dialling = getattr(self.forwarder.statistics(), "dialling", 0) if self.forwarder is not None else 0
        return self.open_now + dialling

    def break_connections(self) -> int:
        """Reset its streams; how many that were."""
        return self.forwarder.break_connections() if isinstance(self.forwarder, usernet.StreamForwarder) else 0

    def close(self) -> None:
        """Streams live on; UDP flows end."""
        if self.forwarder is not None:
            self.forwarder.close()


class Answering:
    """All of them that there are at present.  They change in two steps: see `prepare`."""

    def __init__(self, net: usernet.Network, most: int | None = None) -> None:
        """`most`: backends at once, of all of them: each takes a descriptor.  None: half of what there is."""
        self._net = net
        self._most = descriptor_limit() // 2 if most is None else most  # the rest is the proxy's
        self._answers: dict[tuple[str, int], Answer] = {}
        self._retired: list[Answer] = []  # closed, but whoever they serve may finish

    async def prepare(self, tunnels: Sequence[ServerTunnel], undo: contextlib.ExitStack) -> Callable[[], None]:
        """Open what is new, for now with `undo`; what is returned makes the rest so, and cannot fail.  OSError."""
        after: dict[tuple[str, int], Answer] = {}
        for tunnel in tunnels:
            key = (tunnel.kind, tunnel.listen_port)
            answer = after[key] = self._answers.get(key) or Answer(tunnel, self._has_room)
            if key not in self._answers:
                await answer.open(self._net)
                undo.callback(answer.close)

        def commit() -> None:
            for key, answer in self._answers.items():
                if key not in after:
                    answer.close()
                    self._retired.append(answer)
            self._answers = after
            for tunnel in tunnels:
                after[tunnel.kind, tunnel.listen_port].tunnel = tunnel

        return commit

    def _every(self) -> list[Answer]:
        self._retired = [answer for answer in self._retired if answer.open_now]
        return [*self._answers.values(), *self._retired]

    def _has_room(self) -> bool:
        """Whether one more backend, which is counted already, is not too many."""
        return sum(answer.taken for answer in self._every()) <= self._most

    def break_connections(self) -> int:
        """Reset every stream; how many that were."""
        return sum(answer.break_connections() for answer in self._every())

    def drain(self) -> None:
        """Nobody new; streams may finish."""
        for answer in self._answers.values():
            if answer.tunnel.kind == "tcp":
                answer.close()

    def busy(self) -> int:
        return sum(answer.open_now for answer in self._every() if answer.tunnel.kind == "tcp")

    async def close(self) -> None:
        for answer in self._answers.values():
            answer.close()


def by_sockets(config: Config) -> list[ClientTunnel]:
    """The same where the kernel has the tunnel: sockets on our addresses there, which lead to this machine's network.

    The kernel lets a client in before anybody is dialled for it.
    """
    return [
        ClientTunnel(tunnel.kind, format_address(address), tunnel.listen_port, tunnel.target, header=tunnel.header)
        for tunnel in config.server_tunnels
        for address, _ in config.interface.addresses
    ]


def shown(tunnel: ServerTunnel) -> str:
    """What a person is told of it."""
    return f"forward: the tunnel's {tunnel.kind.upper()} port {tunnel.listen_port} to {format_endpoint(tunnel.target)}"
