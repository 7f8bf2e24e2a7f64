"""Headless Chromium loads a page with pictures through the proxy."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.support.lab import NAME, Lab
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PICTURES = 12
PAGE = (
    "<!doctype html><title>far</title><body>"
    + "".join(f'<img src="p{n}.png" alt="">' for n in range(PICTURES))
    + "<script>onload = () => document.title = 'loaded ' + "
    "[...document.images].filter(i => i.naturalWidth == 64).length</script>"
)


def png(width: int, height: int, seed: int) -> bytes:
    """A picture without a library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + bytes((x * seed ^ y * 7) & 255 for x in range(width) for _ in range(3)) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("scheme", ["socks5", "http"])
def test_page_with_pictures(gso_lab: Lab, scheme: str, tmp_path: Path) -> None:
    needs("chromium")
    site = gso_lab.dir / "site"
    (site / "page.html").write_text(PAGE)
    for n in range(PICTURES):
        (site / f"p{n}.png").write_bytes(png(64, 64, n + 1))
    process = gso_lab.start_usernet(gso_lab.config())
    command = gso_lab.near_command(
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--timeout=30000",
        f"--proxy-server={scheme}://127.0.0.1:1080", "--dump-dom", f"http://{NAME}/page.html",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert f"<title>loaded {PICTURES}</title>" in done.stdout, done.stdout[-500:] + done.stderr[-500:]
    assert gso_lab.end(process) == 0, gso_lab.log("usernet.log")
