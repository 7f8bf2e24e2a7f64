"""A stream through the proxy whose both ends are sockets of this process, so that what arrives is known as it does."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from tests.support.lab import INNER_FAR, Lab, connected, socket_in

PATTERN = bytes(range(251)) * 300
PIECE = 16 << 10


class Stream:
    """One connection through the proxy, which carries a known sequence of bytes from `sender` to `receiver`."""

    def __init__(self, near: socket.socket, far: socket.socket, *, up: bool) -> None:
        self.sender, self.receiver = (near, far) if up else (far, near)
        for sock in (near, far):
            sock.setblocking(False)
        self.written = self.arrived = 0

    def pump(self, until: Callable[[], bool], what: str, seconds: float = 60) -> float:
        """Write 3 MB/s and read, until it is so; the seconds that this took."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < seconds, f"waited {seconds:g} s for {what}"
            at = self.written % 251
            with contextlib.suppress(BlockingIOError):
                self.written += self.sender.send(PATTERN[at : at + PIECE])
            with contextlib.suppress(BlockingIOError):
                while data := self.receiver.recv(len(PATTERN) - 251):
                    at = self.arrived % 251
                    assert data == PATTERN[at : at + len(data)]
                    self.arrived += len(data)
            time.sleep(0.005)
        return time.monotonic() - began

    def flow(self, what: str, seconds: float = 60) -> float:
        """Until all that has been written by now has arrived, and more."""
        mark = self.written
        return self.pump(lambda: self.arrived > mark, what, seconds)

    def last(self, seconds: float) -> None:
        """Go on for so long, in which nothing comes through."""
        begin, mark = time.monotonic(), 0

        def is_over() -> bool:
            nonlocal mark
            if time.monotonic() < begin + 0.5:  # what was on its way
                mark = self.arrived
            return time.monotonic() > begin + seconds

        self.pump(is_over, "the end of it", seconds + 5)
        assert self.arrived == mark


@contextlib.contextmanager
def stream(lab: Lab, *, up: bool = True) -> Iterator[Stream]:
    with contextlib.ExitStack() as stack:
        with socket_in(lab.far):
            listener = stack.enter_context(socket.create_server((INNER_FAR, 0)))
        near = stack.enter_context(connected(lab.near, "127.0.0.1", 1080))
        near.sendall(b"\5\1\0")
        assert near.recv(2) == b"\5\0"
        near.sendall(b"\5\1\0\1" + socket.inet_aton(INNER_FAR) + listener.getsockname()[1].to_bytes(2, "big"))
        assert near.recv(64)[:2] == b"\5\0"
        far = stack.enter_context(listener.accept()[0])
        one = Stream(near, far, up=up)
        one.pump(lambda: one.arrived > 1 << 20, "the first MiB")
        yield one
