"""The [Access] section: who may use the proxies, and which way each destination goes.

User       = alice:$scrypt$...                               name:password, or name:hash
AllowFrom  = 192.0.2.0/24, 2001:db8::/32                     clients' own addresses
Upstream   = office socks5://10.0.0.5:1080                   another proxy, reached through the tunnel
Upstream   = tor socks5://127.0.0.1:9050 through direct
Rule       = refuse * port 25
Rule       = office .partner.example port 443 user alice     the first rule that fits decides
Rule       = direct .example.org, 192.0.2.0/24
NameServer = 10.0.0.53 .corp.example                         asked, through the tunnel, for that domain
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, cast
from urllib.parse import unquote

from usernet.config.hashes import is_hash, parse_hash
from usernet.config.lines import shown
from usernet.config.model import Access, AccessRule, DomainServer, Network, Upstream, User
from usernet.config.values import (
    BadValue,
    credential,
    host_name,
    is_address,
    looks_like_address,
    mask,
    network,
    port_range,
    target,
)

BUILT_IN: Final = ("tunnel", "direct", "refuse")
SCHEMES: Final = ("socks4", "socks5", "http")

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")
_RULE_REMEDY = "write ROUTE DESTINATION..., such as `direct .example.org 192.0.2.0/24 port 443 user alice`"
_UPSTREAM_REMEDY = "write NAME URL, such as `office socks5://10.0.0.5:1080 through tunnel`"


def user(text: str) -> User:
    """`name:password` or `name:hash`."""
    name, colon, secret = text.partition(":")
    if not colon or not name or not secret:
        raise BadValue("a user is NAME:PASSWORD or NAME:HASH", "make one with `usernet passwd NAME`")
    if is_hash(secret.strip()):
        parse_hash(secret.strip())
    return User(credential(name.strip()), credential(secret.strip()))


def upstream(text: str) -> Upstream:
    """`name scheme://[user:password@]host:port [through tunnel|direct]`."""
    words = text.split()
    through = "tunnel"
    if len(words) == 4 and words[2].lower() == "through":
        through = words[3].lower()
        words = words[:2]
    if len(words) != 2 or through not in ("tunnel", "direct"):
        raise BadValue("an upstream is NAME URL, and perhaps `through tunnel` or `through direct`", _UPSTREAM_REMEDY)
    name, url = words[0].lower(), words[1]
    if not _WORD.fullmatch(name) or name in BUILT_IN:
        raise BadValue(f"{shown(words[0])} cannot be the name of an upstream", "choose a word such as office")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower().replace("socks5h", "socks5").replace("socks4a", "socks4")
    if not separator or scheme not in SCHEMES:
        raise BadValue("the URL does not begin with one of socks4://, socks5:// and http://", _UPSTREAM_REMEDY)
    login, at, where = rest.rstrip("/").rpartition("@")
    username, colon, password = (unquote(part) for part in login.partition(":"))
    if at and (not username or (scheme != "socks4" and not colon)):
        raise BadValue("the URL's login is not USER:PASSWORD", _UPSTREAM_REMEDY)
    return Upstream(
        name,
        cast(Literal["socks4", "socks5", "http"], scheme),
        target(where),
        username if at else None,
        password if at else None,
        cast(Literal["tunnel", "direct"], through),
    )


def rule(text: str) -> AccessRule:
    """`route destination... [port ports] [user names]`."""
    route, *words = text.replace(",", " ").split() or [""]
    if not _WORD.fullmatch(route):
        raise BadValue(f"{shown(route)} is not a route", _RULE_REMEDY)
    parts: dict[str, list[str]] = {"": []}
    current = ""
    for word in words:
        if word.lower() in ("port", "ports", "user", "users"):
            current = word.lower().rstrip("s")
            if current in parts:
                raise BadValue(f"{current} is there twice", _RULE_REMEDY)
            parts[current] = []
        else:
            parts[current].append(word)
    for part, found in parts.items():
        if not found:
            raise BadValue(f"no {part or 'destination'} is named", _RULE_REMEDY)
    names, suffixes, networks = _destinations([word for word in parts[""] if word != "*"])
    return AccessRule(
        route=route.lower(),
        everything="*" in parts[""],
        names=frozenset(names),
        suffixes=tuple(suffixes),
        networks=tuple(networks),
        ports=tuple(map(port_range, parts.get("port", ()))),
        users=frozenset(parts.get("user", ())),
        text=" ".join(text.split()),
    )


def _destinations(words: Iterable[str]) -> tuple[list[str], list[str], list[Network]]:
    names: list[str] = []
    suffixes: list[str] = []
    networks: list[Network] = []
    for word in words:
        if is_address(word.partition("/")[0].strip("[]")):
            networks.append(_unmapped(mask(network(word.replace("[", "").replace("]", "")))))
        elif word.startswith((".", "*.")) and host_name(word.lstrip("*")[1:]):
            suffixes.append("." + _ascii(word.lstrip("*")[1:]))
        elif host_name(word) and not looks_like_address(word):
            names.append(_ascii(word))
        else:
            raise BadValue(
                f"{shown(word)} is not a destination",
                "write *, a name such as example.org, .example.org for it and all below it, or a network",
            )
    return names, suffixes, networks


def _unmapped(net: Network) -> Network:
    """A v4-mapped network (RFC 4291 section 2.5.5.2) as IPv4: so its addresses are dialled, and asked about."""
    packed, length = net
    return (packed[12:], length - 96) if length >= 96 and packed.startswith(bytes(10) + b"\xff\xff") else net


def _ascii(name: str) -> str:
    return name.encode("idna").decode("ascii").lower().rstrip(".") if not name.isascii() else name.lower().rstrip(".")


def name_server(text: str) -> DomainServer:
    """`address domain...`."""
    server, *domains = text.replace(",", " ").split() or [""]
    remedy = "write ADDRESS DOMAIN..., such as 10.0.0.53 .corp.example"
    if not is_address(server):
        raise BadValue(f"{shown(server)} is not the address of a name server", remedy)
    if not domains:
        raise BadValue("no domain is named", "write DNS = in [Interface] for a server that is asked for every name")
    for domain in domains:
        if not host_name(domain.removeprefix("*").removeprefix(".")):
            raise BadValue(f"{shown(domain)} is not a domain", remedy)
    return DomainServer(server, tuple(_ascii(domain.removeprefix("*").removeprefix(".")) for domain in domains))


def make_access(
    found: Mapping[str, Any], others: Iterable[str | None], wrong: Callable[[int, str, str], None]
) -> Access:
    """The section's values, and what is wrong with them together; `others`: users that other sections name."""
    access = Access(
        users=_lines(found, "user"),
        allow_from=tuple(mask(net) for nets, _ in found.get("allowfrom", ()) for net in nets or ()),
        upstreams=_lines(found, "upstream"),
        rules=_lines(found, "rule"),
        name_servers=_lines(found, "nameserver"),
    )
    several: tuple[tuple[User | Upstream, ...], ...] = (access.users, access.upstreams)
    for of in several:
        first: dict[str, int] = {}
        for one in of:
            line = first.setdefault(one.name, one.line)
            if line != one.line:
                wrong(one.line, f"line {line} has the same name", "give each a name of its own")
    routes = [*BUILT_IN, *(one.name for one in access.upstreams)]
    users = {one.name for one in access.users} | set(others)
    for rule in access.rules:
        if rule.route not in routes:
            wrong(rule.line, f"Rule: there is no route {shown(rule.route)}", "the routes are " + ", ".join(routes))
        for name in sorted(rule.users - users):
            wrong(rule.line, f"Rule: there is no user {shown(name)}", "write a line User = for it")
    return access


def _lines(found: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    return tuple(replace(value, line=line) for value, line in found.get(key, ()) if value is not None)
