"""`usernet run --tun`: the kernel has the tunnel, what was set is taken away, and without a TUN userspace has it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.support.lab import (
    FAR,
    FAR6,
    INNER_FAR,
    INNER_FAR6,
    INNER_NEAR,
    INNER_NEAR6,
    NAME,
    NEAR,
    NEAR6,
    SINK_PORT,
    Lab,
    run,
    socket_in,
    wait_for,
)
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

TUN = ("--tun", "usernet0")
PAGE = b"hello from the far side\n"
ELSEWHERE, ELSEWHERE6 = "198.51.100.7", "2001:db8:77::7"  # behind the far peer
OPEN = "AllowedIPs = 0.0.0.0/0, ::/0\n"
USERNET = (sys.executable, "-m", "proxy.cli")


def near(lab: Lab, *command: str, stdin: str | None = None) -> str:
    return run(*lab.near_command(*command), stdin=stdin)


def curl(lab: Lab, host: str, *more: str) -> bytes:
    """By the kernel's routes, without a proxy."""
    url = f"http://[{host}]/" if ":" in host else f"http://{host}/"
    done = subprocess.run(lab.near_command("curl", "-sS", "--max-time", "10", url, *more), capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rules(lab: Lab) -> str:
    return near(lab, "ip", "rule") + near(lab, "ip", "-6", "rule")


def is_clean(lab: Lab) -> bool:
    return "usernet0" not in near(lab, "ip", "link") and "fwmark" not in rules(lab) and "suppress" not in rules(lab)


@pytest.fixture
def clean(lab: Lab) -> Iterator[Lab]:
    """Afterwards nothing is left."""
    lab.forget_near()
    yield lab
    wait_for(lambda: is_clean(lab), "everything to be taken away")


def test_programs_need_no_proxy_and_the_proxy_works(clean: Lab) -> None:
    digest = clean.blob("blob", 64 << 20)
    with running(clean, clean.config(), *TUN):
        for host in (INNER_FAR, INNER_FAR6):
            assert near(clean, "ping", "-c", "2", "-i", "0.2", host).count("bytes from") == 2
            assert curl(clean, host) == PAGE
        for host in (INNER_FAR, f"[{INNER_FAR6}]"):
            down = near(clean, "sh", "-c", f"curl -sS http://{host}/blob | sha256sum")
            assert down.split()[0] == digest
            up = near(clean, "curl", "-sS", "-T", str(clean.dir / "site" / "blob"), f"http://{host}:{SINK_PORT}/")
            assert up.split()[1] == digest
        for proxy in ("socks5h://127.0.0.1:1080", "http://127.0.0.1:1080"):
            for host in (INNER_FAR, f"[{INNER_FAR6}]", NAME):
                assert clean.curl(f"http://{host}/", proxy=proxy) == PAGE
        status = near(clean, "ip", "-br", "addr", "show", "usernet0")
        assert INNER_NEAR in status


def test_refusals_say_why(clean: Lab) -> None:
    with running(clean, clean.config(), *TUN):
        for url, code in (
            (f"http://{INNER_FAR}:9/", "502"),
            ("http://203.0.113.9/", "403"),
            ("http://no.test/", "502"),
        ):
            got = near(clean, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-x", "http://127.0.0.1:1080", url)
            assert got in (code, "502", "504"), url


@pytest.fixture
def elsewhere(clean: Lab) -> Iterator[Lab]:
    for address in (f"{ELSEWHERE}/32", f"{ELSEWHERE6}/128"):
        run("ip", "-n", clean.far, "addr", "add", address, "dev", "lo")
    yield clean
    for address in (f"{ELSEWHERE}/32", f"{ELSEWHERE6}/128"):
        run("ip", "-n", clean.far, "addr", "del", address, "dev", "lo")


def everything(lab: Lab, extra: str = "") -> Path:
    path = lab.config()
    path.write_text(path.read_text().replace("AllowedIPs = 192.0.2.128/25, 2001:db8:2::/64\n", OPEN) + extra)
    return path


def test_a_default_route_takes_all_but_our_own_packets(elsewhere: Lab) -> None:
    before = rules(elsewhere)
    with running(elsewhere, everything(elsewhere), *TUN):
        for host in (ELSEWHERE, ELSEWHERE6):
            assert curl(elsewhere, host) == PAGE
            assert "usernet0" in near(elsewhere, "ip", "route", "get", host)
        # The machine's own networks stay as they are
        assert "dev v0" in near(elsewhere, "ip", "route", "get", FAR)
        assert elsewhere.curl(f"http://{ELSEWHERE}/") == PAGE
    assert rules(elsewhere) == before


def test_a_strict_reverse_path_filter_lets_the_endpoint_in(elsewhere: Lab) -> None:
    """Its packets come by an interface that no route of the main table but the default one leads to."""
    near(elsewhere, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    near(elsewhere, "ip", "route", "replace", "default", "via", FAR, "dev", "v0", "onlink")
    near(elsewhere, "ip", "route", "del", "192.0.2.0/28", "dev", "v0")
    try:
        with running(elsewhere, everything(elsewhere), *TUN):
            assert curl(elsewhere, INNER_FAR) == PAGE
    finally:
        near(elsewhere, "ip", "route", "add", "192.0.2.0/28", "dev", "v0", "src", NEAR)
        near(elsewhere, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")


def test_the_tunnels_addresses_are_not_for_the_neighbours(elsewhere: Lab) -> None:
    """CVE-2019-14899: who is on the same network as we are could learn and guess what goes on in the tunnel."""

    def answers(host: str, route: str) -> bool:
        run("ip", "-n", elsewhere.far, "route", "replace", f"{host}/{128 if ':' in host else 32}", "via", route)
        try:
            ping = elsewhere.far_command("ping", "-c", "1", "-W", "1", "-I", FAR6 if ":" in host else FAR, host)
            return subprocess.run(ping, capture_output=True).returncode == 0
        finally:
            run("ip", "-n", elsewhere.far, "route", "del", f"{host}/{128 if ':' in host else 32}", "via", route)

    before = near(elsewhere, "nft", "list", "ruleset")
    with running(elsewhere, everything(elsewhere), *TUN):
        for inner, outer in ((INNER_NEAR, NEAR), (INNER_NEAR6, NEAR6)):
            assert not answers(inner, outer)
            assert near(elsewhere, "ping", "-c", "1", "-W", "5", inner)  # our own are
            assert near(elsewhere, "ping", "-c", "1", "-W", "5", FAR6 if ":" in inner else FAR)
        near(elsewhere, "nft", "flush", "ruleset")
        assert all(answers(inner, outer) for inner, outer in ((INNER_NEAR, NEAR), (INNER_NEAR6, NEAR6)))
    assert near(elsewhere, "nft", "list", "ruleset") == before


def test_direct_is_not_by_the_tunnel(elsewhere: Lab) -> None:
    """A rule's `direct` keeps out of the default route: it comes from the outer address."""
    hosts = Path("/etc/netns", elsewhere.near, "hosts")
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f"{ELSEWHERE} elsewhere.test\n")
    config = everything(elsewhere, f"[Access]\nRule = direct {ELSEWHERE}, elsewhere.test\n")
    with running(elsewhere, config, *TUN):
        assert elsewhere.curl(f"http://{ELSEWHERE}/") == PAGE  # the far host answers on either way
        assert elsewhere.curl("http://elsewhere.test/") == PAGE
        seen = run(*elsewhere.far_command("ss", "-Htna", "src", ELSEWHERE))
        assert (seen + near(elsewhere, "ss", "-Htna", "dst", ELSEWHERE)).count(f"{NEAR}:") >= 2
    shutil.rmtree(hosts.parent)


def test_after_kill_9_cleanup_takes_the_rules_away(elsewhere: Lab) -> None:
    before = rules(elsewhere)
    process = elsewhere.start_usernet(everything(elsewhere), *TUN)
    wait_for(lambda: "fwmark" in rules(elsewhere), "the rules")
    assert elsewhere.end(process, signal.SIGKILL) == -signal.SIGKILL
    assert "fwmark" in rules(elsewhere)
    said = near(elsewhere, *USERNET, "run", str(elsewhere.config()), *TUN, "--cleanup")
    assert said.startswith("usernet0: removed the IPv4 rule ")
    assert rules(elsewhere) == before
    assert (
        near(elsewhere, *USERNET, "run", str(elsewhere.config()), *TUN, "--cleanup")
        == "usernet0: nothing is left of it"
    )


def test_table_off_sets_no_route_and_the_proxy_works_all_the_same(clean: Lab) -> None:
    config = clean.config(extra="[Socks5]\nBindAddress = 127.0.0.1:1080\n")
    config.write_text(
        config.read_text().replace(f"{INNER_NEAR}/25", f"{INNER_NEAR}/32").replace("MTU", "Table = off\nMTU")
    )
    with running(clean, config, *TUN):
        assert "usernet0" not in near(clean, "ip", "route")
        assert clean.curl(f"http://{INNER_FAR}/") == PAGE


def test_a_table_of_its_own(clean: Lab) -> None:
    config = clean.config()
    config.write_text(config.read_text().replace("MTU", "Table = 777\nMTU"))
    with running(clean, config, *TUN):
        assert "192.0.2.128/25 dev usernet0" in near(clean, "ip", "route", "show", "table", "777")


def test_hooks_run_only_if_allowed_and_in_order(clean: Lab) -> None:
    record = clean.dir / "hooks"
    hooks = "".join(f"{name} = echo {name} %i >> {record}\n" for name in ("PreUp", "PostUp", "PreDown", "PostDown"))
    config = clean.config()
    config.write_text(config.read_text().replace("MTU", f"{hooks}MTU"))
    with running(clean, config, *TUN):
        pass
    assert not record.exists()
    with running(clean, config, *TUN, "--run-hooks"):
        pass
    assert record.read_text().splitlines() == [
        f"{name} usernet0" for name in ("PreUp", "PostUp", "PreDown", "PostDown")
    ]


def test_a_hook_that_fails_leaves_nothing(clean: Lab) -> None:
    config = clean.config()
    config.write_text(config.read_text().replace("MTU", "PostUp = exit 3\nMTU"))
    done = subprocess.run(
        clean.near_command(*USERNET, "run", str(config), *TUN, "--run-hooks"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "Error: --tun usernet0: 'exit 3' ended with status 3"  # and nothing of kernels and modules


def test_hooks_are_in_bash(clean: Lab) -> None:
    config = clean.config()
    config.write_text(config.read_text().replace("MTU", "PostUp = [[ %i == usernet* ]] && exit 5\nMTU"))
    command = clean.near_command(*USERNET, "run", str(config), *TUN, "--run-hooks")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert "ended with status 5" in done.stderr


def test_name_servers_by_resolvconf(clean: Lab) -> None:
    tools = clean.dir / "tools"
    tools.mkdir(exist_ok=True)
    record = tools / "record"
    script = tools / "resolvconf"
    script.write_text(f'#!/bin/sh\necho "$@" >> {record}\n[ "$1" = -a ] && cat >> {record}\nexit 0\n')
    script.chmod(0o755)
    search = ("env", f"PATH={tools}:{os.environ['PATH']}")
    command = clean.run_command(clean.config(), *TUN, log="dns.log")
    process = clean.start(clean.near_command(*search, *command), log="dns.log")
    clean.wait_listening(1080, process, "dns.log")
    assert clean.end(process) == 0
    assert record.read_text().splitlines() == [
        "-a usernet0 -m 0 -x", f"nameserver {INNER_FAR}", "-d usernet0 -f",
    ]  # fmt: skip
    shutil.rmtree(tools)


def test_what_comes_in(clean: Lab) -> None:
    """Pings; ports that the file answers; what `Inbound` opens for programs of this machine; and nothing else."""
    extra = (
        "[TCPServerTunnel]\nListenPort = 8081\nTarget = 127.0.0.1:8090\n"
        "[Socks5]\nBindAddress = 127.0.0.1:1080\n"
        "[http]\nBindAddress = :3128\nInside = true\nUsername = me\nPassword = pw\n"
    )
    config = clean.config(extra=extra)
    config.write_text(config.read_text().replace("MTU", "Inbound = 8091/tcp\nMTU"))
    servers = []
    for port in (8090, 8091, 8092):
        page = clean.dir / f"p{port}"
        page.mkdir(exist_ok=True)
        (page / "index.html").write_text(f"{port}\n")
        servers.append(
            clean.start(
                clean.near_command(sys.executable, "-m", "http.server", str(port), "-d", str(page)), log="web.log"
            )
        )
        wait_for(lambda port=port: near(clean, "ss", "-Hltn", f"sport = :{port}"), f"port {port}")  # type: ignore[misc]
    with running(clean, config, *TUN):

        def far(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(clean.far_command(*command), capture_output=True, text=True, timeout=30)

        assert far("ping", "-c", "1", "-W", "5", INNER_NEAR).returncode == 0
        get = ("curl", "-sS", "--max-time", "3")
        assert far(*get, f"http://{INNER_NEAR}:8081/").stdout == "8090\n"
        assert far(*get, f"http://{INNER_NEAR}:8091/").stdout == "8091\n"
        assert far(*get, f"http://{INNER_NEAR}:8092/").returncode == 28  # nothing is said
        inside = far(*get, "-x", f"http://me:pw@{INNER_NEAR}:3128", f"http://{INNER_FAR}/")
        assert inside.stdout.encode() == PAGE, inside.stderr
    for server in servers:
        clean.end(server, signal.SIGKILL)


def test_a_reload_changes_addresses_and_routes_under_a_download(clean: Lab) -> None:
    digest = clean.blob("blob", 32 << 20)
    config = clean.config()
    process = clean.start_usernet(config, *TUN)
    download = subprocess.Popen(
        clean.near_command("sh", "-c", f"curl -sS --limit-rate 16M http://{INNER_FAR}/blob | sha256sum"),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    config.write_text(
        config.read_text()
        .replace("Address = ", "Address = 198.18.0.1/32, ")
        .replace("AllowedIPs = ", "AllowedIPs = 198.18.5.0/24, ")
        .replace(f"MTU = {clean.mtu}", "MTU = 1300")
    )
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloaded: addresses, mtu, 1 peer altered" in clean.log("usernet.log"), "the reload")
    shown = near(clean, "ip", "addr", "show", "usernet0")
    assert "198.18.0.1/32" in shown
    assert "mtu 1300" in shown
    assert "198.18.5.0/24 dev usernet0" in near(clean, "ip", "route")
    assert str(download.communicate(timeout=60)[0]).split()[0] == digest
    assert clean.end(process) == 0


def test_iperf_both_ways(clean: Lab) -> None:
    needs("iperf3")
    server = clean.start(clean.far_command("iperf3", "-s"), log="iperf.log")
    wait_for(lambda: run(*clean.far_command("ss", "-Hltn", "sport = :5201")), "iperf3")
    with running(clean, clean.config(), *TUN):
        for flags in ((), ("-R",), ("-u", "-b", "20M"), ("-u", "-b", "20M", "-R")):
            done = near(clean, "iperf3", "-c", INNER_FAR, "-t", "1", *flags)
            assert "iperf Done." in done
    clean.end(server)


# Where there is none


def without_tun(lab: Lab, *command: str) -> list[str]:
    """In a mount namespace whose /dev/net is empty."""
    script = 'mount -t tmpfs none /dev/net && exec "$@"'
    return lab.near_command("unshare", "-m", "sh", "-c", script, "sh", *command)


@pytest.fixture
def persistent(clean: Lab) -> Iterator[Lab]:
    """An interface that root has made for the user 4321; it is down, and has nothing."""
    near(clean, "ip", "tuntap", "add", "usernet0", "mode", "tun", "user", "4321")
    yield clean
    near(clean, "ip", "link", "del", "usernet0")


def test_a_persistent_interface_stays_and_loses_what_was_set(persistent: Lab) -> None:
    config = persistent.config()
    config.write_text(config.read_text().replace("192.0.2.128/25, ", "192.0.2.128/25, 203.0.113.0/24, "))
    for _ in range(2):
        with running(persistent, config, *TUN):
            assert curl(persistent, INNER_FAR) == PAGE
            assert "203.0.113.0/24 dev usernet0" in near(persistent, "ip", "route")
        assert near(persistent, "ip", "-br", "addr", "show", "usernet0").split()[2:] in ([], ["fe80::/64"])
        assert "usernet0" not in near(persistent, "ip", "route")


def test_a_persistent_interface_that_was_killed_upon(persistent: Lab) -> None:
    process = persistent.start_usernet(everything(persistent), *TUN)
    command = (*USERNET, "run", str(persistent.config()), *TUN, "--cleanup")
    refused = subprocess.run(persistent.near_command(*command), capture_output=True, text=True, timeout=30)
    assert refused.stderr == "Error: --cleanup usernet0: usernet0 is there: whoever has it must end first\n"
    persistent.end(process, signal.SIGKILL)
    said = near(persistent, *command).removeprefix("usernet0: removed ").split(", ")
    assert {what.split()[1] for what in said} == {"IPv4", "IPv6", "nftables", "route"}
    assert is_clean_but_for_the_interface(persistent)


def is_clean_but_for_the_interface(lab: Lab) -> bool:
    return "suppress" not in rules(lab) and "usernet" not in near(lab, "nft", "list", "ruleset")


@pytest.fixture
def device_for_all() -> Iterator[None]:
    """As udev leaves it; without udev it is root's."""
    device = Path("/dev/net/tun")
    mode = device.stat().st_mode
    device.chmod(0o666)
    yield
    device.chmod(mode & 0o777)


@pytest.mark.usefixtures("device_for_all")
def test_what_root_has_prepared_needs_no_privileges(persistent: Lab) -> None:
    config = persistent.config()
    shutil.chown(config, 4321)
    for words in (
        f"addr add {INNER_NEAR}/25 dev usernet0", f"addr add {INNER_NEAR6}/64 dev usernet0 nodad",
        f"link set usernet0 mtu {persistent.mtu} up",
    ):  # fmt: skip
        near(persistent, "ip", *words.split())
    user = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", "--bounding-set=-all", "--no-new-privs")
    command = (*user, *USERNET, "run", str(config), *TUN)
    process = persistent.start(persistent.near_command(*command), log="prepared.log", env={"HOME": "/nonexistent"})
    persistent.wait_listening(1080, process, "prepared.log")
    assert "going on without" not in persistent.log("prepared.log")
    assert curl(persistent, INNER_FAR) == PAGE  # by the kernel
    assert persistent.curl(f"http://{INNER_FAR}/") == PAGE
    assert persistent.end(process) == 0
    assert INNER_NEAR in near(persistent, "ip", "addr", "show", "usernet0")

    config.write_text(config.read_text().replace("192.0.2.128/25, ", "192.0.2.128/25, 203.0.113.0/24, "))
    done = subprocess.run(persistent.near_command(*command), capture_output=True, text=True, timeout=30)
    assert done.stderr.splitlines()[-1] == ("Error: --tun usernet0: cannot add 203.0.113.0/24: Operation not permitted")


@pytest.mark.parametrize("how", ["no device", "no privileges", "user namespace"])
def test_without_a_tun_it_goes_on_in_userspace(clean: Lab, how: str) -> None:
    config = clean.config()
    config.chmod(0o644)
    command = [*USERNET, "run", str(config), "--tun", "usernet0,userspace-networking"]
    wrapped = {
        "no device": lambda: without_tun(clean, *command),
        "no privileges": lambda: clean.near_command(
            "setpriv",
            "--reuid=4321",
            "--regid=4321",
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
            *command,
        ),
        "user namespace": lambda: clean.near_command("unshare", "-U", *command),
    }[how]()
    process = clean.start(wrapped, log=f"{how}.log", env={"HOME": "/nonexistent"})
    clean.wait_listening(1080, process, f"{how}.log")
    said = clean.log(f"{how}.log")
    assert "--tun usernet0: " in said
    assert "going on without an interface (userspace-networking)" in said
    assert ("/dev/net/tun is missing" in said) is (how == "no device")
    assert clean.curl(f"http://{INNER_FAR}/") == PAGE
    assert clean.end(process) == 0
    config.chmod(0o600)


def test_with_no_other_candidate_it_ends_and_says_why_of_each(clean: Lab) -> None:
    command = without_tun(clean, *USERNET, "run", str(clean.config()), "--tun", "usernet0,wg7")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: --tun usernet0: No such file or directory; modprobe tun")  # what became of it
    assert "the kernel is Linux " in last
    assert "; --tun wg7: " in last


def test_a_name_that_is_in_use_says_by_whom(clean: Lab) -> None:
    with running(clean, clean.config(), *TUN):
        command = clean.near_command(*USERNET, "run", str(clean.config(name="other.conf")), *TUN, "--port", "0")
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "usernet0 is in use by " in done.stderr


def test_udp_by_a_program_and_by_the_proxy(clean: Lab) -> None:
    """A name server's answers come back in, though nothing is let in unasked."""
    with running(clean, clean.config(), *TUN), socket_in(clean.near):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            name = b"".join(bytes((len(part),)) + part.encode() for part in NAME.split(".")) + b"\0"
            sock.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1", (INNER_FAR, 53))
            answer = sock.recv(1500)
        assert answer.endswith(socket.inet_aton(INNER_FAR))
