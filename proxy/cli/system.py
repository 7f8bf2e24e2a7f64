"""`usernet install-system-daemon` and `uninstall-system-daemon`: a unit of systemd's, with a sandbox."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from usernet.errors import UsernetError

UNITS = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")  # sd_booted(3)
MARK = "# Written by `usernet install-system-daemon`"


class NotInstalled(UsernetError):
    """Nothing was changed; the text says why."""


@click.command(short_help="Have systemd run a tunnel, in a sandbox.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, resolve_path=True))
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLAGS OF RUN...]")
@click.option("--tun", metavar="NAMES", help="As of `usernet run`; the unit then has CAP_NET_ADMIN.")
@click.option("--print", "printing", is_flag=True, help="Print the unit, and change nothing.")
def install(file: str, flags: tuple[str, ...], tun: str | None, printing: bool) -> None:
    """Write, enable and start usernet-NAME.service for FILE, whose stem NAME is.  Needs root.

    The service runs as a user of its own that nothing belongs to, without a capability, and is given FILE as a
    credential, so that FILE can stay readable for root alone.  `systemctl reload` has it read the file again.

    usernet install-system-daemon /etc/wireguard/wg0.conf -- --socks5-server 127.0.0.1:1080
    """
    from proxy.admin.paths import name_of
    from proxy.cli.files import load

    name = re.sub(r"[^A-Za-z0-9_.-]", "-", name_of(file))
    load(file, kernel=tun is not None, generate=lambda: bytes([8]) * 32)  # what cannot be used is not installed
    text = unit(name, file, _program(), (*(("--tun", tun) if tun else ()), *flags), with_tun=tun is not None)
    if printing:
        click.echo(text, nl=False)
        return
    path = UNITS / f"usernet-{name}.service"
    _check(path)
    before = path.read_text() if path.exists() else ""
    path.write_text(text)
    click.echo(f"{path}: {'as it was' if before == text else 'written'}")
    for command in (("daemon-reload",), ("enable", path.name), ("restart", path.name)):
        _systemctl(*command)
    click.echo(f"{path.name} is enabled and was started")
    click.echo(f"how it is: systemctl status {path.name}; usernet status --socket {name}")


@click.command(short_help="Take the unit of a tunnel away.")
@click.argument("name")
def uninstall(name: str) -> None:
    """Stop, disable and remove usernet-NAME.service.  NAME may also be the FILE that it was installed for.

    What it has kept in /var/lib stays, and so does the file.
    """
    from proxy.admin.paths import name_of

    path = UNITS / f"usernet-{name_of(name) if '/' in name or name.endswith('.conf') else name}.service"
    if not path.exists():
        raise NotInstalled(f"{path} is not there")
    _check(path)
    _systemctl("disable", "--now", path.name)
    path.unlink()
    _systemctl("daemon-reload")
    click.echo(f"{path}: removed")


def _check(path: Path) -> None:
    if os.geteuid() != 0:
        raise NotInstalled("this needs root: sudo usernet ...")
    if shutil.which("systemctl") is None or not RUNNING.exists():
        raise NotInstalled("systemd does not run here; `install-system-daemon --print` shows the unit all the same")
    if path.exists() and not path.read_text().startswith(MARK):
        raise NotInstalled(f"{path} was not written by usernet: move it away first")


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NotInstalled(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or 'it failed'}")


def _program() -> list[str]:
    """How this very program is started."""
    script = Path(sys.argv[0]).absolute()
    return (
        [str(script)]
        if script.name == "usernet" and os.access(script, os.X_OK)
        else [sys.executable, "-m", "proxy.cli"]
    )


def unit(name: str, file: str, program: list[str], flags: tuple[str, ...], *, with_tun: bool) -> str:
    """The text of it.  Read systemd.exec(5), "SANDBOXING"."""
    command = " ".join(_quoted(word) for word in (*program, "run", f"%d/{name}.conf", *flags))
    capabilities = "CAP_NET_ADMIN CAP_NET_RAW" if with_tun else ""
    devices = "DevicePolicy=closed\nDeviceAllow=/dev/net/tun rw" if with_tun else "PrivateDevices=yes"
    home = "ProtectHome=yes" if not program[0].startswith(("/home/", "/root/")) else "ProtectHome=read-only"
    return f"""{MARK}; uninstall-system-daemon removes it.
[Unit]
Description=usernet: the WireGuard tunnel {name}
Documentation=file:{_escaped(file)}
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Environment=USERNET_SOCKET=%t/usernet/{name}/{name}.sock
LoadCredential={name}.conf:{_escaped(file)}
Restart=always
RestartSec=2
WatchdogSec=60
TimeoutStopSec=45
LimitNOFILE=65536

DynamicUser=yes
StateDirectory=usernet/{name}
RuntimeDirectory=usernet/{name}
RuntimeDirectoryMode=0700
UMask=0077

CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
NoNewPrivileges=yes
ProtectSystem=strict
{home}
PrivateTmp=yes
{devices}
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables={"no" if with_tun else "yes"}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged

[Install]
WantedBy=multi-user.target
"""


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """For ExecStart=: %d is a specifier of ours, others would be of whoever wrote the word."""
    word = word if word.startswith("%d/") else _escaped(word)
    return (
        word
        if shlex.quote(word) == word or word.startswith("%d/")
        else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
