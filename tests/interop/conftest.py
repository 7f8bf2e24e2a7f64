"""One laboratory per kind of far peer, shared by the tests of this folder; a usernet process of its own per test."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import FAR, INNER_FAR, PEERS, Lab, missing, peer_binary, run
from tests.support.skipping import needs, skip
from tests.support.tun import Beside

PAGE = b"hello from the far side\n"


@pytest.fixture(scope="module", params=list(PEERS))
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Every test of a module that asks for it runs against each kind of far peer."""
    yield from laboratory(request.param)


@pytest.fixture(scope="module")
def gso_lab() -> Iterator[Lab]:
    """Only the current Go module's peer."""
    yield from laboratory("go-gso")


def laboratory(kind: str) -> Iterator[Lab]:
    reason = missing()
    if reason is None and peer_binary(kind) is None:
        reason = f"the far peer {PEERS[kind]} is not installed"
    if reason is not None:
        skip(reason)
    with Lab(kind) as lab:
        yield lab


@pytest.fixture(params=["userspace", "tun"])
def mode(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the tunnel ends: in the userspace stack, or in the kernel's; the proxy is there in both."""
    lab.flags = ("--tun", "usernet0") if request.param == "tun" else ()
    yield request.param
    lab.flags = ()


@pytest.fixture(scope="module")
def both() -> Iterator[Beside]:
    needs("nft", "nstat", "ss")
    if reason := missing():
        skip(reason)
    with Beside() as beside:
        yield beside


@pytest.fixture
def beside(both: Beside) -> Iterator[Beside]:
    both.fresh()
    yield both
    both.restore()


@contextlib.contextmanager
def running(
    lab: Lab, config: Path, *flags: str, log: str = "usernet.log", port: int = 1080
) -> Iterator[subprocess.Popen[bytes]]:
    """`usernet run` while the block lasts; then it stops cleanly, having said nothing of an error of its own."""
    (lab.dir / log).unlink(missing_ok=True)
    process = lab.start_usernet(config, *flags, log=log, port=port)
    try:
        yield process
    except BaseException:
        lab.end(process)
        raise
    assert lab.end(process) == 0, lab.log(log)
    assert "Traceback" not in lab.log(log), lab.log(log)


def second_host(lab: Lab, number: int, *, endpoint: str = f"{FAR}:51820") -> Path:
    """The far peer learns of another one of ours, with keys and inner addresses of its own; its configuration file."""
    private = run("wg", "genkey")
    public = run("wg", "pubkey", stdin=private)
    lab.wg("set", lab.device, "peer", public, "allowed-ips", f"192.0.2.{number}/32,2001:db8:2::{number}/128")
    path = lab.dir / f"host{number}.conf"
    path.touch(mode=0o600)
    path.write_text(
        f"[Interface]\nPrivateKey = {private}\nAddress = 192.0.2.{number}/32, 2001:db8:2::{number}/128\n"
        f"DNS = {INNER_FAR}\n"
        f"[Peer]\nPublicKey = {lab.far_public}\nEndpoint = {endpoint}\nAllowedIPs = 192.0.2.128/25, 2001:db8:2::/64\n"
    )
    return path


def program(lab: Lab, name: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """A program of this folder on the near host, and the environment it needs."""
    folder = Path(__file__).parent
    environment = {"PYTHONPATH": str(folder.parents[1]), "PYTHONUNBUFFERED": "1"}
    return lab.near_command(sys.executable, str(folder / name), *arguments), environment


def page(lab: Lab, host: str = INNER_FAR, *, seconds: float = 30, port: int = 1080) -> bytes:
    return lab.curl(f"http://{host}/", proxy=f"socks5h://127.0.0.1:{port}", timeout=seconds)
