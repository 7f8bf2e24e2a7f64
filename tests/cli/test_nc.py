"""`usernet nc`: real processes joined by pipes, against a far peer in this one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.support import Daemon, usernet
from tests.cli.test_run import FAR, Far, far, port_of
from tests.proxy.support import Handle, digest, echo

__all__ = ["far"]  # a fixture

PORT = 7


def closing(handle: Handle) -> Handle:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle(reader, writer)
        writer.close()

    return run


async def start(*arguments: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", "nc", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )  # fmt: skip


async def test_half_closes_both_ways(far: Far) -> None:
    """Many bytes up, their digest down after our end: nothing is lost, nothing else is said, and it is a success."""
    data = os.urandom(4 << 20)
    async with await far.network.start_server(closing(digest), None, PORT):
        process = await start(str(far.file), FAR, str(PORT))
        out, err = await process.communicate(data)
        assert (out, err, process.returncode) == (hashlib.sha256(data).hexdigest().encode(), b"", 0)


async def test_the_far_end_may_finish_first(far: Far) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"done")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    async with await far.network.start_server(first, None, PORT):
        process = await start(str(far.file), FAR, str(PORT))
        assert process.stdin is not None
        assert process.stdout is not None
        assert await process.stdout.read() == b"done"
        process.stdin.write(b"and still I speak")
        process.stdin.close()
        assert await heard == b"and still I speak"
        assert await process.wait() == 0


async def test_a_slow_reader_slows_the_far_end(far: Far) -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(256):
            writer.write(bytes(1 << 18))
            await writer.drain()
            sent += 1 << 18
        writer.close()

    async with await far.network.start_server(pour, None, PORT):
        process = await start(str(far.file), FAR, str(PORT))
        assert process.stdout is not None
        first = await process.stdout.readexactly(1 << 18)
        # What waits in between is bounded: two TCP buffers, and no 64 MiB.  (Unread, it comes to rest.)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 48 << 20
        rest = await process.stdout.read()
        assert len(first) + len(rest) == 64 << 20
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


async def test_through_a_running_proxy(far: Far) -> None:
    far.append("[Socks5]\nBindAddress = 127.0.0.1:0\nUsername = me\nPassword = a:b@c\n")
    async with (
        await far.network.start_server(closing(echo), None, PORT),
        Daemon.start("run", str(far.file)) as daemon,
    ):
        port = await port_of(daemon, "SOCKS5")
        url = f"socks5h://me:a%3Ab%40c@127.0.0.1:{port}"
        process = await start(FAR, str(PORT), env={"ALL_PROXY": url})
        assert await process.communicate(b"hello") == (b"hello", b"")
        assert process.returncode == 0
        for user, host, said in (
            ("me:a%3Ab%40c@", "192.0.2.1", f"Error: the proxy at 127.0.0.1:{port} says of 192.0.2.1 port 7: Network"),
            ("", FAR, f"Error: the proxy at 127.0.0.1:{port} says of {FAR} port 7: No acceptable"),
            ("me:wrong@", FAR, f"Error: the proxy at 127.0.0.1:{port} says of {FAR} port 7: Username"),
        ):
            process = await start(host, str(PORT), env={"ALL_PROXY": f"socks5h://{user}127.0.0.1:{port}"})
            out, err = await process.communicate()
            assert (out, process.returncode) == (b"", 1)
            assert err.decode().startswith(said)
            assert err.count(b"\n") == 1
            assert (b"ALL_PROXY has the name and password" in err) is (host == FAR)
        assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("socks5h://127.0.0.1:9", "there is no proxy at 127.0.0.1:9: Connection refused; start `usernet run FILE`"),
        ("http://127.0.0.1:3128", "ALL_PROXY: http://... is no SOCKS5 proxy; write socks5h://127.0.0.1:1080"),
        ("socks5://u:secret@h:port", "ALL_PROXY: socks5://... is no SOCKS5 proxy"),
    ],
)
def test_no_proxy(url: str, said: str) -> None:
    done = usernet("nc", "host", "22", env={"ALL_PROXY": url})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {said}")
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1


async def test_why_there_is_no_connection(far: Far) -> None:
    for host, why in (
        (FAR, "the destination refused the connection"),
        ("192.0.2.1", "no peer's allowed IPs cover 192.0.2.1"),
    ):
        process = await start(str(far.file), host, "9")
        out, err = await process.communicate()
        assert (out, process.returncode) == (b"", 1)
        assert err.decode() == f"Error: cannot connect to {host} port 9: {why}\n"


async def test_a_reset_is_a_failure(far: Far) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with await far.network.start_server(reset, None, PORT):
        process = await start(str(far.file), FAR, str(PORT))
        assert process.stdin is not None
        process.stdin.write(b"x")
        await process.stdin.drain()
        assert process.stderr is not None
        err = await process.stderr.read()  # standard input stays open
        assert await process.wait() == 1
        assert err.decode().startswith(f"Error: the connection to {FAR} broke: ")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
async def test_the_far_end_hears_of_a_signal(far: Far, number: signal.Signals) -> None:
    """ssh hangs up on its ProxyCommand when it is done."""
    ended = asyncio.get_running_loop().create_future()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        try:
            ended.set_result(await reader.read())
        except ConnectionError:
            ended.set_result(b"")
        writer.close()

    async with await far.network.start_server(one, None, PORT):
        process = await start(str(far.file), FAR, str(PORT))
        assert process.stdout is not None
        assert await process.stdout.readexactly(1) == b"x"
        process.send_signal(number)
        assert await ended == b""
        assert await process.wait() == 128 + number


@pytest.mark.parametrize(("pieces", "size"), [(1, 1), (1 << 30, 1 << 16)])
async def test_nobody_reads(far: Far, pieces: int, size: int) -> None:
    """The far end hears of it, whether it goes on sending or not."""
    heard = asyncio.get_running_loop().create_future()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(pieces):
                writer.write(bytes(size))
                await writer.drain()
            await writer.wait_closed()
        except ConnectionError as error:
            heard.set_result(error)

    async with await far.network.start_server(pour, None, PORT):
        read, write = os.pipe()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy.cli", "nc", str(far.file), FAR, str(PORT),
            stdin=asyncio.subprocess.DEVNULL, stdout=write, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        os.close(write)
        os.close(read)
        _, err = await process.communicate()
        assert process.returncode == 1
        assert err == b"Error: cannot write to standard output: Broken pipe\n"
        assert isinstance(await heard, ConnectionResetError)


@pytest.mark.parametrize("arguments", [[], ["host"], ["f", "h", "1", "2"], ["host", "0"], ["host", "ssh"], ["h", "٣"]])
def test_usage(arguments: list[str], tmp_path: Path) -> None:
    done = usernet("nc", *arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr


async def test_after_a_daemon_that_was_killed(far: Far, tmp_path: Path) -> None:
    """Twice, so that the peer has heard timestamps that lie ahead of the clock."""
    for _ in range(2):
        async with Daemon.start(
            "run", str(far.file), "--socks5-server", "127.0.0.1:0", "--statedir", str(tmp_path)
        ) as one:
            await one.line("handshake with .* completed")
    env = {"STATE_DIRECTORY": str(tmp_path)}
    async with await far.network.start_server(closing(echo), None, PORT):
        for _ in range(2):
            process = await start(str(far.file), FAR, str(PORT), "--dial-timeout", "3", env=env)
            assert await process.communicate(b"hello") == (b"hello", b"")
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0", "--statedir", str(tmp_path)) as one:
        await one.line("handshake with .* completed in (\\d+|0\\.\\d+ s|[\\d.]+ ms)")
        assert await one.stop() == 0
