"""What netns.sh expects of keys and names that change under a running usernet, and of keys that are none.

The far side is wireguard-go, reconfigured live with `wg`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import PAGE, page, running, second_host
from tests.support.lab import FAR, INNER_NEAR, INNER_NEAR6, Lab, run, wait_for
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300), pytest.mark.usefixtures("mode")]


@pytest.fixture(scope="module")
def lab(gso_lab: Lab) -> Iterator[Lab]:
    """With a hosts file of its own for the near host; what runs there sees it as /etc/hosts."""
    needs("nft")
    folder = Path("/etc/netns") / gso_lab.near
    folder.mkdir(parents=True)
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    yield gso_lab
    (folder / "hosts").unlink()
    folder.rmdir()


def fails(lab: Lab, seconds: float = 6) -> None:
    with pytest.raises(RuntimeError, match="curl exited"):
        page(lab, seconds=seconds)


@pytest.fixture(scope="module", params=["userspace", "tun"])
def mode(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """As everywhere here, but all tests in the one come before those in the other."""
    lab.flags = ("--tun", "usernet0") if request.param == "tun" else ()
    yield request.param
    lab.flags = ()


@pytest.fixture(scope="module")
def moving_name(lab: Lab, mode: str) -> Iterator[Path]:
    """A usernet that looks for its peer by a name that still has an old address; its log."""
    (Path("/etc/netns") / lab.near / "hosts").write_text("127.0.0.1 localhost\n192.0.2.5 far.example.test\n")
    config = second_host(lab, 140 if mode == "tun" else 141, endpoint="far.example.test:51820")
    flags = ["--socks5-server", "127.0.0.1:1081"]
    if mode == "tun":  # beside the one that the tests are about, which has the routes
        config.write_text(config.read_text().replace("[Peer]", "Table = off\n[Peer]"))
        flags += ["--tun", "usernet1"]
    with running(lab, config, *flags, log="name.log", port=1081):
        wait_for(lambda: "192.0.2.5:51820 begun" in lab.log("name.log"), "a handshake with the old address")
        (Path("/etc/netns") / lab.near / "hosts").write_text("127.0.0.1 localhost\n192.0.2.2 far.example.test\n")
        yield lab.dir / "name.log"


def test_keys_change_live(lab: Lab) -> None:
    """Either end's: what has the old ones is not served any more, a new configuration is."""
    fresh, near_key, near_public = run("wg", "genkey"), lab.near_key, lab.near_public
    (lab.dir / "fresh.key").write_text(fresh)
    old = lab.config()
    with running(lab, old, "--dial-timeout", "2"):
        assert page(lab) == PAGE
        lab.wg("set", lab.device, "private-key", str(lab.dir / "fresh.key"))
        fails(lab)
    new = lab.config(name="new.conf")
    new.write_text(new.read_text().replace(lab.far_public, run("wg", "pubkey", stdin=fresh)))
    with running(lab, new, "--dial-timeout", "2"):
        assert page(lab) == PAGE
        lab.wg("set", lab.device, "private-key", str(lab.dir / "far.key"))
        fails(lab)
    with running(lab, old, "--dial-timeout", "2"):
        assert page(lab) == PAGE
        lab.near_key, lab.near_public = lab.keypair()
        move_to(lab, near_public, lab.near_public, lab.dir / "psk")
        fails(lab)
    try:
        with running(lab, lab.config(name="new.conf")):
            assert page(lab) == PAGE
    finally:
        move_to(lab, lab.near_public, near_public, lab.dir / "psk")
        lab.near_key, lab.near_public = near_key, near_public


def move_to(lab: Lab, old: str, new: str, psk: Path) -> None:
    """Our inner addresses go to a peer without a past."""
    lab.wg("set", lab.device, "peer", old, "remove")
    lab.wg(
        "set", lab.device, "peer", new, "preshared-key", str(psk), "allowed-ips", f"{INNER_NEAR}/32,{INNER_NEAR6}/128"
    )


def test_preshared_key_changes_live(lab: Lab, moving_name: Path) -> None:
    """Wrong, it is said why nothing goes; right again, everything goes, without a restart.

    (`moving_name` is here so that these seconds count for it, too.)
    """
    (lab.dir / "wrong.psk").write_text(run("wg", "genpsk"))
    with running(lab, lab.config(keepalive=1), "--dial-timeout", "5"):
        assert page(lab) == PAGE
        move_to(lab, lab.near_public, lab.near_public, lab.dir / "wrong.psk")
        fails(lab)
        wait_for(lambda: "no handshake completes" in lab.log("usernet.log"), "the line that explains", timeout=60)
        lab.wg("set", lab.device, "peer", lab.near_public, "preshared-key", str(lab.dir / "psk"))
        wait_for(lambda: "answers again" in lab.log("usernet.log"), "the handshake after it", timeout=30)
        assert page(lab) == PAGE
        log = lab.log("usernet.log")
        assert log.count("no handshake completes") == 1
        assert re.search("no handshake completes.*preshared key", log), log


def test_name_of_the_endpoint_moves(lab: Lab, moving_name: Path) -> None:
    wait_for(lambda: "completed" in moving_name.read_text(), "a handshake with the new address", timeout=60)
    assert "far.example.test is now 192.0.2.2" in moving_name.read_text()
    assert page(lab, port=1081) == PAGE


LOW_ORDER = (
    "01" + 31 * "00",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + 30 * "ff" + "7f",
    "ed" + 30 * "ff" + "7f",
    "ee" + 30 * "ff" + "7f",
    "00" * 31 + "80",  # zero but for the bit that X25519 does not read
)


def test_low_order_keys_are_sent_nothing(lab: Lab) -> None:
    """A peer whose key is a point of low order gets no datagram, whoever asks and however often."""
    valid = run("wg", "pubkey", stdin=run("wg", "genkey"))
    keys = [valid, *(base64.b64encode(bytes.fromhex(point)).decode() for point in LOW_ORDER)]
    extra = "".join(
        f"[Peer]\nPublicKey = {key}\nEndpoint = {FAR}:{52000 + n}\nAllowedIPs = 10.9.{n}.0/24\n"
        "PersistentKeepalive = 1\n"
        for n, key in enumerate(keys)
    )
    rules = (
        "table inet low {\ncounter valid {}\ncounter low {}\nchain input {\ntype filter hook input priority 0\n"
        "udp dport 52000 counter name valid\nudp dport 52001-52099 counter name low\n}\n}\n"
    )
    run(*lab.far_command("nft", "-f", "-"), stdin=rules)
    try:
        with running(lab, lab.config(extra=extra), "--dial-timeout", "0.3"):
            assert page(lab) == PAGE
            for n in range(len(keys)):
                with pytest.raises(RuntimeError, match="curl exited"):
                    page(lab, f"10.9.{n}.1", seconds=5)
            wait_for(lambda: counted(lab, "valid") >= 2, "a second initiation to the peer with a good key")
            assert counted(lab, "low") == 0
            assert page(lab) == PAGE
    finally:
        run(*lab.far_command("nft", "delete", "table", "inet", "low"))


def counted(lab: Lab, name: str) -> int:
    return int(run(*lab.far_command("nft", "list", "counter", "inet", "low", name)).split("packets ")[1].split()[0])
