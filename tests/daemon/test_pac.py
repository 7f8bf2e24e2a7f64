"""What the PAC answers, asked of a JavaScript engine (of ECMAScript 5, so nothing newer can slip in)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import dukpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth import Users
from proxy.certificate import Certificate
from proxy.client import Terms
from proxy.daemon.pac import MEDIA_TYPE, PacPage, Reach, proxies_for, reach, script
from proxy.http.own import Visit
from tests.support.certificates import Authority
from usernet.config import Config, parse

KEY = "A" * 41 + "EE="
PROXY = "PROXY 127.0.0.1:1080; SOCKS5 127.0.0.1:1080"
BOTH = frozenset(("socks5", "http"))
# Names that the machine's own resolver would know
HOST_NAMES = {"public.example": "198.51.100.7", "inside.example": "10.9.9.9", "printer": "192.168.1.9"}


def config(allowed: str, *, interface: str = "", access: str = "") -> Config:
    return parse(
        f"[Interface]\nPrivateKey = {KEY}\nAddress = 10.0.0.2/24\n{interface}\n"
        f"[Peer]\nPublicKey = {'B' * 42}E=\nAllowedIPs = {allowed}\n{access}",
        "test",
    )


class Browser:
    """Asks the PAC; `resolved` are the names that the machine's own resolver was asked for."""

    def __init__(self, asked: Config, own: str = "127.0.0.1") -> None:
        self._script = script(reach(asked), own, PROXY)
        self.resolved: list[str] = []

    def directions(self, hosts: Sequence[str]) -> list[str]:
        # One engine for all; what it asks its resolver comes back with the answers
        answers: list[str]
        answers, self.resolved = dukpy.evaljs(
            [
                f"var known = {json.dumps(HOST_NAMES)}, asked = [], answers = [];",
                "function dnsResolve(name) { asked.push(name); return known[name] || null; }",
                self._script,
                f"var hosts = {json.dumps(list(hosts))};",
                "for (var n = 0; n < hosts.length; n++) answers.push(FindProxyForURL('http://x/', hosts[n]));",
                "[answers, asked];",
            ]
        )
        return answers

    def proxied(self, *hosts: str) -> bool:
        """All of them; none is False, and some an error."""
        found = set(self.directions(hosts))
        assert found in ({PROXY}, {"DIRECT"}), dict(zip(hosts, self.directions(hosts), strict=True))
        return found == {PROXY}


SPLIT = config("10.0.0.0/8, fd00::/16, 192.0.2.128/25", interface="DNS = 10.0.0.1, corp.example")
FULL = config("0.0.0.0/0, ::/0", interface="DNS = 10.20.0.1")


def test_split_by_address() -> None:
    browser = Browser(SPLIT)
    assert browser.proxied("10.0.0.1", "10.255.255.255", "192.0.2.128", "192.0.2.255", "fd00::1", "[fd00:0::ffff]")
    assert not browser.proxied("11.0.0.1", "9.255.255.255", "192.0.2.127", "198.51.100.1", "fd01::1", "2001:db8::1")
    assert browser.proxied("::ffff:10.1.2.3", "::ffff:a01:203", "0:0:0:0:0:ffff:10.1.2.3")
    assert not browser.proxied("::ffff:11.1.2.3", "::10.1.2.3", "64:ff9b::10.1.2.3")
    assert browser.resolved == []


def test_split_by_name() -> None:
    browser = Browser(SPLIT)
    assert browser.proxied("corp.example", "www.corp.example", "WWW.Corp.Example.", "a.b.corp.example")
    assert browser.proxied("intranet")  # a search domain is to be tried
    assert not browser.proxied("localhost", "x.localhost", "printer.local")
    assert browser.resolved == []


def test_split_resolves_only_what_would_go_directly() -> None:
    browser = Browser(SPLIT)
    assert not browser.proxied("public.example", "notcorp.example", "corp.example.org")
    assert browser.resolved == ["public.example", "notcorp.example", "corp.example.org"]
    assert browser.proxied("inside.example")  # an address of the tunnel that is published to everybody


def test_names_without_a_dot_stay_here_without_search_domains() -> None:
    browser = Browser(config("10.0.0.0/8", interface="DNS = 10.0.0.1"))
    assert not browser.proxied("printer", "localhost")
    assert browser.resolved == []


