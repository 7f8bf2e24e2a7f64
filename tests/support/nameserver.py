"""A name server of our own inside the tunnel, over UDP and TCP, whose misbehaviour a test can choose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from usernet.aio.network import Network

Reply = Callable[[dns.message.Message, dns.message.Message], dns.message.Message | bytes | None]


class NameServer:
    """Answers from `zone`, {name: {type: [text, ...]}}; a name that is absent does not exist.

    `questions` are those asked, in order.  `twist(query, response)` may change the response, or give bytes, or None for
    silence.  `truncate` makes UDP answers too long for UDP.
    """

    def __init__(self, zone: dict[str, dict[str, list[str]]], *, ttl: int = 60, negative_ttl: int = 30) -> None:
        self.zone = {name.rstrip(".") + ".": records for name, records in zone.items()}
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self.questions: list[tuple[str, str]] = []
        self.over_tcp = 0
        self.twist: Reply | None = None
        self.truncate = False
        self.hold: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, net: Network, address: str | None = None) -> None:
        datagrams = await net.open_datagrams(local_addr=(address, 53))
        await net.start_server(self._serve_tcp, address, 53)

        async def answer() -> None:
            while True:
                try:
                    data, source = await datagrams.receive()
                except OSError:
                    return
                if self.hold is not None:
                    await self.hold.wait()
                response = self._respond(data, over_udp=True)
                if response is not None:
                    datagrams.send(response, (source[0], source[1]))

        task = asyncio.ensure_future(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        self.over_tcp += 1
        response = self._respond(await reader.readexactly(size), over_udp=False)
        if response is not None:
            writer.write(len(response).to_bytes(2, "big") + response)
        writer.close()

    def _respond(self, data: bytes, *, over_udp: bool) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.questions.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
        response: dns.message.Message | bytes | None = self._answer(query)
        if self.twist is not None:
            assert isinstance(response, dns.message.Message)
            response = self.twist(query, response)
        if isinstance(response, dns.message.Message):
            if self.truncate and over_udp:
                response.answer.clear()
                response.flags |= dns.flags.TC
            response = response.to_wire(max_size=65535)
        return response

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        question = query.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        while name in self.zone:
            records = self.zone[name]
            alias = records.get("CNAME")
            texts = records.get(kind) or alias
            if texts:
                owned = "CNAME" if texts is alias else kind
                response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", owned, *texts))
            if texts is not alias or alias is None:
                break
            name = alias[0]
        if not response.answer:
            soa = f"ns.test. admin.test. 1 2 3 4 {self.negative_ttl}"
            response.authority.append(dns.rrset.from_text("test.", 3600, "IN", "SOA", soa))
            if name not in self.zone:
                response.set_rcode(dns.rcode.NXDOMAIN)
        return response
