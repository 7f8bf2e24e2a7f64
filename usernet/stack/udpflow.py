"""One flow of UDP that is forwarded, and who forwards it.  See udpflows.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from usernet.stack.timers import Timer
from usernet.stack.udp import RECEIVE_BYTES, Remote, UdpSocket, UdpSockets

_WAITING_BYTES: Final = 16 << 10  # what a flow may hold while its backend is not there yet


class UdpForwarder:
    """Takes the datagrams to a port, or to every port when it is 0."""

    __slots__ = ("_on_close", "port")

    def __init__(self, port: int, on_close: Callable[[UdpForwarder], None]) -> None:
        self.port = port
        self._on_close: Callable[[UdpForwarder], None] | None = on_close

    def close(self) -> None:
        """End its flows, too."""
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close(self)


class UdpFlow(UdpSocket):
    """A socket connected to one client, bound to what that client believes to speak to."""

    __slots__ = ("_on_close", "_receive_max", "forwarder", "has_moved", "look", "quiet")

    def __init__(
        self,
        sockets: UdpSockets,
        forwarder: UdpForwarder,
        local: Remote,
        client: Remote,
        on_close: Callable[[UdpFlow], None],
    ) -> None:
        super().__init__(sockets, local, client)
        self._on_close = on_close
        self.forwarder = forwarder
        self._receive_max = _WAITING_BYTES
        self.has_moved = True
        self.quiet = 0
        self.look = Look(self)

    def begin(self) -> None:
        """The backend is there and takes what comes."""
        self._receive_max = RECEIVE_BYTES

    def send(self, data: bytes, remote: Remote | None, now: float) -> bool:
        self.has_moved = True
        return super().send(data, remote, now)

    def deliver(self, data: bytes, remote: Remote) -> bool:
        self.has_moved = True
        return self._received_bytes < self._receive_max and super().deliver(data, remote)

    def close(self) -> None:
        if not self.is_closed:
            self._on_close(self)
        super().close()


class Look(Timer):
    """A look at a flow: has anything moved since the last one?"""

    __slots__ = ("flow",)

    def __init__(self, flow: UdpFlow) -> None:
        super().__init__()
        self.flow = flow
