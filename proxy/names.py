"""Hosts as clients write them: an address literal, or a name.

`parse_host` is the one gate: SOCKS and HTTP dialogues both come through it, so what one refuses the other does too.  It
gives text the dialer can trust: a canonical address, or a lower-case name in A-labels.
"""

from __future__ import annotations

import re
import socket

MAX_NAME = 253  # RFC 1035 section 2.3.4: 255 on the wire is 253 as text
LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"  # with the underscore that real names have
NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*\.?")


class BadHost(ValueError):
    """Not an address and not a name.  Carries nothing of the input."""


def parse_address(text: str) -> str | None:
    """The canonical form of an IPv4 or IPv6 literal, or None.  No zone ids, no short or octal forms."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):  # ValueError: an embedded NUL
        return None


def parse_host(raw: bytes) -> str:
    """An address or name from a client's bytes.  Raises BadHost."""
    if not 0 < len(raw) <= MAX_NAME:
        raise BadHost("the length of a host is 1 to 253")
    try:
        text = raw.decode("ascii") if raw.isascii() else _to_ascii(raw)
    except UnicodeError:
        raise BadHost("not a name") from None
    address = parse_address(text)
    if address is not None:
        return address
    text = text.lower()
    if NAME.fullmatch(text) is None or len(text) > MAX_NAME:
        raise BadHost("not a name")
    if "xn--" in text and not all(map(_is_a_label, text.split("."))):
        raise BadHost("not a name")
    return text


def _is_a_label(label: str) -> bool:
    """Whether a label that claims to be Punycode is (not more: IDNA 2003 and 2008 differ on what it may say)."""
    if not label.startswith("xn--"):
        return True
    try:
        return not label[4:].encode("ascii").decode("punycode").isascii()
    except UnicodeError:
        return False


def _to_ascii(raw: bytes) -> str:
    """U-labels to A-labels (RFC 3490; the standard library's codec)."""
    return raw.decode("utf-8").encode("idna").decode("ascii")


def authority(host: str, port: int) -> str:
    """As `host:port` (RFC 3986 section 3.2), an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_port(raw: bytes) -> int:
    """A decimal port 1..65535.  Raises BadHost."""
    # isdigit() of bytes is ASCII only; the length bound keeps 2^32+443 from becoming a big number first
    if not raw.isdigit() or len(raw) > 5 or not 0 < int(raw) < 65536:
        raise BadHost("a port is 1 to 65535")
    return int(raw)
