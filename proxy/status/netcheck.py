"""What netcheck has found, as people read it: see proxy/daemon/netcheck.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def lines(found: dict[str, Any]) -> Iterator[str]:
    for family, source in found["families"].items():
        yield f"{family.replace('ip', 'IP')}: {f'from {source}' if source else 'no way out'}"
    udp = found["udp"]
    for one in udp["sockets"] if udp is not None else ():
        has = [name for name, there in (("GSO", one["gso"]), ("GRO", one["gro"])) if there] or ["neither GSO nor GRO"]
        yield f"UDP port {udp['port']}, {one['family']}: {' and '.join(has)}, receive buffer {one['receive_buffer']} B"
    yield f"TUN: {found['tun']}"
    for peer in found["peers"]:
        answers = f"answers in {peer['handshake_ms']} ms" if peer.get("handshake_ms") is not None else "does not answer"
        size = f", packets of {peer['mtu']} B go there" if peer.get("mtu") else ""
        yield f"peer {peer['peer']} at {peer['endpoint'] or 'nowhere'}: {answers}{size}"
    for finding in found["findings"]:
        yield f"! {finding}"
    if not found["findings"]:
        yield "nothing is in the way"
