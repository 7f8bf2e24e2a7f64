"""The daemon's own pages beside a real far peer: /readyz as it goes and comes back, and the page in Chromium."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import running
from tests.support.browser import FLAGS, Tab, devtools, first
from tests.support.lab import INNER_FAR, Lab, connected, wait_for
from tests.support.skipping import needs

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

DEBUG = "http://127.0.0.1:9080/"
FLAGS_OF_RUN = ("--debug", "127.0.0.1:9080", "--local-addr", "127.0.0.1:9081", "--state", "mem:")


def probe(lab: Lab, url: str = "http://127.0.0.1:9081/readyz") -> tuple[int, str]:
    """Status, 0 where nobody listens yet, and body."""
    done = subprocess.run(
        lab.near_command("curl", "-sS", "--noproxy", "*", "-w", "\n%{http_code}", "--max-time", "5", url),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_readiness_follows_the_far_side(gso_lab: Lab) -> None:
    lab = gso_lab
    with running(lab, lab.config(), *FLAGS_OF_RUN):
        wait_for(lambda: probe(lab)[0] == 200, "the first handshake")
        assert probe(lab, "http://127.0.0.1:1080/readyz") == (200, "ready\n")
        lab.stop_peer()
        client = lab.start(  # what is sent stays without an answer
            lab.near_command("curl", "-s", "--max-time", "100", "-x", "socks5h://127.0.0.1:1080",
                             "--retry", "50", "--retry-all-errors", f"http://{INNER_FAR}/"),
            log="curl.log",
        )  # fmt: skip
        wait_for(lambda: probe(lab)[0] == 503, "the silence to be noticed", 90)
        status, why = probe(lab)
        assert (status, "no peer answers: usually this machine is offline" in why) == (503, True)
        assert probe(lab, "http://127.0.0.1:1080/readyz") == (503, "not ready\n")
        assert probe(lab, "http://127.0.0.1:9081/healthz") == (200, "ok\n"), "a restart would mend nothing"
        lab.end(client)
        lab.start_peer()
        wait_for(lambda: probe(lab)[0] == 200, "the far side to be back, with no traffic but what probes ask for", 60)


@pytest.fixture
def tab(gso_lab: Lab, tmp_path: Path) -> Iterator[Tab]:
    needs("chromium")
    profile = tmp_path / "profile"
    browser = gso_lab.start(
        gso_lab.near_command("chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"), log="chromium.log"
    )
    port, path = first(lambda: devtools(profile))
    with Tab.opened(connected(gso_lab.near, "127.0.0.1", port), path) as made:
        yield made
    gso_lab.end(browser)


def test_the_page(gso_lab: Lab, tab: Tab, tmp_path: Path) -> None:
    lab = gso_lab
    lab.blob("blob", 64 << 20)
    process = lab.start_usernet(lab.config(), *FLAGS_OF_RUN)
    wait_for(lambda: probe(lab)[0], "the pages")
    tab.show(1200, 1000)
    tab.call("Page.navigate", url=DEBUG)
    tab.until("document.querySelector('#verdict h1')?.textContent == 'The tunnel works'")
    assert tab.evaluate("document.title") == "The tunnel works · wg"
    assert "Nobody asks for anything" in tab.evaluate("document.querySelector('#streams').innerText")
    download = lab.start(
        lab.near_command("curl", "-s", "-o", "/dev/null", "--limit-rate", "3M", "-x", "socks5h://127.0.0.1:1080",
                         f"http://{INNER_FAR}/blob"),
        log="curl.log",
    )  # fmt: skip
    # Nobody loads it again: it does so by itself
    tab.until(f"document.querySelector('#streams').innerText.includes('{INNER_FAR}:80')")
    tab.until("document.querySelector('#rates .down b').textContent.endsWith(' MiB/s')")
    before = tab.evaluate("document.querySelector('.peer').innerText")
    tab.until(f"document.querySelector('.peer').innerText != {before!r}")
    tab.until("document.querySelector('#rates .down .line').getAttribute('d').split(',').length > 3")
    back = {}
    for width, dark in ((1200, False), (1200, True), (390, False), (390, True)):
        tab.show(width, 844, dark=dark)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        back[dark] = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.screenshot(tmp_path / f"{width}-{'dark' if dark else 'light'}.png")
    assert back[True] != back[False]
    for path in ("status", "metrics", "readyz", "debug/stacks"):
        assert tab.evaluate(f"fetch('/{path}').then(answer => answer.status)") == 200
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith((DEBUG, "about:"))] == []
    lab.end(download)
    assert lab.end(process) == 0, lab.log("usernet.log")
    tab.until("!document.getElementById('lost').hidden")


def test_other_sites_in_the_same_browser(gso_lab: Lab, tab: Tab) -> None:
    """A name that is made to point here (`--host-resolver-rules`), and a page from elsewhere that asks for ours."""
    lab = gso_lab
    with running(lab, lab.config(), *FLAGS_OF_RUN):
        wait_for(lambda: probe(lab)[0], "the pages")
        tab.call("Page.navigate", url="http://evil.example:9080/status")
        tab.until("document.body?.innerText.includes('this is not that host')")
        tab.call("Page.navigate", url="data:text/html,<h1>elsewhere</h1>")
        tab.until("document.querySelector('h1')?.textContent == 'elsewhere'")
        for mode in ("cors", "no-cors"):
            ask = f"fetch('{DEBUG}status', {{mode: '{mode}'}}).then(a => a.text(), () => 'refused')"
            assert "public_key" not in tab.evaluate(ask)
        picture = f"const i = new Image(); i.onload = i.onerror = () => done(i.naturalWidth); i.src = '{DEBUG}icon.svg'"
        assert tab.evaluate(f"new Promise(done => {{{picture}}})") == 0
        assert set(tab.statuses) == {403}
