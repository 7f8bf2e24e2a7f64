"""What waits to leave: sealed data in one arena, and small messages with bytes of their own.

Datagrams that `seal` makes lie in the arena, which is used anew once everything in it was handed out: the pump calls
`seal`, then sends what `take` gives, then calls `seal` again.  What the tunnel sends of itself (handshakes, keepalives,
packets that waited for a session) may come about between these two, so it never touches the arena.
"""

from __future__ import annotations

from typing import Final

from usernet.burst import sealed_size
from usernet.burst.ecn import by_ecn
from usernet.burst.packets import MAX_RUN_SEGMENTS, Address, Kernel, SendBurst, SuperPacket
from usernet.wireguard.constants import HANDSHAKE_TOS
from usernet.wireguard.peer import NO_RESERVED
from usernet.wireguard.session import Session

ARENA_BYTES: Final = 512 << 10
MAX_MESSAGES: Final = 1024  # while nobody takes them

KEEPALIVE: Final = SuperPacket(b"")


class Outbox:
    """Seals, and keeps what was sealed until it is taken."""

    __slots__ = ("_alike", "_arena", "_at", "_kernel", "_messages", "_ready", "_run", "_taken", "mtu")

    def __init__(self, kernel: Kernel, mtu: int) -> None:
        self._kernel = kernel
        self.mtu = mtu
        self._arena = bytearray(ARENA_BYTES)
        self._at = 0
        self._taken = False  # whether all that lies in the arena was handed out
        self._ready: list[SendBurst] = []
        self._messages = 0
        self._run: list[bytes] = []  # the newest messages, which can leave in one call; behind what is ready
        self._alike: tuple[Address, int, bytes] | None = None  # where to, how long and where from they all are

    def begin(self) -> None:
        """A new `seal`: whatever was handed out before is no longer valid."""
        if self._taken:
            self._at = 0
            self._taken = False

    def seal(
        self, session: Session, packets: list[SuperPacket], address: Address, reserved: bytes, local: bytes = b""
    ) -> int:
        """Seal into the arena; returns bytes on the wire."""
        room = sealed_size(packets, self.mtu)
        if room > len(self._arena) - self._at:  # views of the old arena keep it alive until they are sent
            self._arena = bytearray(max(room, ARENA_BYTES))
            self._at = 0
        arena, start = self._arena, self._at
        self._at = self._seal(session, packets, address, reserved, local, arena, start)
        return self._at - start

    def seal_apart(
        self, session: Session, packets: list[SuperPacket], address: Address, reserved: bytes, local: bytes = b""
    ) -> int:
        """Seal into a buffer of its own; returns bytes on the wire."""
        out = bytearray(sealed_size(packets, self.mtu))
        return self._seal(session, packets, address, reserved, local, out, 0)

    def _seal(
        self,
        session: Session,
        packets: list[SuperPacket],
        address: Address,
        reserved: bytes,
        local: bytes,
        out: bytearray,
        at: int,
    ) -> int:
        self._end_run()
        view = memoryview(out)
        for ecn, group in by_ecn(packets):
            for start, end, size in self._kernel.seal_burst(session.send_key, group, self.mtu, out, at):
                if reserved != NO_RESERVED:
                    for header in range(start, end, size):
                        out[header + 1 : header + 4] = reserved
                self._ready.append(SendBurst(address, view[start:end], size, ecn, local))
                at = end
        return at

    def put(self, message: bytes, address: Address, reserved: bytes = NO_RESERVED, local: bytes = b"") -> bool:
        """A handshake message; False where too many wait already."""
        if self._messages >= MAX_MESSAGES:
            return False
        self._messages += 1
        if reserved != NO_RESERVED:
            message = message[:1] + reserved + message[4:]
        alike = address, len(message), local
        if alike != self._alike or len(self._run) == MAX_RUN_SEGMENTS:
            self._end_run()
            self._alike = alike
        self._run.append(message)
        return True

    def _end_run(self) -> None:
        if self._alike is not None and self._run:
            address, size, local = self._alike
            self._ready.append(SendBurst(address, memoryview(b"".join(self._run)), size, HANDSHAKE_TOS, local))
            self._run = []

    @property
    def is_waiting(self) -> bool:
        """Whether `take` would give anything."""
        return bool(self._ready or self._run)

    def take(self) -> list[SendBurst]:
        """All that waits, in the order it came about."""
        self._end_run()
        ready, self._ready = self._ready, []
        self._messages = 0
        self._taken = True
        return ready
