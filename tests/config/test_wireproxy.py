"""wireproxy's files: its own examples, WGConfig, references to the environment, and what is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.config.test_parser import GOOD, INTERFACE, OWN, PEER, PEER_SECTION
from usernet.config import ClientTunnel, ServerTunnel, StdioTunnel, load, parse
from usernet.errors import ConfigError

SOCKS = "[Socks5]\nBindAddress = 127.0.0.1:25344\n"


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).replace(str(path.parent), "DIR") for problem in caught.value.problems]


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """A file that imports wg.conf beside it."""
    tmp_path.chmod(0o700)
    (tmp_path / "wg.conf").write_text(GOOD)
    path = tmp_path / "wireproxy.conf"
    path.write_text("WGConfig = wg.conf\n" + SOCKS)
    return path


def test_an_imported_file(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(main)
    assert config.interface.addresses == parse(GOOD, "f").interface.addresses
    assert config.peers[0].endpoint == ("192.0.2.1", 51820)
    assert [proxy.port for proxy in config.proxies] == [25344]
    assert config.warnings == ()
    main.write_text(f"WGConfig = $WHERE\n{SOCKS}")
    monkeypatch.setenv("WHERE", str(main.parent / "wg.conf"))
    assert load(main).peers == config.peers


def test_each_problem_names_its_own_file(main: Path) -> None:
    main.write_text("Nonsense = 1\nWGConfig = wg.conf\n[Socks5]\nBindAddress = x\n" + PEER_SECTION)
    (main.parent / "wg.conf").write_text("WGConfig = more.conf\n" + INTERFACE + "Bogus = 1\nMTU = 5\n" + SOCKS)
    assert [problem.partition("; ")[0] for problem in problems(main)] == [
        "DIR/wireproxy.conf:1: this line belongs to no section",
        "DIR/wireproxy.conf:4: BindAddress: 'x' has no port",
        "DIR/wireproxy.conf:5: WGConfig names another file for [Peer]",
        "DIR/wg.conf:1: a file that WGConfig names has [Interface] and [Peer] only",
        "DIR/wg.conf:6: [Interface] has no key 'Bogus'",
        "DIR/wg.conf:7: MTU: '5' is not a number from 576 to 65440",
        "DIR/wg.conf:8: a file that WGConfig names has [Interface] and [Peer] only",
    ]


def test_warnings_name_their_own_file(main: Path) -> None:
    main.write_text("WGConfig = wg.conf\n[http]\nBindAddress = :1\n")
    (main.parent / "wg.conf").write_text(re.sub("DNS = .*", "Table = off", GOOD))
    assert [str(w).replace(str(main.parent), "DIR").partition(": ")[0] for w in load(main).warnings] == [
        "DIR/wireproxy.conf:2",
        "DIR/wg.conf:1",
        "DIR/wg.conf:4",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "DIR/wireproxy.conf:1: WGConfig: cannot read 'wg.conf': No such file or directory; write the path"),
        (b"\xff", "DIR/wg.conf:1: this is not UTF-8 text"),
        (b"", "DIR/wg.conf:1: there is no [Interface] section"),
    ],
)
def test_an_import_that_fails(main: Path, content: bytes | None, said: str) -> None:
    imported = main.parent / "wg.conf"
    if content is None:
        imported.unlink()
    else:
        imported.write_bytes(content)
    assert problems(main)[0].startswith(said)


def test_references_to_the_environment() -> None:
    text = GOOD.replace(OWN, "$KEY").replace("0.0.0.0/0", "$NETS") + SOCKS + "Username = $$me\nPassword = $WORD\n"
    environ = {"KEY": OWN, "NETS": "10.0.0.0/8, fd00::/8", "WORD": "$x y"}
    config = parse(text, "f", environ=environ)
    assert config.interface.private_key == bytes(range(32))
    assert len(config.peers[0].allowed_ips) == 2
    assert (config.proxies[0].username, config.proxies[0].password) == ("$me", "$x y")


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(PEER, "$NO_SUCH"), "f", environ={})
    assert str(caught.value) == (
        "f:6: PublicKey: there is no environment variable 'NO_SUCH'; set it, or write $$ for a value that begins with $"
    )
    parse(GOOD.replace("DNS", "PostUp = $SHELL\nDNS"), "f", environ={})  # commands are not run, so not read either


@pytest.mark.parametrize("key", ["Jc", "Jmin", "jmax", "S1", "S2", "H1", "H4", "I1", "I5", "J1", "Itime"])
def test_amneziawg_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=f"f:4: {key} is AmneziaWG's: its disguise is another protocol"):
        parse(GOOD.replace("DNS", f"{key} = 3\nDNS"), "f")


@pytest.mark.parametrize("word", ["auto", "ipv4", "IPv6"])
def test_resolve(word: str) -> None:
    assert parse(f"{GOOD}[Resolve]\nResolveStrategy = {word}\n", "f").resolve_strategy == word.lower()
    assert parse(GOOD, "f").resolve_strategy == "auto"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Resolve]\nResolveStrategy = v4\n", "f:10: ResolveStrategy: 'v4' is none of auto, ipv4 and ipv6; write one"),
        ("[Resolve]\n[Resolve]\n", "f:10: line 9 begins a [Resolve] already; make one"),
    ],
)
def test_resolve_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD + text, "f")
    assert str(caught.value).startswith(said)


# As in wireproxy's README, comments left out.
EXAMPLE = """\
[Interface]
Address = 10.200.200.2/32 # The subnet should be /32 and /128 for IPv4 and v6 respectively
# MTU = 1420 (optional)
PrivateKey = uCTIK+56CPyCvwJxmU5dBfuyJvPuSXAq1FzHdnIxe1Q=
# PrivateKey = $MY_WIREGUARD_PRIVATE_KEY # Alternatively, reference environment variables
DNS = 10.200.200.1

