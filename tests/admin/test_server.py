"""Real unix sockets: what is answered, in which order, and what happens when somebody goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from proxy.admin.paths import AlreadyRunning, SocketError
from proxy.admin.protocol import LINE_MAX, End, Event, Failure, Item, Result
from proxy.admin.session import CLIENTS, Session
from tests.admin.conftest import Admin, Caller, serving, until
from tests.support.skipping import needs


async def test_answers_in_order(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        caller.ask("echo", {"a": [1, None]}, 5)
        caller.ask("ping", number=6)
        assert await caller.reply() == Result(5, {"a": [1, None]})
        assert await caller.reply() == Result(6, "pong")


async def test_no_handler(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        caller.ask("debug/rebind", number=2)
        why = "debug/rebind: no module handled this command; is debug enabled?"
        assert await caller.reply() == Failure(2, "unknown-command", why)
        admin.unregister("ping")
        caller.ask("ping", number=3)
        assert await caller.reply() == Failure(
            3, "unknown-command", "ping: no module handled this command; is ping enabled?"
        )
    with pytest.raises(ValueError, match="echo has a handler"):
        admin.register("echo", admin._echo)


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("arguments", "bad-arguments", "how is one of these"),
        ("user", "failed", "bad: there is no such peer"),
        ("os", "failed", "bad: /some/file: Permission denied"),
        ("json", "failed", "bad: TypeError: Object of type set is not JSON serializable"),
        ("else", "failed", "bad: KeyError: 'oops'"),
    ],
)
async def test_a_failure_is_a_reply(
    admin: Admin, how: str, code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "usernet.admin")
    async with Caller.at(admin.path) as caller:
        caller.ask("bad", {"how": how}, 4)
        assert await caller.reply() == Failure(4, code, message)
        caller.ask("ping")
        assert await caller.reply() == Result(1, "pong")
    assert ("Traceback" in caplog.text) is (how in ("json", "else"))  # those are faults of ours


async def test_a_bad_line_and_one_that_is_too_long(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        caller.writer.write(b"hello\n" + b"x" * (40 * LINE_MAX) + b"\n")
        caller.ask("ping")
        replies = [await caller.reply() for _ in range(3)]
    assert [getattr(reply, "code", reply) for reply in replies] == ["bad-request", "too-long", Result(1, "pong")]


async def test_a_client_that_ends_its_side_is_answered(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        caller.writer.write(b'{"id":1,"command":"ping"}')  # without a newline, too
        caller.writer.write_eof()
        assert await caller.reply() == Result(1, "pong")
        assert await caller.reader.read() == b""


async def test_a_stream_to_its_end_and_its_failure(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        for command in ("count", "late"):
            caller.ask(command, {"to": 2}, 8)
            assert [await caller.reply() for _ in range(3)] == [Item(8, 0), Item(8, 1), End(8)]
        caller.ask("late")
        assert await caller.reply() == Result(1, "no stream")
        caller.ask("count", {"to": 1, "fail": True}, 9)
        assert [await caller.reply() for _ in range(2)] == [Item(9, 0), Failure(9, "failed", "count: no more")]


@pytest.mark.parametrize("how", ["close", "end"])
async def test_a_stream_ends_with_its_client(admin: Admin, how: str) -> None:
    async with Caller.at(admin.path) as caller:
        caller.ask("count")
        assert await caller.reply() == Item(1, 0)
        assert not admin.ended
        if how == "end":
            caller.writer.write_eof()
            assert await caller.reply() == End(1)
        else:
            caller.writer.close()
        await admin.disconnected.wait()
        assert admin.ended == ["count"]


async def sessions(admin: Admin) -> list[Session]:
    """Once there is any."""
    await until(lambda: admin._listener is not None and admin._listener._sessions)
    assert admin._listener is not None
    return list(admin._listener._sessions)


async def test_a_slow_reader_makes_the_stream_wait(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        caller.ask("count", {"size": 10_000, "to": 1000})
        (session,) = await sessions(admin)
        await until(lambda: not session._room.is_set())
        given = admin.given
        for _ in range(100):
            await asyncio.sleep(0)
        assert admin.given == given < 200  # two socket buffers and ours; it would be 10 MB
        caller.writer.transport.resume_reading()  # type: ignore[attr-defined]
        replies = [await caller.reply() for _ in range(1001)]
        assert replies[-1] == End(1)


async def test_who_asks_faster_than_is_answered_waits(admin: Admin) -> None:
    async with Caller.at(admin.path) as caller:
        caller.ask("wait")
        await admin.began.wait()
        for number in range(200):
            caller.ask("echo", {"x": "y" * 60_000}, number)
        (session,) = await sessions(admin)
        await until(lambda: session._paused)
        assert len(session._received) < 1 << 20  # of 12 MB
        admin.release.set()
        assert await caller.reply() == Result(1, "waited")
        assert [await caller.reply() for _ in range(200)][-1] == Result(199, {"x": "y" * 60_000})


async def test_what_reads_ends_with_its_client_and_what_changes_does_not(admin: Admin) -> None:
    for command in ("wait", "change"):
        admin.disconnected.clear()
        async with Caller.at(admin.path) as caller:
            caller.ask(command)
            await admin.began.wait()
            admin.began.clear()
        await admin.disconnected.wait()
    assert admin.ended == ["wait"]
    admin.release.set()
    await until(lambda: admin.ended == ["wait", "change"])


async def test_shutdown_is_told_to_everybody(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with serving(path) as admin, Caller.at(path) as idle, Caller.at(path) as waiting, Caller.at(path) as watching:
        idle.ask("ping")
        assert await idle.reply() == Result(1, "pong")
        waiting.ask("wait")
        await admin.began.wait()
        watching.ask("count")
        assert await watching.reply() == Item(1, 0)
        await admin.close()
        for caller in (idle, waiting, watching):
            assert await caller.reply() == Event("system-shutdown")
            assert await caller.reader.read() == b""
        assert sorted(admin.ended) == ["count", "wait"]
        assert os.listdir(tmp_path) == []
        await admin.close()


async def test_shutdown_does_not_wait_for_who_does_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with serving(path) as admin, Caller.at(path) as caller:
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        caller.ask("count", {"size": 60_000})
        await until(lambda: admin.given > 4)
        async with asyncio.timeout(5):
            await admin.close()
        assert admin.ended == ["count"]
        assert os.listdir(tmp_path) == []


async def test_a_request_must_come_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with serving(path, seconds=0.05), Caller.at(path) as silent, Caller.at(path) as slow, Caller.at(path) as good:
        good.ask("count")  # which no deadline ends
        assert await good.reply() == Item(1, 0)
        slow.writer.write(b'{"id":')
        assert await slow.reply() == Failure(None, "timeout", "no request came within 0.05 s")
        assert await slow.reader.read() == b""
        assert await silent.reader.read() == b""
        good.writer.write_eof()
        assert await good.reply() == End(1)


async def test_a_reply_must_be_taken_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with serving(path, seconds=0.05) as admin, Caller.at(path) as caller:
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            caller.ask("echo", {"x": "y" * 60_000})
        await admin.disconnected.wait()


async def test_the_seventeenth_client(admin: Admin) -> None:
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller.at(admin.path)) for _ in range(CLIENTS)]
        for caller in callers:
            caller.ask("count")
            assert await caller.reply() == Item(1, 0)
        async with Caller.at(admin.path) as surplus:
            surplus.ask("ping", number=3)
            reply = await surplus.reply()
            assert isinstance(reply, Failure)
            assert (reply.id, reply.code) == (3, "busy")
            assert await surplus.reader.read() == b""
        more = [await stack.enter_async_context(Caller.at(admin.path)) for _ in range(CLIENTS)]
        async with Caller.at(admin.path) as one_too_many:
            assert await one_too_many.reader.read() == b""
        callers[0].writer.close()
        for caller in more:
            caller.writer.close()
        await until(lambda: len(admin._listener._sessions) == CLIENTS - 1)  # type: ignore[union-attr]
        async with Caller.at(admin.path) as next_one:
            next_one.ask("ping")
            assert await next_one.reply() == Result(1, "pong")


async def test_another_uid_is_refused(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.admin.session.credentials", lambda sock: (1, 4711))
    async with Caller.at(admin.path) as caller:
        caller.ask("ping")
        with pytest.raises((EOFError, ConnectionError)):
            await caller.reply()
    assert "uid 4711 was refused" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_user_whom_the_modes_let_in(caplog: pytest.LogCaptureFixture) -> None:
    needs("setpriv")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = Path(directory, "a.sock")
        async with serving(path):
            path.chmod(0o666)
            script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); print(s.recv(1))"
            process = await asyncio.create_subprocess_exec(
                "setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", sys.executable, "-c", script,
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert (await process.communicate())[0] == b"b''\n"
    assert "uid 4711 was refused; only our own and root may connect" in caplog.text


async def test_listening_again_replaces_the_listener(admin: Admin, tmp_path: Path) -> None:
    first = admin.path
    assert first is not None
    for path in (first, tmp_path / "b.sock"):
        async with Caller.at(admin.path) as caller:
            caller.ask("count")
            assert await caller.reply() == Item(1, 0)
            await admin.listen(path)
            assert await caller.reply() == Event("reloading")
        async with Caller.at(path) as caller:
            caller.ask("ping")
            assert await caller.reply() == Result(1, "pong")
    assert not first.exists()
    with pytest.raises(SocketError, match="No such file"):
        await admin.listen(tmp_path / "none" / "deeper" / "a.sock")
    assert admin.path == tmp_path / "b.sock"  # the old one stays
    await admin.unlisten()
    assert admin.path is None
    assert os.listdir(tmp_path) == []


async def test_a_live_one_is_not_replaced(admin: Admin) -> None:
    assert admin.path is not None
    assert stat.S_IMODE(admin.path.stat().st_mode) == 0o600
    async with Caller.at(admin.path) as caller:
        with pytest.raises(AlreadyRunning, match=r"already running: process \d+ listens on .*a\.sock"):
            async with serving(admin.path):
                pass
        caller.ask("ping")
        assert await caller.reply() == Result(1, "pong")


async def test_a_socket_in_our_place_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with serving(path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.is_socket()
