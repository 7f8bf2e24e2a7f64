"""What goes wrong on real networks, with a real far peer: it restarts, it moves, we are stopped, keys are renewed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.support.lab import FAR, INNER_FAR, Lab, run, wait_for
from tests.support.stream import stream

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

SIZE = 64 << 20


@pytest.fixture
def usernet(gso_lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    process = gso_lab.start_usernet(gso_lab.config(keepalive=1))
    assert gso_lab.curl(f"http://{INNER_FAR}/")
    yield process
    assert gso_lab.end(process) == 0, gso_lab.log("usernet.log")


def test_far_peer_restarted(gso_lab: Lab, usernet: subprocess.Popen[bytes]) -> None:
    """Its keys are gone; new requests work again without a restart of ours."""
    gso_lab.stop_peer()
    gso_lab.start_peer()
    assert gso_lab.curl("--retry", "20", "--retry-all-errors", "--retry-delay", "1", f"http://{INNER_FAR}/")


def test_a_second_start_that_fails_takes_no_session(gso_lab: Lab, usernet: subprocess.Popen[bytes]) -> None:
    """With the same key, on a port of the first one's: the far peer never hears of it."""

    def known() -> list[str]:
        return [gso_lab.wg("show", gso_lab.device, what) for what in ("endpoints", "latest-handshakes")]

    before = known()
    config = gso_lab.config(keepalive=1)
    with pytest.raises(RuntimeError, match="Address already in use"):
        gso_lab.start_usernet(config, "--socks5-server", "127.0.0.1:1080", log="second.log", port=1)
    assert known() == before
    assert gso_lab.curl(f"http://{INNER_FAR}/", timeout=3)


def test_far_address_changed(gso_lab: Lab, usernet: subprocess.Popen[bytes]) -> None:
    """The far peer sends from a new address: we follow it, in the middle of a transfer."""
    expected = gso_lab.blob("blob", SIZE)
    target = gso_lab.dir / "out"
    client = slow_download(gso_lab, target)
    wait_for(lambda: target.exists() and target.stat().st_size > 1 << 20, "the first MiB")
    run("ip", "-n", gso_lab.far, "addr", "add", "192.0.2.3/28", "dev", "v0")
    run("ip", "-n", gso_lab.far, "addr", "del", f"{FAR}/28", "dev", "v0")
    # A secondary address goes with its primary on old kernels: have it there in any case.
    subprocess.run(["ip", "-n", gso_lab.far, "addr", "add", "192.0.2.3/28", "dev", "v0"], capture_output=True)
    try:
        # The far side has to speak first: only then can its new address be known.
        gso_lab.start(gso_lab.far_command("ping", "-c", "20", "-i", "0.3", "192.0.2.130"), log="ping.log")
        assert client.wait(120) == 0, gso_lab.log("curl.log")
        assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
        wait_for(lambda: "192.0.2.3:51820" in gso_lab.log("usernet.log"), "the log line that names the new address")
    finally:
        subprocess.run(["ip", "-n", gso_lab.far, "addr", "del", "192.0.2.3/28", "dev", "v0"], capture_output=True)
        run("ip", "-n", gso_lab.far, "addr", "add", f"{FAR}/28", "dev", "v0")
        run("ip", "-n", gso_lab.far, "route", "replace", "default", "via", "192.0.2.1")


def slow_download(lab: Lab, target: Path) -> subprocess.Popen[bytes]:
    target.unlink(missing_ok=True)
    return lab.start(
        lab.near_command(
            "curl", "-sS", "-o", str(target), "--limit-rate", "16M", "-x", "socks5h://127.0.0.1:1080",
            f"http://{INNER_FAR}/blob",
        ),
        log="curl.log",
    )  # fmt: skip


def test_our_process_stopped_during_a_transfer(gso_lab: Lab, usernet: subprocess.Popen[bytes]) -> None:
    """STOP for as long as it takes the far side to retransmit; after CONT the transfer goes on and is whole."""
    expected = gso_lab.blob("blob", SIZE)
    target = gso_lab.dir / "out"
    client = slow_download(gso_lab, target)
    wait_for(lambda: target.exists() and target.stat().st_size > 1 << 20, "the first MiB")
    pid = usernet.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: retransmits(gso_lab) > 2, "the far kernel to retransmit")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert client.wait(120) == 0, gso_lab.log("curl.log")
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected


