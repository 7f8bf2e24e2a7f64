"""The [Access] section: what it may say, and what is said about it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.config import Config, access, parse
from usernet.config.values import BadValue
from usernet.errors import ConfigError

HEAD = """[Interface]
PrivateKey = 6Pz0x0y9ZpDbMVtqEr1bgNrdZq9e3fEOtzNTGq0cGlw=
Address = 10.0.0.2/32

[Access]
"""


def parsed(text: str) -> Config:
    return parse(HEAD + text, "wg0.conf")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return [str(problem) for problem in caught.value.problems]


def test_everything() -> None:
    found = parsed(
        """User = alice:pa:ss#word
User = bob:$scrypt$ln=14,r=8,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AllowFrom = 192.0.2.1/24, 2001:db8::1
Upstream = Office socks5h://me:p%40ss@proxy.example:1080
Upstream = tor socks5://127.0.0.1:9050 through direct
Rule = refuse * port 25,465 # no mail
Rule = office .partner.example *.x.example port 443 8000-8999 user alice, bob
Rule = direct Example.ORG, 192.0.2.7/24, bücher.example
NameServer = 10.0.0.53 .corp.example, corp2.example
"""
    ).access
    assert [(user.name, user.secret[:8]) for user in found.users] == [("alice", "pa:ss#wo"), ("bob", "$scrypt$")]
    assert found.allow_from == ((bytes([192, 0, 2, 0]), 24), (bytes.fromhex("20010db8") + bytes(11) + b"\x01", 128))
    office, tor = found.upstreams
    assert (office.name, office.scheme, office.address) == ("office", "socks5", ("proxy.example", 1080))
    assert (office.username, office.password, office.through) == ("me", "p@ss", "tunnel")
    assert (tor.through, tor.username) == ("direct", None)
    assert [rule.line for rule in found.rules] == [11, 12, 13]
    assert found.rules[0].everything
    assert found.rules[0].ports == ((25, 25), (465, 465))
    assert found.rules[1].suffixes == (".partner.example", ".x.example")
    assert found.rules[1].ports == ((443, 443), (8000, 8999))
    assert found.rules[1].users == {"alice", "bob"}
    assert found.rules[2].names == {"example.org", "xn--bcher-kva.example"}
    assert found.rules[2].networks == ((bytes([192, 0, 2, 0]), 24),)
    assert found.name_servers[0].domains == ("corp.example", "corp2.example")


def test_secrets_are_in_no_repr() -> None:
    text = repr(parsed("User = alice:secret\nUpstream = x http://u:secret@192.0.2.1:8080\n"))
    assert "secret" not in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("User = alice", "NAME:PASSWORD"),
        ("User = alice:$2b$12$abc", "a hash of a kind that usernet does not know"),
        ("User = alice:$scrypt$ln=40,r=8,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43, "parameters"),
        ("User = a:b\nUser = a:c", "line 6 has the same name"),
        ("AllowFrom = example.org", "not an IP address"),
        ("Upstream = x", "NAME URL"),
        ("Upstream = direct socks5://192.0.2.1:1", "cannot be the name"),
        ("Upstream = x ftp://192.0.2.1:1", "socks4://"),
        ("Upstream = x socks5://192.0.2.1", "has no port"),
        ("Upstream = x socks5://u@192.0.2.1:1", "USER:PASSWORD"),
        ("Upstream = x socks5://192.0.2.1:1 through fire", "through tunnel"),
        ("Upstream = x http://192.0.2.1:1\nUpstream = X http://192.0.2.1:2", "line 6 has the same name"),
        ("Rule = ", "is not a route"),
        ("Rule = direct", "no destination is named"),
        ("Rule = direct * port", "no port is named"),
        ("Rule = direct * port 80 port 81", "port is there twice"),
        ("Rule = direct * port 0", "is not a range of ports"),
        ("Rule = direct * port 9-8", "is not a range of ports"),
        ("Rule = direct * port 65536", "is not a range of ports"),
        ("Rule = direct * port x", "is not a port"),
        ("Rule = direct 10.0.0.300", "is not a destination"),
        ("Rule = direct a..b", "is not a destination"),
        ("Rule = office *", "there is no route 'office'"),
        ("Rule = direct * user carol", "there is no user 'carol'"),
        ("NameServer = example.org x", "is not the address of a name server"),
        ("NameServer = 10.0.0.53", "no domain is named"),
        ("NameServer = 10.0.0.53 a..b", "is not a domain"),
        ("Rules = direct *", "did you mean Rule?"),
    ],
)
def test_mistakes(line: str, said: str) -> None:
    found = problems(line)
    assert len(found) == 1
    assert found[0].startswith("wg0.conf:")
    assert said in found[0]


def test_a_listeners_own_user_may_have_rules() -> None:
    text = "Rule = direct * user me\n[Socks5]\nBindAddress = 127.0.0.1:1080\nUsername = me\nPassword = x\n"
    assert parsed(text).access.rules[0].users == {"me"}


@given(st.text(max_size=60))
def test_nothing_else_is_raised(text: str) -> None:
    for parser in (access.user, access.upstream, access.rule, access.name_server):
        with contextlib.suppress(BadValue):
            parser(text)


@given(
    st.sampled_from(["direct", "Office"]),
    st.lists(
        st.sampled_from(["*", "Example.org", ".example.org", "*.bücher.example", "192.0.2.7/24", "[2001:db8::]/32"]),
        min_size=1,
    ),
    st.sampled_from(["", "port 443", "ports 25,465 8000-8999"]),
    st.sampled_from(["", "user alice", "USERS alice, Bob"]),
    st.sampled_from([" ", ", ", " \t"]),
)
def test_the_text_of_a_rule_says_all_of_it(
    route: str, destinations: list[str], ports: str, users: str, gap: str
) -> None:
    made = access.rule(gap.join((route, *destinations, ports, users)))
    assert access.rule(made.text) == made
