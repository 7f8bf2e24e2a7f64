"""A SOCKS client's connection: a dialogue (protocol.py, socks4.py) with a transport, and what its request asks for.

`SocksHandler` is what the versions have in common; below it, how each is spoken to.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

from proxy.client import Client
from proxy.connect import Handler
from proxy.replies import SUCCEEDED, Reply
from proxy.session import Context
from proxy.socks.associate import Association
from proxy.socks.bind import open_rendezvous
from proxy.socks.lookup import resolve, resolve_ptr
from proxy.socks.protocol import (
    BIND,
    CONNECT,
    RESOLVE,
    RESOLVE_PTR,
    UDP_ASSOCIATE,
    Dialogue,
    Login,
    Refuse,
    Request,
    Send,
    encode_reply,
)
from proxy.socks.socks4 import GRANTED, REJECTED, Dialogue4, encode_reply4

NAMES = {
    CONNECT: "CONNECT",
    BIND: "BIND",
    UDP_ASSOCIATE: "UDP ASSOCIATE",
    RESOLVE: "RESOLVE",
    RESOLVE_PTR: "RESOLVE_PTR",
}
WITHOUT_LOGIN = ("no-acceptable-method", "socks4-without-login")


class SocksHandler(Handler):
    __slots__ = ("_binding", "_dialogue")

    version: ClassVar[str]
    only_ipv4: ClassVar[bool]

    def __init__(
        self, context: Context, client: Client, transport: asyncio.Transport, dialogue: Dialogue | Dialogue4
    ) -> None:
        super().__init__(context, client, transport)
        self._binding = False
        self._dialogue: Dialogue | Dialogue4 | None = dialogue
        context.deadlines.start(self, context.limits.handshake_timeout)

    @abc.abstractmethod
    def encode(self, code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
        """A reply; `code` is one of RFC 1928 section 6."""

    def data_received(self, data: bytes) -> None:
        self.idle = 0
        dialogue = self._dialogue
        if dialogue is None:
            self.hold(data)
            return
        dialogue.receive_data(data)
        self._go_on(dialogue)

    def eof_received(self) -> bool:
        if self._binding:  # there is no stream yet of which this could be the one half: the client has left
            self.transport.close()
        return super().eof_received()

    def _go_on(self, dialogue: Dialogue | Dialogue4) -> None:
        while (event := dialogue.next_event()) is not None:
            if isinstance(event, Login):
                self.login(event.username, event.password)
            elif isinstance(event, Send):
                self.transport.write(event.data)
            elif isinstance(event, Refuse):
                self._refuse(event)
            else:
                self._requested(event, dialogue.trailing_data)

    def decided(self, right: bool) -> None:
        dialogue = self._dialogue
        if not isinstance(dialogue, Dialogue):  # it is over, or of SOCKS4, which has no login
            return
        event = dialogue.login(right)
        if isinstance(event, Refuse):
            self._refuse(event)
        else:
            self.transport.write(event.data)
            self._go_on(dialogue)

    def _refuse(self, event: Refuse) -> None:
        self._dialogue = None
        self.context.counters.refuse(event.reason)
        if event.reason in WITHOUT_LOGIN:
            asked = "asks for no login" if self.client.terms.users is None else "asks for a user name and a password"
            self.context.complain(f"%s cannot use {self.version} here, which {asked}", self.client.address)
        self.client.refuse(self.version, event.reason)
        self.farewell(event.data)

    def _requested(self, request: Request, trailing: bytes) -> None:
        self._dialogue = None
        self.finish_handshake()
        command, host, port = request
        self.client.ask(f"{self.version} {NAMES[command]}", host, port)
        if command == UDP_ASSOCIATE:
            self._associate(request)
            return
        if trailing:
            self.hold(trailing)
        if command == CONNECT:
            self.dial(host, port)
        elif command == BIND:
            self._start(self._bind(host, port))
        else:
            self._start(self._look_up(command, host, port))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self.context.loop.create_task(work)

    def _associate(self, request: Request) -> None:
        """DST.ADDR is not looked at: a client behind NAT does not know its address, and the connection tells it."""
        if self.ended or self.transport.is_closing():
            self.transport.close()  # RFC 1928 section 7: the association would have ended with it
            return
        try:
            association = Association(self.context, self.client, self.transport, request.port)
        except OSError as error:
            self.failed(error, request.host, request.port)
            return
        self.context.sessions.discard(self)
        self.transport.write(self.encode(SUCCEEDED, *association.address))

    def accepted(self, tunnel: asyncio.Transport) -> None:
        """A dial says where it left from, BIND who has come (RFC 1928 section 6)."""
        name = tunnel.get_extra_info("peername" if self._binding else "sockname") or ("0.0.0.0", 0)
        self.start_relay(tunnel, self.encode(SUCCEEDED, name[0].partition("%")[0], name[1]))

    def rejected(self, reply: Reply) -> None:
        self.farewell(self.encode(reply.socks))

    async def _bind(self, host: str, port: int) -> None:
        self._binding = True
        try:
            rendezvous = await open_rendezvous(self.context, self.client, host, port, only_ipv4=self.only_ipv4)
            self.transport.write(self.encode(SUCCEEDED, rendezvous.address, rendezvous.port))
            async with asyncio.timeout(self.context.limits.bind_timeout):
                tunnel = await rendezvous.peer()
        except Exception as error:  # noqa: BLE001  (whatever it was, the client gets an answer)
            self.failed(error, host, port)
            return
        self.dialled(host, port, tunnel)

    async def _look_up(self, command: int, host: str, port: int) -> None:
        dialer, client = self.context.dialer, self.client
        try:
            if command == RESOLVE:
                found = await resolve(dialer, client, host, port, only_ipv4=self.only_ipv4)
            else:
                found = await resolve_ptr(dialer, client, host, port)
        except Exception as error:  # noqa: BLE001  (as above)
            self.failed(error, host, port)
            return
        self._task = None
        client.end("ok")
        self.farewell(self.encode(SUCCEEDED, found))


class Socks5Handler(SocksHandler):
    __slots__ = ()

    version = "SOCKS5"
    only_ipv4 = False

    def encode(self, code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
        return encode_reply(code, host, port)


class Socks4Handler(SocksHandler):
    __slots__ = ()

    version = "SOCKS4"
    only_ipv4 = True

    def encode(self, code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
        return encode_reply4(GRANTED if code == SUCCEEDED else REJECTED, host, port)


def open_socks5(context: Context, client: Client, transport: asyncio.Transport, data: bytes) -> None:
    """Take over a fresh connection whose first bytes these are."""
    context.counters.socks5 += 1
    dialogue = Dialogue(login_required=client.terms.users is not None)
    Socks5Handler(context, client, transport, dialogue).data_received(data)


def open_socks4(context: Context, client: Client, transport: asyncio.Transport, data: bytes) -> None:
    """As open_socks5."""
    context.counters.socks4 += 1
    dialogue = Dialogue4(login_required=client.terms.users is not None)
    Socks4Handler(context, client, transport, dialogue).data_received(data)
