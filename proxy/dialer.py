"""From a host and port to a connection by one of the routes: resolve once, check, dial that address.

The stages: `dial` (the time limit) -> `locate` (rules, name or literal, policy) -> `_race` (several addresses: Happy
Eyeballs, RFC 8305) -> `_attempt`.  A connection comes back paused, so that nothing its far end says is lost before its
user has called `set_protocol`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from proxy.client import Client
from proxy.names import parse_address
from proxy.policy import Forbidden, Policy, embedded_ipv4, is_local_name, is_special, unmapped
from proxy.routes import REFUSE, TUNNEL, Begun, Route
from proxy.rules import Rules, Undecided, exempts, names_match
from usernet.config import AccessRule
from usernet.errors import NameNotFound, NoRoute

RACE_DELAY = 0.3  # RFC 8305 section 5 suggests 250 ms
GRACE = 0.5  # the network's own limit comes first: it knows the cause


class Place(NamedTuple):
    """Where to dial: an address literal, or a name where the route takes names.  `rule`: the one that says so."""

    route: Route
    host: str
    port: int
    rule: AccessRule | None


class Dialled(asyncio.Protocol):
    """Holds a fresh connection still until somebody takes it.

    uvloop begins to read behind connection_made, whatever that has said: so what a quick far end says first is kept
    here, and `hand_over` passes it on.
    """

    __slots__ = ("early", "ended", "transport")

    early: bytes
    ended: bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.early = b""
        self.ended = False
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.early += data
        self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.ended = True
        return True


def hand_over(holder: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
    """`holder` had the connection, and somebody else has it now: who gets what was read before."""
    user = cast(asyncio.Protocol, transport.get_protocol())
    if isinstance(holder, Dialled) and user is not holder:
        if holder.early:
            user.data_received(holder.early)
        if holder.ended:
            user.eof_received()


class Arriving(Dialled):
    """And says so."""

    __slots__ = ("_arrived",)

    def __init__(self, arrived: Callable[[asyncio.Transport], None]) -> None:
        self._arrived = arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arrived(self.transport)


class Dialer:
    """`routes` by name, "tunnel" among them."""

    __slots__ = ("_losers", "_routes", "_rules", "_tunnel", "policy", "timeout")

    def __init__(self, routes: Mapping[str, Route], rules: Rules, policy: Policy, timeout: float) -> None:
        self.obey(routes, rules)
        self.policy = policy
        self.timeout = timeout
        self._losers: set[asyncio.Task[asyncio.Transport]] = set()  # being cancelled: the loop keeps no reference

    def obey(self, routes: Mapping[str, Route], rules: Rules) -> None:
        """These ways out, and these rules, for every dial from now on."""
        self._routes = routes
        self._rules = rules
        self._tunnel = routes[TUNNEL]

    def start(
        self,
        client: Client,
        host: str,
        port: int,
        arrived: Callable[[asyncio.Transport], None],
        failed: Callable[[Exception], None],
    ) -> Begun | None:
        """Dial by calls: an address, by a route that can.  None: `dial` it.  Raises Forbidden and NoRoute."""
        if parse_address(host) is None:
            return None
        place = self._place(None, self._decide(None, host, port, client.user), host, port)
        start = place.route.start
        if start is None:
            return None
        client.route = place.route.name
        return start(Arriving(arrived), place.host, port, failed)

    async def dial(self, client: Client, host: str, port: int) -> asyncio.Transport:
        """A connected, paused transport.  Raises an OSError of usernet/errors.py, of the kernel, or Forbidden."""
        async with asyncio.timeout(self.timeout + GRACE):
            places = await self.locate(client, host, port)
            client.route = places[0].route.name
            if len(places) == 1:
                return await self._attempt(places[0])
            return await self._race(places)

    async def locate(self, client: Client, host: str, port: int) -> list[Place]:
        """Where that is, by the rules; at least one.  A name is resolved once, and what is forbidden left out.

        Raises Forbidden where nothing else is left, and what resolving a name raises.
        """
        if parse_address(host) is not None:
            return [self._place(None, self._decide(None, host, port, client.user), host, port)]
        decided = self._rules.decide(host, None, port, client.user)
        named = isinstance(decided, AccessRule) and names_match(decided, host)
        if not named:
            self.policy.check_name(host)
        route = self._tunnel if isinstance(decided, Undecided) else self._route(decided)
        if route.takes_names:
            return [Place(route, host, port, decided if isinstance(decided, AccessRule) else None)]
        places: list[Place] = []
        refusal: Forbidden | None = None
        for address in await route.net.resolve(host):
            try:
                rule = self._decide(host, address, port, client.user) if isinstance(decided, Undecided) else decided
                places.append(self._place(host if named else None, rule, address, port))
            except Forbidden as error:
                refusal = error
        if places:
            return places
        raise refusal or NameNotFound("the name has no address")

    def _decide(self, name: str | None, address: str, port: int, user: str | None) -> AccessRule | None:
        if not self._rules:
            return None
        packed = unmapped(address)[1]
        inner = embedded_ipv4(packed) if len(packed) == 16 else None
        if inner is not None:  # a translator behind the tunnel would take it there
            hidden = self._rules.decide(name, inner[0], port, user)
            if isinstance(hidden, AccessRule) and hidden.route == REFUSE:
                return hidden
        decided = self._rules.decide(name, packed, port, user)
        return None if isinstance(decided, Undecided) else decided

    def _route(self, rule: AccessRule | None) -> Route:
        if rule is None:
            return self._tunnel
        if rule.route == REFUSE:
            raise Forbidden(f"the rule of line {rule.line} refuses the destination: {rule.text}")
        return self._routes[rule.route]

    def _place(self, name: str | None, rule: AccessRule | None, address: str, port: int) -> Place:
        """`name`: the one that `rule` gives, if it does.  Raises Forbidden."""
        route = self._route(rule)
        address, packed = unmapped(address)
        exempt = rule is not None and is_special(packed) and (exempts(rule, packed) or is_local_name(name or ""))
        self.policy.check(address, packed, port, exempt=exempt)
        return Place(route, address, port, rule)

    async def _attempt(self, place: Place) -> asyncio.Transport:
        _, protocol = await place.route.net.create_connection(Dialled, place.host, place.port)
        transport: asyncio.Transport = protocol.transport
        return transport

    async def _race(self, places: list[Place]) -> asyncio.Transport:
        """The first to connect wins; the next starts after RACE_DELAY, or at once when one has failed."""
        loop = asyncio.get_running_loop()
        started: list[asyncio.Task[asyncio.Transport]] = []
        pending: set[asyncio.Task[asyncio.Transport]] = set()
        done: set[asyncio.Task[asyncio.Transport]] = set()
        errors: list[BaseException] = []
        winner: asyncio.Task[asyncio.Transport] | None = None
        try:
            while pending or len(started) < len(places):
                if len(started) < len(places):
                    task = loop.create_task(self._attempt(places[len(started)]))
                    started.append(task)
                    pending.add(task)
                delay = RACE_DELAY if len(started) < len(places) else None
                done, pending = await asyncio.wait(pending, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        winner = task
                        return task.result()
                    errors.append(cast(BaseException, task.exception()))
            # The first error is reported, but one family's NoRoute says nothing while another could be tried.
            raise next((e for e in errors if not isinstance(e, NoRoute)), errors[0])
        finally:
            for task in started:
                if task is not winner:
                    self._discard(task)
            # What is raised refers to this frame by its traceback: the frame must not refer back.
            del started, pending, done, errors, task

    def _discard(self, task: asyncio.Task[asyncio.Transport]) -> None:
        self._losers.add(task)
        task.add_done_callback(self._discarded)
        task.cancel()

    def _discarded(self, task: asyncio.Task[asyncio.Transport]) -> None:
        self._losers.discard(task)
        if not task.cancelled() and task.exception() is None:
            task.result().abort()
