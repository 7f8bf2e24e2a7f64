"""A responder of several addresses answers from the one that was asked.

The far host asks usernet at its second address and drops whatever comes from the first, which is what the system would
choose for the answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import program
from tests.support.lab import INNER_NEAR, NEAR, NEAR6, Lab, run, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PORT = 51900
SECOND, SECOND6 = "192.0.2.7", "2001:db8:1::8000"
ENDPOINTS = {SECOND: f"{SECOND}:{PORT}", SECOND6: f"[{SECOND6}]:{PORT}"}


@pytest.fixture(scope="module")
def lab(gso_lab: Lab) -> Lab:
    # A deprecated address is never the system's own choice (RFC 6724, 5, rule 3).
    run("ip", "-n", gso_lab.near, "addr", "add", f"{SECOND6}/64", "dev", "v0", "nodad", "preferred_lft", "0")
    return gso_lab


@pytest.fixture(autouse=True)
def _second_address(lab: Lab) -> None:
    run("ip", "-n", lab.near, "addr", "replace", f"{SECOND}/28", "dev", "v0")


@contextlib.contextmanager
def serving(lab: Lab, keepalive: int = 0) -> Iterator[None]:
    """A server in usernet's tunnel, which knows of the peer no more than its key."""
    config = lab.config(name="responder.conf", keepalive=keepalive)
    lines = [line for line in config.read_text().splitlines() if not line.startswith("Endpoint")]
    config.write_text("\n".join([lines[0], f"ListenPort = {PORT}", *lines[1:], ""]))
    (lab.dir / "server.log").unlink(missing_ok=True)
    command, environment = program(lab, "tunnel_server.py", str(config), "8000")
    process = lab.start(command, log="server.log", env=environment)
    try:
        wait_for(lambda: "serving" in lab.log("server.log"), "the server")
        yield
    finally:
        status = lab.end(process)
    assert status == 0, lab.log("server.log")
    assert lab.log("server.log") == "serving\n"


@contextlib.contextmanager
def nothing_from_the_first(lab: Lab) -> Iterator[None]:
    rules = (
        "table inet sticky {\nchain input {\ntype filter hook input priority 0;\n"
        f"udp sport {PORT} ip saddr {NEAR} counter drop\nudp sport {PORT} ip6 saddr {NEAR6} counter drop\n}}\n}}\n"
    )
    run(*lab.far_command("nft", "-f", "-"), stdin=rules)
    try:
        yield
    finally:
        run(*lab.far_command("nft", "delete", "table", "inet", "sticky"))


def dropped(lab: Lab) -> bool:
    rules = run(*lab.far_command("nft", "list", "table", "inet", "sticky"))
    return rules.count("counter packets 0 ") != 2


def ask(lab: Lab, address: str) -> None:
    """The far peer begins anew, at this address."""
    lab.wg("set", lab.device, "peer", lab.near_public, "remove")
    lab.wg("set", lab.device, "peer", lab.near_public, "preshared-key", str(Path(lab.dir) / "psk"),
           "allowed-ips", f"{INNER_NEAR}/32", "endpoint", ENDPOINTS[address])  # fmt: skip


def uploads(lab: Lab) -> None:
    """A file there, its digest back."""
    expected = lab.blob("blob", 4 << 20)
    blob = str(lab.dir / "site" / "blob")
    answer = run(*lab.far_command("curl", "-sS", "--max-time", "15", "-T", blob, f"http://{INNER_NEAR}:8000/"))
    assert answer.split() == [str(4 << 20), expected]


@pytest.mark.parametrize("address", list(ENDPOINTS))
def test_answers_come_from_the_address_that_was_asked(lab: Lab, address: str) -> None:
    with serving(lab), nothing_from_the_first(lab):
        ask(lab, address)
        uploads(lab)
        assert not dropped(lab)
    assert ENDPOINTS[address] in lab.wg("show", lab.device, "endpoints")


def test_an_address_that_is_gone_is_let_go(lab: Lab) -> None:
    """The far peer learns of the other one by the next keepalive."""
    with serving(lab, keepalive=1):
        ask(lab, SECOND)
        uploads(lab)
        assert f"{SECOND}:{PORT}" in lab.wg("show", lab.device, "endpoints")
        run("ip", "-n", lab.near, "addr", "del", f"{SECOND}/28", "dev", "v0")
        wait_for(lambda: f"{NEAR}:{PORT}" in lab.wg("show", lab.device, "endpoints"), "the peer to have moved")
        uploads(lab)
