"""The page says what a Status says, and no more than that: nothing from elsewhere becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from proxy.status import page
from proxy.status.snapshot import Complaint, Trouble
from tests.status.support import KEY, NOW, a_peer, a_status, a_stream

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{0}"
VOID = {"meta", "link", "path", "circle"}


class Reader(HTMLParser):
    """Elements must nest, and there are no scripts, styles or handlers in line."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "style"
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag == "script":
            assert dict(attrs)["src"] == "/page.js"
        assert tag != "style"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def read(**changes: object) -> Reader:
    return Reader(page.page(a_status(**changes), [], 0.0).decode())


def test_what_it_says() -> None:
    found = read()
    for words in ("The tunnel works", "wg0", "244.1 KiB/s", "11.7 KiB/s", KEY, "192.0.2.1:51820", "10.0.0.0/24",
                  "24 s ago", "example.org:443", "SOCKS5 CONNECT", "alice", "65 s", "SOCKS5 and HTTP on 127.0.0.1:1080",
                  "export ALL_PROXY=socks5h://127.0.0.1:1080", "http://127.0.0.1:1080/proxy.pac",
                  "usernet 1.2.3"):  # fmt: skip
        assert words in found.text


def test_everything_on_it_is_from_here() -> None:
    assert all(link.startswith("/") and not link.startswith("//") for link in read().links)


@pytest.mark.parametrize(
    "changes",
    [
        {"streams": (a_stream(destination=EVIL, user=EVIL, method=EVIL, route=EVIL, client=EVIL),)},
        {"recent": (Complaint("error", EVIL, NOW, NOW, 3),)},
        {"health": (Trouble(EVIL, EVIL), Trouble(EVIL, EVIL))},
        {"peers": (a_peer(endpoint=EVIL, allowed_ips=(EVIL,)),)},
        {"name": EVIL, "listeners": (EVIL,), "forwards": (EVIL,), "hints": (EVIL,), "mode": EVIL},
    ],
)
def test_what_comes_from_elsewhere_is_text(changes: dict[str, object]) -> None:
    assert EVIL in read(**changes).text


def test_what_is_wrong_is_said_once() -> None:
    silent = a_peer(struggling_since=NOW - 40, trouble="usually offline")
    first, second = Trouble("no handshake completes", "usually offline"), Trouble("name server silent", "see to it")
    text = read(peers=(silent,), health=(first, second)).text
    assert text.count("no handshake completes") == 1
    assert text.count("name server silent") == 1
    assert "The tunnel does not work" in text


def test_of_many_streams_it_says_how_many_there_are() -> None:
    assert "8,123, the 1 busiest of them here" in read(streams_total=8123).text
    assert "Nobody asks for anything just now" in read(streams=(), streams_total=0).text


def test_of_many_peers_those_in_trouble_come_first() -> None:
    peers = [a_peer(public_key=f"{number:043}=") for number in range(page.PEERS + 50)]
    peers[-1] = a_peer(public_key="8" * 43 + "=", trouble="usually offline", struggling_since=NOW - 40)
    text = read(peers=tuple(peers)).text
    assert f"{page.PEERS + 50}, {page.PEERS} of them here" in text
    assert "8" * 43 in text
    assert text.count("Latest handshake") == page.PEERS


def test_live_sections_are_those_of_the_page() -> None:
    status = a_status()
    live = Reader(page.live(status, [], 0.0))
    whole = Reader(page.page(status, [], 0.0).decode())
    assert live.ids == ["verdict", "rates", "troubles", "peers", "streams", "recent"]
    assert set(live.ids) < set(whole.ids)


def test_assets() -> None:
    for path in page.ASSETS:
        assert page.asset(path)
        assert b"http" not in page.asset(path).replace(b"http://www.w3.org", b"")
    assert b"#1a9e57" in page.icon("up")
    assert b"#d43c3c" in page.icon("down")
    assert b"<script" not in page.icon('"><script>')
