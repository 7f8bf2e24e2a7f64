"""One port, several protocols: the first byte decides.

One byte and no more: to wait for a second would wait for ever on a client that sends one and expects an answer.
`Sniffer` is the protocol of a fresh connection; it hands the transport and what has arrived to the opener for that
byte.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable, Mapping
from typing import cast

from proxy.client import Client
from proxy.session import Context, log, say_farewell

SOCKS4, SOCKS5, HTTP, TLS = "socks4", "socks5", "http", "tls"
HANDSHAKE = 0x16  # RFC 8446 section 5.1: the record type that a hello is in
METHOD_BYTES = frozenset((string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode())  # RFC 9110 section 5.6.2

# What to do about a client that speaks what its listener does not.
REMEDIES = {
    SOCKS5: ("SOCKS5", "--socks5-server"),
    SOCKS4: ("SOCKS4", "--socks5-server"),
    HTTP: ("HTTP", "--outbound-http-proxy-listen"),
    TLS: ("TLS", "--http-proxy-tls-cert"),
}

Opener = Callable[[Context, Client, asyncio.Transport, bytes], None]


def sniff(first: int) -> str | None:
    """Which protocol begins with this byte: SOCKS5, SOCKS4, HTTP, TLS or None."""
    if first == 5:
        return SOCKS5
    if first == 4:
        return SOCKS4
    if first == HANDSHAKE:
        return TLS
    return HTTP if first in METHOD_BYTES else None


class Sniffer(asyncio.Protocol):
    """Waits for the first byte."""

    __slots__ = ("_context", "_openers", "_transport", "client", "idle")

    def __init__(self, context: Context, openers: Mapping[str, Opener], client: Client) -> None:
        self._context = context
        self.client = client
        self._openers = openers
        self.idle = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        context = self._context
        context.sessions.add(self)
        if context.closing:
            self._transport.abort()
            return
        context.begin_handshake(self)
        limits = context.limits
        context.deadlines.start(self, limits.linger_timeout if context.draining else limits.sniff_timeout)

    def data_received(self, data: bytes) -> None:
        protocol = sniff(data[0])
        opener = self._openers.get(protocol or "")
        self._leave()
        if opener is None:
            self._refuse(protocol, data[0])
            return
        opener(self._context, self.client, self._transport, data)

    def _refuse(self, protocol: str | None, first: int) -> None:
        context, transport = self._context, self._transport
        context.counters.refuse("unknown-protocol")
        context.sessions.add(self)
        if protocol is None:
            log.debug("closed a client whose first byte is 0x%02x", first)
            transport.close()
            return
        spoken, flag = REMEDIES[protocol]
        served = "SOCKS" if SOCKS5 in self._openers else "HTTP"
        local = transport.get_extra_info("sockname") or ("", 0)
        context.complain(
            f"%s speaks {spoken}, which port %s does not: it speaks {served}; {flag} is for that",
            self.client.address, local[1],
        )  # fmt: skip
        self.client.refuse(spoken, "unknown-protocol")
        if protocol == HTTP:
            from proxy.http.answer import fault

            say_farewell(context, self, self.client, transport, fault(400, f"this port speaks {served}, and no HTTP"))
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._context.left(self, self.client)

    def expired(self) -> None:
        self._context.counters.refuse("sniff-timeout")
        self._transport.close()

    def drain(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _leave(self) -> None:
        context = self._context
        context.deadlines.stop(self)
        context.handshakes.pop(self, None)
        context.sessions.discard(self)
