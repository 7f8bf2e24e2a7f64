"""A Status to begin from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.status.snapshot import PeerStatus, Status, StreamStatus

NOW = 1_800_000_000.0
KEY = "tUYQcC2cMi0BkoRTb5lSrXIDeFy3yQyBjCDWjYcGmFQ="
OTHER_KEY = "6Pz0x0y9ZpDbMVtqEr1bgNrdZq9e3fEOtzNTGq0cGlw="


def a_peer(**changes: Any) -> PeerStatus:
    """One that works."""
    peer = PeerStatus(
        KEY, "192.0.2.1:51820", ("10.0.0.0/24",), NOW - 24, True, 3, 5_000_000, 1_000_000, 250_000.0, 12_000.0, 25,
        True, None, "",
    )  # fmt: skip
    return replace(peer, **changes)


def a_stream(**changes: Any) -> StreamStatus:
    stream = StreamStatus(
        "127.0.0.1:40122", "alice", "SOCKS5 CONNECT", "example.org:443", "tunnel", NOW - 65, 517, 4096, 10.0, 2048.0
    )
    return replace(stream, **changes)


def a_status(**changes: Any) -> Status:
    status = Status(
        version="1.2.3", name="wg0", pid=4711, state="running", started=NOW - 3723, at=NOW, mode="userspace-networking",
        kernel="native", loop="uvloop", public_key=OTHER_KEY, addresses=("10.0.0.2", "fd00::2"), mtu=1420,
        listen_port=51820, peers=(a_peer(),), rx_rate=250_000.0, tx_rate=12_000.0,
        listeners=("SOCKS5 and HTTP on 127.0.0.1:1080",), forwards=(),
        hints=("export ALL_PROXY=socks5h://127.0.0.1:1080", "curl -x socks5h://127.0.0.1:1080 https://example.org/"),
        pac="http://127.0.0.1:1080/proxy.pac", clients=1, accepted=7, up_bytes=517,
        down_bytes=4096, streams=(a_stream(),), streams_total=1, dialled=6, refused={"dns_error": 2, "idle": 1},
        requests={"socks5": 5, "socks4": 0, "http-connect": 1, "http-forward": 1},
        drops={"tunnel": {"replayed": 2}, "stack": {}}, tcp_connections={"ESTABLISHED": 1}, tcp_segments_resent=3,
        health=(), recent=(),
    )  # fmt: skip
    return replace(status, **changes)
