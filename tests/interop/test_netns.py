"""What Linux' tools/testing/selftests/wireguard/netns.sh expects of a WireGuard, expected of usernet.

The near side is usernet; the far one is wireguard-go, which is reconfigured live with `wg` and `ip`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import PAGE, page, program, running
from tests.support.lab import (
    FAR,
    FAR6,
    INNER_FAR,
    INNER_FAR6,
    INNER_NEAR,
    INNER_NEAR6,
    NEAR,
    NEAR6,
    PEERS,
    SINK_PORT,
    Lab,
    peer_binary,
    run,
    wait_for,
)
from tests.support.skipping import needs, skip

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

SIZE = 16 << 20
BOTH = (INNER_FAR, f"[{INNER_FAR6}]")
OUTER = {"outer4": f"{FAR}:51820", "outer6": f"[{FAR6}]:51820"}


@pytest.fixture(scope="module")
def lab(gso_lab: Lab) -> Lab:
    needs("nft", "ping", "sysctl")
    return gso_lab


in_both_modes = pytest.mark.usefixtures("mode")


def pings(lab: Lab, address: str, *flags: str, seconds: int = 5) -> bool:
    """Whether the far host's ping of the address is answered."""
    command = lab.far_command("ping", "-n", "-c", "1", "-W", str(seconds), *flags, address)
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def bulk(lab: Lab, host: str, size: int = SIZE) -> None:
    """Both ways, every byte the same."""
    expected = lab.blob("blob", size)
    body = lab.curl(f"http://{host}/blob")
    assert (len(body), hashlib.sha256(body).hexdigest()) == (size, expected)
    answer = lab.curl(f"http://{host}:{SINK_PORT}/", "-T", str(lab.dir / "site" / "blob"))
    assert answer.decode().split() == [str(size), expected]


def endpoint_of_ours(lab: Lab) -> str:
    """Where the far peer believes us to be."""
    known = dict(line.split("\t") for line in lab.wg("show", lab.device, "endpoints").splitlines())
    return known[lab.near_public]


def reassembled(lab: Lab) -> list[str]:
    """Fragments that either host has had to put together, outside of the tunnel."""
    return [
        run(
            *command,
            "sh",
            "-c",
            "awk '/^Ip6?Reasm/ {print $2}' /proc/net/snmp6; awk '/^Ip:/ {print $15}' /proc/net/snmp",
        )
        for command in (lab.near_command(), lab.far_command())
    ]


@contextlib.contextmanager
def mtus(lab: Lab, inner: int, outer: int) -> Iterator[None]:
    """Other MTUs for the tunnel and for the wire."""

    def put(tunnel: int, wire: int) -> None:
        for name in (lab.near, lab.far):
            run("ip", "-n", name, "link", "set", "v0", "mtu", str(wire))
        run("ip", "-n", lab.far, "link", "set", lab.device, "mtu", str(tunnel))
        lab.mtu = tunnel

    put(inner, outer)
    try:
        yield
    finally:
        put(1420, 1500)


# -- data --


@in_both_modes
def test_pings_both_ways(lab: Lab) -> None:
    for address in (INNER_FAR, INNER_FAR6):
        command = [sys.executable, "-m", "proxy.cli", "ping", str(lab.config()), address, "-c", "1"]
        assert "1 sent, 1 answered" in run(*lab.near_command(*command))
    with running(lab, lab.config()):
        assert page(lab) == PAGE
        for address in (INNER_NEAR, INNER_NEAR6):
            assert pings(lab, address)
            assert pings(lab, address, "-s", "1300")
            assert pings(lab, address, "-s", "4000"), "fragments inside the tunnel"


@contextlib.contextmanager
def fresh_peer(lab: Lab, kind: str = "go-gso") -> Iterator[None]:
    """A far peer that has just been started, of either kind; and another after it.

    To go from IPv4 to IPv6 outside, the current wireguard-go needs it: in an address that it has used for IPv4 it
    overwrites no more than four bytes of the sixteen, and its first datagrams go nowhere.
    """
    usual, binary = lab.binary, peer_binary(kind)
    if binary is None:
        skip(f"{PEERS[kind]} is not installed")
    restart_peer(lab, str(binary))
    try:
        yield
    finally:
        restart_peer(lab, usual)


