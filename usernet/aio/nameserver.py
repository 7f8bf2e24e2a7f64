"""One question to one DNS server through the tunnel.  Read RFC 1035 4, RFC 2308, RFC 5452, RFC 6891, RFC 7766.

UDP from a fresh random port with a random id; TCP where the answer was cut short.  An answer counts only if id,
question and source are those of the question; anything else is passed over, and the wait goes on (RFC 5452 9.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:  # costs 60 ms: imported with the first question
    from dns.message import Message, QueryMessage

DNS_PORT: Final = 53
EDNS_BYTES: Final = 1232  # RFC 6891 6.2.5; fits the smallest tunnel unfragmented


class Socket(Protocol):
    """The part of a connected UDP socket that asking needs."""

    def send(self, data: bytes) -> None: ...

    async def receive(self) -> tuple[bytes, object]: ...

    def close(self) -> None: ...


class Ways(Protocol):
    """The part of Network that reaches a name server."""

    def doubt(self, address: str) -> None: ...

    async def reach(self, addresses: Sequence[str]) -> None: ...

    async def open_datagrams(self, *, remote_addr: tuple[str, int]) -> Socket: ...

    async def open_connection(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


class ServerTrouble(Exception):
    """The server answered, but with nothing of use: another may."""


class Answer(NamedTuple):
    """What a server said.  Without addresses the name has none of that family, or (not exists) is not there at all.

    A PTR question's `addresses` are absolute names.

    `alias` is the end of a chain of CNAMEs whose addresses were not in the message: ask for that.
    """

    addresses: tuple[str, ...]
    exists: bool
    ttl: int  # s
    alias: str = ""


async def ask(net: Ways, server: str, name: str, record: str) -> Answer:
    """The `record` (A, AAAA or PTR) of the absolute `name`.  Raises ServerTrouble or OSError; waits without limit."""
    import dns.rcode

    response = await _exchange(net, server, name, record, edns=True)
    if response.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):  # RFC 6891 7: a server from before EDNS
        response = await _exchange(net, server, name, record, edns=False)
    if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise ServerTrouble(f"answered {dns.rcode.to_text(response.rcode())}")
    return _read(response)


async def _exchange(net: Ways, server: str, name: str, record: str, *, edns: bool) -> QueryMessage:
    import dns.flags
    import dns.message

    ident = int.from_bytes(os.urandom(2), "big")
    query = dns.message.make_query(
        name, record, use_edns=0 if edns else False, payload=EDNS_BYTES if edns else None, id=ident
    )
    wire = query.to_wire()
    with contextlib.closing(await net.open_datagrams(remote_addr=(server, DNS_PORT))) as datagrams:
        datagrams.send(wire)
        while True:
            data, _ = await datagrams.receive()  # only from the server: the socket is connected
            response = _parse(query, data)
            if response is not None:
                break
    if response.flags & dns.flags.TC:  # RFC 7766 5
        response = await _exchange_tcp(net, server, query, wire)
    return response


async def _exchange_tcp(net: Ways, server: str, query: Message, wire: bytes) -> QueryMessage:
    reader, writer = await net.open_connection(server, DNS_PORT)
    try:
        writer.write(len(wire).to_bytes(2, "big") + wire)
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            response = _parse(query, await reader.readexactly(size))
            if response is not None:
                return response
    except asyncio.IncompleteReadError:
        raise ServerTrouble("closed its TCP connection without an answer") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _parse(query: Message, data: bytes) -> QueryMessage | None:
    import dns.message

    try:
        response = dns.message.from_wire(data, ignore_trailing=True)
        if isinstance(response, dns.message.QueryMessage) and query.is_response(response):
            return response
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes make the parser do, it was no answer
        return None
    return None


def _read(response: QueryMessage) -> Answer:
    import dns.exception
    import dns.message
    import dns.rcode
    import dns.rdatatype

    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException as error:
        raise ServerTrouble(f"answered nonsense: {error}") from None
    if chain.answer is not None:
        if chain.answer.rdtype == dns.rdatatype.PTR:
            return Answer(tuple(record.target.to_text() for record in chain.answer), True, chain.minimum_ttl)
        return Answer(tuple(record.address for record in chain.answer), True, chain.minimum_ttl)
    if response.rcode() == dns.rcode.NXDOMAIN:
        return Answer((), False, chain.minimum_ttl)
    has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)
    if chain.cnames and not has_soa:  # RFC 2308 2.2 tells the two apart by the SOA
        return Answer((), True, chain.minimum_ttl, chain.canonical_name.to_text())
    return Answer((), True, chain.minimum_ttl)


def absolute_names(name: str, search: tuple[str, ...]) -> list[str]:
    """The absolute names to try for what a user wrote, in order.  ValueError if it is no legal name."""
    import dns.exception
    import dns.name

    wholes = [name, *(f"{name}.{domain}" for domain in search)]
    if name.endswith("."):
        wholes = [name]
    elif "." not in name:  # as resolvers do with ndots:1, a name with a dot is first taken for a whole one
        wholes = wholes[1:] + wholes[:1]
    try:
        names = [dns.name.from_text(whole).to_text().lower() for whole in wholes]
    except (dns.exception.DNSException, UnicodeError):
        raise ValueError(f"{name!r} is not a legal name") from None
    if "." in names:
        raise ValueError("the root of all names has no address")
    return names
