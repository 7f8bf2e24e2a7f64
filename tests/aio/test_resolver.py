"""Names: what is asked, what is believed, what is remembered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from tests.support.nameserver import NameServer
from tests.support.networks import LEFT, LEFT6, LEFT_OUTER, RIGHT, RIGHT6, RIGHT_OUTER, config_of, key_pair
from usernet.aio import reach
from usernet.aio import resolver as resolver_module
from usernet.aio.memory import Impairment, memory_links
from usernet.aio.network import Network
from usernet.aio.resolver import Resolver
from usernet.aio.runtime import boottime
from usernet.config.model import Access, DomainServer, ResolveStrategy
from usernet.errors import NameNotFound, NameServerFailed, NoHandshake

ZONE: dict[str, dict[str, list[str]]] = {
    "www.example.test": {"A": ["192.0.2.10"], "AAAA": ["2001:db8::10"]},
    "four.example.test": {"A": ["192.0.2.4", "192.0.2.44"]},
    "alias.example.test": {"CNAME": ["second.example.test."]},
    "second.example.test": {"CNAME": ["www.example.test."]},
    "elsewhere.example.test": {"CNAME": ["www.other.test."]},
    "www.other.test": {"A": ["192.0.2.99"]},
    "text.example.test": {"TXT": ['"nothing here"']},
    "xn--bcher-kva.example.test": {"A": ["192.0.2.77"]},
}
OTHER = "10.7.0.3"


@contextlib.asynccontextmanager
async def tunnel(
    server: NameServer | None,
    *,
    dns_servers: tuple[str, ...] = (RIGHT,),
    search: tuple[str, ...] = (),
    families: tuple[str, ...] = (LEFT, LEFT6),
    impairment: Impairment | None = None,
    dial_timeout: float = 10.0,
    resolve_strategy: ResolveStrategy = "auto",
    domain_servers: tuple[DomainServer, ...] = (),
    other: NameServer | None = None,
) -> AsyncIterator[Network]:
    """The left network, whose DNS is at the right."""
    links = memory_links(asyncio.get_running_loop(), there=impairment)
    (left_key, left_public), (right_key, right_public) = key_pair(), key_pair()
    theirs = (RIGHT, OTHER, "10.7.0.53", RIGHT6)
    left_config = config_of(left_key, families, right_public, theirs, RIGHT_OUTER, dns=dns_servers, dns_search=search)
    left_config = replace(left_config, resolve_strategy=resolve_strategy, access=Access(name_servers=domain_servers))
    right_config = config_of(right_key, (RIGHT, OTHER, RIGHT6), left_public, (LEFT, LEFT6), LEFT_OUTER)
    async with (
        Network(left_config, datagram_link=links[0], dial_timeout=dial_timeout) as left,
        Network(right_config, datagram_link=links[1]) as right,
    ):
        if server is not None:
            await server.serve(right, RIGHT)
        if other is not None:
            await other.serve(right, OTHER)
        yield left


def hurry(net: Network, seconds: float = 0.05) -> None:
    net._resolver._server_seconds = seconds


async def test_both_families() -> None:
    server = NameServer(ZONE)
    async with tunnel(server) as net:
        assert await net.resolve("www.example.test") == ["2001:db8::10", "192.0.2.10"]
        assert sorted(server.questions) == [("www.example.test.", "A"), ("www.example.test.", "AAAA")]
        assert sorted(await net.resolve("four.example.test.")) == ["192.0.2.4", "192.0.2.44"]
        assert await net.resolve("www.example.test", family=4) == ["192.0.2.10"]
        assert await net.resolve("www.example.test", family=6) == ["2001:db8::10"]


async def test_the_favoured_family_comes_first() -> None:
    async with tunnel(NameServer(ZONE), resolve_strategy="ipv4") as net:
        assert await net.resolve("www.example.test") == ["192.0.2.10", "2001:db8::10"]
        assert await net.resolve("localhost") == ["127.0.0.1", "::1"]


async def test_only_families_that_the_tunnel_carries() -> None:
    server = NameServer(ZONE)
    async with tunnel(server, families=(LEFT,)) as net:
        assert await net.resolve("www.example.test") == ["192.0.2.10"]
        assert server.questions == [("www.example.test.", "A")]


async def test_literals_are_never_looked_up() -> None:
    server = NameServer(ZONE)
    async with tunnel(server) as net:
        assert await net.resolve("192.0.2.1") == ["192.0.2.1"]
        assert await net.resolve("2001:DB8:0::1") == ["2001:db8::1"]
        assert await net.resolve("localhost") == ["::1", "127.0.0.1"]
        assert await net.resolve("printer.LOCALHOST.", family=4) == ["127.0.0.1"]
        assert not server.questions


async def test_the_cache_honours_the_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(resolver_module, "boottime", lambda: now)
    server = NameServer(ZONE, ttl=60)
    async with tunnel(server) as net:
        await net.resolve("www.example.test", family=4)
        now += 59
        await net.resolve("WWW.example.test", family=4)
        assert len(server.questions) == 1
        now += 1
        await net.resolve("www.example.test", family=4)
        assert len(server.questions) == 2


async def test_negative_answers_are_kept_for_the_soa_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(resolver_module, "boottime", lambda: now)
    server = NameServer(ZONE, negative_ttl=30)
    async with tunnel(server) as net:
        for _ in range(3):
            with pytest.raises(NameNotFound, match=r"nosuch\.example\.test does not exist"):
                await net.resolve("nosuch.example.test", family=4)
            with pytest.raises(NameNotFound, match=r"text\.example\.test has no A record"):
                await net.resolve("text.example.test", family=4)
        assert len(server.questions) == 2
        now += 30
        with pytest.raises(NameNotFound):
            await net.resolve("nosuch.example.test", family=4)
        assert len(server.questions) == 3


async def test_a_ttl_of_zero_is_not_kept() -> None:
    server = NameServer(ZONE, ttl=0)
    async with tunnel(server) as net:
        await net.resolve("www.example.test", family=4)
        await net.resolve("www.example.test", family=4)
        assert len(server.questions) == 2


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "CACHE_ENTRIES", 3)
    server = NameServer({f"{n}.example.test": {"A": [f"192.0.2.{n}"]} for n in range(5)})
    async with tunnel(server) as net:
        for number in (0, 1, 2, 0, 3):  # 1 is the one not used for longest
            await net.resolve(f"{number}.example.test", family=4)
        assert len(server.questions) == 4
        assert len(net._resolver._cache) == 3
        await net.resolve("0.example.test", family=4)
        assert len(server.questions) == 4
        await net.resolve("1.example.test", family=4)
        assert len(server.questions) == 5


async def test_questions_on_their_way_are_shared() -> None:
    server = NameServer(ZONE)
    async with tunnel(server) as net:
        server.hold = asyncio.Event()
        waiting = [asyncio.ensure_future(net.resolve("www.example.test", family=4)) for _ in range(20)]
        quitter = waiting.pop()
        while not net._resolver._asking:
            await asyncio.sleep(0)
        quitter.cancel()
        server.hold.set()
        assert await asyncio.gather(*waiting) == [["192.0.2.10"]] * 19
        assert len(server.questions) == 1
        assert not net._resolver._asking


async def test_aliases() -> None:
    server = NameServer(ZONE)
    async with tunnel(server) as net:
        assert await net.resolve("alias.example.test") == ["2001:db8::10", "192.0.2.10"]
        assert len(server.questions) == 2


async def test_an_alias_whose_end_is_not_in_the_answer() -> None:
    server = NameServer(ZONE)

    def only_the_alias(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response.answer = [rrset for rrset in response.answer if rrset.name == query.question[0].name]
        return response

    server.twist = only_the_alias
    async with tunnel(server) as net:
        assert await net.resolve("elsewhere.example.test", family=4) == ["192.0.2.99"]
        assert [name for name, _ in server.questions] == ["elsewhere.example.test.", "www.other.test."]


async def test_an_alias_of_itself() -> None:
    server = NameServer({"a.test": {}, "b.test": {}})

    def onwards(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        name = query.question[0].name.to_text()
        target = {"a.test.": "b.test.", "b.test.": "a.test."}[name]
        response.authority.clear()
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
        return response

    server.twist = onwards
    async with tunnel(server) as net:
        with pytest.raises(NameServerFailed, match="alias of an alias"):
            await net.resolve("a.test", family=4)


async def test_tcp_where_the_answer_was_cut_short() -> None:
    addresses = [f"192.0.{n >> 8}.{n & 255}" for n in range(512)]
    server = NameServer({"many.example.test": {"A": addresses}})
    server.truncate = True
    async with tunnel(server) as net:
        assert sorted(await net.resolve("many.example.test", family=4)) == sorted(addresses)
        assert server.over_tcp == 1


async def test_what_is_no_answer_is_passed_over() -> None:
    """A wrong id, a wrong question, rubbish: the right answer that follows is what counts (RFC 5452)."""
    server = NameServer(ZONE)

    def lies(query: dns.message.Message, response: dns.message.Message) -> bytes:
        number = len(server.questions)
        forged = dns.message.from_wire(response.to_wire())
        if number == 1:
            forged.id ^= 1
        elif number == 2:
            forged.question[0] = dns.rrset.RRset(dns.name.from_text("evil.test."), dns.rdataclass.IN, dns.rdatatype.A)
        elif number == 3:
            return b"\xff" * 40
        elif number == 4:
            return query.to_wire()  # not a response at all
        return forged.to_wire()

    server.twist = lies
    async with tunnel(server) as net:
        hurry(net)
        for name in ("www.example.test", "four.example.test"):
            with contextlib.suppress(NameServerFailed):
                await net.resolve(name, family=4)
        assert await net.resolve("www.example.test", family=4) == ["192.0.2.10"]
        assert len(server.questions) >= 5


async def test_the_next_server_is_asked() -> None:
    server = NameServer(ZONE)
    async with tunnel(server, dns_servers=("10.7.0.53", OTHER, "10.9.9.9", RIGHT)) as net:
        hurry(net)  # 10.7.0.53 is nobody; OTHER refuses; no peer carries 10.9.9.9
        assert await net.resolve("www.example.test", family=4) == ["192.0.2.10"]
        assert len(server.questions) == 1


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED"])
async def test_servers_that_fail(code: str) -> None:
    server = NameServer(ZONE)

    def fail(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        response.answer.clear()
        response.set_rcode(dns.rcode.from_text(code))
        return response

    server.twist = fail
    async with tunnel(server) as net:
        with pytest.raises(NameServerFailed, match=f"name server 10.7.0.2 answered {code}"):
            await net.resolve("www.example.test")
        assert net.name_server_troubles() == {}, "that may be for this name's sake"


async def test_a_server_from_before_edns() -> None:
    server = NameServer(ZONE)

    def old(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message:
        if query.edns >= 0:
            response.answer.clear()
            response.set_rcode(dns.rcode.FORMERR)
        return response

    server.twist = old
    async with tunnel(server) as net:
        assert await net.resolve("www.example.test", family=4) == ["192.0.2.10"]


async def test_a_silent_server() -> None:
    server = NameServer(ZONE)
    server.twist = lambda query, response: None
    async with tunnel(server) as net:
        hurry(net)
        with pytest.raises(NameServerFailed, match=r"name server 10\.7\.0\.2 did not answer"):
            await net.resolve("www.example.test", family=4)
        assert len(server.questions) == 2, "a lost question is asked again"
        assert net.name_server_troubles() == {RIGHT: "did not answer"}
        server.twist = None
        await net.resolve("www.example.test", family=4)
        assert net.name_server_troubles() == {}


async def test_a_silence_is_news_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    server = NameServer(ZONE)
    server.twist = lambda query, response: None
    async with tunnel(server) as net:
        hurry(net)
        with pytest.raises(NameServerFailed):
            await net.resolve("www.example.test", family=4)
        now = boottime() + resolver_module.TROUBLED_SECONDS + 1
        monkeypatch.setattr(resolver_module, "boottime", lambda: now)
        assert net.name_server_troubles() == {}


@pytest.mark.sources
async def test_a_silent_server_makes_the_tunnel_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The far end may have forgotten our session: it takes a handshake to find out."""
    server = NameServer(ZONE)
    async with tunnel(server) as net:
        hurry(net)
        await net.resolve("www.example.test", family=4)
        doubted: list[bytes] = []
        monkeypatch.setattr(net._tunnel, "request_handshake", lambda key, now: doubted.append(key))
        net.doubt(RIGHT)
        assert not doubted  # it has just been heard
        monkeypatch.setattr(reach, "DOUBTFUL", 0.0)
        server.twist = lambda query, response: None
        with pytest.raises(NameServerFailed):
            await net.resolve("four.example.test", family=4)
        assert doubted


