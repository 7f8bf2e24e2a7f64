"""A private key that is made here, or stands in a file of its own: what each command says of it."""

from __future__ import annotations

import json
import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.cli.support import Daemon, usernet
from tests.config.test_parser import GOOD, OWN

MADE = "our key was made here; public key: "


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "wg.conf", GOOD.replace("192.0.2.1", "127.0.0.1"))


def write(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def with_key(file: Path, key: str) -> Path:
    return write(file, file.read_text().replace(OWN, key))


def public(key: str) -> str:
    return usernet("pubkey", stdin=key).stdout.strip()


def started(file: Path, *flags: str) -> AbstractAsyncContextManager[Daemon]:
    return Daemon.start("run", str(file), "--socks5-server", "127.0.0.1:0", *flags)


@pytest.mark.parametrize("key", ["generate", "file:own"])
def test_check_takes_both(file: Path, key: str) -> None:
    write(file.parent / "own", OWN + "\n")
    done = usernet("check", str(with_key(file, key)))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{file}: can be used: 1 peer\n", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "PrivateKey: cannot read 'own': No such file or directory; write file: and the path of a file that "),
        ("", "PrivateKey: the key is empty; write the 44 characters "),
        (OWN[:-2] + "\n", "PrivateKey: the key is not base64 (42 characters); write the 44 characters "),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_holds_no_key(file: Path, command: str, content: str | None, said: str) -> None:
    if content is not None:
        write(file.parent / "own", content)
    done = usernet(command, str(with_key(file, "file:own")))
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert text.startswith(f"{file}:2: {said}")
    assert text.endswith(f"{file}{':' if command == 'check' else ''} cannot be used: 1 problem\n")
    assert OWN[:20] not in text


async def test_a_key_in_a_file_is_found_from_the_configuration_and_read_again(file: Path, tmp_path: Path) -> None:
    """Not from where usernet was started; and a reload sees another key in the same file."""
    path = write(tmp_path / "own", OWN + "\n")
    where = tmp_path / "a.sock"
    async with started(with_key(file, "file:own"), "--socket", str(where)) as daemon:
        await daemon.line("admin socket: ")
        assert status(where)["public_key"] == public(OWN)
        other = usernet("genkey").stdout
        path.write_text(other)
        done = usernet("reload", "--socket", str(where))
        assert (done.returncode, done.stderr) == (0, ""), done
        assert status(where)["public_key"] == public(other)
        path.unlink()
        done = usernet("reload", "--socket", str(where))
        assert done.returncode == 1
        assert "PrivateKey: cannot read 'own': No such file or directory" in done.stderr
        assert status(where)["public_key"] == public(other)
        assert await daemon.stop() == 0
    assert MADE not in daemon.text


def status(where: Path) -> dict[str, object]:
    done = usernet("status", "--json", "--socket", str(where))
    assert done.returncode in (0, 1), done
    found: dict[str, object] = json.loads(done.stdout)
    return found


async def test_a_key_that_is_made_here_is_kept(file: Path, tmp_path: Path) -> None:
    where = tmp_path / "a.sock"
    made = set()
    for _ in range(2):
        flags = ("--state", str(tmp_path / "state"), "--socket", str(where))
        async with started(with_key(file, "generate"), *flags) as daemon:
            made.add((await daemon.line(MADE + "(.*)$"))[1])
            await daemon.line("admin socket: ")
            assert {status(where)["public_key"]} == made
            done = usernet("reload", "--socket", str(where))
            assert (done.returncode, done.stderr) == (0, "")
            assert {status(where)["public_key"]} == made
            assert await daemon.stop() == 0
        assert "the next start may make another key" not in daemon.text
    (tmp_path / "state").unlink()
    async with started(file, "--state", str(tmp_path / "state")) as daemon:
        assert (await daemon.line(MADE + "(.*)$"))[1] not in made


async def test_a_key_that_nothing_keeps_is_warned_of(file: Path) -> None:
    async with started(with_key(file, "generate"), "--state", "mem:") as daemon:
        await daemon.line("the next start may make another key: nothing is kept; see --state")


def test_a_key_that_cannot_be_kept(file: Path) -> None:
    done = usernet("run", str(with_key(file, "generate")), "--state", f"{file}/state")
    assert done.returncode == 1
    assert re.fullmatch(r"Error: state file .*/state: .*; name another with --state, .*\n", done.stderr), done.stderr


def test_what_is_kept_is_no_key(file: Path, tmp_path: Path) -> None:
    """Nor is another written over it: the far side knows the one that was there."""
    state = write(tmp_path / "state", '{"wg.private-key": "AAAA"}')
    done = usernet("run", str(with_key(file, "generate")), "--state", str(state))
    assert done.returncode == 1
    assert "is no key; take it out, or name another store" in done.stderr
    assert json.loads(state.read_text()) == {"wg.private-key": "AAAA"}


@pytest.mark.parametrize(
    "command",
    [("ping", "FILE", "10.0.0.1"), ("netcheck", "FILE"), ("nc", "FILE", "10.0.0.1", "80"), ("wireproxy", "-c", "FILE")],
)
def test_who_has_not_the_key_that_run_made(file: Path, command: tuple[str, ...]) -> None:
    with_key(file, "generate")
    done = usernet(*(str(file) if word == "FILE" else word for word in command))
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first == (
        f"{file}:2: PrivateKey: only `usernet run` can generate and keep a key; write the one of `usernet genkey`, "
        "or leave the file out where the daemon that runs can be asked"
    )
    assert last == f"Error: {file} cannot be used: 1 problem"


def test_a_service_is_installed_with_it(file: Path) -> None:
    done = usernet("install-system-daemon", str(with_key(file, "generate")), "--print")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ExecStart=" in done.stdout