def restart_peer(lab: Lab, binary: str) -> None:
    lab.stop_peer()
    lab.binary = binary
    lab.start_peer()


@in_both_modes
@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("kind", PEERS)
def test_bulk(lab: Lab, kind: str, outer: str) -> None:
    """MTU 1420, both inner families, both ways."""
    with fresh_peer(lab, kind), running(lab, lab.config(endpoint=OUTER[outer])):
        for host in BOTH:
            bulk(lab, host)


@in_both_modes
@pytest.mark.parametrize(("inner", "outer"), [(1280, 1500), (8900, 9000)])
def test_mtu(lab: Lab, inner: int, outer: int) -> None:
    with mtus(lab, inner, outer), running(lab, lab.config()):
        for host in BOTH:
            bulk(lab, host)
        assert pings(lab, INNER_NEAR, "-M", "do", "-s", str(inner - 28))
        assert pings(lab, INNER_NEAR6, "-M", "do", "-s", str(inner - 48))


@in_both_modes
@pytest.mark.parametrize(("name", "overhead"), [("outer4", 60), ("outer6", 80)])
def test_padding_stays_within_the_mtu(lab: Lab, name: str, overhead: int) -> None:
    """1411 is no multiple of 16, and the wire takes a packet of just that size: padded further it would be cut."""
    mtu = 1411
    with fresh_peer(lab), mtus(lab, mtu, mtu + overhead), running(lab, lab.config(endpoint=OUTER[name])):
        assert page(lab) == PAGE
        before = reassembled(lab)
        assert pings(lab, INNER_NEAR, "-M", "do", "-s", str(mtu - 28))
        assert pings(lab, INNER_NEAR6, "-M", "do", "-s", str(mtu - 48))
        for host in BOTH:
            bulk(lab, host, 1 << 20)
        assert reassembled(lab) == before


# -- roaming --


@in_both_modes
def test_far_port_and_family_change(lab: Lab) -> None:
    with fresh_peer(lab, "debian"), running(lab, lab.config(), "--port", "51900"):
        assert page(lab) == PAGE
        lab.wg("set", lab.device, "listen-port", "51821")
        try:
            assert pings(lab, INNER_NEAR)
            assert f"has moved to {FAR}:51821" in lab.log("usernet.log")
            assert page(lab) == PAGE
            lab.wg("set", lab.device, "peer", lab.near_public, "endpoint", f"[{NEAR6}]:51900")
            assert pings(lab, INNER_NEAR)
            assert f"has moved to [{FAR6}]:51821" in lab.log("usernet.log")
            for host in BOTH:
                bulk(lab, host, 1 << 20)
        finally:
            lab.wg("set", lab.device, "listen-port", "51820")


@in_both_modes
def test_far_side_follows_our_port_and_address(lab: Lab) -> None:
    for port in ("51901", "51902"):
        with running(lab, lab.config(), "--port", port):
            assert page(lab) == PAGE
            assert endpoint_of_ours(lab) == f"{NEAR}:{port}"
            assert pings(lab, INNER_NEAR)
    with running(lab, lab.config(), "--port", "51903"):
        assert page(lab) == PAGE
        replace_address(lab, NEAR, "192.0.2.4")
        try:
            assert page(lab) == PAGE
            assert endpoint_of_ours(lab) == "192.0.2.4:51903"
            assert pings(lab, INNER_NEAR)
        finally:
            replace_address(lab, "192.0.2.4", NEAR)


def replace_address(lab: Lab, old: str, new: str) -> None:
    run("ip", "-n", lab.near, "addr", "del", f"{old}/28", "dev", "v0")
    run("ip", "-n", lab.near, "addr", "add", f"{new}/28", "dev", "v0")
    run("ip", "-n", lab.near, "route", "replace", "default", "via", FAR)


