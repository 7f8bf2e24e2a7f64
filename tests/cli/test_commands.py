"""Commands that ask a running daemon: real processes, and what a person reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cli.status import peer_lines
from tests.cli.support import Daemon, usernet
from tests.cli.terminal import Terminal
from tests.cli.test_run import FAR, NEAR, Far, far_peer, port_of
from tests.daemon.test_redacting import SECRETS, TEXT, THEIRS
from tests.support.skipping import needs

PASSWORD = "a-password-that-is-long"
NAMES = TEXT.replace("[http]\nBindAddress = [2001:db8:7::5]:8080\n", "").replace(
    "CertFile = /etc/private/chain.pem\nKeyFile = /etc/private/key.pem\n", ""
)  # what one may listen on anywhere


class Running:
    def __init__(self, daemon: Daemon, far: Far, socket: Path, port: int) -> None:
        self.daemon, self.far, self.socket, self.port = daemon, far, socket, port

    async def ask(self, *arguments: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
        """The far peer lives in this process, so it must go on meanwhile."""
        command, *rest = arguments
        group = [command, rest.pop(0)] if command == "debug" else [command]
        return await asyncio.to_thread(usernet, *group, "--socket", str(self.socket), *rest)

    async def said(self, *arguments: str) -> str:
        done = await self.ask(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout


@contextlib.asynccontextmanager
async def through(port: int, host: str, target: int) -> AsyncIterator[asyncio.StreamReader]:
    """A connection through the tunnel, by the SOCKS server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\5\1\2\1\2me" + bytes((len(PASSWORD),)) + PASSWORD.encode())
    assert await reader.readexactly(4) == b"\5\2\1\0"
    writer.write(b"\5\1\0\1" + socket.inet_aton(host) + target.to_bytes(2, "big"))
    assert (await reader.readexactly(10))[1] == 0
    try:
        yield reader
    finally:
        writer.transport.abort()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with far_peer(tmp_path / "wg7.conf") as far:
        far.append(f"[Socks5]\nBindAddress = 127.0.0.1:0\nUsername = me\nPassword = {PASSWORD}\n")
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"un-{os.getpid()}.sock"
        async with Daemon.start("run", str(far.file), "--socket", str(path)) as daemon:
            port = await port_of(daemon, "SOCKS5")
            await daemon.line("handshake with .* completed")
            await daemon.line("admin socket: ")
            yield Running(daemon, far, path, port)
            ended = daemon.process.returncode
            assert (await daemon.stop() if ended is None else ended) == 0


async def test_status(running: Running) -> None:
    lines = (await running.said("status")).splitlines()
    assert re.fullmatch(r"The tunnel works\. The latest handshake was \d+ s ago\.", lines[0])
    assert re.fullmatch(rf"wg7: {NEAR}, userspace-networking, UDP port \d+, up \d+ s", lines[1])
    row = rf"{FAR}\s+\S{{8}}\.\.\.  active; direct 127\.0\.0\.1:\d+, handshake \d+ s ago, tx \d+ B rx \d+ B"
    assert re.fullmatch(row, lines[2])
    assert f"  SOCKS5 on 127.0.0.1:{running.port}" in lines
    assert re.fullmatch(row, (await running.said("status", "--peers")).strip())
    found = json.loads(await running.said("status", "--json"))
    assert (found["name"], found["verdict"]["state"], len(found["peers"])) == ("wg7", "up", 1)
    assert found["pid"] == running.daemon.process.pid


def test_a_peer_of_status_is_named_by_its_address_or_its_network() -> None:
    peer = {"public_key": "k" * 44, "latest_handshake": None, "endpoint": None, "tx_bytes": 0, "rx_bytes": 0}
    for allowed, shown in (
        (["10.0.0.1/32"], "10.0.0.1"), (["fd00::1/128"], "fd00::1"), (["0.0.0.0/0", "::/0"], "0.0.0.0/0"),
        (["fd00::/32"], "fd00::/32"), ([], "-"),
    ):  # fmt: skip
        (line,) = peer_lines({"at": 0.0, "peers": [{**peer, "allowed_ips": allowed}]})
        assert line.split()[0] == shown


