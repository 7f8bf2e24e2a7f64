"""The load generator of `make bench` counts exactly, and reaches the far side by every way it knows."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.interop.conftest import running
from tests.support.lab import INNER_FAR, SINK_PORT, Lab
from tests.support.load import LoadFailed, load, program
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

WAIT = 0.02


class Origin:
    """Answers each request after WAIT seconds, and counts; every `refuses`-th connection is closed at once."""

    def __init__(self, refuses: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.refuses, self.lock = refuses, threading.Lock()
        self.connections = self.requests = self.refused = 0

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                if self.refuses and self.connections % self.refuses == 0:
                    self.refused += 1
                    client.close()
                else:
                    threading.Thread(target=self.answer, args=(client,)).start()

    def answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while request := client.recv(4096):
                assert request.endswith(b"\r\n\r\n")
                time.sleep(WAIT)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
                with self.lock:
                    self.requests += 1


@contextlib.contextmanager
def origin(refuses: int = 0) -> Iterator[Origin]:
    needs("rustc")
    there = Origin(refuses)
    thread = threading.Thread(target=there.accept)
    thread.start()
    try:
        yield there
    finally:
        there.listener.shutdown(socket.SHUT_RDWR)
        there.listener.close()
        thread.join()


def get(port: int, **options: object) -> dict[str, float]:
    return load([], "get", via="direct", proxy=f"127.0.0.1:{port}", to="192.0.2.129:80", **options)


def test_requests_are_counted_and_timed() -> None:
    with origin() as there:
        seen = get(there.port, clients=4, seconds=1)
    # Each client's first is not counted; nor is its last, if time was up before its answer came.
    assert seen["requests"] + 4 <= there.requests <= seen["requests"] + 8
    assert there.connections == 4
    assert seen["connections"] == seen["errors"] == 0
    assert seen["rate"] == seen["requests"] <= 4 / WAIT
    assert WAIT * 1000 <= seen["p50_ms"] <= seen["p99_ms"] <= seen["max_ms"]


def test_fresh_connections_and_errors_are_counted() -> None:
    with origin(refuses=5) as there:
        seen = get(there.port, clients=4, seconds=1, fresh=1)
    assert seen["connections"] + 4 == there.connections
    assert seen["errors"] == there.refused > 0
    assert there.requests + there.refused == there.connections


def test_every_way_reaches_the_far_side(gso_lab: Lab) -> None:
    needs("rustc")
    size = 3_000_001
    gso_lab.blob("some", size)
    proxy, web = "127.0.0.1:1080", f"{INNER_FAR}:80"
    blob = (gso_lab.dir / "site" / "some").stat().st_size
    with running(gso_lab, gso_lab.config()):
        near = gso_lab.near_command()
        for via in ("socks5", "http", "connect"):
            for fresh in ({}, {"fresh": 1}):
                seen = load(near, "get", via=via, proxy=proxy, to=web, clients=3, seconds=0.3, **fresh)
                assert seen["requests"] > 0 == seen["errors"], seen
        down = load(near, "down", via="socks5", proxy=proxy, to=web, streams=2, path="/some")
        up = load(near, "up", via="socks5", proxy=proxy, to=f"{INNER_FAR}:{SINK_PORT}", streams=2, bytes=size)
        held = load(near, "hold", via="socks5", proxy=proxy, to=web, count=40)
        refused = load(near, "get", via="socks5", proxy=proxy, to=f"{INNER_FAR}:9", clients=1, seconds=0.1)
    assert (down["bytes"], down["errors"]) == (2 * blob, 0)
    assert (up["bytes"], up["errors"]) == (2 * size, 0)
    assert (held["up"], held["errors"]) == (40, 0)
    assert refused["requests"] == 0
    assert refused["error"] == "SOCKS5 reply 5"


def test_udp_goes_there_and_back_or_the_reason_is_told(gso_lab: Lab) -> None:
    needs("rustc")
    order = {"proxy": "127.0.0.1:1080", "to": f"{INNER_FAR}:7", "clients": 1, "seconds": 1, "size": 9}
    echo = gso_lab.start(gso_lab.far_command(program(), "echo", f"at={INNER_FAR}:7"), log="echo.log")
    try:
        with running(gso_lab, gso_lab.config()):
            assert load(gso_lab.near_command(), "udp", **order)["datagrams"] > 0
    finally:
        gso_lab.end(echo)
    with pytest.raises(LoadFailed):  # there is no proxy any more
        load(gso_lab.near_command(), "udp", **order)
