"""Sessions: the keys one handshake gave, the three slots of a peer, and the table that finds them by receiver index.

Read the WireGuard paper, 5.4.5 to 5.4.6 and 6.2, and Linux drivers/net/wireguard/noise.c (add_new_keypair,
wg_noise_received_with_keypair), from which the rules of the slots come.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from usernet.burst.packets import Kernel, ReceiveKey, SendKey
from usernet.wireguard.constants import TYPE_DATA
from usernet.wireguard.handshake import Keypair
from usernet.wireguard.timers import NEVER, Timing

_HEADER: Final = struct.Struct("<II")


def data_header(index: int) -> bytes:
    """The first eight bytes of transport data for a receiver index: type, three zeros, the index (paper, 5.4.6)."""
    return _HEADER.pack(TYPE_DATA, index)


class Session:
    """One pair of keys and when it may do what.  Times are absolute, NEVER is a rule that does not apply."""

    __slots__ = (
        "header",
        "is_initiator",
        "local_index",
        "receive_key",
        "refresh_at",
        "reject_at",
        "rekey_at",
        "send_key",
        "since",
    )

    def __init__(self, keypair: Keypair, kernel: Kernel, timing: Timing, now: float) -> None:
        self.receive_key: ReceiveKey = kernel.receive_key(keypair.receive_key, keypair.local_index)
        self.send_key: SendKey = kernel.send_key(keypair.send_key, keypair.remote_index)
        self.local_index = keypair.local_index
        self.header = data_header(keypair.local_index)
        self.is_initiator = keypair.is_initiator
        self.since = now
        self.reject_at = now + timing.reject_after_time
        # Only the initiator renews by age, so that both ends do not do it at once (paper, 6.2)
        self.rekey_at = now + timing.rekey_after_time if keypair.is_initiator else NEVER  # when sending
        self.refresh_at = now + timing.refresh_after_time if keypair.is_initiator else NEVER  # when receiving

    def wipe(self) -> None:
        self.receive_key.wipe()
        self.send_key.wipe()


class KeySlots:
    """A peer's sessions.  Each method returns those that fell out; the caller forgets and wipes them."""

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: Session | None = None  # still received on
        self.current: Session | None = None  # sent on
        self.next: Session | None = None  # we are its responder and have not seen it used

    def install_as_initiator(self, session: Session) -> list[Session]:
        """The response has come: the responder holds both keys, so we may send."""
        fallen = [self.previous]
        if self.next is not None:  # a handshake of theirs that crossed ours may still be used by them
            fallen.append(self.current)
            self.previous, self.next = self.next, None
        else:
            self.previous = self.current
        self.current = session
        return [each for each in fallen if each is not None]

    def install_as_responder(self, session: Session) -> list[Session]:
        """We have answered, but whether that arrives, nobody knows: not sent on before it is seen used (paper, 5.1)."""
        fallen = [self.previous, self.next]
        self.previous, self.next = None, session
        return [each for each in fallen if each is not None]

    def confirm(self) -> list[Session]:
        """The first authentic data on `next`: it becomes what we send on."""
        fallen = [self.previous]
        self.previous, self.current, self.next = self.current, self.next, None
        return [each for each in fallen if each is not None]

    def clear(self) -> list[Session]:
        fallen = [self.previous, self.current, self.next]
        self.previous = self.current = self.next = None
        return [each for each in fallen if each is not None]


P = TypeVar("P")


class IndexTable(Generic[P]):
    """Receiver indices in use: who waits for a response, and sessions by the header of their datagrams."""

    __slots__ = ("_random", "pending", "sessions")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self.pending: dict[int, P] = {}
        self.sessions: dict[bytes, tuple[P, Session]] = {}

    def __len__(self) -> int:
        return len(self.pending) + len(self.sessions)

    def allocate(self) -> int:
        """An unused one; random, so that an outsider cannot guess it."""
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index not in self.pending and data_header(index) not in self.sessions:
                return index

    def add(self, owner: P, session: Session) -> None:
        self.sessions[session.header] = (owner, session)

    def remove(self, fallen: list[Session]) -> None:
        """Forget sessions and wipe their keys."""
        for session in fallen:
            del self.sessions[session.header]
            session.wipe()
