"""MAC1, MAC2 and cookie replies: who accepts what, from where, and for how long."""

from __future__ import annotations

import hashlib
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as xopen

from usernet.burst.packets import Address
from usernet.errors import HandshakeError
from usernet.wireguard.constants import COOKIE_LIFETIME, COOKIE_SECRET_LIFETIME
from usernet.wireguard.cookies import CookieChecker, CookieJar

PUBLIC_KEY = bytes(range(32))
SOURCE: Address = ("192.168.13.37", 2570)
# Two messages with the sender index 1377 in them: an initiation's size, and a response's
INITIATION = b"\x01\0\0\0" + (1377).to_bytes(4, "little") + bytes(range(108))
RESPONSE = b"\x02\0\0\0" + (1377).to_bytes(4, "little") + bytes(range(52))
MESSAGES = [INITIATION, RESPONSE]
each_message = pytest.mark.parametrize("message", MESSAGES, ids=["initiation", "response"])


def label_key(label: bytes) -> bytes:
    return hashlib.blake2s(label + PUBLIC_KEY).digest()


def keyed(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, digest_size=16, key=key).digest()


class Sides:
    """A sender and a receiver; random bytes are 1, 1, 1..., then 2, 2, 2... and so on."""

    def __init__(self) -> None:
        numbers = count(1)
        self.checker = CookieChecker(PUBLIC_KEY, lambda size: bytes([next(numbers)]) * size)
        self.jar = CookieJar(PUBLIC_KEY)

    def give_cookie(self, now: float, source: Address = SOURCE) -> None:
        reply = self.checker.create_reply(self.jar.add_macs(INITIATION, now), source, now)
        self.jar.consume_reply(reply, now)


@each_message
def test_golden_macs(message: bytes) -> None:
    mac1 = keyed(label_key(b"mac1----"), message)
    assert CookieJar(PUBLIC_KEY).add_macs(message, 0.0) == message + mac1 + bytes(16)

    sides = Sides()
    sides.give_cookie(0.0)
    cookie = keyed(b"\x01" * 32, b"192.168.13.37" + b"\x0a\x0a")
    mac2 = keyed(cookie, message + mac1)
    assert sides.jar.add_macs(message, 0.0) == message + mac1 + mac2


def test_golden_reply() -> None:
    sides = Sides()
    message = sides.jar.add_macs(INITIATION, 0.0)
    reply = sides.checker.create_reply(message, SOURCE, 0.0)
    assert reply[:8] == b"\x03\0\0\0" + (1377).to_bytes(4, "little")
    nonce, sealed = reply[8:32], reply[32:]
    assert nonce == b"\x02" * 24
    mac1 = message[-32:-16]
    cookie = xopen(sealed, mac1, nonce, label_key(b"cookie--"))
    assert cookie == keyed(b"\x01" * 32, b"192.168.13.37" + b"\x0a\x0a")


# MAC1


@each_message
def test_mac1(message: bytes) -> None:
    sides = Sides()
    sent = sides.jar.add_macs(message, 0.0)
    assert sides.checker.check_mac1(sent)
    assert sides.checker.check_mac1(memoryview(sent))
    assert not sides.checker.check_mac2(sent, SOURCE, 0.0)  # there is no cookie yet
    assert not CookieChecker(PUBLIC_KEY[::-1], bytes).check_mac1(sent)


@given(st.binary(max_size=200))
def test_garbage_has_no_mac(garbage: bytes) -> None:
    sides = Sides()
    sides.give_cookie(0.0)
    assert not sides.checker.check_mac1(garbage)
    assert not sides.checker.check_mac2(garbage, SOURCE, 0.0)


# MAC2


@each_message
def test_mac2_is_for_one_address(message: bytes) -> None:
    sides = Sides()
    sides.give_cookie(0.0)
    sent = sides.jar.add_macs(message, 0.0)
    assert sides.checker.check_mac1(sent)
    assert sides.checker.check_mac2(sent, SOURCE, 0.0)
    assert sides.checker.check_mac2(memoryview(sent), SOURCE, 0.0)
    elsewhere: list[Address] = [
        ("192.168.13.37", 10241),
        ("192.168.13.38", 2570),
        ("192.168.13.3", 2570),
        ("::ffff:192.168.13.37", 2570, 0, 0),
    ]
    for source in elsewhere:
        assert not sides.checker.check_mac2(sent, source, 0.0)


def test_mac2_refuses_every_corruption() -> None:
    sides = Sides()
    sides.give_cookie(0.0)
    sent = sides.jar.add_macs(RESPONSE, 0.0)
    for at in range(len(sent)):
        bad = bytearray(sent)
        bad[at] ^= 0x20
        assert not sides.checker.check_mac2(bad, SOURCE, 0.0)
        assert sides.checker.check_mac1(bad) == (at >= len(sent) - 16)


