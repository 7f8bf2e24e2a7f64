"""A real process that has used up its descriptors: it waits, answers what it can, and goes on when some are free."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cli.support import Daemon
from tests.cli.test_limits import ask, client
from tests.cli.test_run import FAR, Far, far_peer, port_of

WELCOME = b"\x05\x00"
PATIENCE = 10.0  # s


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_peer(tmp_path / "wg.conf") as found:
        yield found


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def descriptors(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


def spent(daemon: Daemon) -> float:
    """Seconds of processor time, of all threads."""
    tasks = Path(f"/proc/{daemon.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextlib.contextmanager
def may_open(daemon: Daemon, more: int) -> Iterator[None]:
    """So many descriptors more than it has, and no further one."""
    pid = daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    numbers = [int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()]
    free = sorted(set(range(max(numbers) + more + 2)) - set(numbers))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[more], before[1]))  # numbers below that: free[:more]
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


async def until_served(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with client(port) as one:
                if await ask(one) == WELCOME:
                    return


async def test_accepting_without_descriptors(far: Far, loop: str) -> None:
    """It neither spins nor ends, says so once, and those who waited are served when somebody leaves."""
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0", "--loop", loop) as daemon:
        port = await port_of(daemon, "SOCKS5")
        await daemon.line("completed in")
        with may_open(daemon, 20), contextlib.ExitStack() as others:
            idle = [others.enter_context(client(port)) for _ in range(16)]  # it may need one for itself meanwhile
            assert [await ask(one) for one in idle] == [WELCOME] * 16
            waiting = [others.enter_context(client(port)) for _ in range(16)]
            answers = asyncio.gather(*[ask(one) for one in waiting])
            await daemon.line(f"accepting pauses on 127.0.0.1 port {port}: EMFILE")
            before = spent(daemon)
            await asyncio.sleep(1)  # the second that it is watched for
            assert spent(daemon) - before < 0.1
            assert not answers.done()
            for one in idle:
                one.close()
            assert await asyncio.wait_for(answers, PATIENCE) == [WELCOME] * 16
        await until_served(port)
        assert await daemon.stop() == 0
    assert daemon.text.count("EMFILE") == 1
    assert "Traceback" not in daemon.text


async def talk(port: int, words: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_dialling_without_descriptors(far: Far, loop: str) -> None:
    """By a direct route a dial takes one more, and a failure has its own answer; through the tunnel none is needed."""
    far.append("[Access]\nRule = direct 127.0.0.0/8\n")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    flags = ("--socks5-server", "127.0.0.1:0", "--outbound-http-proxy-listen", "127.0.0.1:0", "--loop", loop)
    async with Daemon.start("run", str(far.file), *flags) as daemon:
        socks, http = await port_of(daemon, "SOCKS5"), await port_of(daemon, "HTTP")
        await daemon.line("completed in")
        by_socks = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + target.to_bytes(2, "big")
        by_http = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % target
        with may_open(daemon, 1):
            # What speaks HTTP is not in memory yet and cannot be read now: this client is closed, and that is all.
            assert await talk(http, by_http) == b""
        assert (await talk(http, by_http)).endswith(b"\r\n\r\nhello")
        assert (await talk(socks, by_socks)).endswith(b"hello")
        with may_open(daemon, 1):
            assert (await talk(socks, by_socks))[:4] == b"\x05\x00\x05\x01"
            reader, writer = await asyncio.open_connection("127.0.0.1", socks)
            writer.write(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))  # UDP ASSOCIATE has a socket of its own
            assert (await reader.readexactly(4)) == b"\x05\x00\x05\x01"
            writer.close()
            answer = await talk(http, by_http)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"out of descriptors" in answer
            page = f"CONNECT {FAR}:80 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n".encode()
            assert b"You came through the tunnel" in await talk(http, page)
        assert (await talk(http, by_http)).endswith(b"\r\n\r\nhello")
        assert await daemon.stop() == 0
    assert "Traceback" not in daemon.text
    server.close()
