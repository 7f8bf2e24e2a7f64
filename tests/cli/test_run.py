"""`usernet run` as a real process, against a far peer in this one."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import usernet
from proxy.daemon import wgkeys
from proxy.demo.client import request
from proxy.demo.website import Website
from tests.cli.support import Daemon
from tests.cli.support import usernet as usernet_command
from tests.config.test_parser import GOOD
from tests.support.certificates import Authority
from usernet.config import parse

FAR, NEAR = "10.66.1.1", "10.66.1.2"


def text_of(key: bytes) -> str:
    return binascii.b2a_base64(key, newline=False).decode()


class Far:
    """A far peer with a web site, and the file with which one gets to it."""

    def __init__(self, network: usernet.Network, file: Path, secret: str) -> None:
        self.network = network
        self.file = file
        self.secret = secret

    def append(self, text: str) -> None:
        self.file.write_text(self.file.read_text() + text)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_peer(tmp_path / "wg.conf") as found:
        yield found


@contextlib.asynccontextmanager
async def far_peer(file: Path) -> AsyncIterator[Far]:
    near_key, far_key = wgkeys.generate(), wgkeys.generate()
    config = parse(
        f"[Interface]\nPrivateKey = {text_of(far_key)}\nAddress = {FAR}\n"
        f"[Peer]\nPublicKey = {text_of(wgkeys.public(near_key))}\nAllowedIPs = {NEAR}\n",
        "far",
    )
    async with usernet.open_tunnel(config, port=0) as network:
        server = await network.start_server(Website().serve, None, 80)
        file.touch(mode=0o600)
        file.write_text(
            f"[Interface]\nPrivateKey = {text_of(near_key)}\nAddress = {NEAR}\nDNS = {FAR}\n"
            f"[Peer]\nPublicKey = {text_of(wgkeys.public(far_key))}\nAllowedIPs = {FAR}\n"
            f"Endpoint = 127.0.0.1:{network.listen_port}\n"
        )
        yield Far(network, file, text_of(near_key))
        server.close()


async def port_of(daemon: Daemon, protocols: str) -> int:
    found = await daemon.line(rf"proxy: {protocols} on 127\.0\.0\.1:(\d+)")
    return int(found[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_page_and_a_clean_stop(far: Far, number: signal.Signals) -> None:
    flags = ("--socks5-server", "127.0.0.1:0", "--outbound-http-proxy-listen", "127.0.0.1:0")
    async with Daemon.start("run", str(far.file), *flags) as daemon:
        socks, http = await port_of(daemon, "SOCKS5"), await port_of(daemon, "HTTP")
        assert socks != http
        for via, port in (("SOCKS5", socks), ("HTTP", http)):
            page = bytearray()
            await request(via, ("127.0.0.1", port), FAR, "/", sink=page.extend)  # type: ignore[arg-type]
            assert b"You came through the tunnel" in page
        began = time.monotonic()
        assert await daemon.stop(number) == 0
        assert time.monotonic() - began < 2
    assert re.search(rf"tunnel: {re.escape(NEAR)}, MTU 1420, UDP port \d+", daemon.text)
    assert re.search(r"peer \S{8}\.\.\.: endpoint 127\.0\.0\.1:\d+, allowed IPs 10\.66\.1\.1/32", daemon.text)
    assert re.search(r"handshake with \S{8}\.\.\. at 127\.0\.0\.1:\d+ completed in [\d.]+ m?s", daemon.text)
    assert f"export ALL_PROXY=socks5h://127.0.0.1:{socks}" in daemon.text
    assert f"curl -x socks5h://127.0.0.1:{socks} http://{FAR}/" in daemon.text
    assert far.secret not in daemon.text
    assert "Traceback" not in daemon.text


async def test_via_is_said_and_obeyed(far: Far) -> None:
    async with Daemon.start(
        "run", str(far.file), "--outbound-http-proxy-listen", "127.0.0.1:0", "--via", "here"
    ) as daemon:
        port = await port_of(daemon, "HTTP")
        for field, answer in (
            ("Via: 1.1 there\r\n", "\nVia: 1.1 here\r"),
            ("Via: 1.1 here\r\n", "proxy_loop_detected"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET http://{FAR}/ HTTP/1.1\r\nHost: {FAR}\r\n{field}\r\n".encode())
            assert answer in (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.close()
            await writer.wait_closed()
        assert await daemon.stop() == 0


async def test_the_handshake_happens_at_the_start(far: Far) -> None:
    """Before any client comes: whoever starts it learns at once whether the keys are right."""
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0") as daemon:
        await daemon.line(r"handshake with \S{8}\.\.\. at 127\.0\.0\.1:\d+ completed in")
        assert await daemon.stop() == 0


async def test_sections_of_the_file_say_where(far: Far) -> None:
    far.append("[Socks5]\nBindAddress = 127.0.0.1:0\nUsername = me\nPassword = hunter2\n")
    async with Daemon.start("run", str(far.file), "-v") as daemon:
        port = await port_of(daemon, "SOCKS5")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x05\x01\x02\x01\x02me\x07hunter2")
        assert await reader.readexactly(4) == b"\x05\x02\x01\x00"
        writer.close()
        assert await daemon.line(r"ALL_PROXY=socks5h://USER:PASSWORD@127\.0\.0\.1:")
        assert await daemon.stop() == 0
    assert "hunter2" not in daemon.text


async def test_an_https_proxy(far: Far, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue()
    tls = ("--http-proxy-tls-cert", str(pair.chain), "--http-proxy-tls-key", str(pair.key))
    flags = ("--outbound-http-proxy-listen", "127.0.0.1:0", "--hostname", "Proxy.Test", *tls)
    async with Daemon.start("run", str(far.file), *flags) as daemon:
        port = await port_of(daemon, r"HTTP \(also inside TLS\)")
        trust = ssl.create_default_context(cafile=str(authority.file))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        writer.write(f"GET http://{FAR}/ HTTP/1.1\r\nHost: {FAR}\r\nConnection: close\r\n\r\n".encode())
        assert b"You came through the tunnel" in await reader.read()
        writer.close()
        for host, secure, said in (
            (f"127.0.0.1:{port}", None, f'"HTTPS 127.0.0.1:{port}; PROXY 127.0.0.1:{port}"'),
            (f"proxy.test:{port}", trust, f'"HTTPS proxy.test:{port}"'),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=secure)
            writer.write(f"GET /proxy.pac HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            page = (await reader.read()).decode()
            assert f"var proxies = {said};" in page
            assert f'var inside = ["{FAR}/32"];' in page
            writer.close()
        await daemon.line(rf"\(PAC\): http://127\.0\.0\.1:{port}/proxy\.pac")
        assert await daemon.stop() == 0
    pair.key.write_bytes(b"")
    for arguments, said in (
        (flags, f"Error: {pair.key}: there is no private key in PEM form in it"),
        (flags[:-2], "come together"),
        (("--hostname", "proxy.test:80"), "name the host alone, without a port"),
        (("--socks5-server", "127.0.0.1:0", *tls), "--http-proxy-tls-cert: nothing listens for HTTP"),
    ):
        async with Daemon.start("run", str(far.file), *arguments) as daemon:
            assert await daemon.end() != 0
        assert said in daemon.text


async def test_a_port_in_use_is_named(far: Far) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with Daemon.start("run", str(far.file), "--socks5-server", f"127.0.0.1:{port}") as daemon:
            assert await daemon.end() == 1
    assert daemon.lines == [
        f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "end what listens there, or choose another port"
    ]


async def test_a_udp_port_in_use_is_named(far: Far) -> None:
    port = far.network.listen_port
    async with Daemon.start("run", str(far.file), "--port", str(port)) as daemon:
        assert await daemon.end() == 1
    assert daemon.lines == [f"Error: UDP port {port} is in use; end what uses it, or choose another with --port"]


async def test_a_start_that_fails_takes_nobodys_session(far: Far) -> None:
    """A daemon with the same key runs already: a handshake of the second one would take its place with the peer."""
    far.append("PersistentKeepalive = 25\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        for flags in (("--socks5-server", busy), ("--debug", busy), ("--forward", f"{busy}:{FAR}:80")):
            async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0", *flags) as daemon:
                assert await daemon.end() == 1
            assert "Address already in use" in daemon.text
    (peer,) = far.network.peers()
    assert peer.rx_bytes == 0
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0") as daemon:
        await daemon.line(r"handshake with \S{8}\.\.\. at 127\.0\.0\.1:\d+ completed in")
        assert await daemon.stop() == 0


async def test_starts_that_fail_do_not_run_away_from_the_clock(far: Far, tmp_path: Path) -> None:
    """Else other commands with the same key, which know nothing of that mark, would not get through for minutes."""
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for flags in (
            ("--socks5-server", f"127.0.0.1:{taken.getsockname()[1]}"),
            ("--socks5-server", "127.0.0.1:0", "--port", str(far.network.listen_port)),
        ):
            async with Daemon.start("run", str(far.file), "--state", str(state), *flags) as daemon:
                assert await daemon.end() == 1
            kept = json.loads(binascii.a2b_base64(json.loads(state.read_text())["wg.tunnel"]))
            assert kept["timestamp_ns"] <= time.time_ns()


async def test_open_to_everybody_is_refused(far: Far) -> None:
    flags = ("--socks5-server", "0.0.0.0:0")
    async with Daemon.start("run", str(far.file), *flags) as daemon:
        assert await daemon.end() == 1
    assert "--allow-anyone" in daemon.text
    async with Daemon.start("run", str(far.file), *flags, "--allow-anyone") as daemon:
        await daemon.line(r"proxy: SOCKS5 on 0\.0\.0\.0:\d+")
        assert await daemon.stop() == 0


async def test_descriptors_and_imports(far: Far) -> None:
    """The soft limit is raised, and a start imports nothing that only later, or only people, need."""
    far.append("[http]\nBindAddress = 127.0.0.1:0\n")
    async with Daemon.start("run", str(far.file), "--loop", "asyncio", python=("-X", "importtime")) as daemon:
        await port_of(daemon, "HTTP")
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        found = re.search(r"Max open files +(\d+) +(\d+)", limits)
        assert found is not None
        assert found[1] == found[2]
        imported = {line.rpartition("|")[2].strip() for line in daemon.lines if line.startswith("import time:")}
        assert await daemon.stop() == 0
    assert "proxy.daemon.app" in imported
    for name in ("rich", "dns", "h11", "uvloop", "hypothesis", "difflib", "importlib.metadata", "nacl"):
        assert not any(module == name or module.startswith(name + ".") for module in imported), name


async def test_server_tunnels(far: Far) -> None:
    """What the file forwards is answered by this machine; who is not there refuses at once; nothing else answers."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello " + await reader.read())
        writer.close()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data, addr)  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    echo, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        ports = [one.getsockname()[1] for one in (server.sockets[0], unused)] + [echo.get_extra_info("sockname")[1]]
        far.append(f"[TCPServerTunnel]\nListenPort = 80\nTarget = localhost:{ports[0]}\n")
        far.append(f"[TCPServerTunnel]\nListenPort = 81\nTarget = 127.0.0.1:{ports[1]}\n")
        far.append(f"[UDPServerTunnel]\nListenPort = 80\nTarget = 127.0.0.1:{ports[2]}\n")
        async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0") as daemon:
            await daemon.line(rf"forward: the tunnel's TCP port 80 to localhost:{ports[0]}")
            await daemon.line(rf"forward: the tunnel's UDP port 80 to 127\.0\.0\.1:{ports[2]}")
            await daemon.line("handshake with .* completed")
            reader, writer = await far.network.open_connection(NEAR, 80)
            writer.write(b"there")
            writer.write_eof()
            assert await reader.read() == b"hello there"
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await far.network.open_connection(NEAR, 81)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await far.network.open_connection(NEAR, 82)
            await daemon.line(rf"packet filter: TCP {FAR}:\d+ to {NEAR}:82 dropped \(no rule: ")
            async with await far.network.open_datagrams(remote_addr=(NEAR, 80)) as datagrams:
                datagrams.send(b"ping")
                assert (await datagrams.receive())[0] == b"ping"
            assert await daemon.stop() == 0, daemon.text
            assert "Traceback" not in daemon.text
    echo.close()
    server.close()


