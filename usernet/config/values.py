"""Parsers of single values.  Each takes the text behind the `=` and gives a legal value, or raises BadValue.

What `wg` takes is taken (wireguard-tools, src/config.c), and read as `wg` reads it.  No message holds a key.
"""

from __future__ import annotations

import binascii
import re

from usernet.config.lines import shown
from usernet.config.model import KEY_BYTES, Network
from usernet.wire.ip import format_address, pack_address

MIN_MTU = 576  # RFC 791: every IPv4 host takes this
MAX_MTU = 65_440  # with WireGuard's 32 bytes still one UDP datagram, in either family

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_DECIMAL = re.compile(r"[0-9]{1,10}")
_FWMARK = re.compile(r"off|0x[0-9a-f]{1,8}|[0-9]{1,10}", re.IGNORECASE)


class BadValue(Exception):
    """A value that is not one: what is wrong, and what would be right."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def words(text: str) -> list[str]:
    """The items of a comma list; empty ones, as a trailing comma makes, are left out."""
    return [word for word in (item.strip() for item in text.split(",")) if word]


def number(text: str, low: int, high: int, remedy: str) -> int:
    """A decimal number; ASCII digits only, which `int()` alone would not see to."""
    if not _DECIMAL.fullmatch(text) or not low <= int(text) <= high:
        raise BadValue(f"{shown(text)} is not a number from {low} to {high}", remedy)
    return int(text)


def key(text: str) -> bytes:
    """32 bytes in base64, with its padding, as `wg genkey` prints them."""
    remedy = "write the 44 characters that `usernet genkey`, `pubkey` or `genpsk` prints"
    if not text:
        raise BadValue("the key is empty", remedy)
    try:
        raw = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadValue(f"the key is not base64 ({len(text)} characters)", remedy) from None
    if len(raw) != KEY_BYTES:
        raise BadValue(f"the key is {len(raw)} bytes long instead of {KEY_BYTES}", remedy)
    if binascii.b2a_base64(raw, newline=False) != text.encode("ascii"):
        raise BadValue("the key's last character has bits that belong to no byte", remedy)
    return raw


def preshared_key(text: str) -> bytes | None:
    """As `key`; all zeros is no key (WireGuard paper, 5.4: psk defaults to zeros)."""
    raw = key(text)
    return raw if any(raw) else None


def port(text: str) -> int:
    """A port to listen on; 0 is any."""
    return number(text, 0, 65535, "write a port such as 51820")


def forwarded_port(text: str) -> int:
    """A port inside the tunnel, which others must know."""
    return number(text, 1, 65535, "write the port that others connect to through the tunnel, such as 8080")


def port_range(text: str) -> tuple[int, int]:
    """`443`, or `8000-8999`."""
    low, dash, high = text.partition("-")
    if not (low.isascii() and low.isdigit() and len(low) <= 5):
        raise BadValue(f"{shown(text)} is not a port", "write a port such as 443, or a range such as 8000-8999")
    if not dash:
        high = low
    if not (high.isascii() and high.isdigit() and len(high) <= 5) or not 0 < int(low) <= int(high) < 65536:
        raise BadValue(f"{shown(text)} is not a range of ports", "write one such as 8000-8999")
    return int(low), int(high)


def mtu(text: str) -> int:
    return number(text, MIN_MTU, MAX_MTU, "leave it out for 1420, or write 1280, which works everywhere")


def keepalive(text: str) -> int:
    """Seconds, 0 for `off`."""
    return 0 if text.lower() == "off" else number(text, 0, 65535, "write `off` or a number of seconds such as 25")


def fwmark(text: str) -> int:
    """0 for `off`."""
    if text.lower() == "off":
        return 0
    mark = int(text, 0 if "x" in text.lower() else 10) if _FWMARK.fullmatch(text) else 1 << 32
    if mark >= 1 << 32:
        raise BadValue(f"{shown(text)} is not a mark", "write `off`, or a number of 32 bits such as 0xca6c")
    return mark


def table(text: str) -> int | None:
    """One of the kernel's routing tables; None for `auto`, 0 for `off`."""
    named = {"auto": None, "off": 0, "default": 253, "main": 254, "local": 255}
    if text.lower() in named:
        return named[text.lower()]
    return number(text, 1, (1 << 32) - 1, "write `auto`, `off`, or the number of a table")


def command(text: str) -> tuple[str, ...]:
    """A shell's, whatever it is; nothing is none."""
    return (text,) if text else ()


def network(text: str) -> Network:
    """`10.0.0.1/24`, `fd00::1/64`, or an address alone, whose prefix is then its whole length."""
    if len(text.split()) > 1 and " /" not in text and "/ " not in text:
        raise BadValue(f"{shown(text)} is more than one address", "put a comma between them")
    address, slash, length = text.partition("/")
    try:
        packed = pack_address(address.strip())
    except ValueError:
        raise BadValue(f"{shown(text)} is not an IP address", "write one such as 10.0.0.2/32 or fd00::2/128") from None
    bits = len(packed) * 8
    return packed, number(length.strip(), 0, bits, f"write a prefix length up to {bits}") if slash else bits


def networks(text: str) -> tuple[Network, ...]:
    return tuple(network(word) for word in words(text))


def mask(net: Network) -> Network:
    """The network with its host bits cleared."""
    address, length = net
    bits = len(address) * 8
    value = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return value.to_bytes(len(address), "big"), length


def format_network(net: Network) -> str:
    return f"{format_address(net[0])}/{net[1]}"


