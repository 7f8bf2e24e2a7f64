"""Request targets (RFC 9112 section 3.2), and the fields that end at a proxy (RFC 9110 section 7.6.1).

A proxy takes two of the four forms: `host:port` with CONNECT, and `http://host[:port]/path` with all other methods.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.http.head import Fields, HeadError, RequestHead
from proxy.names import BadHost, parse_host, parse_port

AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@?#\\%]+))(?::([0-9]+))?")  # no userinfo, no zone id
AUTHORITY_END = re.compile(rb"[/?]")
VIA = b"1.1 usernet"

# Always between two neighbours only; Proxy-* besides
HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"te", b"trailer", b"upgrade"))
# What a Connection field may name in vain: the message would be read differently without them
NEVER_REMOVED = frozenset((b"host", b"content-length", b"transfer-encoding"))


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
    """Absolute-form with the scheme http.  Raises HeadError."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() != b"http":
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


def find(fields: Fields, wanted: bytes) -> bytes | None:
    """The value of the first field of this (lower-case) name."""
    return next((value for name, value in fields if name.lower() == wanted), None)


def wants_upgrade(head: RequestHead) -> bytes | None:
    """The Upgrade field's value, where it is meant (RFC 9110 section 7.8); HTTP/1.0 cannot mean it."""
    return find(head.fields, b"upgrade") if b"upgrade" in head.options and head.minor == 1 else None


def end_to_end(fields: Fields, options: frozenset[bytes], *, request: bool) -> Fields:
    """The fields to forward, of a message with these Connection options.  The caller adds what the next hop needs."""
    dropped = (HOP_BY_HOP | options) - NEVER_REMOVED
    kept: Fields = []
    for name, value in fields:
        lower = name.lower()
        if lower in dropped or (lower.startswith(b"proxy-") and (request or lower != b"proxy-status")):
            continue
        kept.append((name, value))
    return kept


def fields_to_origin(head: RequestHead, target: Target) -> Fields | None:
    """The fields to send on, or None where the request ends here (RFC 9110 section 7.6.2, Max-Forwards)."""
    fields: Fields = [(b"Host", target.authority)]  # RFC 9112 section 3.2.2: whatever the client's Host says
    limited = head.method in (b"TRACE", b"OPTIONS")
    for name, value in end_to_end(head.fields, head.options, request=True):
        lower = name.lower()
        if lower == b"max-forwards" and limited and value.isdigit():
            value = value.lstrip(b"0")[:9]  # more hops than that are no different
            if not value:
                return None
            value = b"%d" % (int(value) - 1)
        if lower != b"host":
            fields.append((name, value))
    fields.append((b"Via", VIA))
    upgrade = wants_upgrade(head)
    if upgrade is not None:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]
    return fields
