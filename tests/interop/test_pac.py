"""Headless Chromium told by /proxy.pac: what belongs to the tunnel comes through the proxy, the rest does not."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.interop.test_browser import png
from tests.support.certificates import Authority, public_key_pin
from tests.support.lab import INNER_FAR, INNER_FAR6, NAME, NEAR, Lab, run, wait_for
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

DIRECT_PORT, DIRECT_NAME, PROXY_NAME = 8000, "direct.example.org", "proxy.example.org"
# Three that only the tunnel leads to, and two that the proxy refuses, because no allowed IPs cover them
PICTURES = (
    f"http://{NAME}/in.png",
    f"http://{INNER_FAR}/in.png",
    f"http://[{INNER_FAR6}]/in.png",
    f"http://{NEAR}:{DIRECT_PORT}/out.png",
    f"http://{DIRECT_NAME}:{DIRECT_PORT}/out.png",
)
PAGE = (
    "<!doctype html><title>far</title><body>"
    + "".join(f'<img src="{url}?{n}" alt="">' for n, url in enumerate(PICTURES))
    + "<script>onload = () => document.title = 'loaded ' + "
    "[...document.images].map(i => i.naturalWidth)</script>"
)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_pac(gso_lab: Lab, scheme: str, tmp_path: Path) -> None:
    needs("chromium")
    inside, outside = gso_lab.dir / "site", tmp_path / "outside"
    outside.mkdir()
    (inside / "pac.html").write_text(PAGE)
    (inside / "in.png").write_bytes(png(64, 64, 3))
    (outside / "out.png").write_bytes(png(64, 64, 5))
    config = gso_lab.config()
    config.write_text(config.read_text().replace(f"DNS = {INNER_FAR}", f"DNS = {INNER_FAR}, example.test"))
    pair = Authority(tmp_path).issue(hosts=(PROXY_NAME,))
    pin = base64.b64encode(hashlib.sha256(public_key_pin(pair)).digest()).decode()
    tls = ("--http-proxy-tls-cert", str(pair.chain), "--http-proxy-tls-key", str(pair.key), "--hostname", PROXY_NAME)
    pac = f"https://{PROXY_NAME}:1080/proxy.pac" if scheme == "https" else "http://127.0.0.1:1080/proxy.pac"
    web = gso_lab.near_command(
        sys.executable, "-m", "http.server", str(DIRECT_PORT), "--bind", NEAR, "--directory", str(outside)
    )
    direct = gso_lab.start(web, log="direct.log")
    try:
        wait_for(lambda: run(*gso_lab.near_command("ss", "-Hltn", f"sport = :{DIRECT_PORT}")), "the direct server")
        with running(gso_lab, config, *(tls if scheme == "https" else ())):
            command = gso_lab.near_command(
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=20000", "--timeout=30000",
                f"--host-resolver-rules=MAP {DIRECT_NAME} {NEAR}, MAP {PROXY_NAME} 127.0.0.1",
                f"--ignore-certificate-errors-spki-list={pin}",
                f"--proxy-pac-url={pac}", "--dump-dom", f"http://{NAME}/pac.html",
            )  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert f"<title>loaded {','.join(['64'] * len(PICTURES))}</title>" in done.stdout, (
                done.stdout[-800:] + done.stderr[-800:]
            )
    finally:
        gso_lab.end(direct)
