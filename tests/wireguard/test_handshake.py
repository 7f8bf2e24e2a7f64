"""The handshake: whole ones against an independent implementation's bytes, then everything that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wireguard.test_crypto import LOW_ORDER
from usernet.errors import HandshakeError, WireError
from usernet.wireguard.cookies import CookieChecker, CookieJar
from usernet.wireguard.crypto import tai64n
from usernet.wireguard.handshake import (
    ConsumedInitiation,
    Identity,
    Initiation,
    Keypair,
    RemoteStatic,
    consume_initiation,
    consume_response,
    create_initiation,
    create_response,
)

GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("vectors").joinpath("handshake.json").read_text())[
    "handshakes"
]

A, B = Identity(bytes(range(32))), Identity(bytes(range(32, 64)))
PSK = bytes(range(64, 96))
TIMESTAMP = tai64n(1_700_000_000 * 10**9)
LOCAL_A, LOCAL_B = 0x0A0A0A0A, 0xB0B0B0B0
MAC1_AT_INITIATION, MAC1_AT_RESPONSE = 116, 60


def fixed(*values: bytes) -> Callable[[int], bytes]:
    """Randomness that is known: these values, each of the size that is asked for."""
    queue: Iterator[bytes] = iter(values)

    def random(size: int) -> bytes:
        value = next(queue)
        assert len(value) == size
        return value

    return random


def no_random(size: int) -> bytes:
    raise AssertionError("nothing may be made up here")


def only(remote: RemoteStatic) -> Callable[[bytes], RemoteStatic | None]:
    return {remote.public_key: remote}.get


class Exchange:
    """A handshake from A to B as far as the response, with MACs."""

    def __init__(self, psk_a: bytes | None = None, psk_b: bytes | None = None) -> None:
        self.remote_of_a = RemoteStatic(A, B.public_key, psk_a)
        self.remote_of_b = RemoteStatic(B, A.public_key, psk_b)
        self.pending, message = create_initiation(A, self.remote_of_a, LOCAL_A, TIMESTAMP, fixed(b"\x11" * 32))
        self.initiation = CookieJar(B.public_key).add_macs(message, 0.0)
        self.consumed = self.consume_initiation(self.initiation)
        message, self.keypair_of_b = create_response(B, self.consumed, LOCAL_B, fixed(b"\x22" * 32))
        self.response = CookieJar(A.public_key).add_macs(message, 0.0)

    def consume_initiation(self, message: bytes) -> ConsumedInitiation:
        return consume_initiation(B, message, only(self.remote_of_b))

    def consume_response(self, message: bytes) -> Keypair:
        return consume_response(A, self.pending, self.remote_of_a, message)


@pytest.mark.parametrize("psk", [None, bytes(32), PSK])
def test_both_ends_have_the_same_keys(psk: bytes | None) -> None:
    exchange = Exchange(psk, psk)
    ours, theirs = exchange.consume_response(exchange.response), exchange.keypair_of_b
    assert ours == Keypair(theirs.receive_key, theirs.send_key, LOCAL_A, LOCAL_B, is_initiator=True)
    assert theirs == Keypair(ours.receive_key, ours.send_key, LOCAL_B, LOCAL_A, is_initiator=False)
    assert len(ours.send_key) == len(ours.receive_key) == 32
    assert ours.send_key != ours.receive_key
    assert exchange.consumed.timestamp == TIMESTAMP
    assert exchange.consumed.remote is exchange.remote_of_b


@pytest.mark.parametrize("golden", GOLDEN, ids=["without PSK", "with PSK"])
def test_golden(golden: dict[str, Any]) -> None:
    def value(name: str) -> bytes:
        return bytes.fromhex(golden[name])

    initiator, responder = Identity(value("initiator_static")), Identity(value("responder_static"))
    psk = value("preshared_key")
    remote_of_initiator = RemoteStatic(initiator, responder.public_key, psk)
    remote_of_responder = RemoteStatic(responder, initiator.public_key, psk)

    pending, message = create_initiation(
        initiator,
        remote_of_initiator,
        golden["initiator_index"],
        value("timestamp"),
        fixed(value("initiator_ephemeral")),
    )
    initiation = CookieJar(responder.public_key).add_macs(message, 0.0)
    assert initiation == value("initiation")
    consumed = consume_initiation(responder, initiation, only(remote_of_responder))
    assert (consumed.timestamp, consumed.remote_index) == (value("timestamp"), golden["initiator_index"])

    message, keypair = create_response(
        responder, consumed, golden["responder_index"], fixed(value("responder_ephemeral"))
    )
    response = CookieJar(initiator.public_key).add_macs(message, 0.0)
    assert response == value("response")
    forth, back = value("initiator_send_key"), value("responder_send_key")
    index_a, index_b = golden["initiator_index"], golden["responder_index"]
    assert keypair == Keypair(back, forth, index_b, index_a, is_initiator=False)
    ours = consume_response(initiator, pending, remote_of_initiator, response)
    assert ours == Keypair(forth, back, index_a, index_b, is_initiator=True)


def test_no_preshared_key_is_a_zero_one() -> None:
    assert Exchange(None, None).response == Exchange(bytes(32), bytes(32)).response


def test_keys_do_not_show() -> None:
    exchange = Exchange()
    keypair = exchange.keypair_of_b
    for key in (keypair.send_key, keypair.receive_key):
        assert repr(key) not in repr(keypair)
        assert key.hex() not in repr(keypair)


# What does not parse


def test_every_truncation_is_refused() -> None:
    exchange = Exchange()
    for size in range(len(exchange.initiation)):
        with pytest.raises(HandshakeError):
            exchange.consume_initiation(exchange.initiation[:size])
    for size in range(len(exchange.response)):
        with pytest.raises(HandshakeError):
            exchange.consume_response(exchange.response[:size])


def test_one_message_is_not_the_other() -> None:
    exchange = Exchange()
    with pytest.raises(HandshakeError):
        exchange.consume_initiation(exchange.response)
    with pytest.raises(HandshakeError):
        exchange.consume_response(exchange.initiation)


@given(st.binary(min_size=148, max_size=148))
def test_garbage_of_the_right_form(garbage: bytes) -> None:
    exchange = Exchange()
    with pytest.raises(HandshakeError):
        exchange.consume_initiation(b"\x01\0\0\0" + garbage[4:])
    index = LOCAL_A.to_bytes(4, "little")
    with pytest.raises(HandshakeError):
        exchange.consume_response(b"\x02\0\0\0" + garbage[4:8] + index + garbage[12:92])


# What is not authentic


def corruptions(message: bytes, end: int) -> Iterator[tuple[int, bytes]]:
    for at in range(end):
        for bit in range(8):
            bad = bytearray(message)
            bad[at] ^= 1 << bit
            yield at, bytes(bad)


def test_mac1_refuses_every_corruption() -> None:
    exchange = Exchange()
    for identity, message in ((B, exchange.initiation), (A, exchange.response)):
        checker = CookieChecker(identity.public_key, no_random)
        assert checker.check_mac1(message)
        mac2_at = len(message) - 16
        assert not any(checker.check_mac1(bad) for _, bad in corruptions(message, mac2_at))


# MAC1 is no secret: who knows our public key can put it right again.  What is then still unprotected is the sender's
# index, and a changed one only leads to a session that nobody can use
SENDER = range(4, 8)


def test_every_corruption_of_an_initiation_is_refused() -> None:
    exchange = Exchange()
    for at, bad in corruptions(exchange.initiation, MAC1_AT_INITIATION):
        if at in SENDER:
            index = int.from_bytes(bad[4:8], "little")
            assert exchange.consume_initiation(bad).remote_index == index
        else:
            with pytest.raises(HandshakeError):
                exchange.consume_initiation(bad)


def test_every_corruption_of_a_response_is_refused() -> None:
    exchange = Exchange(PSK, PSK)
    for at, bad in corruptions(exchange.response, MAC1_AT_RESPONSE):
        if at in SENDER:
            assert exchange.consume_response(bad).remote_index == int.from_bytes(bad[4:8], "little")
        else:
            with pytest.raises(HandshakeError):
                exchange.consume_response(bad)


def test_a_forged_response_does_no_harm() -> None:
    exchange = Exchange()
    forged = bytearray(exchange.response)
    forged[MAC1_AT_RESPONSE - 1] ^= 1
    for _ in range(3):
        with pytest.raises(HandshakeError, match="handshake-not-authentic"):
            exchange.consume_response(bytes(forged))
    assert exchange.consume_response(exchange.response).send_key == exchange.keypair_of_b.receive_key


def test_a_response_to_another_initiation() -> None:
    exchange = Exchange()
    pending, _ = create_initiation(A, exchange.remote_of_a, LOCAL_A, TIMESTAMP, fixed(b"\x33" * 32))
    with pytest.raises(HandshakeError, match="handshake-not-authentic"):
        consume_response(A, pending, exchange.remote_of_a, exchange.response)
    other = Initiation(exchange.pending.ephemeral, exchange.pending.state, LOCAL_A + 1)
    with pytest.raises(HandshakeError, match="response-receiver"):
        consume_response(A, other, exchange.remote_of_a, exchange.response)


def test_each_response_has_keys_of_its_own() -> None:
    exchange = Exchange()
    again, keypair = create_response(B, exchange.consumed, LOCAL_B, fixed(b"\x44" * 32))
    assert keypair.send_key != exchange.keypair_of_b.send_key
    ours = exchange.consume_response(CookieJar(A.public_key).add_macs(again, 0.0))
    assert ours.send_key == keypair.receive_key


# Who it is


@pytest.mark.parametrize(("psk_a", "psk_b"), [(PSK, None), (None, PSK), (PSK, PSK[::-1])])
def test_another_preshared_key(psk_a: bytes | None, psk_b: bytes | None) -> None:
    exchange = Exchange(psk_a, psk_b)  # the responder cannot tell yet: psk2 comes in with the second message
    with pytest.raises(HandshakeError, match="handshake-not-authentic"):
        exchange.consume_response(exchange.response)


def test_an_unknown_peer() -> None:
    exchange = Exchange()
    asked: list[bytes] = []
    with pytest.raises(HandshakeError, match="unknown-peer"):
        consume_initiation(B, exchange.initiation, asked.append)
    assert asked == [A.public_key]


def test_an_initiation_to_another_responder() -> None:
    exchange = Exchange()
    other = Identity(bytes(range(100, 132)))
    with pytest.raises(HandshakeError, match="handshake-not-authentic"):
        consume_initiation(other, exchange.initiation, only(RemoteStatic(other, A.public_key)))


def test_an_initiator_without_the_private_key() -> None:
    """The static key in the message is A's, but whoever sealed the timestamp does not know A's secret."""
    mallory = Identity(bytes(range(100, 132)))
    mallory.static.public_key = A.public_key
    _, message = create_initiation(
        mallory, RemoteStatic(mallory, B.public_key), LOCAL_A, TIMESTAMP, fixed(b"\x11" * 32)
    )
    with pytest.raises(HandshakeError, match="handshake-not-authentic"):
        consume_initiation(B, message + bytes(32), only(RemoteStatic(B, A.public_key)))


# Low-order points: the DH is zero whatever the private key


@pytest.mark.parametrize("public_key", LOW_ORDER, ids=bytes.hex)
def test_nothing_is_sent_to_a_low_order_key(public_key: bytes) -> None:
    remote = RemoteStatic(A, public_key)
    with pytest.raises(HandshakeError, match="low-order-point"):
        create_initiation(A, remote, LOCAL_A, TIMESTAMP, no_random)


@pytest.mark.parametrize("public_key", LOW_ORDER, ids=bytes.hex)
def test_a_low_order_ephemeral_is_not_answered(public_key: bytes) -> None:
    exchange = Exchange()
    initiation = exchange.initiation[:8] + public_key + exchange.initiation[40:]
    with pytest.raises(HandshakeError, match="low-order-point"):
        exchange.consume_initiation(initiation)
    response = exchange.response[:12] + public_key + exchange.response[44:]
    with pytest.raises(HandshakeError, match="low-order-point"):
        exchange.consume_response(response)


def test_a_low_order_static_is_not_answered() -> None:
    """One who claims such a static key, and has it in our configuration, still gets no response."""
    mallory = Identity(bytes(range(100, 132)))
    mallory.static.public_key = bytes(32)
    _, message = create_initiation(
        mallory, RemoteStatic(mallory, B.public_key), LOCAL_A, TIMESTAMP, fixed(b"\x11" * 32)
    )
    with pytest.raises(HandshakeError, match="low-order-point"):
        consume_initiation(B, message + bytes(32), only(RemoteStatic(B, bytes(32))))


# What a program may get wrong


def test_keys_have_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        Identity(bytes(31))
    for public_key, psk in ((bytes(31), None), (B.public_key, bytes(33)), (b"", None)):
        with pytest.raises(ValueError, match="32 bytes"):
            RemoteStatic(A, public_key, psk)


def test_the_error_is_one_that_a_parser_may_raise() -> None:
    assert issubclass(HandshakeError, WireError)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1))
def test_round_trip(ephemeral_a: bytes, ephemeral_b: bytes, index: int) -> None:
    remote_of_a, remote_of_b = RemoteStatic(A, B.public_key, PSK), RemoteStatic(B, A.public_key, PSK)
    pending, message = create_initiation(A, remote_of_a, index, TIMESTAMP, fixed(ephemeral_a))
    consumed = consume_initiation(B, message + bytes(32), only(remote_of_b))
    message, theirs = create_response(B, consumed, index ^ 1, fixed(ephemeral_b))
    ours = consume_response(A, pending, remote_of_a, message + bytes(32))
    assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
    assert (ours.local_index, ours.remote_index) == (index, index ^ 1) == (theirs.remote_index, theirs.local_index)
