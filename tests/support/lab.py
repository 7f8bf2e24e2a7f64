"""A laboratory: two hosts in namespaces of their own, joined by a veth, and a real WireGuard peer on the far one.

    near 192.0.2.1, 2001:db8:1::1  ──veth──  far 192.0.2.2, 2001:db8:1::2        outer
    near 192.0.2.130, 2001:db8:2::130  ══tunnel══  far 192.0.2.129, 2001:db8:2::129   inner

usernet (or whoever is measured against it) runs on the near host, without a TUN; on the far host wireguard-go has one,
and behind it nginx, a sink that answers with the digest of what it was sent, and dnsmasq.  Everything started here is
ended here, by its process id.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

NEAR, FAR = "192.0.2.1", "192.0.2.2"
NEAR6, FAR6 = "2001:db8:1::1", "2001:db8:1::2"
INNER_NEAR, INNER_FAR = "192.0.2.130", "192.0.2.129"
INNER_NEAR6, INNER_FAR6 = "2001:db8:2::130", "2001:db8:2::129"
NAME = "www.example.test"
WORDS = "hello from the far side"  # its page, and its TXT record
FAR_PORT, SINK_PORT = 51820, 8080
PEERS = {"go-gso": "wireguard", "debian": "wireguard-go"}  # the current Go module; Debian's, which has no GSO


def peer_binary(kind: str) -> str | None:
    """Where the far peer's program is, or None."""
    name = PEERS[kind]
    gopath = os.environ.get("GOPATH") or str(Path.home() / "go")
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{gopath}/bin:/usr/local/bin")


def missing() -> str | None:
    """Why no laboratory can be built here, or None."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    absent = [p for p in ("ip", "wg", "nginx", "dnsmasq", "curl") if shutil.which(p) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    return None if os.path.exists("/dev/net/tun") else "needs /dev/net/tun"


def wait_for(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Poll until condition() is true."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(0.02)


def run(*command: str, stdin: str | None = None) -> str:
    """Run to the end; what it printed.  Raises with its error output where it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


