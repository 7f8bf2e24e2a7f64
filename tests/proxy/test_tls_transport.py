"""The transport that TLS makes, in memory: pauses and ends at every moment, between two records of one segment."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, cast

import pytest

from proxy.certificate import Certificate
from proxy.session import Context
from proxy.tls import TlsTransport
from tests.support.certificates import Authority


class Below(asyncio.Transport):
    """Remembers what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()
        self.calls: list[str] = []

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def write(self, data: Any) -> None:
        self.said += data

    def write_eof(self) -> None:
        self.calls.append("eof")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


class Above(asyncio.Protocol):
    """Pauses after each piece, where it is to."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.pausing = False
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(TlsTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)
        if self.pausing:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.heard.append(b"")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Shared:
    """What the transport needs of a context."""

    def __init__(self) -> None:
        self.scratch = memoryview(bytearray(1 << 18))
        self.loop = asyncio.get_running_loop()


class Pair:
    """A client's end in memory, joined to the transport."""

    def __init__(self, authority: Authority, certificate: Certificate) -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self.below, self.above = Below(), Above()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = certificate.context().wrap_bio(incoming, outgoing, server_side=True)
        for ours in (True, False, True, False):
            with contextlib.suppress(ssl.SSLWantReadError):
                (self.client if ours else server).do_handshake()
            incoming.write(self._out.read())
            self._in.write(outgoing.read())
        self._shared = Shared()
        self.tls = TlsTransport(cast(Context, self._shared), self.below, server, incoming, outgoing)
        self.tls.begin(self.above)

    def records(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self.client.write(piece)
        return self._out.read()

    def close_notify(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.client.unwrap()
        return self._out.read()

    def arrive(self, data: bytes) -> None:
        for at in range(0, len(data), 1 << 16):
            piece = data[at : at + (1 << 16)]
            buffer = self.tls.get_buffer(-1)
            buffer[: len(piece)] = piece
            self.tls.buffer_updated(len(piece))

    def heard(self) -> bytes:
        """What the client reads now; raises ssl.SSLZeroReturnError at close_notify, after what came before it."""
        self._in.write(bytes(self.below.said))
        self.below.said.clear()
        found = b""
        while True:
            try:
                piece = self.client.read(65536)
            except ssl.SSLWantReadError:
                return found
            if not piece:
                return found + b"<end>"
            found += piece


@pytest.fixture
async def joined(authority: Authority, certificate: Certificate) -> Pair:
    return Pair(authority, certificate)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_pause_between_two_records(joined: Pair) -> None:
    """Nothing further has to come for the second to be handed up."""
    joined.above.pausing = True
    joined.arrive(joined.records(b"one", b"two", b"three"))
    for expected in ([b"one"], [b"one", b"two"], [b"one", b"two", b"three"]):
        assert joined.above.heard == expected
        assert joined.below.calls[-1] == "pause"
        assert not joined.tls.is_reading()
        joined.tls.resume_reading()
        assert joined.above.heard == expected  # not from inside the call
        assert joined.below.calls[-1] == "resume"
        await turns()
    joined.tls.resume_reading()
    assert joined.below.calls == ["pause", "resume"] * 3


async def test_close_notify_behind_a_pause(joined: Pair) -> None:
    joined.above.pausing = True
    joined.arrive(joined.records(b"one", b"two") + joined.close_notify())
    joined.tls.eof_received()
    for expected in ([b"one"], [b"one", b"two"], [b"one", b"two", b""]):
        assert joined.above.heard == expected
        joined.tls.resume_reading()
        await turns()
    assert "resume" not in joined.below.calls  # it has ended, and would only say so again
    joined.tls.write(b"still here")
    assert joined.heard() == b"still here"


async def test_the_end_of_tcp_behind_a_pause(joined: Pair) -> None:
    """What came before is handed up, and then it is a reset."""
    joined.above.pausing = True
    joined.arrive(joined.records(b"one", b"two"))
    joined.tls.eof_received()
    joined.above.pausing = False
    joined.tls.resume_reading()
    await turns()
    assert joined.above.heard == [b"one", b"two"]
    assert joined.below.calls == ["pause", "abort"]
    joined.tls.connection_lost(None)
    assert isinstance(joined.above.lost[0], ConnectionResetError)


async def test_our_end_with_unread_data(joined: Pair) -> None:
    """Neither whole records nor half of one are lost, whichever end is first."""
    joined.above.pausing = True
    words = joined.records(b"one", b"two", b"three")
    joined.arrive(words[:-5])
    joined.tls.write_eof()
    joined.tls.write_eof()
    assert joined.below.calls == ["pause", "eof"]
    with pytest.raises(RuntimeError):
        joined.tls.write(b"more")
    joined.above.pausing = False
    joined.tls.resume_reading()
    await turns()
    joined.arrive(words[-5:])
    assert joined.above.heard == [b"one", b"two", b"three"]
    assert joined.heard() == b"<end>"
    joined.arrive(joined.records(b"four"))
    joined.client.unwrap()
    joined.arrive(joined._out.read())
    assert joined.above.heard == [b"one", b"two", b"three", b"four", b""]
    joined.tls.close()
    assert joined.below.said == b""  # one close_notify is enough
    assert joined.below.calls[-1] == "close"


async def test_nothing_is_kept_of_what_follows_close_notify(joined: Pair) -> None:
    joined.arrive(joined.close_notify())
    joined.arrive(bytes(1 << 18))
    assert joined.tls._incoming.pending == 0
    assert joined.above.heard == [b""]


async def test_an_end_in_the_middle_of_a_delivery(joined: Pair) -> None:
    joined.above.data_received = lambda data: joined.tls.close()  # type: ignore[method-assign]
    joined.arrive(joined.records(b"one", b"two"))
    assert joined.below.calls == ["close"]
    assert joined.heard() == b"<end>"
    joined.tls.write(b"too late")
    joined.tls.abort()
    assert joined.below.said == b""


async def test_much_at_once(joined: Pair) -> None:
    data = bytes(range(256)) * 4096
    joined.tls.writelines([data[:100], memoryview(data)[100:]])
    assert joined.heard() == data
    joined.arrive(joined.records(data))
    assert b"".join(joined.above.heard) == data
