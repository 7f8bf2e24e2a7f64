"""A client of SOCKS5's BIND: `bind_client.py PEER` prints where PEER is to connect, and then who has.

It counts what the peer sends, and tells it.
"""

from __future__ import annotations

import socket
import sys


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise SystemExit(f"the proxy said no more than {data!r}")
        data += piece
    return data


def say_reply(sock: socket.socket) -> None:
    head = exactly(sock, 4)
    if head[1]:
        raise SystemExit(f"the proxy refuses: {head[1]}")
    packed, port = exactly(sock, 16 if head[3] == 4 else 4), int.from_bytes(exactly(sock, 2))
    print(socket.inet_ntop(socket.AF_INET6 if head[3] == 4 else socket.AF_INET, packed), port, flush=True)


def main() -> None:
    peer = sys.argv[1]
    kind, family = (4, socket.AF_INET6) if ":" in peer else (1, socket.AF_INET)
    with socket.create_connection(("127.0.0.1", 1080), 20) as sock:
        sock.sendall(b"\x05\x01\x00")
        exactly(sock, 2)
        sock.sendall(b"\x05\x02\x00" + bytes([kind]) + socket.inet_pton(family, peer) + bytes(2))
        say_reply(sock)
        say_reply(sock)
        count = 0
        while piece := sock.recv(1 << 16):
            count += len(piece)
        sock.sendall(str(count).encode())


main()
