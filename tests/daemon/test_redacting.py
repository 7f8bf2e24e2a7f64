"""Nothing that is anybody's is left, and what is the same has the same name."""

from __future__ import annotations

import re

import pytest

from proxy.daemon import wgkeys
from proxy.daemon.redacting import Redactor
from usernet.config import parse

SECRETS = {
    "key": "6Pz0x0y9ZpDbMVtqEr1bgNrdZq9e3fEOtzNTGq0cGlw=",
    "preshared key": "fGeGFDzrdvM9RQSfAiAD1zLh8bVmg6BmNTBPfoIuwHM=",
    "password": "swordfish-1",
    "user's": "hunter2-hunter2",
    "upstream's": "up-secret",
    "hook": "hook-token",
}
THEIRS = (
    "10.0.0.2", "fd00::2", "10.0.0.1", "corp.example", "10.0.0.77", "10.9.0.0", "vpn.alice.invalid", "10.3.0.0",
    "198.51.100.9", "carolus", "dave", "office", "bob", "10.0.0.5", "partner.example", "10.77.0.0", "10.0.0.53", "nas",
    "xTIBA5rb", "TrMvSoP4", "tower", "2001:db8:7::5", "/etc/private",
)  # fmt: skip
TEXT = f"""[Interface]
PrivateKey = {SECRETS["key"]}
Address = 10.0.0.2/32, fd00::2/128
DNS = 10.0.0.1, corp.example
CheckAlive = 10.0.0.77
MTU = 1300
PostUp = curl http://tower/?token={SECRETS["hook"]}
Inbound = 22/tcp from 10.9.0.0/16
[Peer]
PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
PresharedKey = {SECRETS["preshared key"]}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.alice.invalid:51820
[Peer]
PublicKey = TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=
AllowedIPs = 10.3.0.0/16
Endpoint = 198.51.100.9:51820
PersistentKeepalive = 25
[Socks5]
BindAddress = 127.0.0.1:0
Username = carolus
Password = {SECRETS["password"]}
[http]
BindAddress = [2001:db8:7::5]:8080
CertFile = /etc/private/chain.pem
KeyFile = /etc/private/key.pem
[Access]
User = dave:{SECRETS["user's"]}
Upstream = office socks5://bob:{SECRETS["upstream's"]}@10.0.0.5:1080
Rule = office .partner.example, 10.77.0.0/16 port 443 user dave
NameServer = 10.0.0.53 .corp.example
[TCPClientTunnel]
BindAddress = 127.0.0.1:0
Target = nas:80
"""


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(parse(TEXT, "wg.conf", derive_public=wgkeys.public))


def test_the_outline_of_a_configuration(redactor: Redactor) -> None:
    outline = "\n".join(redactor.outline())
    for text in (*SECRETS.values(), *THEIRS):
        assert text not in outline
    assert re.search(r"^interface: private_key REDACTED, addresses \[ADDRESS-\d+/32, ADDRESS-\d+/128\]", outline)
    assert "mtu 1300" in outline
    assert "allowed_ips [0.0.0.0/0, ::/0]" in outline
    second = "peers: public_key PEER-2, endpoint ADDRESS-6:51820, allowed_ips [ADDRESS-7/16], persistent_keepalive 25"
    assert second in outline
    assert "preshared_key REDACTED" in outline
    assert "host 127.0.0.1" in outline


def test_the_same_words_every_time(redactor: Redactor) -> None:
    assert list(redactor.outline()) == list(redactor.outline())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("peer xTIBA5rb... at 198.51.100.9:51820", "peer PEER-1 at ADDRESS-6:51820"),
        ("of peer TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0= is", "of peer PEER-2 is"),
        ("endpoint vpn.alice.invalid does not resolve", "endpoint NAME-2 does not resolve"),
        ("from fd00::2: refused", "from ADDRESS-2: refused"),
        ("from [fd00::2]:5.", "from [ADDRESS-2]:5."),
        ("is carolus.", "is NAME-3."),
        ("nas is not nasty", "NAME-4 is not nasty"),
        ("203.0.113.77 and 203.0.113.77.", "ADDRESS-12 and ADDRESS-12."),
        ("2001:db8::77: no way there", "ADDRESS-12: no way there"),
        ("www.other.example:80 says no", "NAME-11:80 says no"),
        ("/home/tower/wg.conf: Permission denied", "PATH-1: Permission denied"),
        ("no key 'tower-of-babel'", "no key TEXT-1"),
        (f"a key {SECRETS['key']}!", "a key REDACTED!"),
        ("127.0.0.1:1080 and [::1]:5 at 23:59:59, kernel 6.1", "127.0.0.1:1080 and [::1]:5 at 23:59:59, kernel 6.1"),
    ],
)  # fmt: skip
def test_a_message(redactor: Redactor, text: str, expected: str) -> None:
    assert re.sub(r"-\d+", "-", redactor.text(text)) == re.sub(r"-\d+", "-", expected)


def test_what_belongs_together_is_seen(redactor: Redactor) -> None:
    one, two = re.findall(r"ADDRESS-\d+", redactor.text("203.0.113.1 is not 203.0.113.2"))
    assert one != two
    assert redactor.text("203.0.113.2") == two
