"""An HTTP sink: reads a request's body as fast as it comes and answers with its length and SHA-256.

For /discard the digest is left out.  Run as a program: `python sink.py PORT`.
"""

from __future__ import annotations

import hashlib
import socket
import sys
import threading


def serve(client: socket.socket) -> None:
    with client:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(65536)
            if not piece:
                return
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if fields.get(b"expect"):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = int(fields[b"content-length"]) - len(body)
        digest = None if head.split()[1].endswith(b"/discard") else hashlib.sha256(body)
        total = len(body)
        buffer = bytearray(1 << 20)
        view = memoryview(buffer)
        while left > 0:
            n = client.recv_into(buffer)
            if not n:
                return
            if digest:
                digest.update(view[:n])
            left -= n
            total += n
        answer = f"{total} {digest.hexdigest() if digest else '-'}\n".encode()
        client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


def main() -> None:
    listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
