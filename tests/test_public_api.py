"""`import usernet`: what it offers, and what it does not cost."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

import usernet
from usernet.config import parse
from usernet.wireguard.crypto import PrivateKey

CONFIG = """[Interface]
PrivateKey = {key}
Address = 10.7.0.1/24

[Peer]
PublicKey = {peer}
AllowedIPs = 10.7.0.0/24
Endpoint = 127.0.0.1:9
"""


def test_every_name_is_there() -> None:
    for name in usernet.__all__:
        assert getattr(usernet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        usernet.nonsense  # noqa: B018


async def test_a_tunnel_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "wg0.conf"
    keys = {name: base64.b64encode(os.urandom(32)).decode() for name in ("key", "peer")}
    file.write_text(CONFIG.format(**keys))
    file.chmod(0o600)
    async with usernet.open_tunnel(file, port=0) as net:
        assert net.addresses == ("10.7.0.1",)
        assert net.mtu == 1420
        assert net.listen_port > 0
        assert net.covers("10.7.0.9")
        assert net.statistics().udp is not None
    file.write_text("[Interface]\n")
    with pytest.raises(usernet.ConfigError):
        usernet.open_tunnel(str(file))
    with pytest.raises(FileNotFoundError):
        usernet.open_tunnel(tmp_path / "wg1.conf")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import usernet", ("asyncio", "cryptography", "dns", "socket")),
        ("import usernet.aio.network", ("dns", "nacl", "h11", "click", "rich", "uvloop")),
    ],
)
def test_what_an_import_does_not_import(statement: str, absent: tuple[str, ...]) -> None:
    code = f"{statement}\nimport sys\nprint(*[name for name in {absent!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == ""


async def test_a_files_warnings_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Among them a peer with our own key, whose endpoint's name is then nobody's business."""
    private = os.urandom(32)
    own = base64.b64encode(PrivateKey(private).public_key).decode()
    text = CONFIG.format(key=base64.b64encode(private).decode(), peer=own)
    file = tmp_path / "wg0.conf"
    file.touch(mode=0o600)
    file.write_text(text.replace("127.0.0.1:9", "nowhere.invalid:9"))
    async with usernet.open_tunnel(file, port=0) as net:
        net.request_handshakes()
    assert f"{file}:5: this [Peer] has our own key: it is ignored" in caplog.text
    config = parse(file.read_text(), "f")  # without its key derived, the peer is still there
    assert len(config.peers) == 1
    async with usernet.open_tunnel(config, port=0) as net:
        net.request_handshakes()
        assert not net.covers("10.7.0.9")
