"""Forwarding: requests in absolute-form to their origins (RFC 9110 section 7, RFC 9112).

One `Forward` serves a client's connection, one request after the other.  The connection to the last origin stays for
the next request; those to a few others are in pool.py.

    begin -> (dial -> connected) -> _pump_request | _pump_response -> _finish -> handler.next_request

Each way has the same stages: a head is checked (head.py), its body is read by framing.py, the fields that end here are
taken off (target.py), and writing.py writes the message in the framing that its reader understands.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from proxy.client import Client
from proxy.http.answer import answer, proxy_status
from proxy.http.framing import Body
from proxy.http.head import (
    CHUNKED,
    UNTIL_CLOSE,
    Fields,
    HeadError,
    RequestHead,
    ResponseHead,
    parse_response,
    persists,
    response_framing,
)
from proxy.http.origin import Key, Origin
from proxy.http.pool import Pool
from proxy.http.target import (
    Target,
    came_from,
    end_to_end,
    expects_continue,
    fields_to_origin,
    via_field,
    wants_upgrade,
)
from proxy.http.writing import CLOSE_FIELD, framed, in_chunks, without_length, write_body, write_end, write_head
from proxy.replies import INCOMPLETE, LOOP, NOT_HTTP, TERMINATED, Reply
from proxy.session import Context, log
from usernet.aio.relay import reset

MAX_INTERIM = 32  # 1xx responses to one request: each costs us far more than it costs the origin
NO_OPTIONS: frozenset[bytes] = frozenset()  # trailers have no Connection field
RETRIED = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 section 9.2.2: idempotent
ENDS_HERE = "this proxy was the last hop that Max-Forwards allows"


class Host(Protocol):
    """What forwarding needs of the client's connection: `proxy.connect.Handler`, and HTTP besides."""

    client: Client
    context: Context
    transport: asyncio.Transport
    held: bytearray
    ended: bool
    full: bool
    idle: int

    def abort(self) -> None: ...
    def dial(self, host: str, port: int) -> None: ...
    def hold(self, data: bytes) -> None: ...
    def wait(self) -> None: ...
    def read_on(self) -> None: ...
    def farewell(self, words: bytes) -> None: ...
    def rejected(self, reply: Reply) -> None: ...
    def refuse(self, error: HeadError) -> None: ...
    def next_request(self) -> None: ...
    def start_relay(
        self, tunnel: asyncio.Transport, answer: bytes, *, downward: bytes = b"", tunnel_full: bool = False
    ) -> None: ...


