"""Listeners, limits, the mux, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import struct
import subprocess
import sys
import time
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.accesslog import AccessLog
from proxy.auth import Users
from proxy.binding import bind
from proxy.client import Terms
from proxy.mux import Sniffer
from proxy.server import OpenListener, Proxy
from proxy.session import Limits, counted_as, say_farewell
from tests.proxy.support import LOCAL, Bench, LoopNet, bench, echo, serving, to_tunnel, until
from tests.proxy.test_socks_handler import HELLO, LOGIN, answer, request


@pytest.mark.parametrize("first", [0, 3, 6, 0x16, 0x80, 0xFF, 0x20, 0x0D, ord("(")])
async def test_other_first_bytes_are_closed(first: int) -> None:
    """Among them a TLS hello."""
    async with bench() as made:
        client = await made.client()
        assert await client.exchange(bytes([first])) == b""
        client = await made.client()
        assert await client.exchange(bytes([first]) + bytes(500)) == b""


async def test_protocols_of_a_listener() -> None:
    async with bench(protocols=["socks5"]) as made:
        answer = await (await made.client()).exchange(b"GET / HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"\r\n\r\nthis port speaks SOCKS, and no HTTP\n")
        assert await (await made.client()).exchange(b"\x05\x00") == b"\x05\xff"
        assert await (await made.client()).exchange(b"\x04\x00") == b"\0\x5b" + bytes(6)
    async with bench(protocols=["http"]) as made:
        assert await (await made.client()).exchange(b"\x05\x00") == b""
        assert (await (await made.client()).exchange(b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_silent_client_blocks_nobody_and_is_closed() -> None:
    async with serving(echo) as port, bench(limits=Limits(sniff_timeout=0.2)) as made:
        silent = await made.client()
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", port) + b"x")
        assert (await client.exactly(13))[-1:] == b"x"
        assert await silent.rest() == b""
        client.end()
        assert made.proxy.statistics().refused == {"sniff-timeout": 1}


async def test_oldest_handshake_makes_room() -> None:
    async with serving(echo) as port, bench(limits=Limits(handshakes=3)) as made:
        silent = [await made.client() for _ in range(5)]
        await until(lambda: made.proxy.statistics().accepted == 5)
        assert await silent[0].rest() == b""
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", port))
        await client.exactly(12)
        assert made.proxy.statistics().handshakes <= 3
        client.end()


async def test_connection_limit_pauses_accepting() -> None:
    """The next client waits in the backlog, and is served when another has gone."""
    async with serving(echo) as port, bench(limits=Limits(connections=2)) as made:
        clients = [await made.client() for _ in range(3)]
        for client in clients:
            await client.send(HELLO + request("127.0.0.1", port))
        for client in clients[:2]:
            await client.exactly(12)
        assert made.proxy.statistics().connections == 2
        await clients[0].close()
        await clients[2].exactly(12)
        assert made.proxy.statistics().accept_pauses >= 1
        for client in clients[1:]:
            client.end()


async def test_limit_per_client() -> None:
    async with bench(limits=Limits(connections_per_client=2)) as made:
        kept = [await made.client() for _ in range(2)]
        await until(lambda: made.proxy.statistics().connections == 2)
        assert await (await made.client()).exchange(b"\x05") == b""
        await kept[0].close()
        await until(lambda: made.proxy.statistics().connections == 1)
        assert await (await made.client()).exchange(b"\x05\x00") == b"\x05\xff"
        assert made.proxy.statistics().refused["client-limit"] == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1", "fe80::2", False),
        ("fe80::1%eth0", "fe80::1%eth1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::1", "::ffff:192.0.2.1", False),
    ],
)
def test_whose_connections_are_counted_together(one: str, other: str, same: bool) -> None:
    assert (counted_as(one) == counted_as(other)) is same


async def test_limit_per_client_after_resets() -> None:
    """A transport whose peer has reset it cannot say whose it was."""
    async with bench(limits=Limits(connections_per_client=2)) as made:
        for count, data in enumerate((b"", b"\x05", b"\x05\x01\x00", b"GET", b"\x16") * 4, 1):
            sock = socket.create_connection(("127.0.0.1", made.port))
            sock.send(data)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            await until(lambda: made.proxy.statistics().accepted == count)  # noqa: B023
            await until(lambda: made.proxy.statistics().connections == 0)
        assert made.proxy._context.clients == {}


async def test_clients_are_answered_without_delay() -> None:
    async with bench() as made:
        await made.client()
        await until(lambda: len(made.proxy._context.sessions) == 1)
        [sniffer] = made.proxy._context.sessions
        assert isinstance(sniffer, Sniffer)
        sock = sniffer._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_slow_reader_hears_the_last_words() -> None:
    """The time to linger begins when they are written, not before."""
    words = bytes(range(256)) * (64 << 10)
    async with bench(limits=Limits(linger_timeout=0.02)) as made:
        client = await made.client(receive_buffer=8192)
        await until(lambda: len(made.proxy._context.sessions) == 1)
        [sniffer] = made.proxy._context.sessions
        assert isinstance(sniffer, Sniffer)
        sniffer._leave()
        say_farewell(made.proxy._context, sniffer, sniffer.client, sniffer._transport, words)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.1)
        assert await client.rest() == words


def fail_to_accept(monkeypatch: pytest.MonkeyPatch, *errors: int) -> None:
    """What the first calls of accept end with."""
    left = list(errors)

    class Failing(socket.socket):
        def accept(self) -> Any:
            if left:
                raise OSError(left.pop(0), "it failed")
            return super().accept()

    def failing(sock: socket.socket) -> socket.socket:
        return Failing(sock.family, sock.type, sock.proto, sock.detach())

    monkeypatch.setattr("proxy.server.bind", lambda *where: failing(bind(*where)))


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EINVAL"])
async def test_accept_errors_do_not_spin(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of descriptors: accepting pauses, and goes on by itself."""
    caplog.set_level(logging.INFO, "usernet.proxy")
    fail_to_accept(monkeypatch, *[getattr(errno, name)] * 2)
    async with bench() as made:
        client = await made.client()
        spent, began = time.process_time(), time.monotonic()
        assert await client.exchange(b"\x05\x00") == b"\x05\xff"
        assert time.monotonic() - began > 0.4
        assert time.process_time() - spent < 0.3
        assert made.proxy.statistics().accept_pauses == 2
        assert caplog.text.count(name) == 1


