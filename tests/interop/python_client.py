"""One library of Python fetches a page: `python python_client.py LIBRARY PROXY URL` prints what it got.

LIBRARY is a function of this file.  A WebSocket or QUIC server says the page by itself and echoes what it is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any
from urllib.parse import SplitResult, urlsplit

PATIENCE = 10  # s
BIG = os.urandom(1 << 20)


def aiohttp(proxy: str, url: str) -> bytes:
    import aiohttp

    async def get() -> bytes:
        patience = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=patience) as session, session.get(url, proxy=proxy) as response:
            response.raise_for_status()
            return await response.read()

    return asyncio.run(get())


def httpx(proxy: str, url: str) -> bytes:
    import httpx

    with httpx.Client(proxy=proxy, trust_env=False, timeout=PATIENCE) as client:
        return client.get(url).raise_for_status().content


def python_socks(proxy: str, url: str) -> bytes:
    from python_socks.sync import Proxy

    parts = urlsplit(url)
    with Proxy.from_url(proxy, rdns=True).connect(str(parts.hostname), parts.port or 80, timeout=PATIENCE) as sock:
        return page_from(sock, parts)


def pysocks(proxy: str, url: str) -> bytes:
    import socks

    kinds = {"socks4": socks.SOCKS4, "socks5": socks.SOCKS5, "http": socks.HTTP}
    way, parts = urlsplit(proxy), urlsplit(url)
    with socks.create_connection(
        (parts.hostname, parts.port or 80), PATIENCE,
        proxy_type=kinds[way.scheme], proxy_addr=way.hostname, proxy_port=way.port, proxy_rdns=True,
    ) as sock:  # fmt: skip
        return page_from(sock, parts)


def page_from(sock: socket.socket, url: SplitResult) -> bytes:
    sock.sendall(f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
    answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2]


def websockets(proxy: str, url: str) -> bytes:
    from websockets.sync.client import connect

    with connect(url, proxy=proxy, max_size=None, open_timeout=PATIENCE) as connection:
        said = connection.recv()
        connection.send(BIG)
        return said.encode() if isinstance(said, str) and connection.recv() == BIG else b""


def aiohttp_websocket(proxy: str, url: str) -> bytes:
    import aiohttp

    async def speak() -> bytes:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, proxy=proxy, max_msg_size=0) as socket:
            said = await socket.receive_str()
            await socket.send_bytes(BIG)
            return said.encode() if await socket.receive_bytes() == BIG else b""

    return asyncio.run(asyncio.wait_for(speak(), PATIENCE))


# -- UDP ASSOCIATE --


def associated(proxy: str) -> Any:
    """A UDP socket of PySocks."""
    import socks

    sock = socks.socksocket(type=socket.SOCK_DGRAM)
    sock.set_proxy(socks.SOCKS5, urlsplit(proxy).hostname, urlsplit(proxy).port)
    sock.settimeout(PATIENCE)
    return sock


def dnspython(proxy: str, url: str) -> bytes:
    """The TXT record of dns://SERVER/NAME, an address."""
    import dns.message
    import dns.query
    import dns.rdatatype

    parts = urlsplit(url)
    query = dns.message.make_query(parts.path[1:], "TXT")
    with associated(proxy) as sock:
        response = dns.query.udp(query, str(parts.hostname), PATIENCE, sock=sock)
    return bytes(response.answer[0][0].strings[0]) + b"\n"


def aioquic(proxy: str, url: str) -> bytes:
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

    class Transport(asyncio.DatagramTransport):
        """aioquic's datagrams on a socket of PySocks, whose first `sendto` associates."""

        def __init__(self, protocol: QuicConnectionProtocol) -> None:
            super().__init__()
            self._sock = associated(proxy)
            self._protocol = protocol
            protocol.connection_made(self)

        def sendto(self, data: Any, addr: Any = None) -> None:
            self._server = addr  # which may be a name: then it is not where answers say they come from
            self._sock.sendto(data, addr)
            asyncio.get_running_loop().add_reader(self._sock.fileno(), self._readable)

        def _readable(self) -> None:
            self._protocol.datagram_received(self._sock.recvfrom(65536)[0], self._server)

        def close(self) -> None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()

    async def speak() -> bytes:
        parts = urlsplit(url)
        configuration = QuicConfiguration(alpn_protocols=["echo"], server_name="www.example.test")
        configuration.load_verify_locations(os.environ["CA"])
        protocol = QuicConnectionProtocol(QuicConnection(configuration=configuration))
        Transport(protocol)
        protocol.connect((str(parts.hostname), parts.port))
        await protocol.wait_connected()
        reader, writer = await protocol.create_stream()
        writer.write(BIG)
        writer.write_eof()
        said = await reader.readline()
        echoed = await reader.read()
        protocol.close()
        await protocol.wait_closed()
        return said if echoed == BIG else b""

    return asyncio.run(asyncio.wait_for(speak(), PATIENCE))


if __name__ == "__main__":
    sys.stdout.buffer.write(globals()[sys.argv[1]](*sys.argv[2:]))
