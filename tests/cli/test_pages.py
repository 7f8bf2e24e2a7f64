"""--debug and --local-addr of a real process, and the pages on the proxy's own port."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.support import Daemon, usernet
from tests.cli.test_run import Far, far_peer

# Without the machine's own proxies
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_peer(tmp_path / "wg.conf") as found:
        yield found


def get(url: str, **fields: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with OPENER.open(urllib.request.Request(url, headers=fields), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_the_pages_of_a_daemon(far: Far) -> None:
    async with Daemon.start(
        "run", str(far.file), "--socks5-server", "127.0.0.1:0", "--outbound-http-proxy-listen", "127.0.0.1:0",
        "--debug", "127.0.0.1:0", "--local-addr", "127.0.0.1:0", "--state", "mem:", "--hostname", "box.example",
    ) as daemon:  # fmt: skip
        proxy = (await daemon.line(r"proxy: HTTP on (127\.0\.0\.1:\d+)"))[1]
        debug = (await daemon.line(r"debug: (http://127\.0\.0\.1:\d+/)"))[1]
        probes = (await daemon.line(r"local-addr: (http://127\.0\.0\.1:\d+)"))[1]
        await daemon.line("completed in")

        async def ask(url: str, **fields: str) -> tuple[int, str]:
            return await asyncio.to_thread(get, url, **fields)

        for place in (debug, probes + "/", f"http://{proxy}/"):
            assert await ask(f"{place}healthz") == (200, "ok\n")
            assert (await ask(f"{place}readyz"))[0] == 200
        status, page = await ask(debug)
        assert (status, "The tunnel works" in page) == (200, True)
        assert json.loads((await ask(f"{debug}status"))[1])["peers"][0]["handshakes"] == 1
        for place in (debug, probes + "/"):
            assert "\nusernet_tunnel_up 1.0\n" in (await ask(f"{place}metrics"))[1]
        assert (await ask(f"{probes}/"))[0] == 404
        assert (await ask(f"{probes}/readyz", Host="10.0.0.7"))[0] == 200, "a kubelet's probe"
        assert (await ask(debug, Host="evil.example"))[0] == 403
        assert (await ask(debug, Host="box.example"))[0] == 200
        assert (await ask(debug, Origin="http://evil.example"))[0] == 403
        assert (await ask(f"http://{proxy}/metrics"))[0] == 400, "strangers come there"
        assert (await ask(f"http://{proxy}/readyz", Host="evil.example"))[0] == 400
        assert await daemon.stop() == 0


@pytest.mark.parametrize("place", ["0.0.0.0:0", ":0", "[::]:0"])
async def test_others_are_not_shown_destinations_unasked(far: Far, place: str) -> None:
    flags = ("--state", "mem:", "--socket", f"{far.file}.sock", "--socks5-server", "127.0.0.1:0")
    done = usernet("run", str(far.file), *flags, "--debug", place)
    assert done.returncode == 1
    assert "Error: --debug: " in done.stderr
    assert "--allow-anyone" in done.stderr


async def test_bad_addresses(far: Far) -> None:
    for flag in ("--debug", "--local-addr"):
        done = usernet("run", str(far.file), "--state", "mem:", "--socket", f"{far.file}.sock", flag, "nonsense")
        assert done.returncode == 1
        assert f"Error: {flag}: " in done.stderr


def test_no_start_imports_what_few_want() -> None:
    code = (
        "import sys, proxy.cli.run, proxy.daemon.app; "
        "print([name for name in ('prometheus_client', 'h11', 'proxy.web', 'proxy.status.page')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.stdout == "[]\n", done.stderr
