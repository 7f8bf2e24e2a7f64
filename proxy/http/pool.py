"""The connections to origins that a client's connection has left for a later request.

They are never shared.  Whom an origin has let in by its connection (NTLM, Negotiate) is one client, and the way it was
dialled is what the rules say of one user: a connection is found again by the same client for the same user only.
"""

from __future__ import annotations

from proxy.http.origin import Key, Origin
from proxy.session import Context


class Pool:
    """At most `limits.idle_origins` of them, each for at most `limits.origin_timeout` seconds."""

    __slots__ = ("_context", "_idle")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._idle: dict[Key, Origin] = {}  # the first is the one that has waited longest

    def put(self, origin: Origin) -> None:
        """Keep it.  What it says from now on ends it: nothing is due."""
        origin.owner = None
        self._drop(origin.key)
        if len(self._idle) >= self._context.limits.idle_origins:
            self._drop(next(iter(self._idle)))
        self._idle[origin.key] = origin
        origin.transport.resume_reading()  # else its end is not noticed
        self._context.deadlines.start(origin, self._context.limits.origin_timeout)

    def take(self, key: Key) -> Origin | None:
        """The one that was kept for this, if it is still good."""
        origin = self._idle.pop(key, None)
        if origin is None:
            return None
        self._context.deadlines.stop(origin)
        return None if origin.ended or origin.transport.is_closing() else origin

    def close(self) -> None:
        for key in list(self._idle):
            self._drop(key)

    def _drop(self, key: Key) -> None:
        origin = self.take(key)
        if origin is not None:
            origin.close(cleanly=True)
