"""Credentials: every mutation of one field is wrong."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth import Credentials, parse_basic

RIGHT = Credentials("alice", "secret")


@pytest.mark.parametrize(
    ("username", "password"),
    [pair for pair in itertools.product(
        [b"alice", b"secret", b"", b"Alice", b"alic", b"alice\0", b"alice "],
        [b"secret", b"alice", b"", b"Secret", b"secre", b"secret\0", b" secret"],
    ) if pair != (b"alice", b"secret")],
)  # fmt: skip
def test_wrong(username: bytes, password: bytes) -> None:
    assert RIGHT.check(username, password) is False
    assert RIGHT.check_basic(b"Basic " + base64.b64encode(username + b":" + password)) is False


def test_right() -> None:
    assert RIGHT.check(b"alice", b"secret") is True
    assert RIGHT.check_basic(b"bAsIc  " + base64.b64encode(b"alice:secret")) is True


def test_non_ascii() -> None:
    credentials = Credentials("zoë", "pä:ß")
    assert credentials.check("zoë".encode(), "pä:ß".encode())
    assert credentials.check_basic(b"Basic " + base64.b64encode("zoë:pä:ß".encode()))


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("x", ""), ("x" * 256, "y"), ("x", "ü" * 128)])
def test_impossible(username: str, password: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        Credentials(username, password)


def test_only_hashes_are_kept() -> None:
    kept = [getattr(RIGHT, name) for name in Credentials.__slots__]
    assert all(b"alice" not in value and b"secret" not in value for value in kept)
    assert "secret" not in repr(RIGHT)


@given(st.binary(max_size=80))
def test_basic_never_raises(field: bytes) -> None:
    assert RIGHT.check_basic(field) is False
    parse_basic(b"Basic " + field)