async def test_the_log_as_json_and_a_broken_pipe(far: Far) -> None:
    """Each line is an object; what is about a peer names its key.  SIGPIPE ends nothing."""
    flags = ("--socks5-server", "127.0.0.1:0", "--log-format", "json")
    async with Daemon.start("run", str(far.file), *flags) as daemon:
        shake = await daemon.line("handshake .* completed")
        daemon.process.send_signal(signal.SIGPIPE)
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.line("reloaded")
        assert await daemon.stop() == 0
    lines = [json.loads(line) for line in daemon.lines]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    public = re.search("PublicKey = (.*)", far.file.read_text())
    assert public is not None
    assert json.loads(shake.string)["peer"] == public[1]
    assert lines[-1]["message"] == "SIGTERM: stopping"


async def test_every_flag_has_a_variable(far: Far, tmp_path: Path) -> None:
    """And FILE: a container needs no argument but `run`."""
    socket = tmp_path / "s"
    environment = {
        "USERNET_FILE": str(far.file),
        "USERNET_SOCKS5_SERVER": "127.0.0.1:0 127.0.0.1:0",
        "USERNET_SOCKET": str(socket),
        "USERNET_STATE": "mem:",
        "USERNET_VERBOSE": "1",
        "USERNET_DRIAN": "1",  # a mistake, and what Kubernetes adds where there is a service named usernet
        "USERNET_PORT": "tcp://192.0.2.9:1080",
        "USERNET_SERVICE_PORT": "1080",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", "run",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment},
    )  # fmt: skip
    daemon = Daemon(process)
    await daemon.line(r" I admin socket: ")
    assert len({line for line in daemon.lines if "proxy: SOCKS5 on 127.0.0.1:" in line}) == 2
    warning = "warning: USERNET_DRIAN is set, and means nothing; did you mean USERNET_DRAIN?"
    assert [line for line in daemon.lines if "means nothing" in line] == [warning]
    done = await asyncio.to_thread(usernet_command, "healthcheck", env={"USERNET_SOCKET": str(socket)})
    assert done.returncode == 0
    assert await daemon.stop() == 0