async def test_a_server_that_nobody_carries() -> None:
    async with tunnel(None, dns_servers=("192.0.2.53",)) as net:
        with pytest.raises(NameServerFailed, match=r"no peer's allowed IPs cover 192\.0\.2\.53"):
            await net.resolve("www.example.test")


async def test_a_tunnel_that_is_down_is_not_the_servers_fault() -> None:
    async with tunnel(NameServer(ZONE), impairment=Impairment(loss=1.0), dial_timeout=0.05) as net:
        with pytest.raises(NoHandshake):
            await net.resolve("www.example.test")
        with pytest.raises(NoHandshake):
            await net.open_connection("www.example.test", 80)


async def test_search_domains() -> None:
    server = NameServer(ZONE)
    async with tunnel(server, search=("nowhere.test", "example.test")) as net:
        assert await net.resolve("www", family=4) == ["192.0.2.10"]
        assert [name for name, _ in server.questions] == ["www.nowhere.test.", "www.example.test."]
        server.questions.clear()
        assert sorted(await net.resolve("four.example.test", family=4)) == ["192.0.2.4", "192.0.2.44"]
        assert [name for name, _ in server.questions] == ["four.example.test."], (
            "a name with a dot is tried whole first"
        )
        server.questions.clear()
        with pytest.raises(NameNotFound):
            await net.resolve("www.", family=4)
        assert [name for name, _ in server.questions] == ["www."], "a dot at the end forbids the search"


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "a..test", "", ".".join(["abcdefg"] * 40)])
async def test_names_that_are_none(name: str) -> None:
    server = NameServer(ZONE)
    async with tunnel(server) as net:
        with pytest.raises(NameNotFound):
            await net.resolve(name)
        assert not server.questions


