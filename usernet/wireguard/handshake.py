"""WireGuard's handshake: one round trip that turns two static keys into a `Keypair`.

Read the WireGuard paper, 5.4.2 to 5.4.5.  In the order of things: the initiator's `create_initiation`, the responder's
`consume_initiation` and `create_response`, the initiator's `consume_response`.  No clock and no state of a peer: when
to send and which timestamp is too old are the tunnel's to decide, MACs are put on and checked by cookies.py, and the
cryptographic steps are those of noise.py.

Every verb raises HandshakeError at anything wrong and has then changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from usernet.burst.packets import Buffer
from usernet.errors import HandshakeError
from usernet.wireguard.constants import IDENTIFIER, KEY_BYTES, NO_PRESHARED_KEY
from usernet.wireguard.crypto import PrivateKey
from usernet.wireguard.messages import InitiationMessage, ResponseMessage, parse_initiation, parse_response
from usernet.wireguard.noise import (
    SymmetricState,
    initial_state,
    read_first_payload,
    read_first_static,
    read_second,
    write_first,
    write_second,
)

__all__ = [
    "ConsumedInitiation",
    "HandshakeError",
    "Identity",
    "Initiation",
    "Keypair",
    "RemoteStatic",
    "consume_initiation",
    "consume_response",
    "create_initiation",
    "create_response",
]


@dataclass(frozen=True, slots=True)
class Keypair:
    """The two keys of a session (`repr` does not show them) and the indices that name it on the wire."""

    send_key: bytes = field(repr=False)
    receive_key: bytes = field(repr=False)
    local_index: int
    remote_index: int
    is_initiator: bool


class Identity:
    """Who we are: the static key and what follows from it alone.  ValueError where private_key is not 32 bytes."""

    __slots__ = ("private_key", "public_key", "static")

    def __init__(self, private_key: bytes) -> None:
        self.private_key = private_key
        self.static = PrivateKey(private_key)
        self.public_key = self.static.public_key


class RemoteStatic:
    """Who a peer is to us: its static key, the preshared key, and the DH of both static keys, computed once.

    ValueError where a key is not 32 bytes.
    """

    __slots__ = ("_static_static", "preshared_key", "public_key")

    def __init__(self, identity: Identity, public_key: bytes, preshared_key: bytes | None = None) -> None:
        self.public_key = public_key
        self.preshared_key = NO_PRESHARED_KEY if preshared_key is None else preshared_key
        if not len(self.public_key) == len(self.preshared_key) == KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        try:
            self._static_static = identity.static.exchange(public_key)
        except HandshakeError:  # such a key may stand in a configuration; it just never gets a handshake
            self._static_static = b""

    def static_static(self) -> bytes:
        """DH(our static key, theirs).  Raises HandshakeError where their key is a low-order point."""
        if not self._static_static:
            raise HandshakeError("low-order-point")
        return self._static_static


class Initiation:
    """An initiation of ours that waits for its response."""

    __slots__ = ("ephemeral", "local_index", "state")

    def __init__(self, ephemeral: PrivateKey, state: SymmetricState, local_index: int) -> None:
        self.ephemeral = ephemeral
        self.state = state
        self.local_index = local_index


class ConsumedInitiation:
    """An initiation of a peer's, authentic as far as it goes: it may be a replay, which its `timestamp` tells."""

    __slots__ = ("ephemeral", "remote", "remote_index", "state", "timestamp")

    def __init__(
        self, remote: RemoteStatic, timestamp: bytes, remote_index: int, ephemeral: bytes, state: SymmetricState
    ) -> None:
        self.remote = remote
        self.timestamp = timestamp  # TAI64N: compares as bytes
        self.remote_index = remote_index
        self.ephemeral = ephemeral
        self.state = state


def create_initiation(
    identity: Identity,
    remote: RemoteStatic,
    local_index: int,
    timestamp: bytes,
    random: Callable[[int], bytes],
) -> tuple[Initiation, bytes]:
    """What to remember and the message, still without its MACs (116 bytes)."""
    static_static = remote.static_static()
    ephemeral = PrivateKey(random(KEY_BYTES))
    state = initial_state(IDENTIFIER, remote.public_key)
    sealed_static, sealed_timestamp = write_first(
        state, identity.static, ephemeral, remote.public_key, static_static, timestamp
    )
    message = InitiationMessage(local_index, ephemeral.public_key, sealed_static, sealed_timestamp)
    return Initiation(ephemeral, state, local_index), message.encode()


def consume_initiation(
    identity: Identity, message: Buffer, lookup: Callable[[bytes], RemoteStatic | None]
) -> ConsumedInitiation:
    """Who wants to talk; `lookup` maps a public key to the peer that has it.  MAC1 has been checked already."""
    parsed = parse_initiation(message)
    state = initial_state(IDENTIFIER, identity.public_key)
    remote = lookup(read_first_static(state, identity.static, parsed.ephemeral, parsed.sealed_static))
    if remote is None:
        raise HandshakeError("unknown-peer")
    timestamp = read_first_payload(state, remote.static_static(), parsed.sealed_timestamp)
    return ConsumedInitiation(remote, timestamp, parsed.sender, parsed.ephemeral, state)


def create_response(
    identity: Identity, consumed: ConsumedInitiation, local_index: int, random: Callable[[int], bytes]
) -> tuple[bytes, Keypair]:
    """The message, still without its MACs (60 bytes), and the keys.  Use each initiation once."""
    ephemeral = PrivateKey(random(KEY_BYTES))
    state = consumed.state.copy()
    remote = consumed.remote
    sealed_nothing = write_second(state, ephemeral, consumed.ephemeral, remote.public_key, remote.preshared_key, b"")
    message = ResponseMessage(local_index, consumed.remote_index, ephemeral.public_key, sealed_nothing)
    receive_key, send_key = state.split()
    return message.encode(), Keypair(send_key, receive_key, local_index, consumed.remote_index, False)


def consume_response(identity: Identity, initiation: Initiation, remote: RemoteStatic, message: Buffer) -> Keypair:
    """The keys.  A forged response leaves the initiation waiting for the true one.  MAC1 has been checked already."""
    parsed = parse_response(message)
    if parsed.receiver != initiation.local_index:
        raise HandshakeError("response-receiver")
    state = initiation.state.copy()
    read_second(
        state, identity.static, initiation.ephemeral, parsed.ephemeral, remote.preshared_key, parsed.sealed_nothing
    )
    send_key, receive_key = state.split()
    return Keypair(send_key, receive_key, initiation.local_index, parsed.sender, True)
