"""onetun's one-line forwards: [SOURCE_HOST:]SOURCE_PORT:HOST:PORT[:TCP,UDP], IPv6 addresses in brackets."""

from __future__ import annotations

import re
from typing import Literal

from usernet.config import ClientTunnel, ServerTunnel
from usernet.config.lines import shown
from usernet.config.values import BadValue, bind_address, target
from usernet.errors import UsernetError

_HOST = r"\[[^\]]*\]|[^\[\]:]*"
_FORWARD = re.compile(rf"(?:(?P<source>{_HOST}):)?(?P<port>\d+):(?P<target>(?:{_HOST}):\d+)(?::(?P<kinds>[A-Za-z,]+))?")
_REMEDIES = {
    "--forward": "write [SOURCE_HOST:]SOURCE_PORT:HOST:PORT[:TCP,UDP], such as 127.0.0.1:8080:10.0.0.1:80",
    "--remote": "write PORT:HOST:PORT[:TCP,UDP], such as 8080:127.0.0.1:80",
}

Kind = Literal["tcp", "udp"]


class BadForward(UsernetError):
    """A forward that cannot be read."""


def parse_forward(text: str) -> list[ClientTunnel]:
    """From an address of this machine, 127.0.0.1 where none is named, to one inside the tunnel."""
    source, port, there, kinds = _split(text, "--forward")
    try:
        host, number = bind_address(f"{source or '127.0.0.1'}:{port}")
        found = target(there)
    except BadValue as bad:
        raise BadForward(f"--forward {shown(text)}: {bad.message}; {bad.remedy}") from None
    return [ClientTunnel(kind, host, number, found) for kind in kinds]


def parse_remote(text: str) -> list[ServerTunnel]:
    """From a port inside the tunnel, on all of its addresses, to one that this machine reaches."""
    source, port, there, kinds = _split(text, "--remote")
    if source:
        raise BadForward(
            f"--remote {shown(text)}: it listens on all of the tunnel's addresses; leave {shown(source)} out"
        )
    try:
        _, number = target(f"x:{port}")
        found = target(there)
    except BadValue as bad:
        raise BadForward(f"--remote {shown(text)}: {bad.message}; {bad.remedy}") from None
    return [ServerTunnel(kind, number, found) for kind in kinds]


def _split(text: str, flag: str) -> tuple[str, str, str, list[Kind]]:
    match = _FORWARD.fullmatch(text)
    if match is None:
        raise BadForward(f"{flag} {shown(text)}: this is no forward; {_REMEDIES[flag]}")
    kinds: list[Kind] = []
    for word in (match["kinds"] or "TCP").upper().split(","):
        if word == "TCP":
            kinds.append("tcp")
        elif word == "UDP":
            kinds.append("udp")
        else:
            raise BadForward(f"{flag} {shown(text)}: {shown(word)} is neither TCP nor UDP; {_REMEDIES[flag]}")
    return match["source"] or "", match["port"], match["target"], list(dict.fromkeys(kinds))
