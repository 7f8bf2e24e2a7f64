"""Flags, sections and the default: what is listened on, and with which credentials."""

from __future__ import annotations

from typing import Literal

import pytest

from proxy.daemon.listeners import Listen, ListenError, plan
from usernet.config import Config, Interface, ProxySection


def config(*sections: ProxySection) -> Config:
    return Config(Interface(bytes(32), ()), (), sections)


def section(
    kind: Literal["socks5", "http"], port: int, user: str | None = None, host: str = "127.0.0.1"
) -> ProxySection:
    return ProxySection(kind, host, port, user, None if user is None else "secret")


def summary(listeners: list[Listen]) -> list[tuple[str, int, str]]:
    return [(listen.host, listen.port, listen.protocols) for listen in listeners]


def test_default() -> None:
    found = plan((), (), config())
    assert summary(found) == [("127.0.0.1", 1080, "SOCKS5 and HTTP"), ("::1", 1080, "SOCKS5 and HTTP")]
    assert [listen.optional for listen in found] == [False, True]


def test_equal_addresses_share_a_port() -> None:
    found = plan(("127.0.0.1:1",), ("127.0.0.1:1", "[::1]:1"), config())
    assert summary(found) == [("127.0.0.1", 1, "SOCKS5 and HTTP"), ("::1", 1, "HTTP")]


def test_port_0_is_not_shared() -> None:
    assert len(plan(("127.0.0.1:0",), ("127.0.0.1:0",), config())) == 2


def test_one_flag_alone_opens_one_listener() -> None:
    assert summary(plan(("localhost:5",), (), config())) == [("localhost", 5, "SOCKS5")]
    assert summary(plan((), (":5",), config())) == [("", 5, "HTTP")]


def test_sections_and_flags() -> None:
    both = config(section("socks5", 1, "me"), section("http", 2))
    assert summary(plan((), (), both)) == [("127.0.0.1", 1, "SOCKS5"), ("127.0.0.1", 2, "HTTP")]
    found = plan(("127.0.0.1:9",), (), both)
    assert summary(found) == [("127.0.0.1", 9, "SOCKS5"), ("127.0.0.1", 2, "HTTP")]
    assert (found[0].username, found[0].password) == ("me", "secret")  # the file's, for the flag's address
    assert "secret" not in repr(found)


def test_different_credentials_cannot_share() -> None:
    with pytest.raises(ListenError, match="different credentials"):
        plan((), (), config(section("socks5", 1, "me"), section("http", 1)))
    (shared,) = plan((), (), config(section("socks5", 1, "me"), section("http", 1, "me")))
    assert shared.protocols == "SOCKS5 and HTTP"


@pytest.mark.parametrize("text", ["1080", "host", "127.0.0.1:65536", "[::1]", "x y:1", ""])
def test_bad_address(text: str) -> None:
    with pytest.raises(ListenError, match="--socks5-server: "):
        plan((text,), (), config())