@in_both_modes
def test_foreign_source_is_dropped_yet_its_endpoint_counts(lab: Lab) -> None:
    """The reverse-path filter of cryptokey routing: its source is another peer's, but the datagram was authentic."""
    other = run("wg", "pubkey", stdin=run("wg", "genkey"))
    config = lab.config(extra=f"[Peer]\nPublicKey = {other}\nAllowedIPs = {INNER_FAR}/32\n")
    with running(lab, config):
        assert page(lab, BOTH[1]) == PAGE
        lab.wg("set", lab.device, "listen-port", "51822")
        try:
            assert not pings(lab, INNER_NEAR, seconds=1)
            assert f"has moved to {FAR}:51822" in lab.log("usernet.log")
            assert pings(lab, INNER_NEAR6)
        finally:
            lab.wg("set", lab.device, "listen-port", "51820")


# -- the rest --


def test_130_560_allowed_ips(lab: Lab, mode: str) -> None:
    """255 x 256 of each family on one peer, as netns.sh has them; there are two routes instead of so many."""
    pairs = [(a, b) for a in range(1, 256) for b in range(256)]
    lines = [f"AllowedIPs = 10.{a}.{b}.1/32, fd00::{a:x}:{b:x}/128" for a, b in pairs]
    for address in ("10.255.7.1/32", "fd00::ff:7/128"):
        run("ip", "-n", lab.far, "addr", "add", address, "dev", lab.device)
    config = lab.config(name="many.conf", extra="\n".join(lines) + "\n")
    if mode == "tun":
        config.write_text(config.read_text().replace("[Peer]", "Table = off\n[Peer]"))
    began = time.monotonic()
    try:
        with running(lab, config):
            assert time.monotonic() - began < 30
            wait_for(lambda: "and 130558 more" in lab.log("usernet.log"), "the line about them")
            for network in ("10.0.0.0/8", "fd00::/16") if mode == "tun" else ():
                run("ip", "-n", lab.near, "route", "add", network, "dev", "usernet0")
            for host in (*BOTH, "10.255.7.1", "[fd00::ff:7]"):
                assert page(lab, host) == PAGE
            bulk(lab, "10.255.7.1", 4 << 20)
            with pytest.raises(RuntimeError, match="curl exited"):
                page(lab, "10.255.7.2")
    finally:
        for address in ("10.255.7.1/32", "fd00::ff:7/128"):
            run("ip", "-n", lab.far, "addr", "del", address, "dev", lab.device)


@contextlib.contextmanager
def second_device(lab: Lab, near_public: str) -> Iterator[str]:
    """Another WireGuard device on the far host, 10.8.0.1 on port 51830; its public key."""
    name = f"{lab.device}b"
    process = lab.start(lab.far_command(lab.binary, "-f", name), log="second.log", env={"WG_PROCESS_FOREGROUND": "1"})
    wait_for(Path(f"/var/run/wireguard/{name}.sock").exists, "the second device's control socket")
    (lab.dir / "second.key").write_text(run("wg", "genkey"))
    lab.wg("set", name, "private-key", str(lab.dir / "second.key"), "listen-port", "51830")
    lab.wg("set", name, "peer", near_public, "allowed-ips", "10.8.0.2/32")
    run("ip", "-n", lab.far, "addr", "add", "10.8.0.1/24", "dev", name)
    run("ip", "-n", lab.far, "link", "set", name, "mtu", "1340", "up")
    try:
        yield lab.wg("show", name, "public-key")
    finally:
        lab.end(process)


@pytest.mark.parametrize("carrier", BOTH)
def test_wireguard_in_wireguard(lab: Lab, carrier: str) -> None:
    key = run("wg", "genkey")
    expected = lab.blob("blob", 4 << 20)
    with second_device(lab, run("wg", "pubkey", stdin=key)) as public:
        inner = lab.dir / "inner.conf"
        inner.touch(mode=0o600)
        inner.write_text(
            f"[Interface]\nPrivateKey = {key}\nAddress = 10.8.0.2/24\nMTU = 1340\n"
            f"[Peer]\nPublicKey = {public}\nEndpoint = {carrier}:51830\nAllowedIPs = 10.8.0.0/24\n"
        )
        command, environment = program(lab, "nested_client.py", str(lab.config()), str(inner), "10.8.0.1")
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(4 << 20), expected]


