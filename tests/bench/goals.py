"""The rows of the report and what is asked of them: ratios to the better of sing-box and onetun in the same run.

A goal is for each kernel under uvloop; the other loop is only reported.
"""

from __future__ import annotations

from dataclasses import dataclass

RIVALS_BEST, ABSOLUTE = "the better rival", "as it is"


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str
    more: bool = False  # is more better?
    native: float | None = None
    python: float | None = None
    beside: str = RIVALS_BEST  # what a goal is a ratio to: or another row's key, of the same candidate or the machine

    def goal(self, candidate: str) -> float | None:
        return {"native+uvloop": self.native, "python+uvloop": self.python}.get(candidate)

    def met(self, value: float, goal: float) -> bool:
        return value >= goal if self.more else value <= goal


def _bulk(kind: str, far: str, down: tuple[float, float], up: tuple[float, float] | None) -> list[Row]:
    up_native, up_python = up or (None, None)
    return [
        Row(f"{kind} down 1", f"download, one stream{far}", "MB/s", True, *down),
        Row(f"{kind} down 8", f"download, eight streams{far}", "MB/s", True),
        Row(f"{kind} up 1", f"upload, one stream{far}", "MB/s", True, up_native, up_python),
        Row(f"{kind} up 8", f"upload, eight streams{far}", "MB/s", True),
        Row(f"{kind} down 1 cpu", f"CPU, download{far}", "s/GB", False, *((0.5, 1.2) if up else ())),
        Row(f"{kind} up 1 cpu", f"CPU, upload{far}", "s/GB", False, *((0.5, 1.2) if up else ())),
    ]


def _requests(key: str, title: str, native: float, python: float) -> list[Row]:
    return [
        Row(key, title, "requests/s", True, native, python),
        Row(f"{key} p50", f"{title}, p50", "ms"),
        Row(f"{key} p99", f"{title}, p99", "ms"),
        Row(f"{key} cpu", f"{title}, CPU", "µs/request"),
    ]


ROWS = [
    *_bulk("go-gso", "", (1.5, 0.7), (4, 2)),
    Row("packet", "CPU per packet of a download, to AEAD alone", "µs", False, 4, None, beside="aead"),
    Row("aead", "AEAD alone, 1,420 bytes (openssl speed)", "µs"),
    *_bulk("debian", ", far peer without GSO", (1.0, 0.4), None),
    Row("buffers down 1", "download, default socket buffers, to its own with large ones", "MB/s", True, 0.95, 0.95,
        beside="go-gso down 1"),
    Row("buffers up 1", "upload, default socket buffers, to its own with large ones", "MB/s", True, 0.95, 0.95,
        beside="go-gso up 1"),
    *_requests("socks5", "50 clients, SOCKS5, keep-alive", 1.0, 0.5),
    *_requests("http", "50 clients, HTTP forwarding, keep-alive", 2, 1),
    *_requests("socks5 fresh", "50 clients, SOCKS5, new connection each", 1.0, 0.6),
    *_requests("http fresh", "50 clients, HTTP forwarding, new connection each", 1.0, 0.6),
    Row("one p50", "one client, p50", "ms", False, 1.0, 1.2),
    Row("one p99", "one client, p99", "ms", False, 1.0, 1.2),
    Row("udp", "UDP ASSOCIATE, 512 bytes there and back", "datagrams/s", True),
    Row("udp cpu", "UDP ASSOCIATE, 512 bytes there and back, CPU", "µs/datagram"),
    Row("first byte", "start to first byte", "s"),
    Row("start", "resident memory at start", "MB"),
    Row("peak", "resident memory, peak (not of the 10,000)", "MB", False, 0.2, 0.2),
    Row("1000 each", "1,000 held connections", "KiB each", False, 12, 12, beside=ABSOLUTE),
    Row("10000 each", "10,000 held connections", "KiB each", False, 12, 12, beside=ABSOLUTE),
    Row("10000 idle", "10,000 held connections, idle", "% of a core"),
    Row("10000 kept", "10,000 held connections, 10 s after their end", "MB kept"),
]  # fmt: skip