def retransmits(lab: Lab) -> int:
    """The back-off count of the far kernel's most stalled connection."""
    words = run(*lab.far_command("ss", "-Htin", "dst 192.0.2.130")).split()
    return max((int(word.partition(":")[2]) for word in words if word.startswith("backoff:")), default=0)


def test_wrong_key_is_said_in_one_line(gso_lab: Lab) -> None:
    """A peer that does not know us stays silent: we say that no handshake completes, once, and why that usually is."""
    config = gso_lab.config(name="wrong.conf")
    config.write_text(config.read_text().replace(gso_lab.near_key, run("wg", "genkey")))
    process = gso_lab.start_usernet(
        config, "--socks5-server", "127.0.0.1:1095", "--dial-timeout", "3", port=1095, log="wrong.log"
    )
    with pytest.raises(RuntimeError, match="curl exited"):
        gso_lab.curl(f"http://{INNER_FAR}/", proxy="socks5h://127.0.0.1:1095")
    wait_for(lambda: "no handshake" in gso_lab.log("wrong.log"), "the line that explains", timeout=40)
    assert gso_lab.end(process) == 0
    assert gso_lab.log("wrong.log").count("no handshake completes") == 1


def test_rekey_while_data_flows(gso_lab: Lab) -> None:
    """A library user with shortened timers: several new sessions during one transfer, none of its bytes lost."""
    expected = gso_lab.blob("blob", SIZE)
    program = Path(__file__).with_name("rekey_client.py")
    command = gso_lab.near_command(sys.executable, str(program), str(gso_lab.config(name="rekey.conf")))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    digest, handshakes = done.stdout.split()
    assert digest == expected
    assert int(handshakes) >= 3


def test_a_thousand_other_configurations(gso_lab: Lab) -> None:
    """Peers, keepalives, MTU, name servers and our own port change under a download and an upload: no byte is lost."""
    expected = gso_lab.blob("blob", 96 << 20)
    program = Path(__file__).with_name("reconfigure_client.py")
    blob = gso_lab.dir / "site" / "blob"
    command = gso_lab.near_command(sys.executable, str(program), str(gso_lab.config(name="many.conf")), str(blob))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    down, up, times = done.stdout.split()
    assert (down, up) == (expected, expected)
    assert int(times) >= 1000


def test_half_a_minute_of_silence(gso_lab: Lab) -> None:
    with running(gso_lab, gso_lab.config()), stream(gso_lab) as one:
        rules = "table inet silence {\nchain input {\ntype filter hook input priority 0;\nudp dport 51820 drop\n}\n}\n"
        run(*gso_lab.far_command("nft", "-f", "-"), stdin=rules)
        try:
            one.last(30)
        finally:
            run(*gso_lab.far_command("nft", "delete", "table", "inet", "silence"))
        assert one.flow("the stream to flow again") < 8


def test_a_silent_host_behind_a_peer_that_answers_costs_no_handshake(gso_lab: Lab) -> None:
    """What is wrong there is not the tunnel, and whoever else uses it tells so."""
    with running(gso_lab, gso_lab.config(), "-v", log="silent.log"):
        assert gso_lab.curl(f"http://{INNER_FAR}/")
        command = ("curl", "-sS", "-x", "socks5h://127.0.0.1:1080", "--max-time", "8", "http://192.0.2.201/")
        silent = gso_lab.start(gso_lab.near_command(*command), log="curl.log")
        pages = 0
        while silent.poll() is None:
            assert gso_lab.curl(f"http://{INNER_FAR}/")
            pages += 1
        assert silent.returncode == 28, gso_lab.log("curl.log")  # curl's "operation timed out"
        assert pages > 10
        assert gso_lab.log("silent.log").count(" begun") == 1, gso_lab.log("silent.log")