def dns(text: str) -> tuple[str, ...]:
    """Name servers and search domains, told apart as wg-quick does: what is no address is a domain."""
    found = []
    for word in words(text):
        try:
            found.append(format_address(pack_address(word)))
        except ValueError:
            if not host_name(word) or looks_like_address(word):
                raise BadValue(
                    f"{shown(word)} is neither an address nor a domain",
                    "write a name server's IP address, or a search domain",
                ) from None
            found.append(word.lower().rstrip("."))
    return tuple(found)


def is_address(text: str) -> bool:
    try:
        pack_address(text)
    except ValueError:
        return False
    return True


def looks_like_address(text: str) -> bool:
    """`10.0.0.300` was meant as an address: no top-level domain is a number (RFC 3696 2)."""
    return text.rstrip(".").rpartition(".")[2].isdigit()


def host_name(text: str) -> bool:
    """RFC 1123 2.1, with the underscore that people's zones do have; other scripts as IDNA makes them."""
    try:
        ascii_name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return len(ascii_name) <= 253 and _HOST_NAME.fullmatch(ascii_name) is not None


def endpoint(text: str) -> tuple[str, int]:
    """`host:port` or `[IPv6]:port`: a name is resolved when the tunnel starts, and again when it does not answer."""
    host, host_port = _host_and_port(text, "write host:port or [IPv6]:port, such as vpn.example.org:51820")
    if not host:
        raise BadValue("the endpoint has no host", "write host:port, such as vpn.example.org:51820")
    if host_port == 0:
        raise BadValue("an endpoint's port cannot be 0", "write the peer's ListenPort, such as 51820")
    return host, host_port


def target(text: str) -> tuple[str, int]:
    """`host:port` or `[IPv6]:port` of whoever answers, outside of the tunnel."""
    remedy = "write host:port, such as 127.0.0.1:8080"
    host, host_port = _host_and_port(text, remedy)
    if not host:
        raise BadValue("the target has no host", remedy)
    if host_port == 0:
        raise BadValue("a target's port cannot be 0", remedy)
    return host, host_port


def bind_address(text: str) -> tuple[str, int]:
    """`host:port`, `[IPv6]:port`, or `:port` for every address; port 0 is any."""
    port = text if text.isascii() and text.isdigit() else "1080"
    return _host_and_port(text, f"write host:port, such as 127.0.0.1:{port}")


def _host_and_port(text: str, remedy: str) -> tuple[str, int]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or not rest.startswith(":"):
            raise BadValue(f"{shown(text)} has no port behind its bracket", remedy)
        if ":" not in host or not _is_scoped_address(host):
            raise BadValue(f"{shown(host)} in brackets is not an IPv6 address", remedy)
        return host, number(rest[1:], 0, 65535, remedy)
    # The last colon, as `wg` does; so an IPv6 address works without brackets too.
    host, colon, port_text = text.rpartition(":")
    if not text:
        raise BadValue("the value is empty", remedy)
    if not colon:
        raise BadValue(f"{shown(text)} has no {'host' if text.isdigit() else 'port'}", remedy)
    if host and not (_is_scoped_address(host) or (host_name(host) and not looks_like_address(host))):
        raise BadValue(f"{shown(host)} is neither an address nor a name", remedy)
    return host, number(port_text, 0, 65535, remedy)


def _is_scoped_address(text: str) -> bool:
    """Outer addresses, unlike inner ones, may name an interface: fe80::1%eth0."""
    address, percent, scope = text.partition("%")
    return is_address(address) and (
        not percent or (":" in address and re.fullmatch(r"[\w.-]{1,15}", scope) is not None)
    )


def reserved(text: str) -> bytes:
    """Three bytes, as `a, b, c` or four characters of base64."""
    remedy = "write three numbers up to 255 such as 1, 2, 3, or four characters of base64"
    if "," in text:
        numbers = [number(word, 0, 255, remedy) for word in words(text)]
        if len(numbers) != 3:
            raise BadValue(f"there are {len(numbers)} numbers instead of 3", remedy)
        return bytes(numbers)
    try:
        raw = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadValue(f"{shown(text)} is not base64", remedy) from None
    if len(raw) != 3:
        raise BadValue(f"{shown(text)} is {len(raw)} bytes instead of 3", remedy)
    return raw


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise BadValue(f"{shown(text)} is neither true nor false", "write true or false")
    return text.lower() == "true"


def credential(text: str) -> str:
    """A user name or a password: RFC 1929 gives either at most 255 bytes."""
    if not 1 <= len(text.encode()) <= 255:
        raise BadValue("it is empty or longer than 255 bytes", "write 1 to 255 bytes")
    return text


def resolve_strategy(text: str) -> str:
    """Which family's addresses come first."""
    if text.lower() not in ("auto", "ipv4", "ipv6"):
        raise BadValue(f"{shown(text)} is none of auto, ipv4 and ipv6", "write one of them, or leave it out for auto")
    return text.lower()


def proxy_header(text: str) -> str:
    """The version of the PROXY protocol that is spoken to a target."""
    if text.lower() not in ("v1", "v2"):
        raise BadValue(f"{shown(text)} is neither v1 nor v2", "write one of them, or leave it out for no header")
    return text.lower()


def inactivity(text: str) -> float:
    return number(text, 0, 31_536_000, "write the seconds without a datagram after which a client is forgotten, or 0")


def path(text: str) -> str:
    if not text or "\0" in text:
        raise BadValue("it is no path", "write the path of a PEM file")
    return text


def addresses(text: str) -> tuple[str, ...]:
    """IP literals."""
    found = []
    for word in words(text):
        if not is_address(word):
            raise BadValue(
                f"{shown(word)} is not an address", "write IP addresses such as 10.0.0.1, with commas between"
            )
        found.append(format_address(pack_address(word)))
    return tuple(found)


def interval(text: str) -> int:
    return number(text, 1, 86_400, "write the seconds between two pings, such as 5")
