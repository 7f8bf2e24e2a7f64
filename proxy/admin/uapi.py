"""WireGuard's userspace configuration protocol without any I/O: what `wg` says to a userspace implementation.

Read https://www.wireguard.com/xplatform/, "Configuration Protocol".  The steps:

1. `Framer`: bytes -> whole requests, each up to an empty line
2. `parse`: a request -> `Get`, or a frozen `Set`
3. `apply`, in uapi_apply.py: a configuration and a `Set` -> another configuration; pure: a set is all or nothing
4. `describe`: a configuration and statistics -> the lines of a `get`

Here keys are shown, since `wg` needs them; the socket is for us and root only.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from usernet.burst.packets import Address
from usernet.config import Config, Network, format_network
from usernet.config.values import BadValue, endpoint, is_address, mask, network, number
from usernet.errors import UsernetError
from usernet.wireguard.statistics import PeerStatistics

REQUEST_MAX: Final = 32 << 20  # B; a peer with 130,000 allowed IPs takes 4 MB
NO_KEY: Final = bytes(32)
_KEY: Final = re.compile("[0-9a-fA-F]{64}")


class UapiError(UsernetError):
    """A request that is refused.  `number`: of errno.h."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True, slots=True)
class Get:
    """`get=1`."""


@dataclass(frozen=True, slots=True)
class PeerChange:
    """What is said about one peer; None: nothing."""

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    preshared_key: bytes | None = field(default=None, repr=False)  # NO_KEY: none from now on
    endpoint: tuple[str, int] | None = None
    persistent_keepalive: int | None = None
    replace_allowed_ips: bool = False
    allowed_ips: tuple[tuple[bool, Network], ...] = ()  # in their order; false: it is taken away


@dataclass(frozen=True, slots=True)
class Set:
    """`set=1`; None: nothing is said about it."""

    private_key: bytes | None = field(default=None, repr=False)
    listen_port: int | None = None  # 0: any
    fwmark: int | None = None
    replace_peers: bool = False
    peers: tuple[PeerChange, ...] = ()


