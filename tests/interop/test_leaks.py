"""Nothing leaves by the host's own network when a name or address belongs to the tunnel.

The near host's only cable is watched while other people's clients use the proxy.  Its default route, and its resolver,
lie behind that cable, and the far host owns the tunnel's addresses: what leaked would be seen, and would even work.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.support.clients import CLIENTS, HOSTS, PROGRAMS, SSHD, Far
from tests.support.lab import FAR, FAR_PORT, INNER_FAR, NAME, Lab, connected, socket_in
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(200)]

EVERY_PACKET = 3  # ETH_P_ALL
ROOM = 32 << 20
SO_RCVBUFFORCE = 33
WIREGUARD = FAR_PORT.to_bytes(2)
FORWARDS = f"""[TCPClientTunnel]
BindAddress = 127.0.0.1:1090
Target = {NAME}:80
"""
ONE_OF_EACH = (
    "curl --socks4a", "curl --socks5-hostname", "curl --proxy", "curl --proxytunnel", "curl, HTTPS proxy",
    "WebSocket of aiohttp", "dnspython, UDP", "aioquic, UDP", "git, SOCKS5",
)  # fmt: skip

QUICK_TO_FAIL = ("curl --socks4a", "curl --socks5-hostname", "curl --proxy", "curl --proxytunnel", "dnspython, UDP")


class Watch:
    """What left by the cable and is neither WireGuard's nor ARP or ICMPv6, which finds neighbours."""

    def __init__(self, lab: Lab) -> None:
        with socket_in(lab.near):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY_PACKET))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self._socket.bind(("v0", EVERY_PACKET))
        self._socket.setblocking(False)
        self.seen = 0

    def strangers(self) -> list[str]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, address = self._socket.recvfrom(256)
                self.seen += 1
                stranger = _stranger(packet, address[1]) if address[2] == socket.PACKET_OUTGOING else ""
                if stranger:
                    found.append(stranger)
        return found

    def close(self) -> None:
        self._socket.close()


def _stranger(packet: bytes, ethertype: int) -> str:
    if ethertype == 0x0806:
        return ""
    if ethertype == 0x0800:
        protocol, ports = packet[9], packet[(packet[0] & 15) * 4 :][:4]
        ends = [socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (12, 16)]
    elif ethertype == 0x86DD:
        protocol, ports = packet[6], packet[40:44]
        if protocol in (0, socket.IPPROTO_ICMPV6):  # 0: MLD's hop-by-hop header
            return ""
        ends = [socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24)]
    else:
        return f"ethertype {ethertype:04x}"
    if protocol == socket.IPPROTO_UDP and WIREGUARD in (ports[:2], ports[2:]):
        return ""
    return f"protocol {protocol} from {ends[0]} to {ends[1]} port {int.from_bytes(ports[2:])}"


@pytest.fixture(scope="module")
def far(gso_lab: Lab) -> Iterator[Far]:
    needs(*PROGRAMS, SSHD)
    folder = Path("/etc/netns") / gso_lab.near
    folder.mkdir(parents=True)
    (folder / "resolv.conf").write_text(f"nameserver {FAR}\noptions timeout:1 attempts:1\n")
    try:
        yield Far(gso_lab)
    finally:
        (folder / "resolv.conf").unlink()
        folder.rmdir()


@contextlib.contextmanager
def watched(far: Far, extra: str = "", *flags: str) -> Iterator[Watch]:
    watch = Watch(far.lab)
    try:
        with running(far.lab, far.config(FORWARDS + extra), *far.tls, *flags):
            yield watch
    finally:
        watch.close()


def ask(far: Far, name: str, host: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    folder.mkdir(exist_ok=True)
    command = far.lab.near_command(*far.command(CLIENTS[name], HOSTS[host], folder))
    return subprocess.run(command, capture_output=True, timeout=60)


def small_ones(far: Far) -> list[bytes]:
    """What no client in the table does: a forward, the PAC, Tor's RESOLVE."""
    page = far.lab.near_command("curl", "-sS", "--max-time", "20", "http://127.0.0.1:1090/")
    pac = far.lab.near_command("curl", "-sS", "--max-time", "20", "http://127.0.0.1:1080/proxy.pac")
    said = [subprocess.run(command, capture_output=True).stdout for command in (page, pac)]
    with connected(far.lab.near, "127.0.0.1", 1080) as sock:
        sock.sendall(b"\x05\x01\x00\x05\xf0\x00\x03" + bytes([len(NAME)]) + NAME.encode() + b"\0\0")
        reply = b""
        while len(reply) < 12 and (more := sock.recv(64)):
            reply += more
    return [*said, reply]


@pytest.mark.parametrize(
    "extra",
    ["", "[Access]\nUpstream = other socks5://192.0.2.200:1080\nRule = direct 198.51.100.0/24 .elsewhere.test\n"
     "Rule = other .onion 203.0.113.0/24\n"],
)  # fmt: skip
def test_nothing_leaves(far: Far, tmp_path: Path, extra: str) -> None:
    names = list(CLIENTS) if not extra else ONE_OF_EACH
    with watched(far, extra) as watch:
        asked = [(name, host) for name in names for host in CLIENTS[name].hosts.split()]
        for number, (name, host) in enumerate(asked):
            done = ask(far, name, host, tmp_path / str(number))
            assert (done.returncode, done.stdout) == (0, far.page), (name, host, done.stderr)
            assert watch.strangers() == [], (name, host)
        page, pac, reply = small_ones(far)
        assert page == far.page
        assert b"FindProxyForURL" in pac
        assert reply.startswith(b"\x05\x00\x05\x00")
        assert watch.strangers() == []
        assert watch.seen > 100


def test_nothing_leaves_while_the_tunnel_is_down(far: Far, tmp_path: Path) -> None:
    """And every client hears that it does not work."""
    with watched(far, "", "--dial-timeout", "0.5") as watch:
        assert ask(far, "curl --proxy", "4", tmp_path / "first").stdout == far.page
        far.lab.stop_peer()
        try:
            for number, name in enumerate(QUICK_TO_FAIL):
                for host in CLIENTS[name].hosts.split():
                    assert ask(far, name, host, tmp_path / f"{number}{host}").returncode, (name, host)
            page, pac, reply = small_ones(far)
        finally:
            far.lab.start_peer()
        assert page == b""
        assert b"FindProxyForURL" in pac
        assert len(reply) >= 10, "of a name that was asked for before, an answer is remembered"
        assert watch.strangers() == []


def test_a_leak_would_be_seen(far: Far, tmp_path: Path) -> None:
    """The same with the one rule that asks for it."""
    with watched(far, "[Access]\nRule = direct *\n") as watch:
        assert ask(far, "curl --proxy", "4", tmp_path / "by address").stdout == far.page
        assert any(f"to {INNER_FAR} port 80" in stranger for stranger in watch.strangers())
        assert ask(far, "curl --proxy", "name", tmp_path / "by name").returncode
        assert any(f"to {FAR} port 53" in stranger for stranger in watch.strangers())
