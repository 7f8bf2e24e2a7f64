"""A real kernel behind a real WireGuard peer connects to what `usernet run` forwards to sockets of its own host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.interop.conftest import running
from tests.support.lab import INNER_FAR, INNER_NEAR, INNER_NEAR6, Lab, run, socket_in, wait_for
from usernet.stack.forward import PENDING_MAX
from usernet.wire.ip import pack_address
from usernet.wire.tcp import SYN, encode_options, encode_segment

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

HELLO, DOWN, STUCK, ECHO = 8001, 8002, 8003, 8004  # on the near host, and forwarded by the same number
OTHER_FAR = "192.0.2.140"  # another client behind the same peer
SIZE = 8 << 20
SHARE = PENDING_MAX * 2 // 3


@pytest.fixture(scope="module")
def lab(gso_lab: Lab) -> Lab:
    run("ip", "-n", gso_lab.far, "addr", "add", f"{OTHER_FAR}/25", "dev", gso_lab.device)
    return gso_lab


def bound(namespace: str, kind: socket.SocketKind, address: tuple[str, int]) -> socket.socket:
    with socket_in(namespace):
        sock = socket.socket(socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    return sock


def digest_back(connection: socket.socket) -> None:
    """Read to the end, then answer with the digest and as much again: the client has closed its half long before."""
    digest, size = hashlib.sha256(), 0
    while piece := connection.recv(1 << 18):
        digest.update(piece)
        size += len(piece)
    connection.sendall(digest.digest() + bytes(size))


@contextlib.contextmanager
def listening(lab: Lab, port: int, answer: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A TCP server on the near host's loopback, a thread for each connection."""
    server = bound(lab.near, socket.SOCK_STREAM, ("127.0.0.1", port))
    server.listen(1024)

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            answer(connection)

    def accept() -> None:
        with contextlib.suppress(OSError), ThreadPoolExecutor(32) as pool:
            while True:
                pool.submit(one, server.accept()[0])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.fixture(scope="module")
def forwarding(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    sections = "".join(
        f"[TCPServerTunnel]\nListenPort = {port}\nTarget = 127.0.0.1:{port}\n" for port in (HELLO, DOWN, STUCK)
    )
    sections += "".join(f"[UDPServerTunnel]\nListenPort = {port}\nTarget = 127.0.0.1:{port}\n" for port in (ECHO, DOWN))
    with listening(lab, HELLO, digest_back), running(lab, lab.config(extra=sections, keepalive=1)) as process:
        wait_for(lambda: "completed" in lab.log("usernet.log"), "a handshake")
        yield process


def dial(lab: Lab, host: str, port: int, source: str = "") -> socket.socket:
    with socket_in(lab.far):
        return socket.create_connection((host, port), timeout=20, source_address=(source, 0) if source else None)


def to_the_end(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(1 << 18):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("host", [INNER_NEAR, INNER_NEAR6])
def test_half_closed(lab: Lab, forwarding: object, host: str) -> None:
    data = os.urandom(SIZE)
    with dial(lab, host, HELLO) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = to_the_end(client)
    assert answer[:32] == hashlib.sha256(data).digest()
    assert len(answer) == 32 + SIZE


@pytest.mark.parametrize("host", [INNER_NEAR, INNER_NEAR6])
def test_a_backend_that_is_down_is_a_refusal_at_connect(lab: Lab, forwarding: object, host: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        dial(lab, host, DOWN)
    assert time.monotonic() - started < 1


def test_a_reset_is_a_reset(lab: Lab, forwarding: object) -> None:
    with dial(lab, INNER_NEAR, HELLO) as client:
        client.sendall(b"x")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: not connections(lab, HELLO), "the backend's end")


def connections(lab: Lab, port: int) -> str:
    """To a backend, as the near kernel sees them."""
    return run(*lab.near_command("ss", "-Htn", "state", "established", f"dport = :{port}"))


def test_a_thousand_quick_connections(lab: Lab, forwarding: subprocess.Popen[bytes]) -> None:
    def one(number: int) -> None:
        text = b"%d" % number
        with dial(lab, INNER_NEAR, HELLO) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(60)
            assert client.recv(32, socket.MSG_WAITALL) == hashlib.sha256(text).digest()

    before = descriptors(forwarding)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(1000)))
    wait_for(lambda: descriptors(forwarding) <= before, "everything released")


