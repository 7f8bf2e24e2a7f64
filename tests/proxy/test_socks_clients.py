"""Clients that others wrote, PySocks and python-socks, against every version, name and failure they know."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import python_socks
import socks
from python_socks.async_.asyncio import Proxy as PythonSocks

from tests.proxy.support import Bench, bench, echo, serving, until
from tests.proxy.test_socks_handler import CREDENTIALS

DATA = os.urandom(200_000)
WAYS = [("socks4", "127.0.0.1"), ("socks4", "origin.test"), ("socks5", "127.0.0.1"), ("socks5", "origin.test"),
        ("socks5", "::1")]  # fmt: skip
LOGIN = ("alice", "pa:ss:w")


def pysocks(made: Bench, kind: str, host: str, port: int, user: str | None, password: str | None) -> bytes:
    """What comes back."""
    sock = socks.create_connection(
        (host, port), timeout=10, proxy_type=socks.SOCKS4 if kind == "socks4" else socks.SOCKS5,
        proxy_addr="127.0.0.1", proxy_port=made.port, proxy_rdns=True, proxy_username=user, proxy_password=password,
    )  # fmt: skip
    return talk(sock)


def talk(sock: socket.socket) -> bytes:
    with sock:
        sock.settimeout(10)
        sock.sendall(DATA[:1000])
        heard = b""
        while len(heard) < 1000:
            heard += sock.recv(65536)
        sock.sendall(DATA[1000:])
        sock.shutdown(socket.SHUT_WR)
        while piece := sock.recv(65536):
            heard += piece
    return heard


async def through_pysocks(*arguments: Any) -> bytes:
    return await asyncio.to_thread(pysocks, *arguments)


async def through_python_socks(
    made: Bench, kind: str, host: str, port: int, user: str | None, password: str | None
) -> bytes:
    kinds = {"socks4": python_socks.ProxyType.SOCKS4, "socks5": python_socks.ProxyType.SOCKS5}
    proxy = PythonSocks.create(kinds[kind], "127.0.0.1", made.port, username=user, password=password, rdns=True)
    sock = await proxy.connect(dest_host=host, dest_port=port, timeout=10)
    sock.setblocking(True)
    return await asyncio.to_thread(talk, sock)


CLIENTS: list[Callable[..., Any]] = [through_pysocks, through_python_socks]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("kind", "host"), WAYS)
@pytest.mark.parametrize("login", [False, True])
async def test_echo(client: Callable[..., Any], kind: str, host: str, login: bool) -> None:
    if login and kind == "socks4":
        async with bench(credentials=CREDENTIALS) as made:
            with pytest.raises((socks.ProxyError, python_socks.ProxyError), match=r"5[dD]|93|user-?id"):
                await client(made, kind, host, 80, "alice", None)
            assert made.net.dialled == []
        return
    user = LOGIN if login else (None, None)
    async with (
        serving(echo, "::1" if host == "::1" else "127.0.0.1") as port,
        bench(credentials=CREDENTIALS if login else None) as made,
    ):
        assert await client(made, kind, host, port, *user) == DATA
        await until(lambda: made.proxy.statistics().connections == 0)


@pytest.mark.parametrize("client", CLIENTS)
async def test_wrong_password(client: Callable[..., Any]) -> None:
    async with bench(credentials=CREDENTIALS) as made:
        for user in (("alice", "wrong"), ("bob", "pa:ss:w"), (None, None)):
            with pytest.raises((socks.ProxyError, python_socks.ProxyError)):
                await client(made, "socks5", "127.0.0.1", 80, *user)
        assert made.net.dialled == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("host", "words"), [
    ("127.0.0.1", "refused"), ("169.254.169.254", "not allowed"), ("nowhere.test", "[Hh]ost unreachable"),
])  # fmt: skip
async def test_failures_in_their_words(client: Callable[..., Any], host: str, words: str, unused_port: int) -> None:
    async with bench() as made:
        with pytest.raises((socks.ProxyError, python_socks.ProxyError), match=words):
            await client(made, "socks5", host, unused_port, None, None)
        with pytest.raises((socks.ProxyError, python_socks.ProxyError), match=r"[Rr]equest rejected or failed"):
            await client(made, "socks4", host, unused_port, None, None)