async def test_names_beyond_ascii() -> None:
    async with tunnel(NameServer(ZONE)) as net:
        assert await net.resolve("Bücher.example.test", family=4) == ["192.0.2.77"]


async def test_a_slow_family_does_not_hold_up_the_other() -> None:
    server = NameServer(ZONE)

    def no_aaaa(query: dns.message.Message, response: dns.message.Message) -> dns.message.Message | None:
        return None if query.question[0].rdtype == dns.rdatatype.AAAA else response

    server.twist = no_aaaa
    async with tunnel(server) as net:
        async with asyncio.timeout(1.5):
            assert await net.resolve("www.example.test") == ["192.0.2.10"]


async def test_the_resolver_alone_without_servers() -> None:
    resolver = Resolver(None, None, ())  # type: ignore[arg-type]
    with pytest.raises(NameServerFailed, match="the configuration has no DNS ="):
        await resolver.resolve("www.example.test", (4,))


async def test_where_no_server_is() -> None:
    """Its address is said once."""
    async with tunnel(None) as net:
        with pytest.raises(NameServerFailed, match=r"name server 10\.7\.0\.2 refused: nothing listens there$"):
            await net.resolve("www.example.test", family=4)


REVERSE: dict[str, dict[str, list[str]]] = {
    "10.2.0.192.in-addr.arpa": {"PTR": ["www.example.test.", "second.example.test."]},
    "11.2.0.192.in-addr.arpa": {"CNAME": ["11.0-15.2.0.192.in-addr.arpa."]},  # RFC 2317
    "11.0-15.2.0.192.in-addr.arpa": {"PTR": ["delegated.example.test."]},
    "12.2.0.192.in-addr.arpa": {"TXT": ['"no name"']},
    "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["six.example.test."]},
}


