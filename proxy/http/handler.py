"""An HTTP client's connection: one head after the other; CONNECT becomes a relay, the rest is forwarded.

The stages of a request: `data_received` -> `_next_head` (raw checks) -> `login` -> `_begin` -> `_connect`, or
`_begin_forward` (forward.py, imported when the first such request comes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from proxy.auth import parse_basic
from proxy.client import Client
from proxy.connect import Handler
from proxy.http.answer import ESTABLISHED, challenge, fault, head_of, not_a_web_site, refusal
from proxy.http.head import HeadError, HeadScanner, RequestHead, parse_request, persists
from proxy.http.own import authority_of
from proxy.http.target import parse_absolute, parse_connect
from proxy.mux import SOCKS5
from proxy.names import authority
from proxy.replies import Reply
from proxy.session import Context, log

if TYPE_CHECKING:
    from proxy.http.forward import Forward


MAX_TRIES = 8  # requests with wrong credentials on one connection


class HttpHandler(Handler):
    """`_scanner` is there while a head is read; `_forward` from the first forwarded request on."""

    __slots__ = ("_bodiless", "_forward", "_head", "_kept_alive", "_scanner", "_tries")

    def __init__(self, context: Context, client: Client, transport: asyncio.Transport) -> None:
        super().__init__(context, client, transport)
        self._bodiless = False  # HEAD: its answer ends with the head
        self._head: RequestHead | None = None  # there while its credentials are checked
        self._scanner: HeadScanner | None = HeadScanner()
        self._forward: Forward | None = None
        self._tries = 0
        self._kept_alive = False  # between two requests, with nothing read of the next
        context.deadlines.start(self, context.limits.head_timeout)

    # -- asyncio.Protocol --

    def data_received(self, data: bytes) -> None:
        self.idle = 0
        if self._scanner is not None:
            self.held += data
            self._next_head(self._scanner)
            return
        if self._forward is not None:
            self._forward.client_data(data)
        else:
            self.hold(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self._scanner is not None:
            self.transport.close()
        elif self._forward is not None:
            self._forward.client_ended()
        return True

    def pause_writing(self) -> None:
        self.full = True
        if self._forward is not None:
            self._forward.client_full()

    def resume_writing(self) -> None:
        self.full = False
        if self._forward is not None:
            self._forward.client_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._drop_forward()

    # -- the dialogue --

    def _next_head(self, scanner: HeadScanner) -> None:
        try:
            raw = scanner.take(self.held)
            if raw is None:
                if self.ended:
                    self.transport.close()  # half a request
                elif self._kept_alive:
                    self._kept_alive = False
                    self.context.deadlines.start(self, self.context.limits.head_timeout)
                return
            self._kept_alive = False
            head = parse_request(raw)
            self._scanner = None
            self._bodiless = head.method == b"HEAD"
            self.finish_handshake()
            page = self._own_page(head)
            if isinstance(page, bytes):
                self.farewell(page)
            elif page is not None:
                self.hold(b"")
                self._task = self.context.loop.create_task(self._show(page))
            elif head.target.startswith(b"/") and head.method != b"CONNECT":
                self._explain(head)
            elif self.client.terms.users is None:
                self._begin(head)
            else:
                self._head = head
                shown = head.meant.get(b"proxy-authorization", ())
                self.login(*parse_basic(shown[0] if len(shown) == 1 else None))
                if self._head is head:  # that takes its time, as somebody might want many to
                    self.context.begin_handshake(self)
                    self.context.deadlines.start(self, self.context.limits.handshake_timeout)
        except HeadError as error:
            self.refuse(error)

    async def _show(self, page: Awaitable[bytes]) -> None:
        try:
            words = await page
        except Exception:  # noqa: BLE001 - logged; whoever asked gets an answer
            log.exception("a page of the proxy's own failed")
            self.client.end("500")
            words = fault(500, "the page failed")
        self._task = None
        self.farewell(words)

    def _explain(self, head: RequestHead) -> None:
        """Somebody takes us for a web server.  We are named as they do, which leads here; a login would not help."""
        self.context.counters.refuse("http-400")
        self.client.refuse(head.method.decode(), "400")
        local = (self.transport.get_extra_info("sockname") or ("localhost", 0))[:2]
        secure = self.transport.get_extra_info("ssl_object") is not None
        named, pages = authority_of(head, secure) or local, self.context.pages
        self.farewell(
            not_a_web_site(
                f"{'https' if secure else 'http'}://{authority(*named)}",
                socks=SOCKS5 in self.client.terms.protocols and not secure,
                script=pages is not None and pages.has(b"/proxy.pac", named, local),
            )
        )

    def _own_page(self, head: RequestHead) -> bytes | Awaitable[bytes] | None:
        """No login is asked for it: browsers that fetch their configuration cannot give one."""
        if self.context.pages is None or not head.target.startswith(b"/"):
            return None
        local = self.transport.get_extra_info("sockname")
        if local is None:
            return None
        secure = self.transport.get_extra_info("ssl_object") is not None
        return self.context.pages.answer(head, local[:2], secure, self.client)

    def decided(self, right: bool) -> None:
        head, self._head = self._head, None
        if head is None:
            return
        self.finish_handshake()
        if right:
            try:
                self._begin(head)
            except HeadError as error:
                self.refuse(error)
        else:
            self._challenge(head)

    def _begin(self, head: RequestHead) -> None:
        if head.method == b"CONNECT":
            self._connect(head)
        else:
            self._begin_forward(head)

    def _challenge(self, head: RequestHead) -> None:
        """407.  The client may try again on this connection where it is certain what follows the refused request."""
        self.context.counters.refuse("wrong-credentials")
        self.client.refuse(head.method.decode(), "wrong-credentials")
        self._tries += 1
        # What comes after CONNECT may be meant for the tunnel, and must never be taken for a request
        close = head.method == b"CONNECT" or head.framing != 0 or not persists(head) or self._tries >= MAX_TRIES
        words = challenge(close=close)
        if close:
            self.farewell(words)
        else:
            self.transport.write(head_of(words) if self._bodiless else words)
            self._await_request(self.context.limits.head_timeout)  # nobody has logged in: no long stay

    def _connect(self, head: RequestHead) -> None:
        if head.framing:  # RFC 9110 section 9.3.6: what follows the head belongs to the tunnel, not to a body
            raise HeadError(400, "CONNECT has no body")
        host, port = parse_connect(head.target)
        self.context.counters.http_connect += 1
        self._drop_forward()
        self.hold(b"")
        self.client.ask("CONNECT", host, port)
        self.dial(host, port)

    def _begin_forward(self, head: RequestHead) -> None:
        target = parse_absolute(head.method, head.target)
        self.client.ask(head.method.decode(), target.host, target.port)
        self.context.counters.http_forward += 1
        if self._forward is None:
            from proxy.http.forward import Forward

            self._forward = Forward(self)
        self._forward.begin(head, target)

    def next_request(self) -> None:
        """The exchange is complete: on to the next head, of which some may be there already."""
        self._await_request(self.context.limits.keepalive_timeout)

    def _await_request(self, seconds: float) -> None:
        self._scanner = HeadScanner()
        self._bodiless = False
        self.read_on()
        self._kept_alive = True
        if self.held:
            self._next_head(self._scanner)
        elif self.ended:
            self.transport.close()
        else:
            self.context.deadlines.start(self, seconds)

    def accepted(self, tunnel: asyncio.Transport) -> None:
        if self._forward is not None:
            self._forward.connected(tunnel)
        else:
            self.start_relay(tunnel, ESTABLISHED)

    def start_relay(
        self, tunnel: asyncio.Transport, answer: bytes, *, downward: bytes = b"", tunnel_full: bool = False
    ) -> None:
        super().start_relay(tunnel, answer, downward=downward, tunnel_full=tunnel_full)
        self._drop_forward()

    def rejected(self, reply: Reply) -> None:
        self.farewell(refusal(reply))

    def refuse(self, error: HeadError) -> None:
        """The client's message is at fault."""
        self.context.counters.refuse(f"http-{error.status}")
        if self.client.method:
            self.client.end(str(error.status))
        else:
            self.client.refuse("HTTP", str(error.status))
        self.farewell(fault(error.status, error.reason))

    def farewell(self, words: bytes) -> None:
        self._scanner = None
        self._drop_forward()
        if self._bodiless:
            words = head_of(words)
        super().farewell(words)

    def expired(self) -> None:
        if self._kept_alive:
            self.transport.close()
        elif self._head is not None:
            super().expired()
        else:
            self.refuse(HeadError(408, "the head did not come in time"))

    def drain(self) -> None:
        if self._kept_alive:
            self.transport.close()

    def _drop_forward(self) -> None:
        forward, self._forward = self._forward, None
        if forward is not None:
            forward.close()


def open_http(context: Context, client: Client, transport: asyncio.Transport, data: bytes) -> None:
    """Take over a fresh connection whose first bytes these are."""
    HttpHandler(context, client, transport).data_received(data)
