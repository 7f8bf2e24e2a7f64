"""Lines to paste into a shell."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.daemon.narrator import format_endpoint
from proxy.daemon.serving import Bound


def shell_lines(bound: Sequence[Bound], url: str) -> list[str]:
    """How to point programs at the first listener of each protocol, and a first command to try."""
    lines = []
    socks = next((one for one in bound if one.listen.socks5 and not one.listen.inside), None)
    http = next((one for one in bound if one.listen.http and not one.listen.inside), None)
    if socks is not None:
        lines.append(f"export ALL_PROXY=socks5h://{authority(socks)}")
    if http is not None:
        lines.append(f"export http_proxy=http://{authority(http)} https_proxy=http://{authority(http)}")
    if socks is not None:
        lines.append(f"curl -x socks5h://{authority(socks)} {url}")
    elif http is not None:
        lines.append(f"curl -x http://{authority(http)} {url}")
    return lines


def authority(bound: Bound) -> str:
    """Where credentials are needed a place for them is shown, never they themselves."""
    host, port = bound.client_address
    user = "" if bound.listen.username is None else "USER:PASSWORD@"
    return f"{user}[{host}]:{port}" if ":" in host else f"{user}{host}:{port}"


def pac_url(bound: Sequence[Bound]) -> str | None:
    """Of the first listener that has it.  Not in TLS: its certificate is for a name that may be any."""
    http = next((one for one in bound if one.listen.http and not one.listen.inside), None)
    return None if http is None else f"http://{format_endpoint(http.client_address)}/proxy.pac"
