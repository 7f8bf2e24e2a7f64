"""What helps to understand a bug, as text that everybody may see: no key, no password, nobody's address."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final

from proxy.daemon.redacting import Redactor
from proxy.status.netcheck import lines as network_lines
from proxy.status.snapshot import Status
from proxy.status.verdict import judge
from usernet.config import Config
from usernet.tun.candidates import USERSPACE

_FLAG: Final = re.compile(r"--[a-z][a-z0-9-]*|-v+")


def report(status: Status, config: Config, network: dict[str, Any]) -> str:
    """A few dozen lines.  `network`: what netcheck has found."""
    return "\n".join(_lines(status, config, network)) + "\n"


def _lines(status: Status, config: Config, network: dict[str, Any]) -> Iterator[str]:
    redactor = Redactor(config)
    verdict = judge(status)
    inside = status.mode if status.mode == USERSPACE else "an interface of the kernel's"
    yield f"usernet {status.version}, {status.kernel} kernel, {status.loop}, {inside}"
    yield f"Python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = "a container" if _contained() else "no container"
    yield f"{cores} cores, uid {'0' if os.geteuid() == 0 else 'not 0'}, {where}"
    yield f"up {time.time() - status.started:.0f} s: {redactor.text(f'{verdict.title}. {verdict.detail}')}"
    yield f"flags: {' '.join(_flags(sys.argv[1:])) or 'none'}"
    yield ""
    yield from redactor.outline()
    yield f"listeners: {len(status.listeners)}, forwards: {len(status.forwards)}, MTU: {status.mtu}"
    yield ""
    for number, peer in enumerate(status.peers, 1):
        shaken = "never" if peer.latest_handshake is None else f"{status.at - peer.latest_handshake:.0f} s ago"
        yield (
            f"PEER-{number} at {redactor.text(peer.endpoint) if peer.endpoint else 'no address'}: handshake {shaken}, "
            f"{peer.handshakes} in all, rx {peer.rx_bytes} B, tx {peer.tx_bytes} B"
        )
    yield from map(redactor.text, network_lines(network))
    yield ""
    for name in _counters(status):
        yield f"{name}: {getattr(status, name)}"
    for part, drops in status.drops.items():
        yield f"drops, {part}: {drops or 'none'}"
    yield ""
    for trouble in status.health:
        yield f"health: {redactor.text(trouble.text)}"
    for entry in status.recent:
        ago = f"{status.at - entry.last:.0f} s ago"
        yield f"{entry.level}, {entry.count} times, last {ago}: {redactor.text(entry.message)}"


def _flags(arguments: list[str]) -> Iterator[str]:
    """Their names, without values."""
    for argument in arguments:
        if _FLAG.fullmatch(name := argument.partition("=")[0]):
            yield name


def _counters(status: Status) -> list[str]:
    """Numbers, and tables of them."""
    plain = {"pid", "mtu", "listen_port", "rx_rate", "tx_rate"}
    return [
        field.name
        for field in fields(status)
        if field.name not in plain
        and (isinstance(getattr(status, field.name), int) or field.name in ("refused", "requests", "tcp_connections"))
    ]


def _contained() -> bool:
    return (
        any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv"))
        or "KUBERNETES_SERVICE_HOST" in os.environ
    )