def test_full() -> None:
    browser = Browser(FULL)
    assert browser.proxied("public.example", "www.example.org", "198.51.100.1", "2001:db8::1", "8.8.8.8")
    assert not browser.proxied("localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "169.254.1.1", "fe80::1")
    assert not browser.proxied(
        "printer", "printer.local", "192.168.1.9", "172.16.0.1", "fd00::1", "100.64.0.1", "ff02::1"
    )
    assert browser.proxied("10.0.0.9", "10.20.0.1")  # the interface's own network, and the name server
    assert not browser.proxied("10.1.0.9", "10.20.0.2")
    assert browser.resolved == []


def test_what_no_allowed_ips_cover_is_not_the_tunnels() -> None:
    """Neither the interface's own network nor a name server."""
    browser = Browser(config("10.5.0.0/16", interface="DNS = 9.9.9.9"))
    assert browser.proxied("10.5.1.1")
    assert not browser.proxied("10.0.0.9", "9.9.9.9")


def test_private_networks_that_are_allowed_by_themselves() -> None:
    browser = Browser(config("0.0.0.0/0, 192.168.0.0/16, 172.16.5.0/24, 127.0.0.0/8"))
    assert browser.proxied("192.168.1.9", "172.16.5.1")
    assert not browser.proxied("172.16.6.1", "127.0.0.1")


def test_most_of_the_internet_is_all_of_it() -> None:
    """Halves, and a list of all networks but the private ones."""
    rest = [IPv4Network("0.0.0.0/0")]
    for private in map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")):
        rest = [
            part for net in rest
            for part in (net.address_exclude(private) if private.subnet_of(net) else [net])
        ]  # fmt: skip
    for allowed in ("0.0.0.0/1, 128.0.0.0/1", ", ".join(map(str, rest)), "2000::/3", "::/0"):
        browser = Browser(config(allowed))
        assert browser.proxied("www.example.org")
        assert browser.resolved == []
    assert not Browser(config("128.0.0.0/2, 10.0.0.0/8")).proxied("www.example.org")


def test_access_section() -> None:
    browser = Browser(
        config(
            "10.0.0.0/8",
            access=(
                "[Access]\nNameServer = 10.0.0.53 lab.example\n"
                "Rule = direct mine.example\nRule = refuse bad.example\nRule = tunnel *.wide.example 203.0.113.0/24\n"
            ),
        )
    )
    assert browser.proxied("lab.example", "x.lab.example", "wide.example", "x.wide.example", "203.0.113.9")
    assert not browser.proxied("mine.example", "bad.example")
    assert Browser(config("10.0.0.0/8", access="[Access]\nRule = tunnel *\n")).proxied("www.example.org")
    assert not Browser(config("10.0.0.0/8", access="[Access]\nRule = refuse *\n")).proxied("www.example.org")


def test_the_proxy_itself_is_reached_directly() -> None:
    assert not Browser(FULL, "proxy.example").proxied("proxy.example")
    assert not Browser(SPLIT, "10.0.0.5").proxied("10.0.0.5")
    assert not Browser(SPLIT, "fd00::5").proxied("[fd00::5]")


def test_nothing_goes_wrong_with_odd_hosts() -> None:
    odd = ["", ".", ":", "::", ":::", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1::2::3", "12345::", "g::", "[", "a b", "%"]
    assert set(Browser(SPLIT).directions(odd)) <= {"DIRECT", PROXY}


ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.integers(0, 2**112 - 1).map(lambda low: IPv6Address((0xFD00 << 112) + low)),
    st.integers(0, 2**24 - 1).map(lambda low: IPv4Address((10 << 24) + low)),
)


@settings(max_examples=20, deadline=None)
@given(st.lists(ADDRESSES, min_size=1, max_size=50))
def test_addresses_as_python_sees_them(addresses: list[IPv4Address | IPv6Address]) -> None:
    nets = [ip_network(text) for text in ("10.0.0.0/8", "fd00::/16", "192.0.2.128/25")]
    hosts = [str(one) for one in addresses] + [one.exploded for one in addresses]
    expected = [any(one in net for net in nets if net.version == one.version) for one in addresses] * 2
    assert [answer == PROXY for answer in Browser(SPLIT).directions(hosts)] == expected


def test_the_proxies_of_a_listener(tmp_path_factory: pytest.TempPathFactory) -> None:
    pair = Authority(tmp_path_factory.mktemp("ca")).issue()
    certificate = Certificate(str(pair.chain), str(pair.key))

    def said(terms: Terms, secure: bool = False) -> str:
        return proxies_for(Visit("10.1.1.1", "10.1.1.1:8", secure, terms))

    assert said(Terms(protocols=BOTH)) == "PROXY 10.1.1.1:8; SOCKS5 10.1.1.1:8"
    assert said(Terms(protocols=frozenset(("http",)))) == "PROXY 10.1.1.1:8"
    assert said(Terms(Users([("me", "secret")]), protocols=BOTH)) == "PROXY 10.1.1.1:8"
    tls = Terms(certificate=certificate, protocols=BOTH)
    assert said(tls) == "HTTPS 10.1.1.1:8; PROXY 10.1.1.1:8; SOCKS5 10.1.1.1:8"
    assert said(tls, secure=True) == "HTTPS 10.1.1.1:8"


def test_page() -> None:
    content = PacPage(SPLIT)(Visit("127.0.0.1", "127.0.0.1:1080", False, Terms(protocols=BOTH)))
    assert content.media_type == MEDIA_TYPE
    assert f'var proxies = "{PROXY}";' in content.body.decode("ascii")
    assert KEY.encode() not in content.body


def test_what_belongs_to_the_tunnel_is_worked_out_once_for_each_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Config] = []

    def counted(config: Config) -> Reach:
        asked.append(config)
        return reach(config)

    monkeypatch.setattr("proxy.daemon.pac.reach", counted)
    page, visit = PacPage(SPLIT), Visit("127.0.0.1", "127.0.0.1:1080", False, Terms(protocols=BOTH))
    assert not asked, "few ask"
    assert page(visit) == page(visit)
    assert asked == [SPLIT]
    other = config("198.51.100.0/24")
    page.learn(other)
    assert b"198.51.100.0/24" in page(visit).body
    assert asked == [SPLIT, other]