@contextlib.contextmanager
def behind_nat(lab: Lab) -> Iterator[str]:
    """A third host behind the near one, which forgets a UDP mapping after two silent seconds; its namespace."""
    name = f"{lab.near}c"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "v1", "netns", lab.near, "type", "veth", "peer", "name", "v1", "netns", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        for host, address in ((lab.near, "198.51.100.1/24"), (name, "198.51.100.2/24")):
            run("ip", "-n", host, "addr", "add", address, "dev", "v1")
            run("ip", "-n", host, "link", "set", "v1", "up")
        run("ip", "-n", name, "route", "add", "default", "via", "198.51.100.1")
        rules = "table ip nat {\nchain post {\ntype nat hook postrouting priority srcnat\noifname v0 masquerade\n}\n}\n"
        run(*lab.near_command("nft", "-f", "-"), stdin=rules)
        for setting in ("net.ipv4.ip_forward=1", "net.netfilter.nf_conntrack_udp_timeout=2",
                        "net.netfilter.nf_conntrack_udp_timeout_stream=2"):  # fmt: skip
            run(*lab.near_command("sysctl", "-w", setting))
        yield name
    finally:
        run("ip", "netns", "del", name)
        subprocess.run(lab.near_command("nft", "delete", "table", "ip", "nat"), capture_output=True)


@in_both_modes
def test_nat_with_a_short_memory(lab: Lab) -> None:
    """A keepalive each second holds the mapping, so that the far side can speak first; without it, it cannot."""
    with behind_nat(lab) as client:
        # The whole laboratory's near host is the one behind the NAT for as long as this lasts.
        router, lab.near = lab.near, client
        try:
            with running(lab, lab.config(keepalive=1)):
                assert page(lab) == PAGE
                assert endpoint_of_ours(lab).startswith(f"{NEAR}:")
                heard = received_bytes(lab)
                wait_for(lambda: received_bytes(lab) >= heard + 4 * 32, "four keepalives and nothing else")
                assert pings(lab, INNER_NEAR)
            with running(lab, lab.config()):
                assert page(lab) == PAGE
                known = ["ip", "netns", "exec", router, "cat", "/proc/net/nf_conntrack"]
                wait_for(lambda: "dport=51820" not in run(*known), "the mapping to be forgotten")
                assert not pings(lab, INNER_NEAR, seconds=1)
                assert page(lab) == PAGE
                assert pings(lab, INNER_NEAR)
        finally:
            lab.near = router


def received_bytes(lab: Lab) -> int:
    rows = [line.split("\t") for line in lab.wg("show", lab.device, "transfer").splitlines()]
    return next(int(received) for key, received, _ in rows if key == lab.near_public)


def test_server_inside_the_tunnel(lab: Lab) -> None:
    """The far side's curl reaches a Python program's server, over both families."""
    expected = lab.blob("blob", SIZE)
    command, environment = program(lab, "tunnel_server.py", str(lab.config(keepalive=5)), "8000")
    process = lab.start(command, log="server.log", env=environment)
    wait_for(lambda: "serving" in lab.log("server.log"), "the server")
    wait_for(lambda: pings(lab, INNER_NEAR, seconds=1), "the tunnel")
    for host in (INNER_NEAR, f"[{INNER_NEAR6}]"):
        answer = run(*lab.far_command("curl", "-sS", "-T", str(lab.dir / "site" / "blob"), f"http://{host}:8000/"))
        assert answer.split() == [str(SIZE), expected]
        assert run(*lab.far_command("curl", "-sS", f"http://{host}:8000/")).startswith("0 ")
        began = time.monotonic()
        refused = lab.far_command("curl", "-sS", "--max-time", "10", f"http://{host}:8001/")
        assert subprocess.run(refused, capture_output=True).returncode == 7  # couldn't connect
        assert time.monotonic() - began < 5
    assert lab.end(process) == 0, lab.log("server.log")
    assert lab.log("server.log") == "serving\n"
