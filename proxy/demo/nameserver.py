"""The far side's name server: one name, over UDP (RFC 1035), so that the demo resolves names through the tunnel too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL = 60  # s


class NameServer(asyncio.DatagramProtocol):
    """`hosts` maps an absolute name to its addresses; other names do not exist."""

    def __init__(self, hosts: Mapping[str, tuple[str, ...]]) -> None:
        self._hosts = hosts
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # what create_datagram_endpoint promises

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        if self._transport is not None and not query.flags & dns.flags.QR and query.question:
            self._transport.sendto(self._answer(query).to_wire(), addr)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        answer = dns.message.make_response(query, recursion_available=True)
        addresses = self._hosts.get(question.name.to_text().lower())
        if addresses is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer
        kinds = {"A": ".", "AAAA": ":"}
        kind = dns.rdatatype.to_text(question.rdtype)
        mine = [address for address in addresses if kinds.get(kind, " ") in address]
        if mine:
            answer.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, *mine))
        return answer
