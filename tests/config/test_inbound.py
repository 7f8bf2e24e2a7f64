"""`Inbound =`: what it may say, and what is said about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.test_parser import GOOD
from usernet.config import parse
from usernet.config.inbound import inbound
from usernet.config.model import Inbound
from usernet.config.values import BadValue
from usernet.errors import ConfigError

TEN = (bytes((10, 0, 0, 0)), 8)
SIX = (b"\xfd" + bytes(15), 8)
BEHIND = (bytes((192, 168, 7, 0)), 24)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("22", [Inbound(None, 22, 22)]),
        ("22,80/tcp , 5000-5010/UDP", [Inbound(None, 22, 22), Inbound("tcp", 80, 80), Inbound("udp", 5000, 5010)]),
        ("22 from 10.1.2.3/8, fd00::/8", [Inbound(None, 22, 22, (TEN, SIX))]),
        ("53/udp, 53/tcp from 10.0.0.0/8", [Inbound("udp", 53, 53, (TEN,)), Inbound("tcp", 53, 53, (TEN,))]),
        ("*", [Inbound(None, 0, 65535)]),
        ("*/tcp from 10.0.0.0/8", [Inbound("tcp", 0, 65535, (TEN,))]),
        ("* from 10.0.0.0/8 to 192.168.7.0/24", [Inbound(None, 0, 65535, (TEN,), (BEHIND,))]),
        ("1-65535 TO 192.168.7.9/24", [Inbound(None, 1, 65535, (), (BEHIND,))]),
        ("22 from 10.0.0.9", [Inbound(None, 22, 22, ((bytes((10, 0, 0, 9)), 32),))]),
    ],
)
def test_values(text: str, rules: list[Inbound]) -> None:
    assert list(inbound(text)) == rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no port is named"),
        ("from 10.0.0.0/8", "no port is named"),
        ("22 from", "no network is named behind `from`"),
        ("22 to 10.0.0.0/8 from", "no network is named behind `from`"),
        ("22 from 10.0.0.0/8 from 10.0.0.0/8", "`from` is there twice"),
        ("ssh", "'ssh' is not a port"),
        ("0", "'0' is not a range of ports"),
        ("70000", "'70000' is not a range of ports"),
        ("90-80", "'90-80' is not a range of ports"),
        ("22/sctp", "'22/sctp' names neither tcp nor udp"),
        ("22/", "'22/' names neither tcp nor udp"),
        ("22 from home", "'home' is not a network"),
        ("22 from 10.0.0.0/33", "'33' is not a number from 0 to 32"),
    ],
)
def test_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(BadValue) as caught:
        inbound(text)
    assert caught.value.message == message
    assert caught.value.remedy


def test_lines_add_up() -> None:
    text = GOOD.replace("DNS", "Inbound = 22, 80/tcp\nInbound = 22 # again\nInbound = 53/udp from 10.0.0.0/8\nDNS")
    assert parse(text, "f").interface.inbound == (
        Inbound(None, 22, 22),
        Inbound("tcp", 80, 80),
        Inbound("udp", 53, 53, (TEN,)),
    )
    assert parse(GOOD, "f").interface.inbound == ()


def test_a_problem_names_its_line() -> None:
    with pytest.raises(ConfigError, match=r"f:4: Inbound: 'ssh' is not a port; write a port such as 443"):
        parse(GOOD.replace("DNS =", "Inbound = ssh\nDNS ="), "f")


@given(st.text() | st.from_regex(r"[0-9*,/a-z -]{0,20}( from [0-9./, ]{0,20})?", fullmatch=True))
def test_any_text(text: str) -> None:
    try:
        rules = inbound(text)
    except BadValue as bad:
        assert bad.message and bad.remedy  # noqa: PT017, PT018
    else:
        assert rules
        assert all(0 <= rule.low <= rule.high <= 65535 for rule in rules)
