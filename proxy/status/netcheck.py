"""What netcheck has found, as people read it: see proxy/daemon/netcheck.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def lines(found: dict[str, Any]) -> Iterator[str]:
    for family, way in found["families"].items():
        name = family.replace("ip", "IP")
        yield f"{name}: no way out" if way is None else f"{name}: from {way['source']}{_by(way['interface'])}"
    udp = found["udp"]
    for one in udp["sockets"] if udp is not None else ():
        has = [name for name, there in (("GSO", one["gso"]), ("GRO", one["gro"])) if there] or ["neither GSO nor GRO"]
        yield f"UDP port {udp['port']}, {one['family']}: {' and '.join(has)}, receive buffer {one['receive_buffer']} B"
    yield f"TUN: {found['tun']}"
    for peer in found["peers"]:
        answers = f"answers in {peer['handshake_ms']} ms" if peer.get("handshake_ms") is not None else "does not answer"
        size = f", packets up to {peer['mtu']} B" if peer.get("mtu") else ""
        yield f"peer {peer['peer']} at {peer['endpoint'] or 'nowhere'}: {answers}{size}"
        for address, took in peer.get("answers", {}).items():
            yield f"  {address}: {'does not answer' if took is None else f'answers in {took} ms'}"
    for finding in found["findings"]:
        yield f"! {finding}"
    if not found["findings"]:
        yield "nothing is in the way"


def _by(interface: str) -> str:
    return f" by {interface}" if interface else ""
