"""A real BIRD, whose protocol `usernet` is enabled while a peer answers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.support.lab import INNER_FAR, Lab, run, wait_for
from tests.support.skipping import skip

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

CONF = """
router id 192.0.2.1;
protocol device { }
protocol static usernet {
  disabled;
  ipv4;
  route 198.51.100.0/24 blackhole;
}
"""


class RealBird:
    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.socket = lab.dir / "bird.ctl"
        self._conf = lab.dir / "bird.conf"
        self._conf.write_text(CONF)
        self._path = f"{Path(shutil.which('bird') or '/usr/sbin/bird').parent}:/usr/sbin"

    def start(self) -> subprocess.Popen[bytes]:
        bird = shutil.which("bird", path=self._path)
        process = self._lab.start(
            self._lab.near_command(str(bird), "-f", "-c", str(self._conf), "-s", str(self.socket)), log="bird.log"
        )
        wait_for(lambda: self.socket.exists() and self.state(), "BIRD")
        return process

    def state(self) -> str:
        """`up`, or `down`."""
        birdc = shutil.which("birdc", path=self._path)
        try:
            said = run(
                *self._lab.near_command(str(birdc), "-r", "-s", str(self.socket), "show", "protocols", "usernet")
            )
        except RuntimeError:
            return ""
        return next((line.split()[3] for line in said.splitlines() if line.startswith("usernet")), "")


@pytest.fixture
def bird(gso_lab: Lab) -> RealBird:
    if shutil.which("bird") is None and not Path("/usr/sbin/bird").exists():
        skip("needs bird2")
    return RealBird(gso_lab)


def test_enabled_while_a_peer_answers(gso_lab: Lab, bird: RealBird) -> None:
    lab = gso_lab
    lab.forget_near()
    process = bird.start()
    assert bird.state() == "down"
    with running(lab, lab.config(keepalive=1), "--bird-socket", str(bird.socket)):
        wait_for(lambda: bird.state() == "up", "the protocol to be enabled")
        lab.stop_peer()
        with pytest.raises(RuntimeError):  # nobody misses a peer that nothing is sent to
            lab.curl(f"http://{INNER_FAR}/", timeout=20)
        wait_for(lambda: bird.state() == "down", "the protocol to be disabled", timeout=60)
        lab.start_peer()
        wait_for(lambda: bird.state() == "up", "the protocol to be enabled again", timeout=60)
        lab.end(process)
        wait_for(lambda: "BIRD at " in lab.log("usernet.log"), "the line that it is gone")
        process = bird.start()
        wait_for(lambda: bird.state() == "up", "a BIRD that was started anew to be told", timeout=30)
    assert bird.state() == "down"  # whoever stops takes it along
    lab.end(process)


def test_a_protocol_that_bird_does_not_have(gso_lab: Lab, bird: RealBird) -> None:
    (gso_lab.dir / "bird.conf").write_text(CONF.replace("static usernet", "static other"))
    bird.socket.unlink(missing_ok=True)
    server = gso_lab.start(
        gso_lab.near_command("/usr/sbin/bird", "-f", "-c", str(gso_lab.dir / "bird.conf"), "-s", str(bird.socket)),
        log="bird2.log",
    )
    wait_for(bird.socket.exists, "BIRD")
    with running(gso_lab, gso_lab.config(), "--bird-socket", str(bird.socket)):
        wait_for(lambda: "trying again" in gso_lab.log("usernet.log"), "the line that explains")
        assert "usernet" in gso_lab.log("usernet.log")
    gso_lab.end(server)
