"""A live `usernet run` under attack: from outside, through the tunnel, and at its proxy.

During each attack curl goes on working; after it the process is as large and as idle as before, and has met no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from usernet.stack.listener import HALF_OPEN_FACTOR
from usernet.stack.reassembly import CAPACITY_V4, CAPACITY_V6

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PORT = "51900"
SERVER, SERVER6 = "192.0.2.140", "2001:db8:2::140"
GROWTH_KIB = 10 << 10
SIZE = 16 << 20
BACKLOG = 128  # that a server has unless it says otherwise


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


def attack(lab: Lab, *arguments: str, near: bool = False, works: Callable[[], bool] | None = None) -> int:
    """Run the attacker to its end while something works, else curl through the proxy; how much it says it sent."""
    command, environment = program(lab, "hostile.py", *arguments)
    if not near:
        command = lab.far_command(*command[command.index(sys.executable) :])
    fetched = 0
    attacker = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        while attacker.poll() is None:
            assert works() if works else page(lab) == PAGE
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


def test_initiations_at_the_outer_port(gso_lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    """What to do about each costs a DH: cookies go out instead, and a transfer goes on."""
    expected = hashlib.sha256((gso_lab.dir / "site" / "blob").read_bytes()).hexdigest()

    def fetches() -> bool:
        return hashlib.sha256(gso_lab.curl(f"http://{INNER_FAR}/blob")).hexdigest() == expected

    before = received(gso_lab)
    with unharmed(gso_lab, victim):
        assert attack(gso_lab, "initiations", NEAR, PORT, gso_lab.near_public, "60000", works=fetches) == 60_000
        assert received(gso_lab) - before > 30_000, "most of it is to have been looked at"


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
        assert sent > 25_000
        assert sent_bytes(gso_lab, gso_lab.near_public) - before > 64 * sent


@pytest.mark.parametrize("target", [INNER_NEAR, INNER_NEAR6])
def test_syn_flood_where_nobody_listens(gso_lab: Lab, victim: subprocess.Popen[bytes], target: str) -> None:
    with unharmed(gso_lab, victim):
        before = sent_bytes(gso_lab, gso_lab.near_public)
        assert attack(gso_lab, "syn", gso_lab.device, target, "80", "20000") > 15_000
        assert sent_bytes(gso_lab, gso_lab.near_public) - before > 64 * 15_000


@dataclass(frozen=True)
class Server:
    """A library program's, inside the tunnel."""

    lab: Lab
    process: subprocess.Popen[bytes]

    def fetch(self, path: str = "") -> str:
        return run(*self.lab.far_command("curl", "-sS", "--max-time", "20", f"http://{SERVER}:8000/{path}"))

    def answers(self) -> bool:
        return self.fetch().startswith("0 ")

    def statistics(self) -> dict[str, Any]:
        counted: dict[str, Any] = json.loads(self.fetch("statistics"))
        return counted

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        before = resident(self.process)
        yield
        assert self.answers()
        becomes_idle(self.process)
        assert resident(self.process) - before < GROWTH_KIB


@pytest.fixture(scope="module")
def server(gso_lab: Lab) -> Iterator[Server]:
    """Warmed up."""
    lab = gso_lab
    command, environment = program(lab, "tunnel_server.py", str(second_host(lab, 140)), "8000")
    server = Server(lab, lab.start(command, log="server.log", env=environment))
    wait_for(lambda: "serving" in lab.log("server.log"), "the server")
    wait_for(lambda: "\t0" not in handshakes(lab), "its handshake")
    expected = lab.blob("warm", SIZE)
    answer = run(*lab.far_command("curl", "-sS", "-T", str(lab.dir / "site" / "warm"), f"http://{SERVER}:8000/"))
    assert answer.split() == [str(SIZE), expected]
    yield server
    assert lab.end(server.process) == 0
    assert lab.log("server.log") == "serving\n"


@pytest.mark.parametrize(("target", "count"), [(SERVER, 100_000), (SERVER6, 20_000)])
def test_syn_flood_where_somebody_listens(gso_lab: Lab, server: Server, target: str, count: int) -> None:
    """Half-open connections are bounded, and good clients are answered all the time."""
    before = server.statistics()["syn_cookies_sent"]
    with server.unharmed():
        sent = attack(gso_lab, "syn", gso_lab.device, target, "8000", str(count), works=server.answers)
        assert sent > 0.9 * count
    statistics = server.statistics()
    assert statistics["half_open"] <= HALF_OPEN_FACTOR * BACKLOG
    assert statistics["syn_cookies_sent"] - before > count / 2


@pytest.mark.parametrize(("source", "target"), [(INNER_FAR, SERVER), (INNER_FAR6, SERVER6)])
def test_fragments_that_never_become_whole(gso_lab: Lab, server: Server, source: str, target: str) -> None:
    before = server.statistics()["drops"].get("fragment-evicted", 0)
    with server.unharmed():
        attack(gso_lab, "fragments", gso_lab.device, source, target, "30000", works=server.answers)
    statistics = server.statistics()
    assert statistics["fragment_bytes"] <= CAPACITY_V4 + CAPACITY_V6
    assert statistics["drops"]["fragment-evicted"] - before > 10_000


def handshakes(lab: Lab) -> str:
    return lab.wg("show", lab.device, "latest-handshakes")


def test_2000_connections_to_the_proxy(gso_lab: Lab, victim: subprocess.Popen[bytes]) -> None:
    with unharmed(gso_lab, victim):
        assert attack(gso_lab, "proxy", "1080", near=True) == 2000