class Forward:
    __slots__ = (
        "_expecting", "_handler", "_head", "_interim", "_keeps", "_origin", "_pool", "_request", "_request_body",
        "_request_done", "_response_body", "_response_chunked", "_response_done", "_retry", "_reusable", "_status",
        "_target",
    )  # fmt: skip

    def __init__(self, handler: Host) -> None:
        self._handler = handler
        self._pool = Pool(handler.context)
        self._origin: Origin | None = None
        self._head: RequestHead
        self._target: Target
        self._request: bytes  # its head, as the origin gets it
        self._request_body: Body
        self._response_body: Body | None = None  # there once the final response's head is through
        self._response_chunked = False  # as the client gets it
        self._request_done = self._response_done = True
        self._interim = 0
        self._status = 0
        self._expecting = False  # the client may be waiting for a 100 with its body
        self._retry = False
        self._keeps = True  # the client may send another request on its connection
        self._reusable = True  # and we one on the origin's

    # -- what the handler says --

    def begin(self, head: RequestHead, target: Target) -> None:
        """A request whose head is checked.  Raises HeadError."""
        via = self._handler.context.via
        if via is not None and came_from(head, via):
            self._handler.context.counters.refuse(LOOP.token)
            self._handler.client.end(LOOP.token)
            self._handler.rejected(LOOP)
            return
        fields = fields_to_origin(head, target)
        if fields is None:
            if head.method == b"OPTIONS":
                self._handler.client.end("200")
                self._handler.farewell(answer(200, ENDS_HERE))
            else:  # RFC 9110 section 9.3.8 would have TRACE's request as the answer, credentials and all
                self._handler.client.end("405")
                self._handler.farewell(
                    answer(405, ENDS_HERE, "Allow: OPTIONS", proxy_status("http_request_error", ENDS_HERE))
                )
            return
        if via is not None:
            fields.append(via_field(head, via))
        self._request = write_head(b"%b %b HTTP/1.1" % (head.method, target.path), fields)
        self._head, self._target = head, target
        self._keeps = persists(head)
        self._expecting = expects_continue(head) and not self._handler.held
        self._request_body = Body(head.framing)
        self._response_body = None
        self._interim = 0
        self._request_done = self._response_done = False
        origin, key = self._origin, self._key()
        if origin is None or origin.key != key or origin.transport.is_closing():
            origin = self._change_origin(key)
        if origin is not None:
            self._retry = head.method in RETRIED and not head.framing
            self._handler.client.route = origin.route
            self._send_request(origin)
        else:
            self._dial()

    def client_data(self, data: bytes) -> None:
        """More has come: of this request, or of the next."""
        origin = self._origin
        self._expecting = False
        if origin is None or self._request_done:
            self._handler.hold(data)
        elif not self._handler.held and self._request_body.takes(data):
            self._pump_request(origin, data)
        else:
            self._handler.hold(data)
            self._pump_request(origin)

    def client_ended(self) -> None:
        """No more will come: fatal inside a request, but one that is complete is still answered."""
        if self._request_done or self._origin is None:
            return
        if self._response_done:
            self._end()
        else:
            self._handler.abort()

    def client_full(self) -> None:
        if self._origin is not None:
            self._origin.transport.pause_reading()

    def client_drained(self) -> None:
        if self._origin is not None and not self._origin.ended:
            self._origin.transport.resume_reading()

    def close(self) -> None:
        """The client's connection is over, or goes on without us."""
        self._drop_origin(cleanly=self._request_done and self._response_done)
        self._pool.close()

    # -- the dial --

    def _key(self) -> Key:
        return self._target.host, self._target.port, self._handler.client.user

    def _dial(self) -> None:
        self._drop_origin(cleanly=True)
        self._retry = False
        self._handler.dial(self._target.host, self._target.port)

    def connected(self, tunnel: asyncio.Transport) -> None:
        """Raises ConnectionResetError where the connection has gone already."""
        if tunnel.is_closing():
            raise ConnectionResetError
        self._origin = Origin(self, tunnel, self._key(), self._handler.client.route)
        tunnel.set_protocol(self._origin)
        if not self._handler.full:
            tunnel.resume_reading()
        self._send_request(self._origin)

    def _change_origin(self, key: Key) -> Origin | None:
        """The present one is not for this request; take one that was kept, where there is one."""
        present, self._origin = self._origin, self._pool.take(key)
        if present is not None and not present.transport.is_closing():
            self._pool.put(present)
        origin = self._origin
        if origin is not None:
            origin.owner = self
            if self._handler.full:
                origin.transport.pause_reading()
        return origin

    def _drop_origin(self, *, cleanly: bool) -> None:
        origin, self._origin = self._origin, None
        if origin is not None:
            origin.close(cleanly=cleanly)

    # -- client to origin --

    def _send_request(self, origin: Origin) -> None:
        origin.transport.write(self._request)
        if not self._request_done:  # else it is a second try, and so without a body
            self._pump_request(origin)

    def _pump_request(self, origin: Origin, content: bytes = b"") -> None:
        """What there is of the request's body: `content` off it already, or in `handler.held`."""
        handler, body, chunked = self._handler, self._request_body, self._head.framing == CHUNKED
        try:
            content = content or body.take(handler.held)
        except HeadError as error:
            self._client_at_fault(error)
            return
        handler.context.counters.bytes_up += len(content)
        handler.client.up += len(content)
        said = write_body(content, chunked=chunked)
        if body.done:
            self._request_done = True
            if chunked:
                said += write_end(end_to_end(body.trailers, NO_OPTIONS, request=True))
        if said:
            origin.transport.write(said)
        if origin.full:
            handler.wait()
        else:
            handler.read_on()
        if self._request_done:
            self._finish()
        elif handler.ended:
            self.client_ended()

    def origin_drained(self) -> None:
        if len(self._handler.held) <= self._handler.context.limits.held_bytes:
            self._handler.read_on()

    def _client_at_fault(self, error: HeadError) -> None:
        self._drop_origin(cleanly=False)
        if self._response_body is None:
            self._handler.refuse(error)
        else:
            reset(self._handler.transport)

    # -- origin to client --

    def origin_data(self, data: bytes) -> None:
        origin, handler = self._origin, self._handler
        if origin is None:
            return
        handler.idle = 0
        handler.context.counters.bytes_down += len(data)
        handler.client.down += len(data)
        if self._response_done:
            # Nothing is due: it speaks out of turn, and what it says must not answer the next request.
            self._leave_origin(cleanly=False)
            return
        self._retry = False
        try:
            body = self._response_body
            if body is not None and not origin.buffer and body.takes(data):
                self._pump_response(origin, data)
            else:
                origin.buffer += data
                self._pump_response(origin)
        except HeadError as error:
            log.debug("an origin broke HTTP: %s", error)
            self._origin_failed(NOT_HTTP)

    def origin_ended(self, clean: bool) -> None:
        """No more comes from the origin; `clean` by a FIN."""
        origin = self._origin
        if origin is None:
            return
        if self._response_done:
            self._leave_origin(cleanly=True)
            return
        if self._retry:
            self._dial()
            return
        if clean and self._response_body is not None and self._response_body.end():
            self._pump_response(origin)
        else:
            self._origin_failed(INCOMPLETE if clean else TERMINATED)

    def _leave_origin(self, *, cleanly: bool) -> None:
        """Its response is through; what is still to come of the request has nowhere to go."""
        self._drop_origin(cleanly=cleanly)
        if not self._request_done:
            self._end()

    def _pump_response(self, origin: Origin, content: bytes = b"") -> None:
        """Heads, then what there is of the body (`content` is off it already).  Raises HeadError."""
        said = b""
        while self._response_body is None:
            raw = origin.scanner.take(origin.buffer)
            if raw is None:
                return
            head = parse_response(raw)
            framing = response_framing(self._head.method, head)
            if head.status >= 200:
                said = self._respond(head, framing)
                self._response_body = Body(framing)
            elif head.status == 101:
                self._switch(origin, head)
                return
            else:
                self._inform(head)
        body, chunked = self._response_body, self._response_chunked
        try:
            said += write_body(content or body.take(origin.buffer), chunked=chunked)
            if body.done and chunked:  # trailers have no place in other framings (RFC 9110 section 6.5.1)
                said += write_end(end_to_end(body.trailers, NO_OPTIONS, request=False))
        finally:  # a head goes on even if what follows it is of no use: then the client learns that by a reset
            if said:
                self._handler.transport.write(said)
        if body.done:
            self._response_done = True
            if self._expecting:
                self._end()
            else:
                self._finish()

    def _inform(self, head: ResponseHead) -> None:
        """An interim response (RFC 9110 section 15.2), which HTTP/1.0 does not know.  Raises HeadError."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise HeadError(502, "too many interim responses")
        if self._head.minor == 1:
            self._expecting = self._expecting and head.status != 100
            fields = without_length(end_to_end(head.fields, head.options, request=False))
            self._handler.transport.write(write_head(_status_line(head), fields))

    def _respond(self, head: ResponseHead, framing: int) -> bytes:
        """The final response's head, for the client."""
        self._status = head.status
        if self._expecting:
            # RFC 9110 section 10.1.1: the body may come or not, so what comes next could be that or a request
            self._keeps = False
        self._reusable = framing != UNTIL_CLOSE and persists(head)
        self._response_chunked = in_chunks(framing, self._head.minor)
        fields = end_to_end(head.fields, head.options, request=False)
        fields = without_length(fields) if head.status == 204 else framed(fields, framing, self._head.minor)
        via = self._handler.context.via
        if via is not None:
            fields.append(via_field(head, via))
        self._keeps &= not self._handler.context.draining
        if not self._keeps:
            fields.append(CLOSE_FIELD)
        if head.status == 426:  # RFC 9110 section 15.5.22: it says which protocol is wanted
            fields += _upgrade_fields(head)
        return write_head(_status_line(head), fields)

    def _switch(self, origin: Origin, head: ResponseHead) -> None:
        """101: from here on it is not HTTP (RFC 9110 section 7.8).  Raises HeadError."""
        if not (self._request_done and wants_upgrade(self._head) is not None):
            raise HeadError(502, "101 unasked")
        fields = without_length(end_to_end(head.fields, head.options, request=False)) + _upgrade_fields(head)
        said = write_head(_status_line(head), fields)
        self._response_done = True
        origin.owner = self._origin = None
        try:
            self._handler.start_relay(origin.transport, said, downward=bytes(origin.buffer), tunnel_full=origin.full)
        except ConnectionResetError:
            reset(self._handler.transport)

    def _origin_failed(self, reply: Reply) -> None:
        handler = self._handler
        handler.context.counters.refuse(reply.token)
        handler.client.end(reply.token)
        self._drop_origin(cleanly=False)
        if self._response_body is None:
            handler.rejected(reply)
        else:
            reset(handler.transport)  # a body cut short must not look like one that has ended

    # -- the end of an exchange --

    def _finish(self) -> None:
        """Both messages are through: keep what can be kept."""
        if not (self._request_done and self._response_done):
            return
        origin, handler = self._origin, self._handler
        if origin is not None and not (self._reusable and not origin.ended and not origin.buffer):
            self._drop_origin(cleanly=True)
        if self._keeps and (handler.held or not handler.ended) and not handler.context.draining:
            handler.client.end(str(self._status))
            handler.next_request()
        else:
            self._end()

    def _end(self) -> None:
        """The response is through, and no further request can follow."""
        self._handler.client.end(str(self._status))
        self._handler.farewell(b"")


def _status_line(head: ResponseHead) -> bytes:
    return b"HTTP/1.1 %d %b" % (head.status, head.reason)


def _upgrade_fields(head: ResponseHead) -> Fields:
    return [(b"Connection", b"Upgrade"), (b"Upgrade", b", ".join(head.meant.get(b"upgrade", ())))]
