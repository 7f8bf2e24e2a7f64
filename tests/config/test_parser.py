"""Whole files: what they mean, and every refusal with its line."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from usernet.config import Config, ServerTunnel, load, parse
from usernet.errors import ConfigError

OWN = base64.b64encode(bytes(range(32))).decode()
PEER = base64.b64encode(bytes(range(32, 64))).decode()
OTHER = base64.b64encode(bytes(range(64, 96))).decode()
PSK = base64.b64encode(bytes(range(96, 128))).decode()

INTERFACE = f"[Interface]\nPrivateKey = {OWN}\nAddress = 10.0.0.2/24\nDNS = 10.0.0.1\n"
PEER_SECTION = f"[Peer]\nPublicKey = {PEER}\nEndpoint = 192.0.2.1:51820\nAllowedIPs = 0.0.0.0/0\n"
GOOD = INTERFACE + PEER_SECTION
TUNNEL = "[TCPServerTunnel]\nListenPort = 80\nTarget = 127.0.0.1:8080\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    return [str(problem) for problem in caught.value.problems]


def warned(text: str) -> list[str]:
    return [str(problem) for problem in parse(text, "f").warnings]


def test_every_key() -> None:
    config = parse(
        f"""\
[Interface]
PrivateKey = {OWN}
ListenPort = 51821
Address = 10.0.0.2/24, fd00::2/64
Address = 10.9.9.9
DNS = 10.0.0.1, fd00::0:1
DNS = corp.example, Example.ORG.
MTU = 1380

[Peer]
PublicKey = {PEER}
PresharedKey = {PSK}
AllowedIPs = 10.0.0.0/24, 0.0.0.0/0
AllowedIPs = ::/0
Endpoint = vpn.example.org:51820
PersistentKeepalive = 25
Reserved = 1, 2, 255

[Peer]
PublicKey = {OTHER}
AllowedIPs = 10.0.1.0/24
Endpoint = [2001:db8::1]:7
PersistentKeepalive = off
Reserved = AQID

[Socks5]
BindAddress = 127.0.0.1:25344
Username = me
Password = a#b c   # not this

[http]
BindAddress = :25345

[TCPServerTunnel]
ListenPort = 80
Target = localhost:8080

