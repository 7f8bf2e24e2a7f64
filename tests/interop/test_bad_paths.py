"""`usernet run` and curl over an outer path that loses, delays, reorders, repeats and damages, falls silent or narrows.

Every byte must arrive, and the upload must not collapse as those of other userspace stacks do: the limits here are far
from what is reached, so that a busy machine meets them too.  How fast it is: `python -m tests.bench.badpaths`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from tests.bench.badpaths import CLEAN, IMPAIRMENTS, RATE, Candidate, evenness, received, throughput
from tests.interop.conftest import running
from tests.support.badpath import PORT, BadPath, Path, bad_path
from tests.support.lab import INNER_FAR, INNER_FAR6, INNER_NEAR, NEAR, SINK_PORT, Lab, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SIZE = 2 << 20
IP_AND_UDP = 28
BAD = {
    "loss": Path(delay=0.002, loss=0.01),
    "late": Path(delay=0.002, late=0.1),
    "far": Path(delay=0.050),
    "everything": Path(delay=0.005, loss=0.01, late=0.05, duplicate=0.02, corrupt=0.01, rate=4e6),
}


@pytest.fixture(scope="module")
def path(gso_lab: Lab) -> Iterator[BadPath]:
    with bad_path(gso_lab, seed=4) as relay, running(gso_lab, gso_lab.config(endpoint=f"{NEAR}:{PORT}")):
        yield relay
        relay.set(Path())


@pytest.fixture
def ours(path: BadPath) -> Candidate:
    return Candidate(("--proxy", "socks5h://127.0.0.1:1080"), INNER_NEAR, path)


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


def best(lab: Lab, ours: Candidate, path: Path, enough: float) -> float:
    """The speed of an upload, in MB/s; of at most three, for a moment without a processor is not the path's doing."""
    ours.path.set(path)
    speed = 0.0
    for _ in range(3):
        speed = max(speed, throughput(lab, ours, "up", 10))
        if speed >= enough:
            break
    return speed


def test_uploads_go_on_where_packets_are_late_or_the_way_is_long(gso_lab: Lab, ours: Candidate) -> None:
    lab = gso_lab
    lab.blob("blob", 8 << 20)
    clean = best(lab, ours, CLEAN, RATE / 2e6)
    for name, share in (("10 % 5 ms late", 0.4), ("RTT 100 ms", 0.2)):  # 8 MiB are 5 round trips of slow start
        assert best(lab, ours, IMPAIRMENTS[name], share * clean) >= share * clean, name


def test_uploads_share_evenly(gso_lab: Lab, ours: Candidate) -> None:
    gso_lab.blob("blob", 64 << 20)
    assert evenness(gso_lab, ours, "up", 4) > 0.85


@pytest.mark.parametrize("outage", [10, 30])
def test_outage(gso_lab: Lab, path: BadPath, outage: int) -> None:
    """Nothing passes for a while: an upload under way goes on at once, a download too; a new request is answered."""
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
    time.sleep(outage)
    before = received(lab)
    path.set(Path(delay=0.01))
    wait_for(lambda: received(lab) > before, "the upload to go on", timeout=5)
    assert lab.curl(f"http://{INNER_FAR}/", timeout=30)
    assert down.wait(60) == 0, lab.log("down.log")
    assert up.wait(60) == 0, lab.log("up.log")
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    assert answer.read_text().split() == [str(size), digest]


def test_the_path_narrows_and_nobody_says_so(gso_lab: Lab, path: BadPath) -> None:
    """To 1,300 bytes: an upload under way goes on within 5 s, and so do new ones, there and to another destination."""
    lab = gso_lab
    lab.blob("endless", 64 << 20)
    lab.blob("small", 100_000)
    to = f":{SINK_PORT}/discard"
    through = ["curl", "-sS", "--limit-rate", "2M", "--max-time", "60", "-x", "socks5h://127.0.0.1:1080"]
    path.set(Path(delay=0.01))
    old = lab.start(
        lab.near_command(*through, "-T", str(lab.dir / "site" / "endless"), f"http://{INNER_FAR}{to}"), log="old.log"
    )
    wait_for(lambda: received(lab) > 1 << 20, "the upload to be under way")
    path.set(Path(delay=0.01, largest=1300 - IP_AND_UDP))
    before = received(lab) + (256 << 10)  # some of it may have passed the relay already
    wait_for(lambda: received(lab) > before, "the upload to go on", timeout=5)
    for far in (INNER_FAR, f"[{INNER_FAR6}]"):
        assert lab.curl(f"http://{far}{to}", "-T", str(lab.dir / "site" / "small"), timeout=5).split()[0] == b"100000"
    lab.end(old)