class Lab:
    """Use as a context manager.  `kind` is a key of PEERS."""

    def __init__(self, kind: str = "go-gso", *, mtu: int = 1420, port: int = FAR_PORT) -> None:
        binary = peer_binary(kind)
        if binary is None:
            raise RuntimeError(f"the far peer {PEERS[kind]} is not installed")
        self.binary = binary
        self.mtu = mtu
        self.far_port = port
        tag = f"{os.getpid() % 100000:x}"
        self.near, self.far, self.device = f"un{tag}n", f"un{tag}f", f"unwg{tag}"
        self.dir = Path(tempfile.mkdtemp(prefix="usernet-lab-"))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.near_key, self.near_public = self.keypair()
        self.far_key, self.far_public = self.keypair()
        self.psk = run("wg", "genpsk")
        self.flags: tuple[str, ...] = ()  # of every `usernet run` here, besides those of the call
        self._peer: subprocess.Popen[bytes] | None = None

    @staticmethod
    def keypair() -> tuple[str, str]:
        key = run("wg", "genkey")
        return key, run("wg", "pubkey", stdin=key)

    def __enter__(self) -> Lab:
        try:
            self._network()
            self.start_peer()
            self._services()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            self.end(process)
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    # -- hosts --

    def _network(self) -> None:
        for name in (self.near, self.far):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            # Until link-local addresses have been looked for on the wire, a second or two, IPv6 goes nowhere.
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        run("ip", "link", "add", "v0", "netns", self.near, "type", "veth", "peer", "name", "v0", "netns", self.far)
        for name, address, address6 in ((self.near, NEAR, NEAR6), (self.far, FAR, FAR6)):
            run("ip", "-n", name, "addr", "add", f"{address}/28", "dev", "v0")
            run("ip", "-n", name, "addr", "add", f"{address6}/64", "dev", "v0", "nodad")
            run("ip", "-n", name, "link", "set", "v0", "up")
        for name in (self.near, self.far):  # the kernel takes up to a second to notice that the cable is plugged in
            wait_for(lambda name=name: " UP " in run("ip", "-n", name, "-br", "link", "show", "v0"), "the link")  # type: ignore[misc]
        run("ip", "-n", self.near, "route", "add", "default", "via", FAR)
        run("ip", "-n", self.far, "route", "add", "default", "via", NEAR)

    def near_command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.near, *command]

    def far_command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.far, *command]

    def start(self, command: list[str], *, log: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to the file `log` of the laboratory's directory."""
        out: IO[bytes]
        with (self.dir / log).open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        path = self.dir / name
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """End a process we started; its exit status."""
        if process in self.processes:
            self.processes.remove(process)
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    # -- the far peer --

    def start_peer(self) -> None:
        control = Path(f"/var/run/wireguard/{self.device}.sock")
        self._peer = self.start(
            self.far_command(self.binary, "-f", self.device), log="peer.log", env={"WG_PROCESS_FOREGROUND": "1"}
        )
        wait_for(control.exists, "the far peer's control socket")
        (self.dir / "far.key").write_text(self.far_key)
        (self.dir / "psk").write_text(self.psk)
        self.wg("set", self.device, "private-key", str(self.dir / "far.key"), "listen-port", str(self.far_port))
        self._know_near()
        run("ip", "-n", self.far, "addr", "add", f"{INNER_FAR}/25", "dev", self.device)
        run("ip", "-n", self.far, "addr", "add", f"{INNER_FAR6}/64", "dev", self.device, "nodad")
        run("ip", "-n", self.far, "link", "set", self.device, "mtu", str(self.mtu), "up")

    def _know_near(self) -> None:
        self.wg("set", self.device, "peer", self.near_public, "preshared-key", str(self.dir / "psk"),
                "allowed-ips", f"{INNER_NEAR}/32,{INNER_NEAR6}/128")  # fmt: skip

    def forget_near(self) -> None:
        """The far host has never heard of the near one: not of its address, sessions or latest timestamp, nor of TCP
        connections that it did not close, on whose ports a new one would have to wait for a second SYN.
        """
        run(*self.far_command("ss", "-HtaK", "dst", f"[{INNER_NEAR6}]", "or", "dst", INNER_NEAR))
        self.wg("set", self.device, "peer", self.near_public, "remove")
        self._know_near()

    def stop_peer(self) -> None:
        if self._peer is not None:
            self.end(self._peer)
            self._peer = None

    def wg(self, *arguments: str) -> str:
        return run(*self.far_command("wg", *arguments))

    def _services(self) -> None:
        site = self.dir / "site"
        site.mkdir()
        for path in (self.dir, site):
            path.chmod(0o755)
        (site / "index.html").write_text(f"{WORDS}\n")
        (self.dir / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; error_log {self.dir}/nginx.log; pid {self.dir}/nginx.pid; user root;\n"
            "events { worker_connections 20000; }\n"
            "http { access_log off; sendfile on; keepalive_requests 1000000; default_type text/html;\n"
            "  types { image/png png; text/html html; }\n"
            f"  client_body_temp_path {self.dir}/body;\n"
            f"  server {{ listen 80 backlog=4096; listen [::]:80 backlog=4096; root {site}; }} }}\n"
        )
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        self.start(self.far_command(str(nginx), "-c", str(self.dir / "nginx.conf")), log="nginx.out")
        sink = Path(__file__).with_name("sink.py")
        self.start(self.far_command(sys.executable, str(sink), str(SINK_PORT)), log="sink.log")
        dnsmasq = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        self.start(
            self.far_command(
                str(dnsmasq), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                "--log-facility=-",
                f"--pid-file={self.dir}/dnsmasq.pid", f"--listen-address={INNER_FAR},{INNER_FAR6}", "--bind-dynamic",
                f"--host-record={NAME},{INNER_FAR},{INNER_FAR6}", f"--txt-record={NAME},{WORDS}", "--local=/test/",
            ),
            log="dnsmasq.log",
        )  # fmt: skip
        for port in (80, SINK_PORT):
            wait_for(lambda port=port: self._far_listens(port), f"port {port} of the far host")  # type: ignore[misc]

    def _far_listens(self, port: int) -> bool:
        return bool(run(*self.far_command("ss", "-Hltn", f"sport = :{port}")))

    def blob(self, name: str, size: int) -> str:
        """A file of `size` random-looking bytes on the far web server; its SHA-256."""
        block = os.urandom(1 << 20)
        digest = hashlib.sha256()
        with (self.dir / "site" / name).open("wb") as file:
            for at in range(0, size, 1 << 20):
                piece = block[: min(1 << 20, size - at)]
                file.write(piece)
                digest.update(piece)
        return digest.hexdigest()

    # -- the near side --

    def config(
        self, *, endpoint: str = f"{FAR}:{FAR_PORT}", name: str = "wg.conf", extra: str = "", keepalive: int = 0
    ) -> Path:
        """A wg-quick file for the near host."""
        path = self.dir / name
        path.touch(mode=0o600)
        path.write_text(
            f"[Interface]\nPrivateKey = {self.near_key}\nAddress = {INNER_NEAR}/25, {INNER_NEAR6}/64\n"
            f"DNS = {INNER_FAR}\nMTU = {self.mtu}\n\n"
            f"[Peer]\nPublicKey = {self.far_public}\nPresharedKey = {self.psk}\nEndpoint = {endpoint}\n"
            f"AllowedIPs = 192.0.2.128/25, 2001:db8:2::/64\nPersistentKeepalive = {keepalive}\n{extra}"
        )
        return path

    def run_command(self, config: Path, *flags: str, log: str) -> list[str]:
        """`usernet run`, with a socket and a state that nobody else has who is under test at the same time."""
        own = ("--socket", str(self.dir / f"{log}.sock"), "--statedir", str(self.dir / "state"))
        return [sys.executable, "-m", "proxy.cli", "run", str(config), *own, *flags]

    def start_usernet(
        self, config: Path, *flags: str, log: str = "usernet.log", port: int = 1080
    ) -> subprocess.Popen[bytes]:
        """`usernet run`, once it listens."""
        command = self.run_command(config, *self.flags, *flags, log=log)
        process = self.start(self.near_command(*command), log=log, env={"PYTHONUNBUFFERED": "1"})
        self.wait_listening(port, process, log)
        return process

    def wait_listening(self, port: int, process: subprocess.Popen[bytes], log: str) -> None:
        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"it ended: {self.log(log)}")
            return bool(run(*self.near_command("ss", "-Hltn", f"sport = :{port}")))

        wait_for(listens, f"port {port} of the near host")

    def curl(self, *arguments: str, proxy: str = "socks5h://127.0.0.1:1080", timeout: float = 120) -> bytes:
        """Real curl on the near host through the proxy; its standard output.  Raises where curl fails."""
        command = self.near_command(
            "curl", "-sS", "--fail", "--noproxy", "", "--proxy", proxy, "--max-time", str(timeout), *arguments
        )
        done = subprocess.run(command, capture_output=True, timeout=timeout + 10)
        if done.returncode:
            raise RuntimeError(f"curl exited {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


@contextlib.contextmanager
def socket_in(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes inside the block belong to the namespace."""
    setns = getattr(os, "setns", None) or _setns
    with open("/proc/self/ns/net") as home, open(f"/var/run/netns/{namespace}") as there:
        setns(there.fileno(), 0x40000000)
        try:
            yield
        finally:
            setns(home.fileno(), 0x40000000)


def _setns(fd: int, kind: int) -> None:
    """os.setns came with Python 3.12."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, kind):
        raise OSError(ctypes.get_errno(), "setns")


def connected(namespace: str, host: str, port: int) -> socket.socket:
    """A TCP connection made from inside the namespace."""
    with socket_in(namespace):
        return socket.create_connection((host, port), timeout=20)
