"""Names resolved by the configuration's `DNS =`, through the tunnel.  Read RFC 1034, 2308, 8305 3, 6761 6.3.

Order: literal, cache, a question already on its way, the servers one after the other.  A and AAAA are asked for at the
same time, and only the families the tunnel carries.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from usernet.aio.addresses import literal_host
from usernet.aio.nameserver import Answer, ServerTrouble, Ways, absolute_names, ask
from usernet.aio.runtime import Tasks, boottime
from usernet.errors import DialError, NameNotFound, NameServerFailed, NetworkClosed

if TYPE_CHECKING:
    from usernet.config import Config

SERVER_SECONDS: Final = 2.0  # then the next server is asked
ROUNDS: Final = 2
RESOLUTION_DELAY: Final = 0.05  # RFC 8305 3: how long the second family may lag behind the first
TROUBLED_SECONDS: Final = 120.0  # a server's silence is news for so long
CACHE_ENTRIES: Final = 2048
MAX_TTL: Final = 86_400
MAX_ALIASES: Final = 8

RECORDS: Final = {4: "A", 6: "AAAA"}

Outcome = Answer | DialError


class Resolver:
    """Asks `servers` (IP literals) in order; for names in `domains` those that are there, of the longest domain.

    Safe to use from any number of tasks at once.
    """

    def __init__(
        self,
        net: Ways,
        tasks: Tasks,
        servers: Sequence[str] = (),
        search: Sequence[str] = (),
        domains: Mapping[str, Sequence[str]] = MappingProxyType({}),
        *,
        server_seconds: float = SERVER_SECONDS,
    ) -> None:
        self._net = net
        self._tasks = tasks
        self._server_seconds = server_seconds
        self._cache: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Outcome]] = {}
        self._asked: tuple[object, ...] = ()
        self._troubles: dict[str, tuple[float, str]] = {}  # of servers that nothing came from, when and what
        self.ask_of(servers, search, domains)

    def learn(self, config: Config) -> None:
        """Ask whom the configuration names."""
        domains: dict[str, list[str]] = {}
        for one in config.access.name_servers:
            for domain in one.domains:
                domains.setdefault(domain, []).append(one.server)
        self.ask_of(config.interface.dns, config.interface.dns_search, domains)

    def ask_of(self, servers: Sequence[str], search: Sequence[str], domains: Mapping[str, Sequence[str]]) -> None:
        """Whom to ask from now on.  Others may answer otherwise, so what was learnt is forgotten."""
        asked = tuple(servers), tuple(search), dict(domains)
        if asked != self._asked:
            self._asked = asked
            self._servers, self._search, self._domains = asked
            self._cache.clear()
            self._troubles.clear()

    async def resolve(self, name: str, families: Sequence[int]) -> list[str]:
        """The addresses of a name, of the families (4, 6) given, in their order.

        Raises NameNotFound and NameServerFailed.
        """
        literal = literal_host(name)
        if literal is not None:
            return [literal]
        bare = name.rstrip(".").lower()
        if bare == "localhost" or bare.endswith(".localhost"):  # RFC 6761 6.3: never asked for
            return [{4: "127.0.0.1", 6: "::1"}[family] for family in families]
        if not self._servers and not self._domains:
            raise NameServerFailed(f"cannot resolve {name}: the configuration has no DNS =")
        if not families:
            raise NameNotFound(f"{name}: the tunnel carries no address family")
        try:
            candidates = absolute_names(name, self._search)
        except ValueError as error:
            raise NameNotFound(str(error)) from None
        exists = False
        for candidate in candidates:
            addresses, there = await self._both(candidate, families)
            if addresses:
                return addresses
            exists = exists or there
        if exists:
            wanted = " or ".join(RECORDS[family] for family in families)
            raise NameNotFound(f"{name} has no {wanted} record")
        raise NameNotFound(f"{name} does not exist")

    async def reverse(self, address: str) -> list[str]:
        """The names of an IP literal, without the final dot.  Raises as `resolve` does."""
        if not self._servers and not self._domains:
            raise NameServerFailed(f"cannot look up {address}: the configuration has no DNS =")
        key = (f"{ip_address(address).reverse_pointer}.", "PTR")  # RFC 1035 3.5, RFC 3596 2.5
        outcome: Outcome | None = self._cached(key)
        if outcome is None:
            task = self._ask(key)
            await asyncio.wait([task])  # not the task itself: it goes on without whoever gives up
            outcome = _outcome(task)
        if isinstance(outcome, DialError):
            raise outcome
        if not outcome.addresses:
            raise NameNotFound(f"{address} has no name")
        return [name.rstrip(".") for name in outcome.addresses]

    async def _both(self, name: str, families: Sequence[int]) -> tuple[list[str], bool]:
        """The addresses of an absolute name in all families, and whether it exists at all."""
        outcomes: dict[int, Outcome] = {}
        asking: dict[asyncio.Task[Outcome], int] = {}
        for family in families:
            cached = self._cached((name, RECORDS[family]))
            if cached is None:
                asking[self._ask((name, RECORDS[family]))] = family
            else:
                outcomes[family] = cached
        while asking:
            enough = any(isinstance(outcome, Answer) and outcome.addresses for outcome in outcomes.values())
            done, _ = await asyncio.wait(
                asking, timeout=RESOLUTION_DELAY if enough else None, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break  # it goes on for the cache's sake
            for task in done:
                outcomes[asking.pop(task)] = _outcome(task)
        answers = [outcomes[family] for family in families if family in outcomes]
        addresses = [a for answer in answers if isinstance(answer, Answer) for a in answer.addresses]
        if not addresses:
            for answer in answers:
                if isinstance(answer, DialError):
                    raise answer
        return addresses, any(isinstance(answer, Answer) and answer.exists for answer in answers)

    def _cached(self, key: tuple[str, str]) -> Answer | None:
        entry = self._cache.get(key)
        if entry is None:
            return None
        expires, answer = entry
        if boottime() >= expires:
            del self._cache[key]
            return None
        self._cache.move_to_end(key)
        return answer

    def _ask(self, key: tuple[str, str]) -> asyncio.Task[Outcome]:
        """The one task that asks for this.  Whoever waits may go: it is bounded in time, and fills the cache."""
        task = self._asking.get(key)
        if task is None:
            task = self._tasks.start(self._answer(key), f"resolve {key[0]} {key[1]}")
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _answer(self, key: tuple[str, str]) -> Outcome:
        name, record = key
        ttl = MAX_TTL
        for _ in range(MAX_ALIASES):
            outcome = await self._ask_servers(name, record)
            if isinstance(outcome, DialError):
                return outcome
            ttl = min(ttl, outcome.ttl)
            if not outcome.alias:
                answer = outcome._replace(ttl=ttl)
                self._remember(key, answer)
                return answer
            name = outcome.alias
        return NameServerFailed(f"{key[0]} is an alias of an alias, more than {MAX_ALIASES} times")

    def servers_for(self, name: str) -> Sequence[str]:
        """Who is asked for an absolute name."""
        domain = name.rstrip(".").lower()
        while domain and self._domains:
            if domain in self._domains:
                return self._domains[domain]
            domain = domain.partition(".")[2]
        return self._servers

    async def _ask_servers(self, name: str, record: str) -> Outcome:
        servers = self.servers_for(name)
        if not servers:
            return NameServerFailed(f"cannot resolve {name.rstrip('.')}: no name server is named for it")
        try:
            await self._net.reach(servers)  # so that a tunnel that is down is not the name servers' fault
        except DialError as error:
            return error
        troubles: dict[str, str] = {}
        for _ in range(ROUNDS):
            for server in servers:
                try:
                    async with asyncio.timeout(self._server_seconds):
                        answer = await ask(self._net, server, name, record)
                    self._troubles.pop(server, None)
                    return answer
                except ServerTrouble as error:
                    self._troubles.pop(server, None)  # it may be the name's
                    troubles[server] = str(error)
                    continue
                except TimeoutError:
                    troubles[server] = "did not answer"
                    self._net.doubt(server)
                except OSError as error:
                    troubles[server] = (error.strerror or str(error)).removeprefix(f"{server} ")
                self._troubles[server] = (boottime(), troubles[server])
        why = "; ".join(f"name server {server} {trouble}" for server, trouble in troubles.items())
        return NameServerFailed(f"cannot resolve {name.rstrip('.')}: {why}")

    def troubles(self) -> dict[str, str]:
        """Of servers that were asked of late, and that nothing has come from since."""
        since = boottime() - TROUBLED_SECONDS
        return {server: trouble for server, (at, trouble) in self._troubles.items() if at >= since}

    def _remember(self, key: tuple[str, str], answer: Answer) -> None:
        if answer.ttl <= 0:  # RFC 1035 3.2.1: for the transaction in progress only
            return
        self._cache[key] = (boottime() + answer.ttl, answer)
        self._cache.move_to_end(key)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)


def _outcome(task: asyncio.Task[Outcome]) -> Outcome:
    """Of one that is done.  Nobody but the network cancels them, at its end."""
    return NetworkClosed() if task.cancelled() else task.result()
