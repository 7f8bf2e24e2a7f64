"""Listeners opened as planned, and what is said where one cannot be."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from proxy.daemon.listeners import Listen, ListenError
from proxy.daemon.serving import Bound, client_limit, serve
from proxy.server import Proxy


class Nowhere:
    """A network that refuses everything."""

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    async def resolve(self, name: str) -> Sequence[str]:
        return ["192.0.2.1"]


def listen(host: str = "127.0.0.1", port: int = 0, *, http: bool = False, optional: bool = False) -> Listen:
    return Listen(host, port, socks5=True, http=http, optional=optional)


async def ask(address: tuple[str, int], words: bytes, count: int) -> bytes:
    """What the proxy answers; shorter than `count` where it closes."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(words)
        return await reader.readexactly(count)
    except asyncio.IncompleteReadError as end:
        return end.partial
    finally:
        writer.close()


async def test_each_listener_speaks_what_it_should() -> None:
    async with serve(Nowhere(), [listen(), listen(http=True)]) as (socks, both):
        assert str(socks) == f"SOCKS5 on 127.0.0.1:{socks.port}"
        assert str(both) == f"SOCKS5 and HTTP on 127.0.0.1:{both.port}"
        for bound in (socks, both):
            assert await ask(bound.client_address, b"\x05\x01\x00", 2) == b"\x05\x00"
        get = b"GET http://192.0.2.1/ HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"
        assert await ask(socks.client_address, get, 12) == b"HTTP/1.1 400"
        assert await ask(both.client_address, get, 12) == b"HTTP/1.1 502"
    with pytest.raises(ConnectionRefusedError):  # it ended with its block
        await asyncio.open_connection(*both.client_address)


async def test_credentials_are_asked_for() -> None:
    wanted = Listen("127.0.0.1", 0, socks5=True, http=False, username="me", password="secret")
    async with serve(Nowhere(), [wanted]) as (bound,):
        assert await ask(bound.client_address, b"\x05\x01\x00", 2) == b"\x05\xff"
        assert await ask(bound.client_address, b"\x05\x01\x02\x01\x02me\x06secret", 4) == b"\x05\x02\x01\x00"
        assert await ask(bound.client_address, b"\x05\x01\x02\x01\x02me\x06Secret", 4) == b"\x05\x02\x01\x01"


async def test_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default's ::1 is left out; an address that was asked for is not."""
    real = Proxy.listen

    async def without_ipv6(self: Proxy, host: str, port: int, **options: Any) -> Any:
        if ":" in host:
            raise OSError(errno.EADDRNOTAVAIL, "cannot listen on ::1 port 0: Cannot assign requested address")
        return await real(self, host, port, **options)

    monkeypatch.setattr(Proxy, "listen", without_ipv6)
    async with serve(Nowhere(), [listen(), listen("::1", optional=True)]) as bound:
        assert [one.address for one in bound] == ["127.0.0.1"]
    with pytest.raises(ListenError, match="cannot listen on ::1 port 0"):
        async with serve(Nowhere(), [listen("::1")]):
            pass


async def test_one_that_fails_closes_the_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
        probe.close()
        with pytest.raises(ListenError, match=r"port \d+: Address already in use; end what listens there"):
            async with serve(Nowhere(), [listen(port=free), listen(port=taken.getsockname()[1])]):
                pass
        socket.create_server(("127.0.0.1", free)).close()


async def test_open_to_everybody_needs_a_word() -> None:
    with pytest.raises(ListenError, match="--allow-anyone"):
        async with serve(Nowhere(), [listen("0.0.0.0")]):
            pass
    async with serve(Nowhere(), [listen("0.0.0.0")], allow_anyone=True) as (bound,):
        assert bound.client_address == ("127.0.0.1", bound.port)
    assert Bound(listen("::"), "::", 5).client_address == ("::1", 5)


def test_few_descriptors_leave_room_for_clients(caplog: pytest.LogCaptureFixture) -> None:
    assert client_limit(1 << 20) == (1 << 20) - 64
    assert not caplog.records
    assert client_limit(64) == 32
    assert "only 64 files may be open: at most 32 clients at once; `ulimit -n` raises it" in caplog.text


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", r"cannot listen on 192\.0\.2\.1 port \d+: .*; name an address of this machine"),
        ("nowhere.invalid", r"cannot listen on nowhere\.invalid: .*; name an address of this machine"),
    ],
)
async def test_an_address_of_another_machine(host: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    with pytest.raises(ListenError, match=said):
        async with serve(Nowhere(), [listen(host)], allow_anyone=True):
            pass