async def test_a_connection_that_was_lost_before_it_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is no reason to let the others wait."""
    fail_to_accept(monkeypatch, errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH)
    async with bench() as made:
        assert await (await made.client()).exchange(b"\x05\x00") == b"\x05\xff"
        assert made.proxy.statistics().accept_pauses == 0


async def test_open_listener_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    proxy = Proxy(LoopNet())
    for host in ("0.0.0.0", "::", ""):
        with pytest.raises(OpenListener, match="asks for no password"):
            await proxy.listen(host, 0)
    listeners = await proxy.listen("0.0.0.0", 0, open_to_all=True)
    assert "without a password" in caplog.text
    listeners += await proxy.listen("0.0.0.0", 0, terms=Terms(Users([("a", "b")])))
    listeners += await proxy.listen("0.0.0.0", 0, terms=Terms(allow_from=(ip_network("192.0.2.0/24"),)))
    listeners += await proxy.listen("localhost", 0)
    assert len({listener.port for listener in listeners}) >= 3
    await proxy.close()
    proxy = Proxy(LoopNet())
    both = await proxy.listen("", 0, terms=Terms(Users([("a", "b")])))
    assert {listener.address for listener in both} == {"0.0.0.0", "::"}
    assert len({listener.port for listener in both}) == 1
    await proxy.close()


async def test_port_in_use_is_named(unused_port: int) -> None:
    proxy = Proxy(LoopNet())
    with pytest.raises(OSError, match=f"127.0.0.1 port {unused_port}") as caught:
        await proxy.listen("127.0.0.1", unused_port)
    assert caught.value.errno == errno.EADDRINUSE
    await proxy.close()


async def test_unknown_protocol() -> None:
    proxy = Proxy(LoopNet())
    with pytest.raises(ValueError, match="protocols are"):
        await proxy.listen("127.0.0.1", 0, protocols=["gopher"])
    await proxy.close()


async def test_own_listener_is_not_reached() -> None:
    """Not even where its address is allowed: a proxy that dials itself never ends."""
    async with bench() as made:
        for _ in range(2):
            client = await made.client()
            assert await client.exchange(HELLO + request("127.0.0.1", made.port)) == answer(2)


async def test_credentials_of_one_listener() -> None:
    async with bench() as made:
        [second] = await made.proxy.listen("127.0.0.1", 0, terms=Terms(Users([("alice", "pa:ss:w")])))
        assert await (await made.client()).exchange(HELLO + request("0.0.0.0", 80)) == answer(2)
        assert await (await made.client(port=second.port)).exchange(HELLO) == b"\x05\xff"
        heard = await (await made.client(port=second.port)).exchange(LOGIN + request("0.0.0.0", 80))
        assert heard == answer(2, b"\x05\x02\x01\x00")


async def test_close_ends_everything() -> None:
    """Silent, in its dialogue, dialling, relaying, refused, forwarding: all gone, and the port with them."""
    net = LoopNet()
    proxy = Proxy(net, rules=to_tunnel(LOCAL))
    [listener] = await proxy.listen("127.0.0.1", 0)
    made = Bench(net, proxy, listener.port)
    async with serving(echo) as port:
        clients = [await made.client() for _ in range(6)]
        await clients[1].send(b"\x05")
        await clients[2].send(HELLO + request("127.0.0.1", port))
        await clients[2].exactly(12)
        await clients[3].send(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % port)
        await clients[4].send(b"\x05\x00")
        await until(lambda: len(net.transports) == 2)
        net.gate = asyncio.Event()
        await clients[5].send(HELLO + request("127.0.0.1", port))
        await until(lambda: len(net.dialled) == 3)
        began = time.monotonic()
        await made.close()
        await proxy.close()
        assert time.monotonic() - began < 1
        assert net.cancelled == 1
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", listener.port)


async def test_who_goes_about_it_the_wrong_way_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """That is what a user sees who has set up a program wrongly; no stranger fills the log."""
    caplog.set_level(logging.WARNING, "usernet")
    lines: list[str] = []
    log, users = AccessLog(lines.append, as_json=False), Users([("alice", "secret")])
    wrong = LOGIN.replace(b"pa:ss:w", b"guesses")
    basic = b"GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic YTpi\r\nConnection: close\r\n\r\n"
    for protocols, data, said in (
        (
            ["socks5"],
            b"GET / HTTP/1.1\r\n\r\n",
            "speaks HTTP, which port PORT does not: it speaks SOCKS; --outbound",
        ),
        (["http"], HELLO, "speaks SOCKS5, which port PORT does not: it speaks HTTP; --socks5-server is for that"),
        (["http"], b"\x04\x01", "speaks SOCKS4, which port PORT does not"),
        (["http"], b"\x16\x03", "speaks TLS, which port PORT does not: it speaks HTTP; --http-proxy-tls-cert"),
        (["socks5"], HELLO, "cannot use SOCKS5 here, which asks for a user name and a password"),
        (["socks5"], b"\x04\x01", "cannot use SOCKS4 here, which asks for a user name and a password"),
        (["socks5"], wrong, "wrong user name or password"),
        (["http"], basic, "wrong user name or password"),
    ):
        caplog.clear()
        async with bench(protocols=protocols, credentials=users, access_log=log) as made:
            lines.clear()
            for _ in range(3):
                await (await made.client()).exchange(data)
            assert caplog.text.count(said.replace("PORT", str(made.port))) == 1, (data, caplog.text)
            assert len(caplog.records) == 1
            assert len(lines) == 3
    caplog.clear()
    async with bench() as made:
        await (await made.client()).exchange(b"\x05\x01\x02")
        assert "cannot use SOCKS5 here, which asks for no login" in caplog.text
    caplog.clear()
    async with bench(credentials=users) as made:  # as every HTTP client asks at first
        await (await made.client()).exchange(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert not caplog.records


async def test_secrets_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with bench(credentials=Users([("alice", "pa:ss:w")])) as made:
        made.net.fail = ConnectionRefusedError("insides")
        await (await made.client()).exchange(LOGIN + request("192.0.2.1", 80))
        await (await made.client()).exchange(LOGIN.replace(b"pa:ss:w", b"guesses") + request("192.0.2.1", 80))
        field = b"Proxy-Authorization: Basic YWxpY2U6cGE6c3M6dw==\r\n"
        await (await made.client()).exchange(b"GET http://192.0.2.1/?token=x HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n")
        assert "192.0.2.1 port 80: the destination refused the connection" in caplog.text
        for secret in ("pa:ss", "guesses", "YWxp", "alice", "token", "insides"):
            assert secret not in caplog.text


async def test_probes_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who connects, says nothing or nonsense, and leaves."""
    caplog.set_level(logging.INFO, "usernet")
    async with bench() as made:
        for data in (b"", b"\x80\x03\x01", b"\x05", b"GET"):
            client = await made.client()
            await client.send(data)
            client.end()
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""
        await until(lambda: made.proxy.statistics().connections == 0)
    assert caplog.records == []


