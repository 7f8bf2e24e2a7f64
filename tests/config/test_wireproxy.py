"""wireproxy's files: its own examples, WGConfig, references to the environment, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_parser import GOOD, INTERFACE, OWN, PEER, PEER_SECTION
from usernet.config import load, parse
from usernet.errors import ConfigError

SOCKS = "[Socks5]\nBindAddress = 127.0.0.1:25344\n"


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).replace(str(path.parent), "DIR") for problem in caught.value.problems]


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """A file that imports wg.conf beside it."""
    tmp_path.chmod(0o700)
    (tmp_path / "wg.conf").write_text(GOOD)
    path = tmp_path / "wireproxy.conf"
    path.write_text("WGConfig = wg.conf\n" + SOCKS)
    return path


def test_an_imported_file(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(main)
    assert config.interface.addresses == parse(GOOD, "f").interface.addresses
    assert config.peers[0].endpoint == ("192.0.2.1", 51820)
    assert [proxy.port for proxy in config.proxies] == [25344]
    assert config.warnings == ()
    main.write_text(f"WGConfig = $WHERE\n{SOCKS}")
    monkeypatch.setenv("WHERE", str(main.parent / "wg.conf"))
    assert load(main).peers == config.peers


def test_each_problem_names_its_own_file(main: Path) -> None:
    main.write_text("Nonsense = 1\nWGConfig = wg.conf\n[Socks5]\nBindAddress = x\n" + PEER_SECTION)
    (main.parent / "wg.conf").write_text("WGConfig = more.conf\n" + INTERFACE + "Bogus = 1\nMTU = 5\n" + SOCKS)
    assert [problem.partition("; ")[0] for problem in problems(main)] == [
        "DIR/wireproxy.conf:1: this line belongs to no section",
        "DIR/wireproxy.conf:4: BindAddress: 'x' has no port",
        "DIR/wireproxy.conf:5: WGConfig names another file for [Peer]",
        "DIR/wg.conf:1: a file that WGConfig names has [Interface] and [Peer] only",
        "DIR/wg.conf:6: [Interface] has no key 'Bogus'",
        "DIR/wg.conf:7: MTU: '5' is not a number from 576 to 65440",
        "DIR/wg.conf:8: a file that WGConfig names has [Interface] and [Peer] only",
    ]


def test_warnings_name_their_own_file(main: Path) -> None:
    main.write_text("WGConfig = wg.conf\n[http]\nBindAddress = :1\n")
    (main.parent / "wg.conf").write_text(GOOD.replace("DNS", "Table"))
    assert [str(w).replace(str(main.parent), "DIR").partition(": ")[0] for w in load(main).warnings] == [
        "DIR/wireproxy.conf:2",
        "DIR/wg.conf:1",
        "DIR/wg.conf:4",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "DIR/wireproxy.conf:1: WGConfig: cannot read 'wg.conf': No such file or directory; write the path"),
        (b"\xff", "DIR/wg.conf:1: this is not UTF-8 text"),
        (b"", "DIR/wg.conf:1: there is no [Interface] section"),
    ],
)
def test_an_import_that_fails(main: Path, content: bytes | None, said: str) -> None:
    imported = main.parent / "wg.conf"
    if content is None:
        imported.unlink()
    else:
        imported.write_bytes(content)
    assert problems(main)[0].startswith(said)


def test_references_to_the_environment() -> None:
    text = GOOD.replace(OWN, "$KEY").replace("0.0.0.0/0", "$NETS") + SOCKS + "Username = $$me\nPassword = $WORD\n"
    environ = {"KEY": OWN, "NETS": "10.0.0.0/8, fd00::/8", "WORD": "$x y"}
    config = parse(text, "f", environ=environ)
    assert config.interface.private_key == bytes(range(32))
    assert len(config.peers[0].allowed_ips) == 2
    assert (config.proxies[0].username, config.proxies[0].password) == ("$me", "$x y")


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(PEER, "$NO_SUCH"), "f", environ={})
    assert str(caught.value) == (
        "f:6: PublicKey: there is no environment variable 'NO_SUCH'; set it, or write $$ for a value that begins with $"
    )
    parse(GOOD.replace("DNS", "PostUp = $SHELL\nDNS"), "f", environ={})  # commands are not run, so not read either


@pytest.mark.parametrize("key", ["Jc", "Jmin", "jmax", "S1", "S2", "H1", "H4", "I1", "I5", "J1", "Itime"])
def test_amneziawg_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=f"f:4: {key} is AmneziaWG's: its disguise is another protocol"):
        parse(GOOD.replace("DNS", f"{key} = 3\nDNS"), "f")


@pytest.mark.parametrize("word", ["auto", "ipv4", "IPv6"])
def test_resolve(word: str) -> None:
    assert parse(f"{GOOD}[Resolve]\nResolveStrategy = {word}\n", "f").resolve_strategy == word.lower()
    assert parse(GOOD, "f").resolve_strategy == "auto"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Resolve]\nResolveStrategy = v4\n", "f:10: ResolveStrategy: 'v4' is none of auto, ipv4 and ipv6; write one"),
        ("[Resolve]\n[Resolve]\n", "f:10: line 9 begins a [Resolve] already; make one"),
    ],
)
def test_resolve_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD + text, "f")
    assert str(caught.value).startswith(said)
