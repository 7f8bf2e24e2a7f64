"""A SOCKS5 client's connection: the dialogue of protocol.py with a transport, and the dial."""

from __future__ import annotations

import asyncio

from proxy.client import Client
from proxy.connect import Handler
from proxy.replies import SUCCEEDED, Reply
from proxy.session import Context
from proxy.socks.associate import Association
from proxy.socks.protocol import UDP_ASSOCIATE, Dialogue, Login, Refuse, Request, Send, encode_reply


class SocksHandler(Handler):
    __slots__ = ("_dialogue",)

    def __init__(self, context: Context, client: Client, transport: asyncio.Transport) -> None:
        super().__init__(context, client, transport)
        self._dialogue: Dialogue | None = Dialogue(login_required=client.terms.users is not None)
        context.counters.socks5 += 1
        context.deadlines.start(self, context.limits.handshake_timeout)

    def data_received(self, data: bytes) -> None:
        self.idle = 0
        dialogue = self._dialogue
        if dialogue is None:
            self.hold(data)
            return
        dialogue.receive_data(data)
        self._go_on(dialogue)

    def _go_on(self, dialogue: Dialogue) -> None:
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
        if dialogue is None:
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
        self.client.refuse("SOCKS5", event.reason)
        self.farewell(event.data)

    def _requested(self, request: Request, trailing: bytes) -> None:
        self._dialogue = None
        self.finish_handshake()
        if request.command == UDP_ASSOCIATE:
            self._associate(request)
            return
        if trailing:
            self.hold(trailing)
        self.client.ask("SOCKS5 CONNECT", request.host, request.port)
        self.dial(request.host, request.port)

    def _associate(self, request: Request) -> None:
        """DST.ADDR is not looked at: a client behind NAT does not know its address, and the connection tells it."""
        self.client.ask("SOCKS5 UDP ASSOCIATE", request.host, request.port)
        if self.ended or self.transport.is_closing():
            self.transport.close()  # RFC 1928 section 7: the association would have ended with it
            return
        try:
            association = Association(self.context, self.client, self.transport, request.port)
        except OSError as error:
            self.failed(error, request.host, request.port)
            return
        self.context.sessions.discard(self)
        self.transport.write(encode_reply(SUCCEEDED, *association.address))

    def accepted(self, tunnel: asyncio.Transport) -> None:
        name = tunnel.get_extra_info("sockname") or ("0.0.0.0", 0)
        self.start_relay(tunnel, encode_reply(SUCCEEDED, name[0], name[1]))

    def rejected(self, reply: Reply) -> None:
        self.farewell(encode_reply(reply.socks))


def open_socks(context: Context, client: Client, transport: asyncio.Transport, data: bytes) -> None:
    """Take over a fresh connection whose first bytes these are."""
    SocksHandler(context, client, transport).data_received(data)
