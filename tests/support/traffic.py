"""Endless streams over the kernel's TCP, in a process of their own.

`python traffic.py serve HOST` listens at the port of each direction, seen from the client: UP is read and thrown away,
at DOWN there is always more.  `python traffic.py dial HOST PORT COUNT` opens that many streams to one of them.
"""

from __future__ import annotations

import selectors
import socket
import sys

UP, DOWN = 7001, 7002
_PIECE = bytes(256 << 10)


def carry_on(selector: selectors.BaseSelector) -> None:
    """What each socket's data says: "accept", "send" or "read"."""
    while True:
        for key, _ in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            try:
                if key.data == "send":
                    sock.send(_PIECE)
                elif key.data == "read":
                    if not sock.recv(256 << 10):
                        raise ConnectionError
                else:
                    start(selector, sock.accept()[0], sends=key.data == "accept to send")
            except BlockingIOError:
                pass
            except OSError:
                selector.unregister(sock)
                sock.close()


def start(selector: selectors.BaseSelector, sock: socket.socket, *, sends: bool) -> None:
    sock.setblocking(False)
    if sends:
        selector.register(sock, selectors.EVENT_WRITE, "send")
    else:
        selector.register(sock, selectors.EVENT_READ, "read")


def main(role: str, host: str, *numbers: str) -> None:
    selector = selectors.DefaultSelector()
    if role == "serve":
        for number, what in ((UP, "accept to read"), (DOWN, "accept to send")):
            listener = socket.create_server((host, number), backlog=128)
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ, what)
    port, count = map(int, numbers or (0, 0))
    for _ in range(count):
        start(selector, socket.create_connection((host, port)), sends=port == UP)
    carry_on(selector)


if __name__ == "__main__":
    main(*sys.argv[1:])
