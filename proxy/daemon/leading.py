"""Addresses of this machine that lead into the tunnel: [TCPClientTunnel], [UDPProxyTunnel]."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.accesslog import AccessLog
from proxy.binding import addresses_of, bind_udp
from proxy.client import Client, Terms
from proxy.daemon.narrator import format_endpoint
from proxy.daemon.process import descriptor_limit
from proxy.daemon.serving import networks, refusal
from proxy.listener import Listener
from proxy.server import Proxy
from proxy.session import Limits
from proxy.udpforward import IDLE_TIMEOUT, UdpForward
from usernet.config import ClientTunnel


@dataclass(frozen=True, slots=True)
class BoundForward:
    """One of them with an address that it has got."""

    tunnel: ClientTunnel
    address: str
    port: int

    def __str__(self) -> str:
        here, there = format_endpoint((self.address, self.port)), format_endpoint(self.tunnel.target)
        return f"forward: {self.tunnel.kind.upper()} {here} into the tunnel, to {there}"


@dataclass(slots=True)
class _Lead:
    """One that is open: by listeners of the proxy, or by sockets of its own."""

    tunnel: ClientTunnel
    names: list[tuple[str, int]] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    datagrams: list[tuple[asyncio.DatagramTransport, UdpForward]] = field(default_factory=list)


class Leading:
    """All of them that there are at present.  They change in two steps: see `prepare`."""

    def __init__(self, net: Any, access_log: AccessLog | None = None, interface: str = "") -> None:
        """`net`: where they lead to.  `interface`: for what comes by that one alone."""
        self._net = net
        self._interface = interface
        self._access_log = access_log
        self._proxy: Proxy | None = None  # whoever comes by TCP is its client
        self._leads: dict[tuple[object, ...], _Lead] = {}

    @property
    def bound(self) -> list[BoundForward]:
        return [BoundForward(lead.tunnel, *name) for lead in self._leads.values() for name in lead.names]

    async def prepare(self, tunnels: Sequence[ClientTunnel], undo: contextlib.ExitStack) -> Callable[[], None]:
        """Open what is new, for now with `undo`; what is returned makes the rest so, and cannot fail.  ListenError."""
        after: dict[tuple[object, ...], _Lead] = {}
        for tunnel in tunnels:
            key: tuple[object, ...] = (tunnel.kind, tunnel.host, tunnel.port)
            while key in after:  # several on port 0
                key = (*key, 0)
            lead = after[key] = self._leads.get(key) or _Lead(tunnel)
            if key not in self._leads:
                undo.callback(self._close, lead)
                try:
                    await (self._open_udp(lead) if tunnel.kind == "udp" else self._open_tcp(lead))
                except OSError as error:
                    raise refusal(error, tunnel.host or "every address") from None

        def commit() -> None:
            for key, lead in self._leads.items():
                if key not in after:
                    self._close(lead)
            self._leads = after
            for tunnel, lead in zip(tunnels, after.values(), strict=True):
                self._retarget(lead, tunnel)

        return commit

    async def _open_tcp(self, lead: _Lead) -> None:
        if self._proxy is None:
            # As many as half the descriptors: what it takes of those of the proxy comes back as a pause in accepting.
            limits = Limits(connections=descriptor_limit() // 2)
            self._proxy = Proxy(self._net, limits=limits, access_log=self._access_log)
        tunnel = lead.tunnel
        lead.listeners = await self._proxy.forward(
            tunnel.host, tunnel.port, tunnel.target,
            terms=_terms(tunnel), header=tunnel.header, interface=self._interface,
        )  # fmt: skip
        lead.names = [(one.address, one.port) for one in lead.listeners]

    async def _open_udp(self, lead: _Lead) -> None:
        tunnel, names = lead.tunnel, lead.names
        for address in await addresses_of(tunnel.host):
            sock = bind_udp(address, names[0][1] if names else tunnel.port, self._interface)
            opened = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: UdpForward(self._net, tunnel.target, _idle(tunnel)), sock=sock
            )
            lead.datagrams.append(opened)
            names.append(opened[0].get_extra_info("sockname")[:2])

    def _retarget(self, lead: _Lead, tunnel: ClientTunnel) -> None:
        """Whoever comes from now on goes there."""
        lead.tunnel = tunnel
        if self._proxy is not None:
            self._proxy.reforward(lead.listeners, tunnel.target, _terms(tunnel), tunnel.header)
        for _, forward in lead.datagrams:
            forward.lead_to(tunnel.target, _idle(tunnel))

    def _close(self, lead: _Lead) -> None:
        if self._proxy is not None:
            self._proxy.stop(lead.listeners)
        for transport, _ in lead.datagrams:
            transport.close()

    def clients(self) -> list[Client]:
        """Whom it has by TCP."""
        return [] if self._proxy is None else self._proxy.clients()

    def break_connections(self) -> int:
        """Reset those by TCP; how many that were."""
        return 0 if self._proxy is None else self._proxy.break_connections()

    def drain(self) -> None:
        if self._proxy is not None:
            self._proxy.drain()

    def busy(self) -> int:
        return 0 if self._proxy is None else self._proxy.unfinished()

    async def close(self) -> None:
        for lead in self._leads.values():
            for transport, _ in lead.datagrams:
                transport.close()
        if self._proxy is not None:
            await self._proxy.close()


def _terms(tunnel: ClientTunnel) -> Terms:
    return Terms(balancers=networks(tunnel.balancers))


def _idle(tunnel: ClientTunnel) -> float:
    return IDLE_TIMEOUT if tunnel.idle_timeout is None else tunnel.idle_timeout
