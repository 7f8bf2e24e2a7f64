"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, free of WireGuard's framing.  Read the Noise specification (34), 5, 7 and 9.

    IKpsk2:  <- s
             ...
             -> e, es, s, ss, payload
             <- e, ee, se, psk, payload

The functions follow the messages: write and read the first, write and read the second, `split`.  Prologue and payloads
are the caller's, so published vectors run through this very code.  A state changes as a message is processed: work on
a `copy()` of one that must survive a message that turns out to be forged.
"""

from __future__ import annotations

from usernet.wireguard.constants import CONSTRUCTION
from usernet.wireguard.crypto import PrivateKey, aead_open, aead_seal, hash_of, kdf1, kdf2, kdf3


class SymmetricState:
    """5.2.  There is no nonce: in this pattern every key is replaced after it has sealed once."""

    __slots__ = ("chaining_key", "hash", "key")

    def __init__(self, chaining_key: bytes, transcript: bytes) -> None:
        self.chaining_key = chaining_key
        self.hash = transcript
        self.key = b""

    def copy(self) -> SymmetricState:
        return SymmetricState(self.chaining_key, self.hash)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hash_of(self.hash, data)

    def mix_ephemeral(self, public_key: bytes) -> None:
        """The token e; 9.2: where there is a PSK the ephemeral key goes into the chaining key, too."""
        self.mix_hash(public_key)
        self.chaining_key = kdf1(self.chaining_key, public_key)

    def mix_key(self, shared: bytes) -> None:
        self.chaining_key, self.key = kdf2(self.chaining_key, shared)

    def mix_key_and_hash(self, preshared_key: bytes) -> None:
        self.chaining_key, mixed, self.key = kdf3(self.chaining_key, preshared_key)
        self.mix_hash(mixed)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = aead_seal(self.key, plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        """Raises HandshakeError where `sealed` is not authentic."""
        plaintext = aead_open(self.key, sealed, self.hash)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The two transport keys: the initiator's to send with, the responder's to send with."""
        return kdf2(self.chaining_key, b"")


_INITIAL_CHAINING_KEY = hash_of(CONSTRUCTION)  # 5.2: the name is longer than a hash, so it is hashed


def initial_state(prologue: bytes, responder_static: bytes) -> SymmetricState:
    """Both sides' state before the first message: name, prologue and the pre-message `<- s`."""
    state = SymmetricState(_INITIAL_CHAINING_KEY, hash_of(_INITIAL_CHAINING_KEY, prologue))
    state.mix_hash(responder_static)
    return state


def write_first(
    state: SymmetricState,
    static: PrivateKey,
    ephemeral: PrivateKey,
    responder_static: bytes,
    static_static: bytes,
    payload: bytes,
) -> tuple[bytes, bytes]:
    """-> e, es, s, ss, payload: the sealed static key and the sealed payload."""
    state.mix_ephemeral(ephemeral.public_key)
    state.mix_key(ephemeral.exchange(responder_static))
    sealed_static = state.encrypt_and_hash(static.public_key)
    state.mix_key(static_static)
    return sealed_static, state.encrypt_and_hash(payload)


def read_first_static(
    state: SymmetricState, static: PrivateKey, remote_ephemeral: bytes, sealed_static: bytes
) -> bytes:
    """-> e, es, s: the initiator's static key, which only the rest of the message proves."""
    state.mix_ephemeral(remote_ephemeral)
    state.mix_key(static.exchange(remote_ephemeral))
    return state.decrypt_and_hash(sealed_static)


def read_first_payload(state: SymmetricState, static_static: bytes, sealed_payload: bytes) -> bytes:
    """-> ss, payload: the payload."""
    state.mix_key(static_static)
    return state.decrypt_and_hash(sealed_payload)


def write_second(
    state: SymmetricState,
    ephemeral: PrivateKey,
    remote_ephemeral: bytes,
    remote_static: bytes,
    preshared_key: bytes,
    payload: bytes,
) -> bytes:
    """<- e, ee, se, psk, payload: the sealed payload."""
    state.mix_ephemeral(ephemeral.public_key)
    state.mix_key(ephemeral.exchange(remote_ephemeral))
    state.mix_key(ephemeral.exchange(remote_static))
    state.mix_key_and_hash(preshared_key)
    return state.encrypt_and_hash(payload)


def read_second(
    state: SymmetricState,
    static: PrivateKey,
    ephemeral: PrivateKey,
    remote_ephemeral: bytes,
    preshared_key: bytes,
    sealed_payload: bytes,
) -> bytes:
    """The payload."""
    state.mix_ephemeral(remote_ephemeral)
    state.mix_key(ephemeral.exchange(remote_ephemeral))
    state.mix_key(static.exchange(remote_ephemeral))
    state.mix_key_and_hash(preshared_key)
    return state.decrypt_and_hash(sealed_payload)
