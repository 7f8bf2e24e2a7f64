"""Request targets (RFC 9112 section 3.2), and the fields that end at a proxy (RFC 9110 section 7.6.1).

A proxy takes two of the four forms: `host:port` with CONNECT, and `http://host[:port]/path` with all other methods.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.http.head import Fields, HeadError, RequestHead, ResponseHead, elements
from proxy.names import BadHost, parse_host, parse_port

AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@?#\\%]+))(?::([0-9]+))?")  # no userinfo, no zone id
SCHEMES = (b"http", b"ws")  # the latter is how aiohttp asks for a WebSocket; its port is 80, too (RFC 6455 section 3)
AUTHORITY_END = re.compile(rb"[/?]")

# Always between two neighbours only; Proxy-* besides
HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"te", b"trailer", b"upgrade"))
# What a Connection field may name in vain: the message would be read differently without them
NEVER_REMOVED = frozenset((b"host", b"content-length", b"transfer-encoding"))
HOST_ALONE = frozenset((b"host",))
HOST_AND_EXPECT = frozenset((b"host", b"expect"))
LIMITED = frozenset((b"TRACE", b"OPTIONS"))  # by Max-Forwards


class Target(NamedTuple):
    host: str
    port: int
    authority: bytes  # for the Host field
    path: bytes  # origin-form, or `*`


def parse_authority(raw: bytes, default_port: int | None) -> tuple[str, int]:
    """`host:port`.  Raises HeadError; so it does without a port where there is no default."""
    match = AUTHORITY.fullmatch(raw)
    if match is None:
        raise HeadError(400, "a malformed host and port")
    literal, name, port = match.groups()
    if port is None and default_port is None:
        raise HeadError(400, "the port is missing")
    try:
        host = parse_host(literal or name)
        number = parse_port(port) if port is not None else default_port or 0
    except BadHost:
        raise HeadError(400, "an invalid host or port") from None
    if (literal is not None) != (":" in host):
        raise HeadError(400, "brackets are for IPv6 addresses")
    return host, number


def parse_connect(target: bytes) -> tuple[str, int]:
    """Authority-form.  Raises HeadError."""
    return parse_authority(target, None)


def parse_absolute(method: bytes, target: bytes) -> Target:
    """Absolute-form.  Raises HeadError."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in SCHEMES:
        raise HeadError(400, "the target of a request to a proxy begins with http://")
    if b"#" in target:  # RFC 9112 section 3.2.2: absolute-URI has no fragment
        raise HeadError(400, "a fragment in the target")
    authority = AUTHORITY_END.split(rest, 1)[0]
    path = rest[len(authority) :]
    host, port = parse_authority(authority, 80)
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"  # RFC 9112 section 3.2.4
    elif path.startswith(b"?"):
        path = b"/" + path
    return Target(host, port, authority, path)


def wants_upgrade(head: RequestHead) -> bytes | None:
    """The Upgrade field's value, where it is meant (RFC 9110 section 7.8); HTTP/1.0 cannot mean it.

    With a body it is left out, as a hop may: some parsers (llhttp's way of reading CONNECT) then take that for the new
    protocol's first bytes.
    """
    if b"upgrade" not in head.options or head.minor == 0 or head.framing:
        return None
    return b", ".join(head.meant.get(b"upgrade", ())) or None


def expects_continue(head: RequestHead) -> bool:
    """Whether the client may wait for a 100 with its body (RFC 9110 section 10.1.1).  Raises HeadError."""
    expected = head.meant.get(b"expect")
    if expected is None or head.minor == 0:  # HTTP/1.0 cannot mean it
        return False
    if len(expected) > 1 or expected[0].lower() != b"100-continue":
        raise HeadError(417, "an expectation other than 100-continue")
    return head.framing != 0  # else there is nothing to go on with


def came_from(head: RequestHead, name: bytes) -> bool:
    """Whether the proxy of this name has forwarded the request already (RFC 9110 section 7.6.3): a loop."""
    if b"via" not in head.meant:
        return False
    return any(part.split()[1:2] == [name.lower()] for part in elements(head.meant, b"via"))


def via_field(head: RequestHead | ResponseHead, name: bytes) -> tuple[bytes, bytes]:
    """It goes behind those that are there."""
    return b"Via", b"1.%d %b" % (head.minor, name)


def end_to_end(
    fields: Fields, options: frozenset[bytes], *, request: bool, replaced: frozenset[bytes] = frozenset()
) -> Fields:
    """The fields to forward, of a message with these Connection options.  The caller adds what the next hop needs, and
    for those that it has `replaced`."""
    dropped = (HOP_BY_HOP | options) - NEVER_REMOVED if options else HOP_BY_HOP
    if replaced:
        dropped |= replaced
    kept: Fields = []
    for field in fields:
        lower = field[0].lower()
        if lower in dropped or (lower.startswith(b"proxy-") and (request or lower != b"proxy-status")):
            continue
        kept.append(field)
    return kept


def fields_to_origin(head: RequestHead, target: Target) -> Fields | None:
    """The fields to send on, or None where the request ends here (RFC 9110 section 7.6.2, Max-Forwards).

    Raises HeadError.
    """
    limited = head.method in LIMITED
    if limited and head.method == b"TRACE" and head.framing:  # RFC 9110 section 9.3.8: no content
        raise HeadError(400, "TRACE has no body")
    # RFC 9112 section 3.2.2: the target's host, whatever the client's Host says
    fields: Fields = [(b"Host", target.authority)]
    replaced = HOST_ALONE if expects_continue(head) else HOST_AND_EXPECT
    fields += end_to_end(head.fields, head.options, request=True, replaced=replaced)
    if limited:
        for at, (name, value) in enumerate(fields):
            if name.lower() == b"max-forwards" and value.isdigit():
                hops = value.lstrip(b"0")[:9]  # more hops than that are no different
                if not hops:
                    return None
                fields[at] = name, b"%d" % (int(hops) - 1)
    options: list[bytes] = []
    upgrade = wants_upgrade(head)
    if upgrade is not None:
        options.append(b"Upgrade")
        fields.append((b"Upgrade", upgrade))
    if b"te" in head.meant and head.minor and b"trailers" in elements(head.meant, b"te"):
        # RFC 9110 section 10.1.4: said hop by hop, and true of this one, since trailers pass through
        options.append(b"TE")
        fields.append((b"TE", b"trailers"))
    if options:
        fields.append((b"Connection", b", ".join(options)))
    return fields