async def test_containerboots_variables(far: Far, tmp_path: Path) -> None:
    environment = {
        "USERNET_FILE": str(far.file),
        "TS_SOCKS5_SERVER": "127.0.0.1:0",
        "TS_STATE_DIR": str(tmp_path / "state"),
        "TS_SOCKET": str(tmp_path / "s"),
        "TS_ENABLE_HEALTH_CHECK": "true",
        "TS_LOCAL_ADDR_PORT": "127.0.0.1:0",
        "TS_TAILSCALED_EXTRA_ARGS": "--verbose 1",
        "TS_AUTHKEY": "tskey-auth-secret",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", "run",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment},
    )  # fmt: skip
    daemon = Daemon(process)
    await daemon.line(r"warning: TS_AUTHKEY is set, and means nothing here")
    await daemon.line(r" I proxy: SOCKS5 on 127\.0\.0\.1:\d+")
    await daemon.line(rf" I admin socket: {tmp_path}/s")
    assert (tmp_path / "state" / "wg.state").exists()
    assert await daemon.stop() == 0
    assert "tskey-auth-secret" not in daemon.text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--idle-timeout", "x"), "'x' is not a valid number of seconds"),
        (("--port", "x"), "'x' is not a valid whole number"),
        (("--run-hooks",), "--run-hooks needs --tun and the interface's name"),
        (("--cleanup",), "--cleanup needs --tun and the interface's name"),
        (("--debug", "9080"), "--debug: '9080' has no host; write host:port, such as 127.0.0.1:9080"),
        (("--local-addr", "x"), "--local-addr: 'x' has no port; write host:port, such as 127.0.0.1:1080"),
    ],
)
def test_flags_that_make_no_sense(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    file = tmp_path / "wg.conf"
    file.touch(mode=0o600)
    file.write_text(GOOD)
    done = usernet_command("run", str(file), "--state", "mem:", *flags)
    assert done.returncode != 0
    assert said in done.stderr
