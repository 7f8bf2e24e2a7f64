"""Credentials: every mutation of one field is wrong."""

from __future__ import annotations

import base64
import itertools

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth import Users, parse_basic
from proxy.passwords import make_hash, matches
from usernet.config.hashes import is_hash, parse_hash
from usernet.config.values import BadValue

RIGHT = Users([("alice", "secret")])


def basic(users: Users, field: bytes) -> str | None:
    return users.check(*parse_basic(field))


@pytest.mark.parametrize(
    ("username", "password"),
    [pair for pair in itertools.product(
        [b"alice", b"secret", b"", b"Alice", b"alic", b"alice\0", b"alice "],
        [b"secret", b"alice", b"", b"Secret", b"secre", b"secret\0", b" secret"],
    ) if pair != (b"alice", b"secret")],
)  # fmt: skip
def test_wrong(username: bytes, password: bytes) -> None:
    assert RIGHT.check(username, password) is None
    assert basic(RIGHT, b"Basic " + base64.b64encode(username + b":" + password)) is None


def test_right() -> None:
    assert RIGHT.check(b"alice", b"secret") == "alice"
    assert basic(RIGHT, b"bAsIc  " + base64.b64encode(b"alice:secret")) == "alice"


def test_non_ascii() -> None:
    credentials = Users([("zoë", "pä:ß")])
    assert credentials.check("zoë".encode(), "pä:ß".encode())
    assert basic(credentials, b"Basic " + base64.b64encode("zoë:pä:ß".encode()))


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("x", ""), ("x" * 256, "y"), ("x", "ü" * 128)])
def test_impossible(username: str, password: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        Users([(username, password)])


def test_only_hashes_are_kept() -> None:
    assert "secret" not in repr([getattr(RIGHT, name) for name in Users.__slots__])
    assert "secret" not in repr(RIGHT)


@given(st.binary(max_size=80))
def test_basic_never_raises(field: bytes) -> None:
    assert basic(RIGHT, field) is None
    parse_basic(b"Basic " + field)


async def test_hashes() -> None:
    stored = make_hash(b"secret")
    users = Users([("alice", stored), ("bob", "plain")])
    assert users.is_slow
    assert users.check(b"alice", b"secret") is None, "not known yet"
    for wrong in (
        (b"alice", b"secret "),
        (b"carol", b"secret"),
        (b"bob", b"secret"),
        (b"alice", stored.encode()),
        (b"", b""),
    ):
        assert await users.verify(*wrong) is None
    assert await users.verify(b"alice", b"secret") == "alice"
    assert users.check(b"alice", b"secret") == "alice", "remembered"
    assert users.check(b"alice", b"Secret") is None
    assert await users.verify(b"alice", b"Secret") is None
    assert users.check(b"alice", b"secret") == "alice"
    assert users.check(b"bob", b"plain") == "bob"
    assert await users.verify(b"x" * 256, b"y") is None
    assert "secret" not in repr([getattr(users, name) for name in Users.__slots__])


def test_hash_of_argon2id() -> None:
    made = Argon2id(salt=b"saltsaltsaltsalt", length=32, iterations=1, lanes=1, memory_cost=64).derive_phc_encoded(
        b"pw"
    )
    assert matches(parse_hash(made), b"pw")
    assert not matches(parse_hash(made), b"pW")


@pytest.mark.parametrize(
    "stored",
    ["$scrypt$", "$2b$12$abcdefghijklmnopqrstuv", "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,
     "$scrypt$ln=30,r=8,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43, "$scrypt$ln=14,r=8,p=0$c2FsdHNhbHRzYWx0$" + "A" * 43,
     "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHRzYWx0$" + "A" * 41, "$scrypt$ln=16,r=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,
     "$argon2id$v=19$m=9999999,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,
     "$argon2id$v=19$m=64,t=0,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43],
)  # fmt: skip
def test_hashes_that_cannot_be(stored: str) -> None:
    assert is_hash(stored)
    with pytest.raises(BadValue):
        parse_hash(stored)
    with pytest.raises(BadValue):
        Users([("alice", stored)])


@pytest.mark.parametrize("cost", ["ln=1,r=1,p=1", "ln=15,r=1,p=1", "ln=14,r=8,p=16", "ln=18,r=8,p=1"])
def test_what_is_taken_for_a_hash_can_be_checked(cost: str) -> None:
    assert not matches(parse_hash(f"$scrypt${cost}$c2FsdHNhbHRzYWx0$" + "A" * 43), b"")


def test_a_made_hash_can_be_checked() -> None:
    stored = make_hash("pä:ß".encode())
    assert is_hash(stored)
    assert matches(parse_hash(stored), "pä:ß".encode())
    assert not matches(parse_hash(stored), b"")
    assert make_hash(b"x") != make_hash(b"x")
