"""`usernet route` and `usernet passwd`, as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import usernet
from usernet.config import parse

FILE = """[Interface]
PrivateKey = 6Pz0x0y9ZpDbMVtqEr1bgNrdZq9e3fEOtzNTGq0cGlw=
Address = 10.0.0.2/32
DNS = 10.0.0.1
[Peer]
PublicKey = tUYQcC2cMi0BkoRTb5lSrXIDeFy3yQyBjCDWjYcGmFQ=
AllowedIPs = 10.0.0.0/8
[Peer]
PublicKey = 6Pz0x0y9ZpDbMVtqEr1bgNrdZq9e3fEOtzNTGq0cGlw=
AllowedIPs = 10.1.0.0/16
[Access]
User = alice:$scrypt$ln=14,r=8,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
Upstream = office socks5://10.0.0.5:1080
Rule = refuse * port 25
Rule = office .partner.example user alice
Rule = direct 192.0.2.0/24, localhost
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "wg0.conf"
    path.write_text(FILE)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["10.9.2.3"], 0, "through peer tUYQcC2c... (line 5) because of 10.0.0.0/8; no rule names it"),
        (["10.1.2.3:80"], 0, "port 80: goes through peer 6Pz0x0y9... (line 8) because of 10.1.0.0/16"),
        (["10.1.2.3:25"], 1, "refused: the rule of line 14 refuses the destination: refuse * port 25"),
        (["203.0.113.1"], 1, "refused: no peer's AllowedIPs cover it"),
        (["[2001:db8::1]:80"], 1, "2001:db8::1 port 80: refused"),
        (["192.0.2.7"], 0, "goes out directly, by this host's own network, because of the rule of line 16"),
        (["localhost"], 0, "localhost port 443 at 127.0.0.1: goes out directly"),
        (["127.0.0.1"], 1, "loopback"),
        (
            ["--user", "alice", "www.partner.example:80"],
            0,
            "the socks5 proxy office at 10.0.0.5 port 1080, reached",
        ),
    ],
)
def test_route(file: str, arguments: list[str], status: int, said: str) -> None:
    ran = usernet("route", file, *arguments)
    assert said in ran.stdout
    assert (ran.returncode, ran.stderr) == (status, "")


@pytest.mark.parametrize("destination", ["a..b", "a:0", "a:65536", "[::1", "a:x"])
def test_what_is_no_destination(file: str, destination: str) -> None:
    ran = usernet("route", file, destination)
    assert ran.returncode == 2
    assert "write NAME, ADDR, NAME:PORT or [IPv6]:PORT" in ran.stderr


def test_passwd_makes_a_line_that_the_section_takes() -> None:
    ran = usernet("passwd", "bob", stdin="correct horse\n")
    assert ran.returncode == 0
    assert "correct" not in ran.stdout
    assert [user.name for user in parse(FILE + ran.stdout, "x").access.users] == ["alice", "bob"]


@pytest.mark.parametrize(("name", "word"), [("a:b", "x"), ("a#", "x"), ("bob", ""), ("bob", "x" * 256)])
def test_passwd_says_what_cannot_be(name: str, word: str) -> None:
    ran = usernet("passwd", name, stdin=word + "\n")
    assert ran.returncode != 0
    assert ran.stdout == ""


def test_a_key_that_the_daemon_has_made_is_not_needed(file: str) -> None:
    """But for a name, which is asked of the tunnel."""
    Path(file).write_text(FILE.replace("6Pz0x0y9ZpDbMVtqEr1bgNrdZq9e3fEOtzNTGq0cGlw=", "generate", 1))
    ran = usernet("route", file, "10.9.2.3")
    assert "through peer tUYQcC2c... (line 5) because of 10.0.0.0/8; no rule names it" in ran.stdout
    assert (ran.returncode, ran.stderr) == (0, "")
    ran = usernet("route", file, "www.example.test")
    assert ran.stdout == (
        "www.example.test port 443: the name is asked of the tunnel, whose generated key only the daemon has; "
        "name an address\n"
    )
    assert (ran.returncode, ran.stderr) == (1, "")


def test_a_file_whose_ending_was_left_out(file: str) -> None:
    name = file.removesuffix(".conf")
    ran = usernet("route", name, "10.9.2.3")
    assert (ran.returncode, ran.stderr) == (
        1, f"Error: cannot read {name}: No such file or directory; {file} is there\n"
    )  # fmt: skip