def descriptors(process: subprocess.Popen[bytes]) -> int:
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def test_udp_there_and_back(lab: Lab, forwarding: object) -> None:
    stop = threading.Event()
    with bound(lab.near, socket.SOCK_DGRAM, ("127.0.0.1", ECHO)) as server:

        def echo() -> None:
            while not stop.is_set():
                if select.select([server], [], [], 0.1)[0]:
                    data, client = server.recvfrom(65536)
                    server.sendto(data, client)

        thread = threading.Thread(target=echo)
        thread.start()
        try:
            for host, family in ((INNER_NEAR, socket.AF_INET), (INNER_NEAR6, socket.AF_INET6)):
                clients = [datagrams(lab, host, ECHO, family) for _ in range(3)]
                for size in (1, 1000, 4000):
                    for number, client in enumerate(clients):
                        client.send(bytes([number]) * size)
                        assert client.recv(65536) == bytes([number]) * size
                for client in clients:
                    client.close()
        finally:
            stop.set()
            thread.join()


def datagrams(lab: Lab, host: str, port: int, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    with socket_in(lab.far):
        client = socket.socket(family, socket.SOCK_DGRAM)
    client.settimeout(20)
    client.connect((host, port))
    return client


def test_udp_to_nobody_is_a_port_unreachable(lab: Lab, forwarding: object) -> None:
    with datagrams(lab, INNER_NEAR, DOWN) as client:
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


def test_a_flood_of_syns_from_one_client(lab: Lab, forwarding: subprocess.Popen[bytes]) -> None:
    """Its share of what may be pending is bounded, and others connect as ever."""
    with bound(lab.near, socket.SOCK_STREAM, ("127.0.0.1", STUCK)) as stuck, contextlib.ExitStack() as fillers:
        stuck.listen(0)
        for _ in range(4):  # a listener whose queue is full answers nobody
            with socket_in(lab.near):
                filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", STUCK))
        before = descriptors(forwarding)
        most = flood(lab, forwarding, SHARE + 3000)
        assert 500 < most - before <= SHARE
        for _ in range(5):
            started = time.monotonic()
            with dial(lab, INNER_NEAR, HELLO, OTHER_FAR) as client:
                client.shutdown(socket.SHUT_WR)
                assert client.recv(32, socket.MSG_WAITALL) == hashlib.sha256().digest()
            assert time.monotonic() - started < 2
    wait_for(lambda: descriptors(forwarding) <= before + 8, "everything given up", timeout=60)
    with dial(lab, INNER_NEAR, HELLO) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(32, socket.MSG_WAITALL) == hashlib.sha256().digest()


def flood(lab: Lab, process: subprocess.Popen[bytes], count: int) -> int:
    """SYNs from so many ports of the far host; the most descriptors the process had meanwhile, and for five looks: one
    more is open while the state file is written.
    """
    with socket_in(lab.far):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    options = encode_options(1380, None, False, (), None)
    names = pack_address(INNER_FAR), pack_address(INNER_NEAR)
    seen = []
    with raw:
        for number in range(count):
            packet = encode_segment(*names, 10_000 + number, STUCK, number, 0, SYN, 65535, options)
            raw.sendto(packet, (INNER_NEAR, 0))
            if number % 50 == 0:
                time.sleep(0.005)  # else the tunnel's queues drop most of them
                seen.append(descriptors(process))
    return max(min(seen[start : start + 5]) for start in range(len(seen) - 4))
