"""`usernet run` and curl over an outer path that loses, delays, reorders, repeats and damages, falls silent or narrows.

What must hold is that every byte arrives; how fast is for `python -m tests.bench.badpaths` to say.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from tests.bench.badpaths import received
from tests.interop.conftest import running
from tests.support.badpath import PORT, BadPath, Path, bad_path
from tests.support.lab import INNER_FAR, NEAR, SINK_PORT, Lab, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SIZE = 2 << 20
BAD = {
    "loss": Path(delay=0.002, loss=0.01),
    "late": Path(delay=0.002, late=0.1),
    "far": Path(delay=0.050),
    "everything": Path(delay=0.005, loss=0.01, late=0.05, duplicate=0.02, corrupt=0.01, rate=4e6),
}
OUTAGE = 10.0


@pytest.fixture(scope="module")
def path(gso_lab: Lab) -> Iterator[BadPath]:
    with bad_path(gso_lab, seed=4) as relay, running(gso_lab, gso_lab.config(endpoint=f"{NEAR}:{PORT}")):
        yield relay
        relay.set(Path())


def upload(lab: Lab, file: File) -> list[str]:
    """The size and the digest of what arrived."""
    return lab.curl(f"http://{INNER_FAR}:{SINK_PORT}/", "-T", str(file), timeout=60).decode().split()


@pytest.mark.parametrize("kind", BAD)
def test_everything_arrives(gso_lab: Lab, path: BadPath, kind: str) -> None:
    lab = gso_lab
    digest = lab.blob("blob", SIZE)
    path.set(BAD[kind])
    assert hashlib.sha256(lab.curl(f"http://{INNER_FAR}/blob", timeout=60)).hexdigest() == digest
    assert upload(lab, lab.dir / "site" / "blob") == [str(SIZE), digest]


def test_outage(gso_lab: Lab, path: BadPath) -> None:
    """Nothing passes for ten seconds: an upload and a download under way go on, and a new request is answered."""
    lab = gso_lab
    size = 16 << 20
    digest = lab.blob("blob", size)
    target, answer = lab.dir / "out", lab.dir / "answer"
    through = ["curl", "-sS", "--limit-rate", "2M", "--max-time", "60", "-x", "socks5h://127.0.0.1:1080"]
    path.set(Path(delay=0.01))
    down = lab.start(lab.near_command(*through, "-o", str(target), f"http://{INNER_FAR}/blob"), log="down.log")
    up = lab.start(
        lab.near_command(*through, "-o", str(answer), "-T", str(lab.dir / "site" / "blob"),
                         f"http://{INNER_FAR}:{SINK_PORT}/"),
        log="up.log",
    )  # fmt: skip
    wait_for(lambda: received(lab) > 2 << 20, "both to be under way")
    path.set(Path(delay=0.01, outage=True))
    time.sleep(OUTAGE)  # the outage itself
    path.set(Path(delay=0.01))
    assert lab.curl(f"http://{INNER_FAR}/", timeout=30)
    assert down.wait(60) == 0, lab.log("down.log")
    assert up.wait(60) == 0, lab.log("up.log")
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    assert answer.read_text().split() == [str(size), digest]