def test_ipv6_sources() -> None:
    sides = Sides()
    source: Address = ("fe80::1%eth0", 51820, 0, 2)
    sides.give_cookie(0.0, source)
    sent = sides.jar.add_macs(INITIATION, 0.0)
    assert sides.checker.check_mac2(sent, source, 0.0)
    assert not sides.checker.check_mac2(sent, ("fe80::1%eth1", 51820, 0, 3), 0.0)


# Time


def test_the_secret_lives_for_two_minutes() -> None:
    sides = Sides()
    sides.give_cookie(1000.0)
    sent = sides.jar.add_macs(INITIATION, 1000.0)
    late = 1000.0 + COOKIE_SECRET_LIFETIME
    assert sides.checker.check_mac2(sent, SOURCE, late - 0.001)
    assert not sides.checker.check_mac2(sent, SOURCE, late)
    # Whoever gets a cookie late in the secret's life gets a short-lived one
    other = CookieJar(PUBLIC_KEY)
    reply = sides.checker.create_reply(other.add_macs(INITIATION, 0.0), SOURCE, late - 0.001)
    other.consume_reply(reply, late - 0.001)
    assert sides.checker.check_mac2(other.add_macs(INITIATION, late - 0.001), SOURCE, late - 0.001)
    assert not sides.checker.check_mac2(other.add_macs(INITIATION, late), SOURCE, late)


def test_a_new_secret_ends_the_old_cookies() -> None:
    sides = Sides()
    sides.give_cookie(0.0)
    old = sides.jar.add_macs(INITIATION, 0.0)
    sides.give_cookie(COOKIE_SECRET_LIFETIME)
    new = sides.jar.add_macs(INITIATION, COOKIE_SECRET_LIFETIME)
    assert new != old
    assert sides.checker.check_mac2(new, SOURCE, COOKIE_SECRET_LIFETIME)
    assert not sides.checker.check_mac2(old, SOURCE, COOKIE_SECRET_LIFETIME)


def test_a_cookie_is_used_for_two_minutes() -> None:
    sides = Sides()
    sides.give_cookie(50.0)
    for now in (50.0, 51.0, 50.0 + COOKIE_LIFETIME - 0.001):
        assert sides.jar.add_macs(INITIATION, now)[-16:] != bytes(16)
    for now in (50.0 + COOKIE_LIFETIME, 1e9):
        assert sides.jar.add_macs(INITIATION, now)[-16:] == bytes(16)


# Replies


def test_nonces_do_not_repeat() -> None:
    sides = Sides()
    message = sides.jar.add_macs(INITIATION, 0.0)
    replies = {sides.checker.create_reply(message, SOURCE, 0.0) for _ in range(20)}
    assert len({reply[8:32] for reply in replies}) == 20


def test_a_reply_is_for_the_last_message() -> None:
    sides = Sides()
    first = sides.checker.create_reply(sides.jar.add_macs(INITIATION, 0.0), SOURCE, 0.0)
    second = sides.checker.create_reply(sides.jar.add_macs(RESPONSE, 0.0), SOURCE, 0.0)
    with pytest.raises(HandshakeError, match="cookie-not-authentic"):
        sides.jar.consume_reply(first, 0.0)
    sides.jar.consume_reply(second, 0.0)
    with pytest.raises(HandshakeError, match="cookie-unexpected"):  # one message, one reply
        sides.jar.consume_reply(second, 0.0)


def test_nobody_asked() -> None:
    sides = Sides()
    reply = sides.checker.create_reply(CookieJar(PUBLIC_KEY).add_macs(INITIATION, 0.0), SOURCE, 0.0)
    with pytest.raises(HandshakeError, match="cookie-unexpected"):
        sides.jar.consume_reply(reply, 0.0)


def test_a_forged_reply_changes_nothing() -> None:
    sides = Sides()
    sides.give_cookie(0.0)
    sent = sides.jar.add_macs(INITIATION, 1.0)
    reply = sides.checker.create_reply(sent, SOURCE, 1.0)
    for at in range(len(reply)):
        if at in range(4, 8):  # the receiver's index, by which the tunnel has found this jar
            continue
        bad = bytearray(reply)
        bad[at] ^= 1
        with pytest.raises(HandshakeError):
            sides.jar.consume_reply(bad, 1.0)
    for size in range(len(reply)):
        with pytest.raises(HandshakeError, match="handshake-length"):
            sides.jar.consume_reply(reply[:size], 1.0)
    assert sides.jar.add_macs(INITIATION, 1.0) == sent  # the first cookie is still there
    sides.jar.consume_reply(reply, 1.0)  # and so is the question


def test_a_reply_of_someone_else() -> None:
    sides = Sides()
    message = sides.jar.add_macs(INITIATION, 0.0)
    mallory = CookieChecker(PUBLIC_KEY[::-1], lambda size: bytes(size))
    with pytest.raises(HandshakeError, match="cookie-not-authentic"):
        sides.jar.consume_reply(mallory.create_reply(message, SOURCE, 0.0), 0.0)
