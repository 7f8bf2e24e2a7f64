"""Real curl, through SOCKS5 and HTTP, over IPv4 and IPv6, by address and by name, to a real WireGuard peer."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.interop.conftest import program
from tests.support.lab import INNER_FAR, INNER_FAR6, NAME, SINK_PORT, Lab

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

SIZE = 256 << 20
SOCKS, HTTP = "socks5h://127.0.0.1:1080", "http://127.0.0.1:1080"


@pytest.fixture(scope="module")
def proxy(lab: Lab) -> Iterator[Lab]:
    process = lab.start_usernet(lab.config())
    yield lab
    assert lab.end(process) == 0, lab.log("usernet.log")
    assert "Traceback" not in lab.log("usernet.log")


@pytest.mark.parametrize("host", [INNER_FAR, f"[{INNER_FAR6}]", NAME])
@pytest.mark.parametrize("scheme", [SOCKS, "socks5://[::1]:1080", HTTP])
def test_page(proxy: Lab, scheme: str, host: str) -> None:
    if scheme.startswith("socks5:") and host == NAME:
        host = INNER_FAR  # socks5:// resolves on the client's side, which has no resolver here
    assert proxy.curl(f"http://{host}/", proxy=scheme) == b"hello from the far side\n"


@pytest.mark.parametrize(("scheme", "host"), [("socks4", INNER_FAR), ("socks4a", NAME)])
def test_page_by_socks4(proxy: Lab, scheme: str, host: str) -> None:
    assert proxy.curl(f"http://{host}/", proxy=f"{scheme}://127.0.0.1:1080") == b"hello from the far side\n"


@pytest.mark.parametrize("host", [INNER_FAR, INNER_FAR6])
def test_bind(proxy: Lab, host: str) -> None:
    """The far host's kernel connects to a port of the tunnel's address, which is a client's on the near host."""
    near, environment = program(proxy, "bind_client.py", host)
    script = (
        "import socket, sys\n"
        "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)\n"
        "print(*sock.getsockname()[:2])\n"
        "sock.sendall(bytes(10_000_000)); sock.shutdown(socket.SHUT_WR)\n"
        "print(sock.recv(100).decode())\n"
    )
    with subprocess.Popen(near, stdout=subprocess.PIPE, env={**os.environ, **environment}, text=True) as client:
        try:
            assert client.stdout is not None
            address, port = client.stdout.readline().split()
            far = proxy.far_command(sys.executable, "-c", script, address, port)
            done = subprocess.run(far, capture_output=True, text=True, timeout=60, check=True)
            peer, heard = done.stdout.splitlines()
            assert client.stdout.read().split() == peer.split()  # as the second reply has it
            assert heard == "10000000"
            assert client.wait(20) == 0
        finally:
            client.kill()


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_page_by_name_and_family(proxy: Lab, family: str) -> None:
    address = INNER_FAR if family == "-4" else f"[{INNER_FAR6}]"
    assert proxy.curl(f"http://{address}/", "--proxytunnel", proxy=HTTP) == b"hello from the far side\n"


@pytest.mark.parametrize("host", [INNER_FAR, f"[{INNER_FAR6}]"])
@pytest.mark.parametrize("scheme", [SOCKS, HTTP])
def test_download(proxy: Lab, scheme: str, host: str) -> None:
    expected = proxy.blob("blob", SIZE)
    body = proxy.curl(f"http://{host}/blob", proxy=scheme)
    assert len(body) == SIZE
    assert hashlib.sha256(body).hexdigest() == expected


@pytest.mark.parametrize("host", [INNER_FAR, f"[{INNER_FAR6}]"])
@pytest.mark.parametrize("scheme", [SOCKS, HTTP])
def test_upload(proxy: Lab, scheme: str, host: str) -> None:
    expected = proxy.blob("blob", SIZE)
    path = str(proxy.dir / "site" / "blob")
    answer = proxy.curl(f"http://{host}:{SINK_PORT}/", "-T", path, proxy=scheme)
    assert answer.decode().split() == [str(SIZE), expected]


@pytest.mark.parametrize("scheme", [SOCKS, HTTP])
def test_200_parallel_requests(proxy: Lab, scheme: str) -> None:
    digest = proxy.blob("medium", 100_000)

    def fetch(_: int) -> str:
        return hashlib.sha256(proxy.curl(f"http://{INNER_FAR}/medium", proxy=scheme)).hexdigest()

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        assert list(pool.map(fetch, range(200))) == [digest] * 200


def test_refusals_name_their_cause(proxy: Lab) -> None:
    """A closed port, a name that is not there and an address no peer covers are three different answers."""
    for target, status in ((f"{INNER_FAR}:9", "502"), ("nowhere.test", "502"), ("198.51.100.1", "502")):
        command = ["curl", "-sS", "-o", "-", "-w", "%{http_code}", "--proxy", HTTP, f"http://{target}/"]
        done = subprocess.run(proxy.near_command(*command), capture_output=True, text=True, timeout=60)
        assert done.stdout.endswith(status), done


def test_clean_stop_during_a_transfer(lab: Lab) -> None:
    """TERM while data flows: exit status 0 within 2 s."""
    lab.blob("blob", SIZE)
    process = lab.start_usernet(lab.config(), "--socks5-server", "127.0.0.1:1090", port=1090, log="stop.log")
    client = lab.start(
        lab.near_command(
            "curl", "-sS", "-o", "/dev/null", "--limit-rate", "8M", "-x", "socks5h://127.0.0.1:1090",
            f"http://{INNER_FAR}/blob",
        ),
        log="curl.log",
    )  # fmt: skip
    assert lab.curl(f"http://{INNER_FAR}/", proxy="socks5h://127.0.0.1:1090")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0, lab.log("stop.log")
    assert time.monotonic() - began < 2
    assert lab.end(client) != 0
