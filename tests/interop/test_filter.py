"""What a real kernel behind a real WireGuard peer gets into `usernet run`: nmap's view, answers, pings, a reload."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
import socks

from tests.interop.conftest import PAGE, page, program, running
from tests.support.lab import INNER_FAR, INNER_NEAR, INNER_NEAR6, NAME, Lab, run, socket_in, wait_for
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

EXTRA = """
[TCPServerTunnel]
ListenPort = 8001
Target = 127.0.0.1:1080

[UDPServerTunnel]
ListenPort = 8002
Target = 127.0.0.1:9

[Socks5]
BindAddress = :1081
Inside = true
Username = me
Password = word

[Socks5]
BindAddress = 127.0.0.1:1080
"""
INBOUND = "Inbound = 7000-7001/tcp, 7000/udp from 192.0.2.129\nInbound = 7002 from 198.51.100.0/24\n"


def configured(lab: Lab, inbound: str = "") -> Path:
    path = lab.config(extra=EXTRA)
    path.write_text(path.read_text().replace("DNS =", f"{inbound}DNS ="))
    return path


@pytest.fixture(params=[(), ("--tun", "usernet0")], ids=["stack", "kernel"])
def near(gso_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    needs("nmap")
    gso_lab.forget_near()
    with running(gso_lab, configured(gso_lab), *request.param):
        assert page(gso_lab) == PAGE  # there is a session
        yield gso_lab


def nmap(lab: Lab, ports: str, *, udp: bool = False, host: str = INNER_NEAR) -> dict[int, str]:
    """The ports that answer, and what."""
    family = ["-6"] if ":" in host else []
    kind = ["-sU", "--data-length", "8"] if udp else ["-sS"]  # asyncio before 3.12 sends no empty datagrams on
    said = run(
        *lab.far_command(
            "nmap",
            *family,
            *kind,
            "-n",
            "-Pn",
            "-p",
            ports,
            "--max-retries",
            "1",
            "--min-rate",
            "500",
            "-oG",
            "-",
            host,
        )
    )
    assert "Ignored State: closed" not in said  # which is how it lists many
    return {int(port): state for port, state in re.findall(r"(\d+)/(open|closed)/", said)}


@pytest.mark.parametrize("host", [INNER_NEAR, INNER_NEAR6])
def test_a_scan_sees_what_is_configured_and_nothing_else(near: Lab, host: str) -> None:
    assert nmap(near, "1000-1200,7000-7100,8000-8100", host=host) == {1081: "open", 8001: "open"}


def test_a_scan_for_udp(near: Lab) -> None:
    """Who is behind the open port refuses, where it is the stack's; other ports are silent: nobody learns of them."""
    is_kernel = "usernet0" in run(*near.near_command("ip", "-br", "link"))
    assert nmap(near, "8000-8005", udp=True) == ({} if is_kernel else {8002: "closed"})
    assert nmap(near, "1-50", udp=True) == {}


def test_pings_are_answered(near: Lab) -> None:
    for host in (INNER_NEAR, INNER_NEAR6):
        run(*near.far_command("ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", host))
        run(*near.far_command("ping", "-n", "-c", "1", "-W", "5", "-s", "4000", host))  # in fragments


def test_answers_to_datagrams_come_in(near: Lab) -> None:
    """Names of ours, and a client's by UDP ASSOCIATE."""
    assert page(near, NAME) == PAGE
    query = dns.message.make_query(NAME, "A")
    with socket_in(near.near):
        sock = socks.socksocket(type=socket.SOCK_DGRAM)
    with sock:
        sock.set_proxy(socks.SOCKS5, "127.0.0.1", 1080)
        sock.settimeout(20)
        with socket_in(near.near):
            sock.sendto(query.to_wire(), (INNER_FAR, 53))
            wire, _ = sock.recvfrom(4096)
    assert query.is_response(dns.message.from_wire(wire))


def test_an_answer_from_another_port_comes_in(near: Lab) -> None:
    """As TFTP's do: who may answer an association is the association's to say."""
    with socket_in(near.far):
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with first, second, socket_in(near.near), socks.socksocket(type=socket.SOCK_DGRAM) as sock:
        first.bind((INNER_FAR, 6900))
        second.bind((INNER_FAR, 6901))
        first.settimeout(20)
        sock.set_proxy(socks.SOCKS5, "127.0.0.1", 1080)
        sock.settimeout(20)
        sock.sendto(b"read", (INNER_FAR, 6900))
        data, whence = first.recvfrom(100)
        second.sendto(data + b" this", whence)
        assert sock.recvfrom(100)[0] == b"read this"


def test_bind_opens_its_port_while_it_waits(near: Lab) -> None:
    command, environment = program(near, "bind_client.py", INNER_FAR)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **environment}, text=True) as client:
        try:
            assert client.stdout is not None
            address, port = client.stdout.readline().split()
            script = (
                "import socket, sys\n"
                "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)\n"
                "sock.sendall(bytes(1000)); sock.shutdown(socket.SHUT_WR)\n"
                "print(sock.recv(100).decode())\n"
            )
            assert run(*near.far_command(sys.executable, "-c", script, address, port)) == "1000"
            assert client.wait(20) == 0
        finally:
            client.kill()
    assert nmap(near, port) == {}


def test_inbound_and_a_reload(gso_lab: Lab) -> None:
    """What is let in for others than usernet: here nobody listens, and the stack says so where it is asked."""
    needs("nmap")
    gso_lab.forget_near()
    with running(gso_lab, configured(gso_lab, INBOUND)) as process:
        assert page(gso_lab) == PAGE
        assert nmap(gso_lab, "7000-7005") == {7000: "closed", 7001: "closed"}
        assert nmap(gso_lab, "7000-7005", udp=True) == {7000: "closed"}
        configured(gso_lab, "Inbound = 7003-7004/tcp\n")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reloaded" in gso_lab.log("usernet.log"), "the reload")
        assert nmap(gso_lab, "7000-7005") == {7003: "closed", 7004: "closed"}
        log = gso_lab.log("usernet.log")
        assert re.search(rf"packet filter: TCP {INNER_FAR}:\d+ to {INNER_NEAR}:700\d dropped \(no rule: ", log)
        assert log.count("packet filter:") < 20