async def test_watching_ends_with_the_daemon(running: Running) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", "status", "--watch", "--json", "--socket", str(running.socket),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(2):
        assert json.loads(await process.stdout.readline())["state"] == "running"
    running.daemon.process.send_signal(signal.SIGTERM)
    _, error = await process.communicate()
    assert process.returncode == 0
    assert error.decode() == "usernet: the daemon is stopping\n"
    assert await running.daemon.end() == 0


async def test_no_daemon_or_the_wrong_one(running: Running) -> None:
    done = await asyncio.to_thread(usernet, "status", "--socket", "/nowhere/x.sock")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: no daemon answers at /nowhere/x.sock: No such file or directory; is `usernet run` running?\n"
    )
    done = await asyncio.to_thread(usernet, "healthcheck", "--socket", "no-such-tunnel")
    assert done.returncode == 1
    assert "no-such-tunnel.sock" in done.stderr


async def test_healthcheck_and_ping(running: Running) -> None:
    assert await running.said("healthcheck") == ""
    assert await running.said("healthcheck", "--live") == ""
    assert re.match(
        rf"answer from {FAR}: number 1, [\d.]+ ms\n1 sent, 1 answered\n", await running.said("ping", FAR, "-c", "1")
    )
    done = await running.ask("ping", "203.0.113.5", "-c", "1")
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", "Error: no peer's allowed IPs cover 203.0.113.5\n")


@pytest.mark.parametrize("command", [("ping", FAR, "-c", "1"), ("netcheck",)])
async def test_with_a_file_the_daemon_that_has_its_key_is_asked(running: Running, command: tuple[str, ...]) -> None:
    """Else the peer would send to another tunnel from then on, which ends with the command."""
    (peer,) = running.far.network.statistics().tunnel.peers
    name, *rest = command
    assert "nswer" in (await running.ask(name, str(running.far.file), *rest)).stdout
    assert running.far.network.statistics().tunnel.peers[0].endpoint == peer.endpoint
    assert "SOCKS5" in await running.said("status")
    assert await running.said("healthcheck") == ""


async def test_healthcheck_of_a_tunnel_that_does_not_work(tmp_path: Path) -> None:
    async with far_peer(tmp_path / "wg8.conf") as far:
        await far.network.close()
        path = tmp_path / "s"
        async with Daemon.start(
            "run", str(far.file), "--socket", str(path), "--socks5-server", "127.0.0.1:0"
        ) as daemon:
            await daemon.line("admin socket: ")
            done = await asyncio.to_thread(usernet, "healthcheck", "--socket", str(path))
            assert done.returncode == 1
            assert "handshake" in done.stderr
            assert (await asyncio.to_thread(usernet, "healthcheck", "--live", "--socket", str(path))).returncode == 0
            assert await daemon.stop() == 0


async def test_reload_says_what_has_changed_or_why_not(running: Running) -> None:
    assert await running.said("reload") == "reloaded: nothing has changed\n"
    good = running.far.file.read_text()
    running.far.file.write_text(good.replace("[Interface]\n", "[Interface]\nMTU = 1300\n"))
    assert await running.said("reload") == "reloaded: mtu\n"
    running.far.file.write_text(good + "Nonsense = 1\n")
    done = await running.ask("reload")
    assert done.returncode == 1
    assert re.search(rf"{running.far.file}:\d+: \[Socks5\] has no key 'Nonsense'", done.stderr)
    running.far.file.write_text(good)


