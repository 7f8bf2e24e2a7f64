"""Who is let in, by what a browser says of itself."""

from __future__ import annotations

import pytest

from proxy.web.guard import refusal

HOST = ("host", "127.0.0.1:9080")
NAMES = {"box.example"}


def asked(*fields: tuple[str, str], local: str = "127.0.0.1") -> bool:
    """Whether it is answered."""
    return refusal(fields, local, NAMES) is None


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:9080", "127.0.0.1"),
        ("127.0.0.1:8000", "127.0.0.1"),  # ssh -L 8000:127.0.0.1:9080
        ("127.0.0.1", "127.0.0.1"),
        ("LocalHost:9080", "127.0.0.1"),
        ("localhost", "::1"),
        ("[::1]:9080", "::1"),
        ("[0:0::1]:9080", "::1"),
        ("192.0.2.7:9080", "192.0.2.7"),
        ("box.example", "192.0.2.7"),
        ("Box.Example:1", "127.0.0.1"),
    ],
)
def test_our_names(host: str, local: str) -> None:
    assert asked(("host", host), local=local)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("evil.example:9080", "127.0.0.1"),
        ("evil.example", "127.0.0.1"),
        ("127.0.0.2:9080", "127.0.0.1"),
        ("127.0.0.1.:9080", "127.0.0.1"),
        ("localhost.:9080", "127.0.0.1"),
        ("localhost.evil.example", "127.0.0.1"),
        ("localhost:9080", "192.0.2.7"),  # theirs is not ours
        ("sub.box.example", "127.0.0.1"),
        ("0.0.0.0:9080", "127.0.0.1"),
        ("2130706433:9080", "127.0.0.1"),
        ("127.0.0.1:9080@evil.example", "127.0.0.1"),
        ("[::ffff:127.0.0.1]:9080", "127.0.0.1"),
        ("::1", "::1"),
        ("", "127.0.0.1"),
    ],
)
def test_other_names(host: str, local: str) -> None:
    assert not asked(("host", host), local=local)


def test_exactly_one_host() -> None:
    assert not asked()
    assert not asked(HOST, HOST)


def test_our_own_pages_ask() -> None:
    assert asked(HOST, ("origin", "http://127.0.0.1:9080"), ("sec-fetch-site", "same-origin"))
    assert asked(HOST, ("referer", "http://127.0.0.1:9080/debug/stacks?x"))
    assert asked(HOST, ("sec-fetch-site", "none"))


@pytest.mark.parametrize(
    "field",
    [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", ""),
        ("origin", "http://127.0.0.1:9081"),  # another program of this machine
        ("origin", "http://localhost:9080"),
        ("origin", "file://"),
        ("referer", "https://evil.example/127.0.0.1:9080"),
        ("referer", "http://127.0.0.1:9080@evil.example/"),
        ("referer", "http://[half"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "x"),
    ],
)
def test_other_sites_ask(field: tuple[str, str]) -> None:
    assert not asked(HOST, field)
