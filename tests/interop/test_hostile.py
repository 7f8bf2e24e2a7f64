"""A live `usernet run` under attack: from outside, through the tunnel, and at its proxy.

During each attack curl goes on working; after it the process is as large and as idle as before, and has met no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import PAGE, page, program, running, second_host
from tests.support.lab import (
    INNER_FAR,
    INNER_FAR6,
    INNER_NEAR,
    INNER_NEAR6,
    NEAR,
    SINK_PORT,
    Lab,
    run,
    wait_for,
)

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PORT = "51900"
GROWTH_KIB = 10 << 10
SIZE = 16 << 20


@pytest.fixture(scope="module")
def victim(gso_lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """Warmed up: its buffers have been filled once."""
    lab = gso_lab
    with running(lab, lab.config(keepalive=1), "--port", PORT) as process:
        expected = lab.blob("blob", SIZE)
        for host in (INNER_FAR, f"[{INNER_FAR6}]"):
            assert hashlib.sha256(lab.curl(f"http://{host}/blob")).hexdigest() == expected
            lab.curl(f"http://{host}:{SINK_PORT}/", "-T", str(lab.dir / "site" / "blob"))
        yield process
        began = time.monotonic()
        assert lab.end(process) == 0, lab.log("usernet.log")
        assert time.monotonic() - began < 3
    log = lab.log("usernet.log")
    assert "has moved" not in log
    assert len(log.splitlines()) < 30, log


def resident(process: subprocess.Popen[bytes]) -> int:
    """KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def ticks(process: subprocess.Popen[bytes]) -> int:
    """Processor time, in hundredths of a second."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def becomes_idle(process: subprocess.Popen[bytes]) -> None:
    """Until it has used no more than 2 % of a second."""
    since = [time.monotonic(), ticks(process)]

    def idle() -> bool:
        if time.monotonic() - since[0] < 1:
            return False
        used, since[:] = ticks(process) - since[1], [time.monotonic(), ticks(process)]
        return used <= 2

    wait_for(idle, "the process to be idle", timeout=30)


@contextlib.contextmanager
def unharmed(lab: Lab, process: subprocess.Popen[bytes]) -> Iterator[None]:
    before = resident(process)
    yield
    assert process.poll() is None
    assert page(lab) == PAGE
    assert page(lab, f"[{INNER_FAR6}]") == PAGE
    becomes_idle(process)
    assert resident(process) - before < GROWTH_KIB
    assert "Traceback" not in lab.log("usernet.log")


def attack(lab: Lab, *arguments: str, near: bool = False) -> int:
    """Run the attacker to its end while curl works; how much it says it sent."""
    command, environment = program(lab, "hostile.py", *arguments)
    if not near:
        command = lab.far_command(*command[command.index(sys.executable) :])
    fetched = 0
    attacker = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        while attacker.poll() is None:
            assert page(lab) == PAGE
            fetched += 1
        out, err = attacker.communicate()
    finally:
        attacker.kill()
        attacker.wait()
    assert attacker.returncode == 0, err
    assert fetched > 0
    return int(out)


def received(lab: Lab) -> int:
    """UDP datagrams that programs of the near host have been given, over IPv4."""
    rows = run(*lab.near_command("grep", "^Udp:", "/proc/net/snmp")).splitlines()
    return int(dict(zip(rows[0].split(), rows[1].split(), strict=True))["InDatagrams"])


def sent_bytes(lab: Lab, public_key: str) -> int:
    """What the far peer has sent to one of ours."""
    rows = [line.split("\t") for line in lab.wg("show", lab.device, "transfer").splitlines()]
    return next(int(sent) for key, _, sent in rows if key == public_key)


def test_noise_and_forgeries_at_the_outer_port(gso_lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    before = received(gso_lab)
    public = gso_lab.near_public
    with unharmed(gso_lab, victim):
        sent = attack(gso_lab, "udp", NEAR, PORT, public)
        assert sent > 60_000
        assert received(gso_lab) - before > sent / 2, "most of it is to have been looked at"


def test_replayed_and_changed_data(gso_lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    with unharmed(gso_lab, victim):
        assert attack(gso_lab, "replay", "v0", NEAR, PORT) == 20_000


@pytest.mark.parametrize(("source", "target"), [(INNER_FAR, INNER_NEAR), (INNER_FAR6, INNER_NEAR6)])
def test_broken_packets_through_the_tunnel(
    gso_lab: Lab, victim: subprocess.Popen[bytes], source: str, target: str
) -> None:
    with unharmed(gso_lab, victim):
        before = sent_bytes(gso_lab, gso_lab.near_public)
        sent = attack(gso_lab, "tun", gso_lab.device, source, target)
        assert sent > 10_000
        assert sent_bytes(gso_lab, gso_lab.near_public) - before > 64 * sent


@pytest.mark.parametrize("target", [INNER_NEAR, INNER_NEAR6])
def test_syn_flood_where_nobody_listens(gso_lab: Lab, victim: subprocess.Popen[bytes], target: str) -> None:
    with unharmed(gso_lab, victim):
        before = sent_bytes(gso_lab, gso_lab.near_public)
        assert attack(gso_lab, "syn", gso_lab.device, target, "80") > 15_000
        assert sent_bytes(gso_lab, gso_lab.near_public) - before > 64 * 15_000


def test_syn_flood_where_somebody_listens(gso_lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    """A library program's server: half-open connections are bounded, and it is there again at once afterwards."""
    lab = gso_lab
    config = second_host(lab, 140)
    command, environment = program(lab, "tunnel_server.py", str(config), "8000")
    server = lab.start(command, log="server.log", env=environment)
    fetch = lab.far_command(
        "curl", "-sS", "--retry", "10", "--retry-connrefused", "--max-time", "20", "http://192.0.2.140:8000/"
    )
    wait_for(lambda: "serving" in lab.log("server.log"), "the server")
    wait_for(lambda: "\t0" not in handshakes(lab), "its handshake")
    assert run(*fetch).startswith("0 ")
    before = resident(server)
    for target in ("192.0.2.140", "2001:db8:2::140"):
        assert attack(lab, "syn", lab.device, target, "8000") > 15_000
        assert run(*fetch).startswith("0 ")
    becomes_idle(server)
    assert resident(server) - before < GROWTH_KIB
    assert lab.end(server) == 0
    assert lab.log("server.log") == "serving\n"


def handshakes(lab: Lab) -> str:
    return lab.wg("show", lab.device, "latest-handshakes")


def test_2000_connections_to_the_proxy(gso_lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    with unharmed(gso_lab, victim):
        assert attack(gso_lab, "proxy", "1080", near=True) == 2000
