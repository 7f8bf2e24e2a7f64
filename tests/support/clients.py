"""Real clients of a proxy, one line each, and what they ask for on a laboratory's far host.

Whatever its protocol, a client prints the far host's page where all went well, and fails where it did not.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from tests.support.certificates import Authority
from tests.support.lab import INNER_FAR, INNER_FAR6, NAME, Lab, run, wait_for

HOSTS = {"4": INNER_FAR, "6": f"[{INNER_FAR6}]", "name": NAME}
USER, PASSWORD = "me", "horse"
ECHO_PORT = 8100  # TCP: WebSocket, UDP: QUIC
PROGRAMS = ("git", "apt-get", "dpkg-deb", "ssh", "ssh-keygen")
SSHD = "/usr/sbin/sshd"
FOLDER = Path(__file__).parents[1] / "interop"  # of the programs in Python


class Client(NamedTuple):
    """`script` is of the shell; `hosts` are the keys of HOSTS that its protocol can name.

    {proxy} is where the proxy listens, {closed} where it asks for {user}, a name and a password.
    """

    script: str
    hosts: str = "4 6 name"


def _python(library: str, scheme: str, url: str = "http://{host}/", *, hosts: str = "4 6 name") -> Client:
    return Client(f"{{python}} {{folder}}/python_client.py {library} {scheme}://{{proxy}} {url}", hosts)


_APT = (
    "mkdir -p {tmp}/apt/lists/partial {tmp}/apt/archives/partial && cd {tmp} && "
    "echo 'deb [trusted=yes] http://{host}/apt ./' > apt/sources.list && "
    "apt() {{ apt-get -qq -o Dir::Etc::SourceList={tmp}/apt/sources.list -o Dir::Etc::SourceParts=/dev/null "
    "-o Dir::State={tmp}/apt -o Dir::State::status=/dev/null -o Dir::Cache={tmp}/apt -o APT::Sandbox::User=root "
    "-o Acquire::Retries=0 -o APT::Update::Error-Mode=any -o Acquire::Languages=none "
    "-o Acquire::http::Proxy=%s \"$@\" >&2; }}; "
    "apt update && apt download far-page && dpkg-deb --fsys-tarfile far-page*.deb | tar -xO ./usr/share/far-page"
)  # fmt: skip
_PIP = (
    "{python} -m pip install --isolated -qq --disable-pip-version-check --no-cache-dir --root-user-action ignore "
    "--retries 0 --proxy %s --index-url http://{host}/simple/ --trusted-host {host} --target {tmp}/pip far-page && "
    "cat {tmp}/pip/far_page.txt"
)
_GIT = "git -c http.proxy=%s clone -q http://{host}/page.git {tmp}/clone && cat {tmp}/clone/index.html"
_CURL = "curl -sSf --max-time 20 "

CLIENTS = {
    "curl --socks4": Client(_CURL + "--socks4 {proxy} http://{host}/", "4"),
    "curl --socks4a": Client(_CURL + "--socks4a {proxy} http://{host}/", "4 name"),
    "curl --socks5": Client(_CURL + "--socks5 {proxy} http://{host}/", "4 6"),
    "curl --socks5-hostname": Client(_CURL + "--socks5-hostname {proxy} http://{host}/"),
    "curl --socks5-hostname --proxy-user": Client(
        _CURL + "--socks5-hostname {closed} --proxy-user {user} http://{host}/"
    ),
    "curl --proxy": Client(_CURL + "--proxy http://{proxy} http://{host}/"),
    "curl --proxy --proxy-user": Client(_CURL + "--proxy http://{closed} --proxy-user {user} http://{host}/"),
    "curl --proxytunnel": Client(_CURL + "--proxytunnel --proxy http://{proxy} http://{host}/"),
    "curl --proxytunnel --proxy-user": Client(
        _CURL + "--proxytunnel --proxy http://{closed} --proxy-user {user} http://{host}/"
    ),
    "curl, HTTPS proxy": Client(_CURL + "--proxy https://{proxy} --proxy-cacert {ca} http://{host}/"),
    "aiohttp": _python("aiohttp", "http"),
    "httpx, HTTP": _python("httpx", "http", hosts="4 name"),  # it leaves out the brackets of IPv6
    "httpx, SOCKS5": _python("httpx", "socks5h"),
    "python-socks, SOCKS4": _python("python_socks", "socks4", hosts="4 name"),
    "python-socks, SOCKS5": _python("python_socks", "socks5"),
    "python-socks, HTTP": _python("python_socks", "http"),
    "PySocks, SOCKS4": _python("pysocks", "socks4", hosts="4 name"),
    "PySocks, SOCKS5": _python("pysocks", "socks5"),
    "PySocks, HTTP": _python("pysocks", "http", hosts="4 name"),  # and so does this
    "WebSocket of aiohttp": _python("aiohttp_websocket", "http", f"ws://{{host}}:{ECHO_PORT}/"),
    "WebSocket of websockets, SOCKS5": _python("websockets", "socks5h", f"ws://{{host}}:{ECHO_PORT}/"),
    "WebSocket of websockets, CONNECT": _python("websockets", "http", f"ws://{{host}}:{ECHO_PORT}/"),
    # Of an IPv6 address dnspython and PySocks have different notions: a tuple of four, and one of two.
    "dnspython, UDP": _python("dnspython", "socks5", "dns://{host}/{name}", hosts="4"),
    "aioquic, UDP": _python("aioquic", "socks5", f"quic://{{host}}:{ECHO_PORT}/"),
    "ssh, usernet nc": Client(
        "ALL_PROXY=socks5h://{proxy} ssh -F none -i {keys}/user -l root -o BatchMode=yes "
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
        "-o ProxyCommand='{python} -m proxy.cli nc %h %p' {bare} cat {page}"
    ),
    "git, SOCKS5": Client(_GIT % "socks5h://{user}@{closed}"),
    "git, HTTP": Client(_GIT % "http://{proxy}"),
    "apt, SOCKS5": Client(_APT % "socks5h://{proxy}"),
    "apt, HTTP": Client(_APT % "http://{user}@{closed}"),
    "pip, SOCKS5": Client(_PIP % "socks5h://{proxy}", "name"),
    "pip, HTTP": Client(_PIP % "http://{user}@{closed}", "name"),
}


class Far:
    """What the clients ask for, in a laboratory: web pages, repositories, sshd, and echoes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.site = lab.dir / "site"
        self.page = (self.site / "index.html").read_bytes()
        self._keys = lab.dir / "keys"
        self._keys.mkdir(mode=0o700)
        self.authority = Authority(self._keys)
        self.certificate = self.authority.issue(hosts=("127.0.0.1", NAME))
        self._git()
        self._apt()
        self._pip()
        self._sshd()
        self._echo()

    def config(self, extra: str = "", *, host: str = "127.0.0.1") -> Path:
        """One listener for everybody and one that asks, as {proxy} and {closed} have them."""
        login = f"Username = {USER}\nPassword = {PASSWORD}\n"
        listeners = [
            f"[{kind}]\nBindAddress = {host}:{port}\n{asks}"
            for kind in ("Socks5", "http")
            for port, asks in ((1080, ""), (1081, login))
        ]
        return self.lab.config(name="clients.conf", extra="".join(listeners) + extra)

    @property
    def tls(self) -> tuple[str, ...]:
        """The flags of `usernet run` for an HTTPS proxy."""
        chain, key = self.certificate
        return "--http-proxy-tls-cert", str(chain), "--http-proxy-tls-key", str(key)

    def command(self, client: Client, host: str, folder: Path, *, proxy: str = "127.0.0.1") -> list[str]:
        """`host` is one of HOSTS' values.  What the client writes goes below `folder`."""
        script = client.script.format(
            proxy=f"{proxy}:1080", closed=f"{proxy}:1081", user=f"{USER}:{PASSWORD}", host=host, bare=host.strip("[]"),
            name=NAME, tmp=folder, keys=self._keys, ca=self.authority.file, page=self.site / "index.html",
            python=sys.executable, folder=FOLDER,
        )  # fmt: skip
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONPATH": str(FOLDER.parents[1]),
            "CA": str(self.authority.file), "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip
        return ["env", "-i", *(f"{key}={value}" for key, value in environment.items()), "sh", "-c", script]

    # -- what is there --

    def _git(self) -> None:
        """A repository for git's "dumb" HTTP, which any web server can serve."""
        work = self.lab.dir / "work"
        run("git", "init", "-q", str(work))
        (work / "index.html").write_bytes(self.page)
        run("git", "-C", str(work), "add", ".")
        run("git", "-C", str(work), "-c", "user.name=far", "-c", "user.email=far@example.test", "commit", "-qm", "page")
        run("git", "clone", "-q", "--bare", str(work), str(self.site / "page.git"))
        run("git", "-C", str(self.site / "page.git"), "update-server-info")

    def _apt(self) -> None:
        """A flat repository with one package."""
        tree, repository = self.lab.dir / "deb", self.site / "apt"
        for folder in (tree / "DEBIAN", tree / "usr" / "share", repository):
            folder.mkdir(parents=True)
        control = (
            "Package: far-page\nVersion: 1\nArchitecture: all\nMaintainer: far <far@example.test>\nDescription: page\n"
        )
        (tree / "DEBIAN" / "control").write_text(control)
        (tree / "usr" / "share" / "far-page").write_bytes(self.page)
        package = repository / "far-page_1_all.deb"
        run("dpkg-deb", "--build", "--root-owner-group", str(tree), str(package))
        data = package.read_bytes()
        (repository / "Packages").write_text(
            f"{control}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )

    def _pip(self) -> None:
        """An index (PEP 503) with one wheel."""
        folder = self.site / "simple" / "far-page"
        folder.mkdir(parents=True)
        about = "far_page-1.dist-info"
        files = {
            "far_page.txt": self.page,
            f"{about}/METADATA": b"Metadata-Version: 2.1\nName: far-page\nVersion: 1\n",
            f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: far\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with zipfile.ZipFile(folder / "far_page-1-py3-none-any.whl", "w") as wheel:
            for name, data in files.items():
                wheel.writestr(name, data)
            wheel.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD")))
        (folder / "index.html").write_text('<a href="far_page-1-py3-none-any.whl">far_page-1-py3-none-any.whl</a>\n')

    def _sshd(self) -> None:
        for name in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._keys / name))
        settings = self.lab.dir / "sshd_config"
        settings.write_text(
            f"HostKey {self._keys}/host\nAuthorizedKeysFile {self._keys}/user.pub\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPermitRootLogin yes\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self._serve(22, SSHD, "-D", "-e", "-f", str(settings))

    def _echo(self) -> None:
        chain, key = self.certificate
        program = str(FOLDER / "python_server.py")
        page = str(self.site / "index.html")
        self._serve(ECHO_PORT, sys.executable, program, str(ECHO_PORT), page, str(chain), str(key))

    def _serve(self, port: int, *command: str) -> None:
        name = f"{Path(command[0]).name}-{port}.log"
        process = self.lab.start(self.lab.far_command(*command), log=name)

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {self.lab.log(name)}")
            return bool(run(*self.lab.far_command("ss", "-Hltn", f"sport = :{port}")))

        wait_for(listens, f"port {port} of the far host")
