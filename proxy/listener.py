"""A bound socket of the proxy, and the way in by it: accept, and the first stage of a fresh connection."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from proxy.client import Client, Terms, is_within
from proxy.session import Context, log

FirstStage = Callable[[Client], asyncio.Protocol]  # the protocol of a fresh connection

ACCEPT_BURST = 64  # then the loop gets its turn
ACCEPT_PAUSE = 0.25  # after an error such as EMFILE, which would otherwise repeat at once and for ever
# accept(2), "Error handling": these are the new connection's, which is gone with them; the next may be well.
OF_THE_CLIENT = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED", "EINTR", "ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
        "EOPNOTSUPP", "ENETUNREACH", "EPERM",
    )
    if hasattr(errno, name)
)  # fmt: skip
LOG_INTERVAL = 60.0  # the same complaint again only after so long a pause


class Listener:
    """One bound socket.  `address` and `port` are the real ones."""

    __slots__ = (
        "_accepting",
        "_context",
        "_first_stage",
        "_quiet_until",
        "_resume",
        "_socket",
        "_terms",
        "address",
        "port",
        "protocols",
    )

    def __init__(
        self, context: Context, sock: socket.socket, first_stage: FirstStage, terms: Terms, protocols: frozenset[str]
    ) -> None:
        self._context = context
        self._socket = sock
        self.serve(first_stage, terms, protocols)
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False
        self._quiet_until = 0.0  # of the clock of the loop
        self.address, self.port = sock.getsockname()[:2]

    def serve(self, first_stage: FirstStage, terms: Terms, protocols: frozenset[str]) -> None:
        """Whoever comes from now on is met by this."""
        self._first_stage = first_stage
        self._terms = terms
        self.protocols = protocols

    def start(self) -> None:
        """Accept (again)."""
        if not self._accepting and self._resume is None and self._socket.fileno() >= 0:
            self._accepting = True
            self._context.loop.add_reader(self._socket.fileno(), self._accept)

    @property
    def is_paused(self) -> bool:
        return not self._accepting and self._socket.fileno() >= 0

    def _stop(self) -> None:
        if self._accepting:
            self._accepting = False
            self._context.loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        self._stop()
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._socket.close()

    def _accept(self) -> None:
        context = self._context
        for _ in range(ACCEPT_BURST):
            if context.open >= context.limits.connections:
                self._pause(f"{context.open} clients are the limit", None)
                return
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OF_THE_CLIENT:
                    continue
                self._pause(errno.errorcode.get(error.errno or 0, "an error"), ACCEPT_PAUSE)
                return
            sock.setblocking(False)
            client = Client(self._terms, address[0], address[1], context.write)
            if not self._is_welcome(client):
                sock.close()
                continue
            context.counters.accepted += 1
            self._adopt(sock, client)

    def _is_welcome(self, client: Client) -> bool:
        # A load balancer itself needs no permission: whoever its header names does.
        if not is_within(client.address, self._terms.balancers) and not client.is_allowed():
            self._context.not_allowed(client)
            return False
        return self._context.admit(client)

    def _adopt(self, sock: socket.socket, client: Client) -> None:
        """Have the loop make a transport of it.  The coroutine waits once; a task for that would cost 7 µs."""
        self._go_on(self._context.loop.connect_accepted_socket(partial(self._stage_for, client), sock), sock, client)

    def _go_on(
        self, adoption: Coroutine[Any, Any, object], sock: socket.socket, client: Client, _: object = None
    ) -> None:
        try:
            adoption.send(None).add_done_callback(partial(self._go_on, adoption, sock, client))
        except StopIteration:
            pass
        except OSError as error:  # it had gone already
            log.debug("a client was lost while it was accepted: %s", error)
            sock.close()
            self._context.gone(client)

    def _stage_for(self, client: Client) -> asyncio.Protocol:
        if not is_within(client.address, self._terms.balancers):
            return self._first_stage(client)
        from proxy.balanced import HeaderReader

        return HeaderReader(self._context, client, self._first_stage)

    def _pause(self, why: str, seconds: float | None) -> None:
        """Stop accepting for a moment, or until there is room."""
        self._stop()
        self._context.counters.accept_pauses += 1
        now = self._context.loop.time()
        level = logging.WARNING if now >= self._quiet_until else logging.DEBUG
        self._quiet_until = now + LOG_INTERVAL
        log.log(level, "accepting pauses on %s port %d: %s", self.address, self.port, why)
        if seconds is not None:
            self._resume = self._context.loop.call_later(seconds, self._resumed)

    def _resumed(self) -> None:
        self._resume = None
        self.start()
