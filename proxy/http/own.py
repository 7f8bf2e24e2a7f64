"""The proxy's own pages: a table of paths, answered to GET and HEAD in origin-form.

A page may say what a stranger should not read.  So it is given to whoever names the proxy rightly: the Host field must
be the address that the connection came to, or a name that the proxy was told is its own.  A web site whose name is made
to point here (DNS rebinding) is refused, as is a script of another site that includes the page as one of its own.

They have their lines in the access log, with the path as the route; not so what is asked every few seconds by probes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from proxy.client import Client, Terms
from proxy.http.head import HeadError, RequestHead
from proxy.http.target import parse_authority
from proxy.names import authority


class Visit(NamedTuple):
    """Who asks, and how.  `host`: that of the proxy as the client wrote it; `authority`: with port, and brackets."""

    host: str
    authority: str
    secure: bool
    terms: Terms


class Content(NamedTuple):
    media_type: str
    body: bytes
    status: int = 200


Page = Callable[[Visit], Content | Awaitable[Content]]


class OwnPages:
    """`pages` and `probes` by path; `hostnames`: those of the proxy besides its addresses."""

    __slots__ = ("_hostnames", "_pages", "_probes")

    def __init__(
        self, pages: Mapping[bytes, Page], hostnames: Iterable[str] = (), probes: Mapping[bytes, Page] | None = None
    ) -> None:
        self._pages = dict(pages)
        self._probes = dict(probes or {})
        self._hostnames = frozenset(hostnames)

    def answer(
        self, head: RequestHead, local: tuple[str, int], secure: bool, client: Client
    ) -> bytes | Awaitable[bytes] | None:
        """A whole response, or None where the request is for none of them.  `local`: what the connection came to.

        Where a page takes its time it is to be awaited.
        """
        path = head.target.partition(b"?")[0]
        page = self._pages.get(path) or self._probes.get(path)
        if page is None or head.method not in (b"GET", b"HEAD"):
            return None
        named = authority_of(head, secure)
        if named is None or not self._is_ours(named, local):
            return None
        host, port = named
        if path in self._pages:
            client.ask(head.method.decode(), host, port)
            client.route = path.decode()
        content = page(Visit(host, authority(host, port), secure, client.terms))
        return _said(content, head, client) if isinstance(content, Content) else _later(content, head, client)

    def _is_ours(self, named: tuple[str, int], local: tuple[str, int]) -> bool:
        return named[0] in self._hostnames or (named[1] == local[1] and is_local(named[0], local[0]))

    def has(self, path: bytes, named: tuple[str, int], local: tuple[str, int]) -> bool:
        """Whether there is such a page for who calls the proxy so."""
        return path in self._pages and self._is_ours(named, local)


def authority_of(head: RequestHead, secure: bool) -> tuple[str, int] | None:
    """What the Host field calls us, where it is well formed."""
    try:
        return parse_authority(head.meant.get(b"host", [b""])[0], 443 if secure else 80)
    except HeadError:
        return None


def is_local(host: str, address: str) -> bool:
    """`localhost` is never asked of a resolver by browsers (RFC 6761 section 6.3), so nobody can make it point here."""
    return host == address or (host == "localhost" and ip_address(address).is_loopback)


async def _later(content: Awaitable[Content], head: RequestHead, client: Client) -> bytes:
    return _said(await content, head, client)


def _said(content: Content, head: RequestHead, client: Client) -> bytes:
    words = respond(content, head)
    client.down = len(words) if head.method == b"GET" else words.index(b"\r\n\r\n") + 4
    client.end(words[9:12].decode())
    return words


def respond(content: Content, head: RequestHead) -> bytes:
    """With an ETag that its content makes (RFC 9110 section 8.8.3), and 304 where the client has it already."""
    if content.status != 200:
        from proxy.http.answer import answer  # brings the phrases of all of HTTP's statuses

        return answer(content.status, content.body.decode().rstrip("\n"))
    tag = b'"%b"' % hashlib.blake2b(content.body, digest_size=12).hexdigest().encode()
    known = b",".join(value for name, value in head.fields if name.lower() == b"if-none-match")
    fresh = any(one.strip(b" \t").removeprefix(b"W/") in (tag, b"*") for one in known.split(b","))
    lines = [
        b"HTTP/1.1 304 Not Modified" if fresh else b"HTTP/1.1 200 OK",
        b"ETag: " + tag,
        b"Cache-Control: no-cache",  # keep it, but ask whether it is still right
        b"Cross-Origin-Resource-Policy: same-origin",
        b"X-Content-Type-Options: nosniff",
        b"Connection: close",
    ]
    if not fresh:
        lines += [b"Content-Type: " + content.media_type.encode(), b"Content-Length: %d" % len(content.body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if fresh else content.body)