[Peer]
PublicKey = QP+A67Z2UBrMgvNIdHv8gPel5URWNLS4B3ZQ2hQIZlg=
# PresharedKey = UItQuvLsyh50ucXHfjF0bbR4IIpVBd74lwKc8uIPXXs= (optional)
Endpoint = my.ddns.example.com:51820
# PersistentKeepalive = 25 (optional)

[TCPClientTunnel]
BindAddress = 127.0.0.1:25565
Target = play.cubecraft.net:25565

[TCPServerTunnel]
ListenPort = 3422
Target = localhost:25545

[STDIOTunnel]
Target = ssh.myserver.net:22

[Socks5]
BindAddress = 127.0.0.1:25344
#Username = ...

[http]
BindAddress = 127.0.0.1:25345
#CertFile = ...

[UDPProxyTunnel]
BindAddress = 127.0.0.1:53
Target = 1.1.1.1:53
InactivityTimeout = 30 # If its set to 0, it will never timeout

[Resolve]
# Set DNS Resovle Strategy
ResolveStrategy = auto
"""


def test_the_example_of_its_readme() -> None:
    config = parse(EXAMPLE, "f", environ={})
    assert config.client_tunnels == (
        ClientTunnel("tcp", "127.0.0.1", 25565, ("play.cubecraft.net", 25565), line=14),
        ClientTunnel("udp", "127.0.0.1", 53, ("1.1.1.1", 53), idle_timeout=30, line=33),
    )
    assert config.server_tunnels == (ServerTunnel("tcp", 3422, ("localhost", 25545), 18),)
    assert config.stdio_tunnel == StdioTunnel(("ssh.myserver.net", 22), 22)
    assert [(proxy.kind, proxy.port) for proxy in config.proxies] == [("socks5", 25344), ("http", 25345)]


def test_what_is_ours_beside() -> None:
    config = parse(
        GOOD + "[TCPClientTunnel]\nBindAddress = 127.0.0.1:1\nTarget = a:1\nProxyProtocol = V2\n"
        "ProxyProtocolFrom = 10.0.0.9/8, ::1\n[TCPServerTunnel]\nListenPort = 1\nTarget = a:1\nProxyProtocol = v1\n"
        "[http]\nBindAddress = :2\nProxyProtocolFrom = 127.0.0.1\nCertFile = a.pem\nKeyFile = b.pem\n"
        "[UDPProxyTunnel]\nBindAddress = 127.0.0.1:1\nTarget = a:1\nInactivityTimeout = 0\n",
        "f",
    )
    tcp, udp = config.client_tunnels
    assert (tcp.header, tcp.balancers) == ("v2", ((b"\x0a\0\0\0", 8), (bytes(15) + b"\1", 128)))
    assert (udp.idle_timeout, config.server_tunnels[0].header) == (0, "v1")
    assert config.proxies[0].balancers == ((b"\x7f\0\0\1", 32),)
    assert config.proxies[0].certificate == ("a.pem", "b.pem")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[TCPClientTunnel]\nTarget = a:1\n", "f:9: [TCPClientTunnel] has no BindAddress; write one"),
        ("[UDPProxyTunnel]\nBindAddress = :1\n", "f:9: [UDPProxyTunnel] has no Target; write who answers"),
        ("[STDIOTunnel]\n", "f:9: [STDIOTunnel] has no Target; write who answers"),
        ("[STDIOTunnel]\nTarget = a:1\n" * 2, "f:11: line 9 begins a [STDIOTunnel] already, and there is one"),
        ("[SNI]\nBindAddress = :443\n", "f:9: the section [SNI] is wireproxy's, and not supported yet; take"),
        ("[http]\nBindAddress = :1\nKeyFile = b\n", "f:9: [http] has only one of CertFile and KeyFile; write both"),
        ("[Socks5]\nBindAddress = :1\nKeyFile = b\n", "f:11: [Socks5] has no key 'KeyFile'; it belongs to [http]"),
        (
            "[UDPProxyTunnel]\nBindAddress = :1\nTarget = a:1\nInactivityTimeout = 5s\n",
            "f:12: InactivityTimeout: '5s' is not a number",
        ),
        (
            "[TCPClientTunnel]\nBindAddress = :1\nTarget = a:1\nProxyProtocol = on\n",
            "f:12: ProxyProtocol: 'on' is neither v1 nor v2; write one",
        ),
        (
            "[TCPClientTunnel]\nBindAddress = :1\nTarget = a:1\n" * 2,
            "f:12: the section of line 9 has the same BindAddr",
        ),
        (
            "[http]\nBindAddress = :1\n[TCPClientTunnel]\nBindAddress = :1\nTarget = a:1\n",
            "f:11: the section of line 9 has the same BindAddress; give each a port",
        ),
        (
            "[http]\nBindAddress = :1\n[Socks5]\nBindAddress = :1\nProxyProtocolFrom = ::1\n",
            "f:11: the section of line 9 has the same BindAddress and another ProxyProtocolFrom; give both",
        ),
    ],
)
def test_forwards_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD + text, "f")
    assert str(caught.value).startswith(said)


def test_a_forward_that_others_reach_is_warned_of() -> None:
    section = "[TCPClientTunnel]\nBindAddress = {}:1\nTarget = a:80\n"
    assert parse(GOOD + section.format("[::1]"), "f").warnings == ()
    (warning,) = parse(GOOD + section.format(""), "f").warnings
    assert str(warning).startswith("f:9: other machines, too, get to a port 80 by this forward; write 127.0.0.1")


def test_check_alive() -> None:
    own = parse(GOOD.replace("DNS", "CheckAlive = 1.1.1.1, fd00::0:1\nCheckAliveInterval = 3\nDNS"), "f").interface
    assert (own.check_alive, own.check_alive_interval) == (("1.1.1.1", "fd00::1"), 3)
    assert parse(GOOD, "f").interface.check_alive == ()


def test_a_peer_without_allowed_ips_may_carry_everything() -> None:
    text = GOOD.replace("AllowedIPs = 0.0.0.0/0\n", "")
    assert parse(text, "f").peers[0].allowed_ips == ()
    config = parse(text, "f", carry_all=True)
    assert config.peers[0].allowed_ips == ((bytes(4), 0), (bytes(16), 0))
    assert config.warnings == ()
    assert len(parse(GOOD, "f", carry_all=True).peers[0].allowed_ips) == 1