async def test_reverse() -> None:
    server = NameServer(REVERSE)
    async with tunnel(server) as net:
        assert sorted(await net.reverse("192.0.2.10")) == ["second.example.test", "www.example.test"]
        assert await net.reverse("192.0.2.11") == ["delegated.example.test"]
        assert await net.reverse("2001:db8::10") == ["six.example.test"]
        asked = len(server.questions)
        assert asked == 3
        assert await net.reverse("192.0.2.11") == ["delegated.example.test"]  # from the cache
        assert len(server.questions) == asked
        for address in ("192.0.2.12", "192.0.2.13"):
            with pytest.raises(NameNotFound, match="has no name"):
                await net.reverse(address)
        with pytest.raises(ValueError, match="does not appear to be"):
            await net.reverse("www.example.test")


async def test_reverse_without_an_answer() -> None:
    server = NameServer(REVERSE)
    server.twist = lambda query, response: None
    async with tunnel(server) as net:
        hurry(net)
        with pytest.raises(NameServerFailed, match="did not answer"):
            await net.reverse("192.0.2.10")
    async with tunnel(None, dns_servers=()) as net:
        with pytest.raises(NameServerFailed, match="no DNS ="):
            await net.reverse("192.0.2.10")


async def test_domains_with_servers_of_their_own() -> None:
    """The longest domain decides, and nobody else is ever asked for a name in it."""
    everybody, corp = (
        NameServer(ZONE),
        NameServer({"git.corp.test": {"A": ["10.7.0.9"]}, "corp.test": {"A": ["10.7.0.8"]}}),
    )
    servers = (DomainServer(OTHER, ("corp.test",)), DomainServer("10.7.0.53", ("dead.corp.test",)))
    async with tunnel(everybody, domain_servers=servers, other=corp) as net:
        hurry(net)
        assert await net.resolve("GIT.corp.test", family=4) == ["10.7.0.9"]
        assert await net.resolve("corp.test.", family=4) == ["10.7.0.8"]
        assert await net.resolve("four.example.test", family=4)
        with pytest.raises(NameNotFound):
            await net.resolve("none.corp.test", family=4)
        with pytest.raises(NameServerFailed):
            await net.resolve("x.dead.corp.test", family=4)
        with pytest.raises(NameNotFound):
            await net.resolve("notcorp.test", family=4)
    assert {name for name, _ in everybody.questions} == {"four.example.test.", "notcorp.test."}
    assert {name for name, _ in corp.questions} == {"git.corp.test.", "corp.test.", "none.corp.test."}


async def test_only_domains_have_servers() -> None:
    corp = NameServer({"git.corp.test": {"A": ["10.7.0.9"]}})
    async with tunnel(None, dns_servers=(), domain_servers=(DomainServer(OTHER, ("corp.test",)),), other=corp) as net:
        assert await net.resolve("git.corp.test", family=4) == ["10.7.0.9"]
        with pytest.raises(NameServerFailed, match="no name server is named for it"):
            await net.resolve("www.example.test")