[UDPServerTunnel]
ListenPort = 80
Target = [::1]:5353
""",
        "f",
    )
    own = config.interface
    assert own.private_key == bytes(range(32))
    assert own.listen_port == 51821
    assert own.addresses == (
        (bytes([10, 0, 0, 2]), 24),
        (bytes.fromhex("fd00") + bytes(13) + b"\2", 64),
        (bytes([10, 9, 9, 9]), 32),
    )
    assert own.dns == ("10.0.0.1", "fd00::1")
    assert own.dns_search == ("corp.example", "example.org")
    assert own.mtu == 1380
    first, second = config.peers
    assert (first.public_key, first.preshared_key) == (bytes(range(32, 64)), bytes(range(96, 128)))
    assert first.allowed_ips == ((bytes([10, 0, 0, 0]), 24), (bytes(4), 0), (bytes(16), 0))
    assert first.endpoint == ("vpn.example.org", 51820)
    assert (first.persistent_keepalive, first.reserved, first.line) == (25, b"\1\2\xff", 10)
    assert second.endpoint == ("2001:db8::1", 7)
    assert (second.preshared_key, second.persistent_keepalive, second.reserved) == (None, 0, b"\1\2\3")
    socks, http = config.proxies
    assert (socks.kind, socks.host, socks.port, socks.username, socks.password) == (
        "socks5",
        "127.0.0.1",
        25344,
        "me",
        "a#b c",
    )
    assert (http.kind, http.host, http.port, http.username) == ("http", "", 25345, None)
    assert config.server_tunnels == (
        ServerTunnel("tcp", 80, ("localhost", 8080), 34),
        ServerTunnel("udp", 80, ("::1", 5353), 38),
    )
    assert [(warning.line, warning.message.partition(":")[0]) for warning in config.warnings] == [
        (31, "this proxy is open to other machines and asks for no password")
    ]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.lower().replace(OWN.lower(), OWN).replace(PEER.lower(), PEER),
        GOOD.replace("[Interface]", "  [ INTERFACE ]  # ours"),
        GOOD.replace(" = ", "="),
        GOOD.replace("Address", "\t ADDRESS \t"),
        GOOD.replace("AllowedIPs", "Allowed IPs"),
        "# first\n\n" + GOOD.replace("\n", " # why\n"),
        GOOD + "[Interface]\n",
    ],
    ids=["crlf", "bom", "lower", "head", "tight", "tabs", "spaced", "comments", "twice"],
)
def test_ways_of_writing_the_same(text: str) -> None:
    config = parse(text, "f")
    expected = parse(GOOD, "f")
    assert (config.interface.addresses, config.interface.private_key, config.interface.dns) == (
        expected.interface.addresses,
        expected.interface.private_key,
        expected.interface.dns,
    )
    assert [p.endpoint for p in config.peers] == [("192.0.2.1", 51820)]
    assert config.warnings == ()


def test_all_problems_at_once_in_line_order() -> None:
    text = (
        f"[Interface]\nPrivateKey = {OWN[:-4]}\nAdress = 10.0.0.2\nMTU = many\n"
        "[Peer]\nPublicKey = short\nAllowedIPs = 10.0.0.0/33\nEndpoint = nowhere\nbogus\n[Pear]\nx = y\n"
    )
    found = problems(text)
    assert [int(line.split(":")[1]) for line in found] == [2, 3, 4, 6, 7, 8, 9, 10]
    assert found[1] == "f:3: [Interface] has no key 'Adress'; did you mean Address?"
    assert "did you mean [Peer]?" in found[-1]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no [Interface] section"),
        (PEER_SECTION, 1, "no [Interface] section"),
        ("PrivateKey = x\n" + GOOD, 1, "belongs to no section"),
        (
            "WGConfig = other.conf\n" + GOOD,
            1,
            "WGConfig: cannot read 'other.conf': No such file or directory; write the path",
        ),
        (INTERFACE.replace("PrivateKey", "#"), 1, "no PrivateKey"),
        (GOOD.replace(OWN, base64.b64encode(bytes(32)).decode()), 2, "all zeros"),
        (GOOD.replace("Address = 10.0.0.2/24", ""), 1, "no Address"),
        (GOOD.replace("Address = 10.0.0.2/24", "Address ="), 3, "no Address"),
        (GOOD.replace("10.0.0.2/24", ","), 3, "no Address"),
        (INTERFACE + "[Peer]\nAllowedIPs = ::/0\n", 5, "no PublicKey"),
        (GOOD.replace("PublicKey", "PublcKey"), 6, "has no key 'PublcKey'; did you mean PublicKey?"),
        (GOOD.replace("Address", "Adress"), 3, "has no key 'Adress'; did you mean Address?"),
        (GOOD + "[Socks5]\nBindAdress = 127.0.0.1:1\n", 10, "did you mean BindAddress?"),
        (GOOD + PEER_SECTION, 9, "the [Peer] of line 5 has the same PublicKey"),
        (GOOD.replace("AllowedIPs", "Address"), 8, "it belongs to [Interface]"),
        (GOOD.replace("AllowedIPs", "Zzzz"), 8, "the keys are PublicKey, PresharedKey"),
        (GOOD + "[TCPServerTunnel]\nListenPort = 1\n", 9, "[TCPServerTunnel] has no Target; write who answers"),
        (GOOD + "[UDPServerTunnel]\nTarget = a:1\n", 9, "[UDPServerTunnel] has no ListenPort; write the port"),
        (GOOD + "[TCPServerTunnel]\nListenPort = 0\nTarget = a:1\n", 10, "'0' is not a number from 1 to 65535"),
        (GOOD + "[TCPServerTunnel]\nListenPort = 1\nTarget = 80\n", 11, "'80' has no host; write host:port"),
        (GOOD + "[TCPServerTunnel]\nListenPort = 1\nTarget = :80\n", 11, "the target has no host; write host:port"),
        (GOOD + "[TCPServerTunnel]\nListenPort = 1\nTarget = a:0\n", 11, "a target's port cannot be 0"),
        (GOOD + "[TCPServerTunnel]\nListenPorts = 1\nListenPort = 1\nTarget = a:1\n", 10, "did you mean ListenPort?"),
        (GOOD + "[TCPServerTunel]\n", 9, "did you mean [TCPServerTunnel]?"),
        (GOOD + TUNNEL + TUNNEL, 12, "the section of line 9 has the TCP ListenPort 80 already; give each a port"),
        (GOOD + "[Sock5]\n", 9, "did you mean [Socks5]?"),
        (GOOD + "[qqqqqq]\n", 9, "the sections are"),
        (GOOD + "[Peer\n", 9, "not the head of a section"),
        (GOOD + "[Socks5]\nUsername = a\nPassword = b\n", 9, "no BindAddress"),
        (GOOD + "[Socks5]\nBindAddress = :1\nUsername = a\n", 9, "only one of Username and Password"),
        (GOOD + "[http]\nBindAddress = x y:1\n", 10, "neither an address nor a name"),
        (GOOD.replace("DNS = 10.0.0.1", "CheckAlive = host"), 4, "CheckAlive: 'host' is not an address; write IP"),
        (GOOD.replace("DNS =", "CheckAliveInterval = 0\nCheckAlive ="), 4, "'0' is not a number from 1 to 86400"),
        (GOOD.replace("DNS = 10.0.0.1", "CheckAliveInterval = 3"), 4, "CheckAliveInterval without CheckAlive; write"),
    ],
)
def test_refused(text: str, line: int, message: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"f:{line}: ")
    assert "; " in problem
    assert message in problem


KERNEL = (
    "FwMark = 0xca6c\nTable = off\nPreUp = a\nPostUp = b\nPostUp = c %i\nPreDown = d\nPostDown =\nSaveConfig = true\n"
)


def test_with_a_tun_they_mean_something() -> None:
    found = parse(INTERFACE + KERNEL + PEER_SECTION, "f", kernel=True)
    own = found.interface
    assert (own.fwmark, own.table) == (0xCA6C, 0)
    assert (own.pre_up, own.post_up, own.pre_down, own.post_down) == (("a",), ("b", "c %i"), ("d",), ())
    assert [problem.message.split()[0] for problem in found.warnings if "not applicable" in problem.message] == [
        "SaveConfig"
    ]
    for text, value in (("auto", None), ("main", 254), ("1234", 1234)):
        assert parse(INTERFACE + f"Table = {text}\n" + PEER_SECTION, "f", kernel=True).interface.table == value


def test_not_applicable_is_named_and_not_run() -> None:
    found = warned(INTERFACE + KERNEL + PEER_SECTION)
    assert len(found) == 8
    assert all("not applicable here" in line for line in found)
    assert found[0].startswith("f:5: FwMark is not applicable here: ")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (GOOD.replace("DNS = 10.0.0.1\n", ""), 1, "there is no DNS"),
        (GOOD.replace("0.0.0.0/0", "10.1.0.0/16, 10.0.0.0/24"), 0, ""),
        (
            GOOD.replace("0.0.0.0/0", "10.0.0.9/24"),
            8,
            "10.0.0.9/24 has bits set behind its prefix: it is read as 10.0.0.0/24",
        ),
        (GOOD.replace("0.0.0.0/0", "10.1.0.0/16"), 4, "no AllowedIPs cover the DNS server 10.0.0.1"),
        (INTERFACE, 1, "there is no [Peer]"),
        (GOOD + f"[Peer]\nPublicKey = {OTHER}\n", 9, "has no AllowedIPs"),
        (GOOD + f"[Peer]\nPublicKey = {OTHER}\nAllowedIPs = 0.0.0.0/0\n", 9, "belongs to the [Peer] of line 5 too"),
        (GOOD.replace("Endpoint", "#"), 1, "no [Peer] has an Endpoint"),
        (GOOD.replace("/24\n", "/24, fd00::2\nMTU = 1279\n"), 1, "below the 1280"),
        (GOOD.replace("/24\n", "/24\nMTU = 1400\nMTU = 1300\n"), 5, "MTU was set in line 4 already"),
    ],
)
def test_warned(text: str, line: int, message: str) -> None:
    found = warned(text)
    if not line:
        assert found == []
        return
    assert len(found) == 1
    assert found[0].startswith(f"f:{line}: ")
    assert message in found[0]


def test_host_bits_are_masked_and_the_last_repeated_key_counts() -> None:
    config = parse(GOOD.replace("0.0.0.0/0", "10.0.0.9/24").replace("DNS", "MTU = 1400\nMTU = 1300\nDNS"), "f")
    assert config.peers[0].allowed_ips == ((bytes([10, 0, 0, 0]), 24),)
    assert config.interface.mtu == 1300


def test_a_peer_with_our_own_key_is_ignored() -> None:
    config = parse(GOOD, "f", derive_public=lambda private: bytes(range(32, 64)))
    assert config.peers == ()
    (warning,) = config.warnings
    assert "f:5: this [Peer] has our own key: it is ignored" in str(warning), "and not that there is no [Peer]"
    assert len(parse(GOOD, "f", derive_public=bytes).peers) == 1


def test_secrets_are_not_in_repr() -> None:
    config = parse(GOOD + f"PresharedKey = {PSK}\n[Socks5]\nBindAddress = :1\nUsername = u\nPassword = hunter2\n", "f")
    text = repr(config)
    for secret in (bytes(range(32)), bytes(range(96, 128))):
        assert repr(secret) not in text
    assert "hunter2" not in text


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "wg.conf"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    path.chmod(0o600)
    config = load(path)
    assert isinstance(config, Config)
    assert config.warnings == ()


def test_load_refuses_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "wg.conf"
    path.write_bytes(b"[Interface]\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"wg\.conf:2: this is not UTF-8 text"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    with pytest.raises(ConfigError, match="longer than 16 MiB"):
        load("/dev/zero")


def test_proxies_of_one_address_agree() -> None:
    proxy = "[{}]\nBindAddress = 127.0.0.1:{}\n"
    word = "Username = me\nPassword = secret\n"
    (problem,) = problems(GOOD + proxy.format("http", 1080) + word + proxy.format("Socks5", 1080))
    assert problem.startswith("f:13: the section of line 9 has the same BindAddress and other credentials; give both")
    for port in (0, 1081):
        parse(GOOD + proxy.format("http", port) + word + proxy.format("Socks5", 0), "f")
    parse(GOOD + proxy.format("http", 1080) + word + proxy.format("Socks5", 1080) + word, "f")


@pytest.mark.parametrize(
    ("host", "is_open"),
    [("0.0.0.0", True), ("", True), ("[::]", True), ("192.0.2.1", True), ("127.9.9.9", False), ("[::1]", False),
     ("localhost", False)],
)  # fmt: skip
def test_an_open_proxy_is_warned_of(host: str, is_open: bool) -> None:
    section = f"[http]\nBindAddress = {host}:1080\n"
    assert any("f:9: this proxy is open to other machines" in line for line in warned(GOOD + section)) is is_open
    assert warned(GOOD + section + "Username = a\nPassword = b\n") == []


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        (OWN, base64.b64encode(bytes(32)).decode(), "f:2: PrivateKey: the key is all zeros; make one"),
        (PEER, base64.b64encode(bytes(32)).decode(), "f:6: PublicKey: the key is all zeros; write the one"),
        ("0.0.0.0/0", "10.0.0.0/8 10.1.0.0/16", "more than one address; put a comma between them"),
        ("192.0.2.1:51820", "", "f:7: Endpoint: the value is empty; write host:port"),
        ("192.0.2.1:51820", "51820", "f:7: Endpoint: '51820' has no host; write host:port"),
        ("DNS = 10.0.0.1", "Jc = 4", "f:4: Jc is AmneziaWG's: its disguise is another protocol"),
    ],
)
def test_what_would_be_right(wrong: str, right: str, said: str) -> None:
    (problem,) = problems(GOOD.replace(wrong, right))
    assert said in problem
