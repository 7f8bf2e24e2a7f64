"""Programs of other people's through the installed `usernet run`, and what they get from a far host.

tests/support/clients.py has them, one line each.  Others of them have files of their own: browsers, UDP in depth.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.support.clients import CLIENTS, HOSTS, PROGRAMS, SSHD, Far
from tests.support.lab import NAME, SINK_PORT, Lab
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SIZE = 20 << 20


@pytest.fixture(scope="module")
def far(gso_lab: Lab) -> Iterator[Far]:
    needs(*PROGRAMS, SSHD)
    made = Far(gso_lab)
    with running(gso_lab, made.config(), *made.tls):
        yield made


@pytest.mark.parametrize(("name", "host"), [(name, host) for name in CLIENTS for host in CLIENTS[name].hosts.split()])
def test_page(far: Far, name: str, host: str, tmp_path: Path) -> None:
    command = far.lab.near_command(*far.command(CLIENTS[name], HOSTS[host], tmp_path))
    done = subprocess.run(command, capture_output=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, far.page), done.stderr.decode() + far.lab.log("usernet.log")[-2000:]


@pytest.mark.parametrize(
    "how", [("--socks5-hostname", "127.0.0.1:1080"), ("--proxytunnel", "--proxy", "http://127.0.0.1:1080")]
)
def test_curl_posts(far: Far, how: tuple[str, ...]) -> None:
    """tests/interop/test_curl.py has PUT."""
    digest = far.lab.blob("blob", SIZE)
    data = f"@{far.site / 'blob'}"
    command = ("curl", "-sSf", *how, "--data-binary", data, f"http://{NAME}:{SINK_PORT}/")
    done = subprocess.run(far.lab.near_command(*command), capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [str(SIZE), digest], done.stderr


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:1080", "http://127.0.0.1:1080"])
def test_curl_with_200_in_parallel(far: Far, proxy: str, tmp_path: Path) -> None:
    """One process, which keeps as many connections."""
    digest = far.lab.blob("medium", 100_000)
    command = ("curl", "-sSf", "-Z", "--parallel-immediate", "--parallel-max", "200", "--proxy", proxy)
    urls = ("-o", f"{tmp_path}/#1", f"http://{NAME}/medium?[1-200]")
    subprocess.run(far.lab.near_command(*command, *urls), check=True, timeout=100)
    bodies = [path.read_bytes() for path in tmp_path.iterdir()]
    assert [hashlib.sha256(body).hexdigest() for body in bodies] == [digest] * 200


@pytest.mark.parametrize("name", [name for name in CLIENTS if "{user}" in CLIENTS[name].script])
def test_wrong_password(far: Far, name: str, tmp_path: Path) -> None:
    """Those who are let in above are asked."""
    client = CLIENTS[name]._replace(script=CLIENTS[name].script.replace("{user}", "me:donkey"))
    command = far.lab.near_command(*far.command(client, NAME, tmp_path))
    done = subprocess.run(command, capture_output=True, timeout=100)
    assert done.returncode, done.stdout