class Framer:
    """Bytes -> requests, without the empty line at their end.  What a request has above the limit is not kept."""

    def __init__(self) -> None:
        self._buf = bytearray()
        self._searched = 0
        self._too_long = False

    def receive_data(self, data: bytes) -> None:
        self._buf += data

    def next_request(self) -> bytes | None:
        """None: more is needed.  UapiError for one that was too long, when all of it has come."""
        end = self._buf.find(b"\n\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(self._buf)
            if self._searched > REQUEST_MAX:
                del self._buf[:-1]  # its last byte may be half of the end
                self._searched, self._too_long = 1, True
            return None
        request = bytes(self._buf[:end])
        del self._buf[: end + 2]
        self._searched = 0
        too_long, self._too_long = self._too_long, False
        if too_long or len(request) > REQUEST_MAX:
            raise UapiError(errno.EMSGSIZE, f"a request may have {REQUEST_MAX} bytes")
        return request


# Parsing


def parse(request: bytes) -> Get | Set:
    """Raises UapiError, whose text holds no key."""
    try:
        lines = request.decode("ascii").lstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise UapiError(errno.EPROTO, "it is not ASCII") from None
    pairs = [_pair(line) for line in lines]
    match pairs[0]:
        case ("get", "1"):
            if len(pairs) > 1:
                raise UapiError(errno.EPROTO, "get=1 stands alone")
            return Get()
        case ("set", "1"):
            return _parse_set(pairs[1:])
        case _:
            raise UapiError(errno.EPROTO, "a request begins with get=1 or set=1")


def _pair(line: str) -> tuple[str, str]:
    key, equals, value = line.partition("=")
    if not equals:
        raise UapiError(errno.EPROTO, "a line is not key=value")
    return key, value


def _parse_set(pairs: list[tuple[str, str]]) -> Set:
    blocks: list[list[tuple[str, str]]] = [[]]
    for pair in pairs:
        if pair[0] == "public_key":
            blocks.append([])
        blocks[-1].append(pair)
    private_key: bytes | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    replace_peers = False
    for name, value in blocks[0]:
        match name:
            case "private_key":
                private_key = _key(name, value)
            case "listen_port":
                listen_port = _number(name, value, 65535)
            case "fwmark":
                fwmark = _number(name, value, 0xFFFF_FFFF)
            case "replace_peers":
                replace_peers = _true(name, value)
            case _:
                raise _unknown(name)
    return Set(private_key, listen_port, fwmark, replace_peers, tuple(map(_parse_peer, blocks[1:])))


def _parse_peer(pairs: list[tuple[str, str]]) -> PeerChange:
    peer = PeerChange(_key(*pairs[0]))
    allowed: list[tuple[bool, Network]] = []
    for name, value in pairs[1:]:
        match name:
            case "remove":
                peer = replace(peer, remove=_true(name, value))
            case "update_only":
                peer = replace(peer, update_only=_true(name, value))
            case "preshared_key":
                peer = replace(peer, preshared_key=_key(name, value))
            case "endpoint":
                peer = replace(peer, endpoint=_endpoint(value))
            case "persistent_keepalive_interval":
                peer = replace(peer, persistent_keepalive=_number(name, value, 65535))
            case "replace_allowed_ips":
                peer, allowed = replace(peer, replace_allowed_ips=_true(name, value)), []
            case "allowed_ip":
                allowed.append(_allowed_ip(value))
            case "protocol_version":
                if value != "1":
                    raise UapiError(errno.EPROTONOSUPPORT, "protocol_version is 1")
            case _:
                raise _unknown(name)
    return replace(peer, allowed_ips=tuple(allowed))


def _unknown(name: str) -> UapiError:
    return UapiError(errno.EINVAL, f"there is no {name[:32]!r} here")


def _key(name: str, value: str) -> bytes:
    if not _KEY.fullmatch(value):
        raise UapiError(errno.EINVAL, f"{name} is not 64 hexadecimal digits")
    return bytes.fromhex(value)


def _true(name: str, value: str) -> bool:
    if value != "true":
        raise UapiError(errno.EINVAL, f"{name} can only be true")
    return True


def _number(name: str, value: str, most: int) -> int:
    try:
        return number(value, 0, most, "")
    except BadValue:
        raise UapiError(errno.EINVAL, f"{name} is not a number from 0 to {most}") from None


def _endpoint(value: str) -> tuple[str, int]:
    """IP:port or [IP]:port: names have been resolved by whoever asks."""
    try:
        host, port = endpoint(value)
    except BadValue as bad:
        raise UapiError(errno.EINVAL, f"endpoint: {bad}") from None
    if not is_address(host.partition("%")[0]):
        raise UapiError(errno.EINVAL, "endpoint is not an address")
    return host, port


def _allowed_ip(value: str) -> tuple[bool, Network]:
    try:
        return not value.startswith("-"), mask(network(value.removeprefix("-")))
    except BadValue as bad:
        raise UapiError(errno.EINVAL, f"allowed_ip: {bad}") from None


# Describing


def describe(
    config: Config, listen_port: int, statistics: Iterable[PeerStatistics], *, secrets: bool
) -> Iterator[tuple[str, object]]:
    """The keys and values of a `get`, in its order; without `secrets` keys that are secret read REDACTED."""

    def secret(key: bytes) -> str:
        return key.hex() if secrets else "REDACTED"

    if config.interface.private_key != NO_KEY:
        yield "private_key", secret(config.interface.private_key)
    if listen_port:
        yield "listen_port", listen_port
    peers = {peer.public_key: peer for peer in config.peers}
    for found in statistics:
        peer = peers[found.public_key]
        yield "public_key", found.public_key.hex()
        if peer.preshared_key is not None:
            yield "preshared_key", secret(peer.preshared_key)
        yield "protocol_version", 1
        if found.endpoint is not None:
            yield "endpoint", _format_endpoint(found.endpoint)
        seconds, nanoseconds = divmod(found.last_handshake_wall_ns or 0, 1_000_000_000)
        yield "last_handshake_time_sec", seconds
        yield "last_handshake_time_nsec", nanoseconds
        yield "tx_bytes", found.tx_bytes
        yield "rx_bytes", found.rx_bytes
        yield "persistent_keepalive_interval", peer.persistent_keepalive
        for net in peer.allowed_ips:
            yield "allowed_ip", format_network(net)


def _format_endpoint(address: Address) -> str:
    host, port = address[:2]
    scope = f"%{address[3]}" if len(address) == 4 and address[3] else ""
    return f"[{host}{scope}]:{port}" if ":" in host else f"{host}:{port}"


def encode(pairs: Iterable[tuple[str, object]]) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in pairs).encode("ascii")
