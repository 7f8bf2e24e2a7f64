"""A client of the proxy: who is at the far end of an accepted connection, and what it asks for just now.

Made at accept, and handed from stage to stage (sniffer, dialogue, relay).  The stages say what they learn; `end` makes
one line of the access log of it (accesslog.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from proxy.auth import Users
from proxy.certificate import Certificate

MAX_METHOD = 32  # letters: a client may make one up as long as a head; the longest registered has 17


@dataclass(frozen=True, slots=True)
class Terms:
    """What a listener asks of its clients, and offers them.

    `users` None: nobody is asked; `allow_from` empty: from anywhere; with a `certificate` HTTP is also spoken in TLS;
    `balancers`: whose connections begin with a PROXY header, which says who the client is.
    `protocols` are filled in by the listener.
    """

    users: Users | None = None
    allow_from: tuple[IPv4Network | IPv6Network, ...] = ()
    certificate: Certificate | None = None
    protocols: frozenset[str] = frozenset()
    balancers: tuple[IPv4Network | IPv6Network, ...] = ()


def is_within(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    if not networks:
        return False
    parsed = ip_address(address)
    return any(parsed in network for network in networks)


class Client:
    """`address`, `port`: its own.  `up`, `down`: bytes of the request at hand."""

    __slots__ = ("address", "began", "down", "method", "port", "route", "target", "terms", "up", "user", "write")

    def __init__(self, terms: Terms, address: str, port: int, write: Callable[[Client, str], None] | None) -> None:
        self.terms = terms
        self.address = address
        self.port = port
        self.write = write  # to the access log
        self.user: str | None = None
        self.method = ""  # "" between two requests
        self.target: tuple[str, int] | None = None
        self.route = ""
        self.began = 0.0  # of the clock on the wall
        self.up = self.down = 0

    def is_allowed(self) -> bool:
        """Whether its address may come in."""
        allowed = self.terms.allow_from
        return not allowed or is_within(self.address, allowed)

    def ask(self, method: str, host: str, port: int) -> None:
        """A request has come."""
        self.method = method if len(method) <= MAX_METHOD else method[:MAX_METHOD] + "..."
        self.target = (host, port)
        self.route = ""
        self.up = self.down = 0
        self.began = time.time()

    def end(self, outcome: str) -> None:
        """It is over, if there was one: "ok", an HTTP status, an RFC 9209 error type, or a slug."""
        if self.method and self.write is not None:
            self.write(self, outcome)
        self.method = ""

    def refuse(self, method: str, outcome: str) -> None:
        """It never got as far as a request."""
        self.ask(method, "", 0)
        self.end(outcome)
