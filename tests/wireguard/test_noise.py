"""The published vector of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, both sides of it, and what a forged message leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as seal_transport

from usernet.errors import HandshakeError
from usernet.wireguard.constants import CONSTRUCTION
from usernet.wireguard.crypto import PrivateKey
from usernet.wireguard.noise import (
    SymmetricState,
    initial_state,
    read_first_payload,
    read_first_static,
    read_second,
    write_first,
    write_second,
)

VECTOR: dict[str, Any] = json.loads(Path(__file__).with_name("vectors").joinpath("cacophony.json").read_text())
MESSAGES = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in VECTOR["messages"]]
PROLOGUE = bytes.fromhex(VECTOR["prologue"])
PSK = bytes.fromhex(VECTOR["psk"])
INITIATOR = PrivateKey(bytes.fromhex(VECTOR["init_static"]))
RESPONDER = PrivateKey(bytes.fromhex(VECTOR["resp_static"]))
INITIATOR_EPHEMERAL = PrivateKey(bytes.fromhex(VECTOR["init_ephemeral"]))
RESPONDER_EPHEMERAL = PrivateKey(bytes.fromhex(VECTOR["resp_ephemeral"]))


def initiate() -> tuple[SymmetricState, bytes]:
    state = initial_state(PROLOGUE, RESPONDER.public_key)
    sealed_static, sealed_payload = write_first(
        state,
        INITIATOR,
        INITIATOR_EPHEMERAL,
        RESPONDER.public_key,
        INITIATOR.exchange(RESPONDER.public_key),
        MESSAGES[0][0],
    )
    return state, INITIATOR_EPHEMERAL.public_key + sealed_static + sealed_payload


def read_initiation(message: bytes) -> tuple[SymmetricState, bytes]:
    state = initial_state(PROLOGUE, RESPONDER.public_key)
    remote_static = read_first_static(state, RESPONDER, message[:32], message[32:80])
    assert remote_static == INITIATOR.public_key
    return state, read_first_payload(state, RESPONDER.exchange(remote_static), message[80:])


def respond(state: SymmetricState) -> bytes:
    sealed_payload = write_second(
        state,
        RESPONDER_EPHEMERAL,
        INITIATOR_EPHEMERAL.public_key,
        INITIATOR.public_key,
        PSK,
        MESSAGES[1][0],
    )
    return RESPONDER_EPHEMERAL.public_key + sealed_payload


def test_the_vector_is_this_protocols() -> None:
    assert VECTOR["protocol_name"].encode() == CONSTRUCTION
    assert bytes.fromhex(VECTOR["init_remote_static"]) == RESPONDER.public_key


def test_cacophony() -> None:
    initiator, first = initiate()
    assert first == MESSAGES[0][1]
    responder, payload = read_initiation(first)
    assert payload == MESSAGES[0][0]

    second = respond(responder)
    assert second == MESSAGES[1][1]
    payload = read_second(initiator, INITIATOR, INITIATOR_EPHEMERAL, second[:32], PSK, second[32:])
    assert payload == MESSAGES[1][0]

    assert initiator.hash.hex() == responder.hash.hex() == VECTOR["handshake_hash"]
    keys = initiator.split()
    assert keys == responder.split()
    for number, (payload, ciphertext) in enumerate(MESSAGES[2:]):  # initiator, responder, initiator, responder
        nonce = bytes(4) + (number // 2).to_bytes(8, "little")
        assert seal_transport(payload, None, nonce, keys[number % 2]) == ciphertext


def test_another_prologue_is_another_conversation() -> None:
    _, first = initiate()
    state = initial_state(PROLOGUE + b"!", RESPONDER.public_key)
    with pytest.raises(HandshakeError, match="handshake-not-authentic"):
        read_first_static(state, RESPONDER, first[:32], first[32:80])


def test_a_copy_survives_a_forgery() -> None:
    initiator, first = initiate()
    second = respond(read_initiation(first)[0])
    forged = bytes([second[-1] ^ 1])
    with pytest.raises(HandshakeError):
        read_second(initiator.copy(), INITIATOR, INITIATOR_EPHEMERAL, second[:32], PSK, second[32:-1] + forged)
    read_second(initiator, INITIATOR, INITIATOR_EPHEMERAL, second[:32], PSK, second[32:])
    assert initiator.hash.hex() == VECTOR["handshake_hash"]