async def test_client_in_the_last_moment() -> None:
    """Accepted, but not yet ours, when the proxy is closed."""
    proxy = Proxy(LoopNet())
    [listener] = await proxy.listen("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", listener.port)) as sock:
        listener._accept()
        await proxy.close()
        assert proxy.statistics().connections == 0
        assert sock.recv(1) == b""


def test_h11_is_imported_late() -> None:
    code = "import sys, proxy.server; print([m for m in ('h11', 'http', 'proxy.http.handler') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "[]\n"


FIRST = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.binary(max_size=60).map(lambda tail: b"\x05\x01\x00" + tail),
    st.binary(max_size=60).map(lambda tail: b"\x05\x01\x00\x05\x01\x00\x03" + tail),
    st.binary(max_size=60).map(lambda tail: b"\x05\x01\x02\x01" + tail),
    st.binary(max_size=60).map(lambda tail: b"CONNECT " + tail + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    st.binary(max_size=60).map(lambda tail: b"GET http://" + tail + b"/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    st.binary(max_size=60).map(lambda tail: b"GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n" + tail + b"\r\n\r\n"),
    st.binary(max_size=60).map(
        lambda tail: b"POST http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + tail
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(FIRST, st.integers(0, 400)), min_size=5, max_size=5), st.booleans())
def test_any_first_bytes(clients: list[tuple[bytes, int]], login: bool) -> None:
    """Always an answer or a close, never an exception, and the next client is served."""

    async def run() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with bench(credentials=Users([("a", "b")]) if login else None) as made:
            made.net.fail = ConnectionRefusedError()
            for data, cut in clients:
                client = await made.client()
                with contextlib.suppress(ConnectionError):
                    await client.send(data, cuts=[cut] if 0 < cut < len(data) else [])
                    client.end()
                    await client.rest()
            client = await made.client()
            assert await client.exchange(b"\x05\x00") == b"\x05\xff"
        assert reports == []

    asyncio.run(run())


async def test_nothing_of_a_connection_stays() -> None:
    """No cycles: without the collector, all of it is gone when its transports are."""
    ours = "Sniffer Socks5Handler Socks4Handler Rendezvous Arrival HttpHandler Forward Origin ClientSide TunnelSide"
    kinds = [*ours.split(), "Farewell", "Dialogue", "Dialogue4", "ConnectionRefusedError"]

    def left() -> list[str]:
        names = [type(thing).__name__ for thing in gc.get_objects()]
        return [name for name in names if name in kinds]

    gc.collect()
    before = left()  # the exceptions that are parameters of other tests remember where they were raised
    gc.disable()
    try:
        async with serving(hello) as port, bench() as made:
            target = b"127.0.0.1:%d" % port
            made.net.names["refused.test"] = ["127.0.0.2", "127.0.0.3"]
            for data in (
                HELLO + request("127.0.0.1", port),
                HELLO + request("127.0.0.1", 0),
                HELLO + request("127.0.0.1", 0, 2),
                HELLO + request(b"refused.test", 0, 0xF0),
                b"\x04\x01" + port.to_bytes(2) + b"\x7f\0\0\x01\0",
                b"\x04\x01\0\x01\0\0\0\x01\0refused.test\0",
                HELLO + request(b"refused.test", 1),
                b"GET http://refused.test:1/ HTTP/1.1\r\nHost: x\r\n\r\n",
                HELLO[:2],
                b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % target,
                b"GET http://%b/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target,
                b"GET http://%b/ HTTP/1.1\r\nHost: x\r\n\r\n" % target,
                b"GET http://%b/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" % target,
                b"GET / HTTP/1.1\r\n\r\n",
                b"\x16",
            ):
                client = await made.client()
                await client.send(data)
                client.end()
                with contextlib.suppress(ConnectionError):
                    await client.rest()
                await client.close()
            await until(lambda: made.proxy.statistics().connections == 0)
            await until(lambda: all(transport.is_closing() for transport in made.net.transports))
            made.net.transports.clear()
            for _ in range(5):
                await asyncio.sleep(0)
            assert left() == before
    finally:
        gc.enable()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An origin that answers once, in what it was asked for, and leaves."""
    data = await reader.read(1000)
    if b"Upgrade" in data:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    elif data:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
