"""Configurations for the tests of this folder."""

from __future__ import annotations

import base64

from usernet.config import Config, parse


def config(addresses: str, *allowed: str, extra: str = "") -> Config:
    """One peer for each of `allowed`; `extra` are lines of [Interface]."""
    key = base64.b64encode(bytes(31) + b"A").decode()
    peers = "".join(
        f"[Peer]\nPublicKey = {base64.b64encode(bytes([number]) * 32).decode()}\nAllowedIPs = {nets}\n"
        for number, nets in enumerate(allowed, 1)
    )
    text = f"[Interface]\nPrivateKey = {key}\nAddress = {addresses}\n{extra}\n{peers}"
    return parse(text, "wg0.conf", kernel=True)