async def test_netcheck(running: Running) -> None:
    """All at once, for there is no new handshake until REKEY-TIMEOUT is over."""
    done, as_json, by_file = await asyncio.gather(
        running.ask("netcheck"),
        running.ask("netcheck", "--json"),
        asyncio.to_thread(usernet, "netcheck", str(running.far.file)),
    )
    assert re.search(r"peer \S{8}\.\.\. at 127\.0\.0\.1:\d+: answers in [\d.]+ ms", done.stdout), done
    found = json.loads(as_json.stdout)
    assert found["peers"][0]["handshake_ms"] is not None
    assert "answers in" in by_file.stdout


async def test_netcheck_where_nobody_answers(tmp_path: Path) -> None:
    async with far_peer(tmp_path / "wg.conf") as far:
        await far.network.close()
        far.file.write_text(re.sub("Endpoint = .*", "Endpoint = nowhere.invalid:5", far.file.read_text()))
        done = await asyncio.to_thread(usernet, "netcheck", str(far.file))
        assert done.returncode == 1
        assert "! peer " in done.stdout
        assert "the name nowhere.invalid does not resolve" in done.stdout


async def test_a_bug_report_holds_no_secret_and_nobodys_address(running: Running) -> None:
    text = await running.said("bugreport")
    config = running.far.file.read_text()
    secrets = [*re.findall(r"= (\S{43}=)", config), PASSWORD, FAR, NEAR, str(running.far.file.parent)]
    for secret in secrets:
        assert secret not in text
    assert re.search(
        r"^peers: public_key PEER-1, endpoint 127\.0\.0\.1:\d+, allowed_ips \[ADDRESS-\d+/32\]$", text, re.M
    )
    assert re.search(r"^PEER-1 at 127\.0\.0\.1:\d+: handshake \d+ s ago, ", text, re.M)
    assert "drops, tunnel: none" in text
    assert "GSO" in text


async def test_a_bug_report_of_what_does_not_work(tmp_path: Path) -> None:
    """What is said of a fault names addresses and names; here it does not."""
    file = tmp_path / "wg9.conf"
    file.write_text(NAMES)
    file.chmod(0o600)
    async with Daemon.start("run", str(file), "--socket", str(tmp_path / "s")) as daemon:
        await daemon.line("of peer .* does not resolve")
        await daemon.line("admin socket: ")
        text = (await asyncio.to_thread(usernet, "bugreport", "--socket", str(tmp_path / "s"))).stdout
        assert await daemon.stop() == 0
    for secret in (*SECRETS.values(), *THEIRS, str(tmp_path)):
        assert secret not in text
    assert "peer PEER-1: endpoint name NAME-2 does not resolve" in text
    assert re.search(r"^! peer PEER-1: the name NAME-2 does not resolve", text, re.M)


