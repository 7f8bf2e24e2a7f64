"""What helps to understand a bug, as text that everybody may see: no key, no password, nobody's address."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from proxy.status.snapshot import Status
from proxy.status.verdict import judge
from usernet.config import Config


def report(status: Status, config: Config) -> str:
    """A few dozen lines."""
    return "\n".join(_lines(status, config)) + "\n"


def _lines(status: Status, config: Config) -> Iterator[str]:
    verdict = judge(status)
    yield f"usernet {status.version}, {status.kernel} kernel, {status.loop}, {status.mode}"
    yield f"Python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = "a container" if _contained() else "no container"
    yield f"{cores} cores, uid {'0' if os.geteuid() == 0 else 'not 0'}, {where}"
    yield f"up {time.time() - status.started:.0f} s: {verdict.title}. {verdict.detail}"
    yield ""
    interface = config.interface
    yield (
        f"[Interface] {len(interface.addresses)} addresses, MTU {status.mtu}, {len(interface.dns)} name servers, "
        f"ListenPort {'set' if interface.listen_port else 'any'}"
    )
    for number, (peer, configured) in enumerate(zip(status.peers, config.peers, strict=False), 1):
        shaken = "never" if peer.latest_handshake is None else f"{status.at - peer.latest_handshake:.0f} s ago"
        yield (
            f"[Peer] {number}: {_endpoint(configured.endpoint)}, {len(configured.allowed_ips)} allowed IPs"
            f"{', of which a default route' if any(length == 0 for _, length in configured.allowed_ips) else ''}, "
            f"keepalive {peer.persistent_keepalive} s, PSK {'yes' if configured.preshared_key else 'no'}; "
            f"handshake {shaken}, {peer.handshakes} in all, rx {peer.rx_bytes}, tx {peer.tx_bytes}"
            f"{'; ' + peer.trouble if peer.trouble else ''}"
        )
    access = config.access
    yield (
        f"{len(status.listeners)} listeners, {len(status.forwards)} forwards, {len(access.users)} users, "
        f"{len(access.rules)} rules, {len(access.upstreams)} upstreams"
    )
    yield ""
    for name in _counters(status):
        yield f"{name}: {getattr(status, name)}"
    for where, drops in status.drops.items():
        yield f"drops, {where}: {drops or 'none'}"
    yield ""
    for trouble in status.health:
        yield f"health: {trouble.text}"
    for entry in status.recent:
        ago = f"{status.at - entry.last:.0f} s ago"
        yield f"{entry.level}, {entry.count} times, last {ago}: {_without_hosts(entry.message)}"
    yield f"command: {' '.join(argument.partition('=')[0] for argument in sys.argv[1:] if argument.startswith('-'))}"


def _counters(status: Status) -> list[str]:
    """Numbers, and tables of them."""
    plain = {"pid", "mtu", "listen_port", "rx_rate", "tx_rate"}
    return [
        field.name
        for field in fields(status)
        if field.name not in plain
        and (isinstance(getattr(status, field.name), int) or field.name in ("refused", "requests", "tcp_connections"))
    ]


def _endpoint(endpoint: Any) -> str:
    if endpoint is None:
        return "no endpoint"
    host = endpoint[0]
    if ":" in host:
        return "an IPv6 endpoint"
    return "an IPv4 endpoint" if host.replace(".", "").isdigit() else "an endpoint by name"


def _without_hosts(message: str) -> str:
    """Addresses and names are whose report it is to tell."""
    words = []
    for word in message.split(" "):
        bare = word.strip(",;:()[]")
        is_address = (bare.count(".") == 3 and bare.replace(".", "").replace(":", "").isdigit()) or bare.count(":") > 1
        is_name = "." in bare and bare.rpartition(".")[2].partition(":")[0].isalpha() and not bare.startswith("/")
        words.append("HOST" if is_address or is_name else word)
    return " ".join(words)


def _contained() -> bool:
    return (
        any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv"))
        or "KUBERNETES_SERVICE_HOST" in os.environ
    )