async def test_debug(running: Running) -> None:
    assert "proxy/daemon/app.py" in await running.said("debug", "stacks")
    assert re.search(r"^MainThread;.* \d+$", await running.said("debug", "profile", "--seconds", "1"), re.MULTILINE)
    assert re.fullmatch(r"bound anew: UDP port \d+\n", await running.said("debug", "rebind"))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"\5\1\2")
    await reader.readexactly(2)
    assert await running.said("debug", "break-tcp-conns") == "connections reset: 1\n"
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_connections_of_every_kind_are_broken(tmp_path: Path) -> None:
    """Of the proxy, of a forward into the tunnel, and of one out of it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    async with far_peer(tmp_path / "wg.conf") as far:
        inside = await far.network.start_server(echo, None, 7)
        outside = await asyncio.start_server(echo, "127.0.0.1", 0)
        target = outside.sockets[0].getsockname()[1]
        far.append(
            f"[Socks5]\nBindAddress = 127.0.0.1:0\nUsername = me\nPassword = {PASSWORD}\n"
            f"[TCPClientTunnel]\nBindAddress = 127.0.0.1:0\nTarget = {FAR}:7\n"
            f"[TCPServerTunnel]\nListenPort = 70\nTarget = 127.0.0.1:{target}\n"
        )
        async with Daemon.start("run", str(far.file), "--socket", str(tmp_path / "s")) as daemon:
            port = await port_of(daemon, "SOCKS5")
            led = int((await daemon.line(r"forward: TCP 127\.0\.0\.1:(\d+) into"))[1])
            await daemon.line("admin socket: ")
            async with through(port, FAR, 7) as first:
                streams = [await asyncio.open_connection("127.0.0.1", led), await far.network.open_connection(NEAR, 70)]
                for reader, writer in streams:
                    writer.write(b"?")
                    assert await reader.readexactly(1) == b"?"
                command = ("debug", "break-tcp-conns", "--socket", str(tmp_path / "s"))
                assert (await asyncio.to_thread(usernet, *command)).stdout == "connections reset: 3\n"
                for broken in (first, *(reader for reader, _ in streams)):
                    with pytest.raises(ConnectionResetError):
                        await broken.read(1)
                for _, writer in streams:
                    writer.close()
            assert await daemon.stop() == 0
        inside.close()
        outside.close()


def read_by_tcpdump(file: Path) -> str:
    needs("tcpdump")
    read = subprocess.run([str(shutil.which("tcpdump")), "-nvr", str(file)], capture_output=True, text=True, timeout=30)
    assert read.returncode == 0, read.stderr
    assert "truncated" not in read.stderr
    assert not re.search(r"\bbad |incorrect|invalid", read.stdout)  # a checksum may be 0x7bad
    return read.stdout


async def test_a_capture_that_tcpdump_reads(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    capture = asyncio.ensure_future(running.ask("debug", "capture", str(file), "-c", "6"))
    while not capture.done():
        await running.said("ping", FAR, "-c", "1")
    assert capture.result().returncode == 0
    text = read_by_tcpdump(file)
    assert text.count("ICMP echo request") == text.count("ICMP echo reply") == 3


async def test_a_terminal_is_spared_what_is_no_text() -> None:
    screen = Terminal(80, 24)
    try:
        process = await screen.run("debug", "capture", "-")
        await screen.shows("a terminal shows no packets: name a FILE, or pipe them to `tcpdump -nr -`")
        assert await process.wait() == 2
    finally:
        screen.close()


async def test_an_interrupted_capture_ends_with_a_packet(running: Running, tmp_path: Path) -> None:
    """Under way is a download, whose packets are larger than what is sent at once."""
    file = tmp_path / "x.pcap"

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(100_000))
                await writer.drain()

    server = await running.far.network.start_server(endless, None, 9)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", "debug", "capture", str(file), "--socket", str(running.socket),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with through(running.port, FAR, 9) as reader:
        while not file.exists() or file.stat().st_size < 5_000_000:
            await reader.read(1 << 16)
        ended = asyncio.ensure_future(process.communicate())
        while not ended.done():  # Python drops an interrupt that comes while it frees something
            process.send_signal(signal.SIGINT)
            await asyncio.wait((ended,), timeout=5)
        _, error = ended.result()
    server.close()
    assert process.returncode == (1 if b"were left out" in error else 0), error
    assert re.search(r"cksum 0x\w+ \(correct\), seq .* length [3-6]\d{4}$", read_by_tcpdump(file), re.MULTILINE)


async def test_the_reader_of_a_capture_has_enough(running: Running) -> None:
    needs("tcpdump")
    command = f"{sys.executable} -m proxy.cli debug capture - --socket {running.socket} | tcpdump -nr - -c 1"
    pipe = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    ended = asyncio.ensure_future(pipe.communicate())
    while not ended.done():
        await running.said("ping", FAR, "-c", "1")
    out, error = ended.result()
    assert b"ICMP echo request" in out
    assert b"Traceback" not in error


@pytest.mark.parametrize(
    "command", ["status", "top", "reload", "netcheck", "healthcheck", "bugreport", "debug", "ping"]
)
def test_help(command: str) -> None:
    done = usernet(command, "--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f"Usage: usernet {command}" in done.stdout
