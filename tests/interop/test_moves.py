"""The network under the tunnel goes, comes back and changes, with a stream open: it survives, and flows again soon.

The far end of each stream is a socket of this process on the far host, so that what arrives is known as it does.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.interop.conftest import running
from tests.support.lab import FAR, FAR6, FAR_PORT, INNER_FAR, NEAR, NEAR6, Lab, connected, run, socket_in, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

OUTER = {4: f"{FAR}:{FAR_PORT}", 6: f"[{FAR6}]:{FAR_PORT}"}
MOVED = {4: ("192.0.2.9/28", f"{NEAR}/28"), 6: ("2001:db8:1::9/64", f"{NEAR6}/64")}  # to there, from here
PATTERN = bytes(range(251)) * 300
PIECE = 16 << 10


class Stream:
    """One connection through the proxy, which carries a known sequence of bytes from `sender` to `receiver`."""

    def __init__(self, near: socket.socket, far: socket.socket, *, up: bool) -> None:
        self.sender, self.receiver = (near, far) if up else (far, near)
        for sock in (near, far):
            sock.setblocking(False)
        self.written = self.arrived = 0

    def pump(self, until: Callable[[], bool], what: str, seconds: float = 60) -> float:
        """Write 3 MB/s and read, until it is so; the seconds that this took."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < seconds, f"waited {seconds:g} s for {what}"
            at = self.written % 251
            with contextlib.suppress(BlockingIOError):
                self.written += self.sender.send(PATTERN[at : at + PIECE])
            with contextlib.suppress(BlockingIOError):
                while data := self.receiver.recv(len(PATTERN) - 251):
                    at = self.arrived % 251
                    assert data == PATTERN[at : at + len(data)]
                    self.arrived += len(data)
            time.sleep(0.005)
        return time.monotonic() - began

    def flow(self, what: str, seconds: float = 60) -> float:
        """Until all that has been written by now has arrived, and more."""
        mark = self.written
        return self.pump(lambda: self.arrived > mark, what, seconds)

    def last(self, seconds: float) -> None:
        """Go on for so long, in which nothing comes through."""
        begin, mark = time.monotonic(), 0

        def is_over() -> bool:
            nonlocal mark
            if time.monotonic() < begin + 0.5:  # what was on its way
                mark = self.arrived
            return time.monotonic() > begin + seconds

        self.pump(is_over, "the end of it", seconds + 5)
        assert self.arrived == mark


@contextlib.contextmanager
def stream(lab: Lab, *, up: bool = True) -> Iterator[Stream]:
    with contextlib.ExitStack() as stack:
        with socket_in(lab.far):
            listener = stack.enter_context(socket.create_server((INNER_FAR, 0)))
        near = stack.enter_context(connected(lab.near, "127.0.0.1", 1080))
        near.sendall(b"\5\1\0")
        assert near.recv(2) == b"\5\0"
        near.sendall(b"\5\1\0\1" + socket.inet_aton(INNER_FAR) + listener.getsockname()[1].to_bytes(2, "big"))
        assert near.recv(64)[:2] == b"\5\0"
        far = stack.enter_context(listener.accept()[0])
        one = Stream(near, far, up=up)
        one.pump(lambda: one.arrived > 1 << 20, "the first MiB")
        yield one


def addresses(lab: Lab, verb: str, *cidrs: str) -> None:
    for cidr in cidrs:
        nodad = ["nodad"] if ":" in cidr and verb != "del" else []
        run("ip", "-n", lab.near, "addr", verb, cidr, "dev", "v0", *nodad)


def restore(lab: Lab) -> None:
    run("ip", "-n", lab.near, "link", "set", "v0", "up")
    for moved, first in MOVED.values():
        subprocess.run(["ip", "-n", lab.near, "addr", "del", moved, "dev", "v0"], capture_output=True)
        addresses(lab, "replace", first)
    run("ip", "-n", lab.near, "route", "replace", "default", "via", FAR)


@pytest.fixture
def place(lab: Lab) -> Iterator[Lab]:
    lab.forget_near()
    yield lab
    restore(lab)


def interface_down(lab: Lab, one: Stream, seconds: float) -> float:
    run("ip", "-n", lab.near, "link", "set", "v0", "down")
    one.last(seconds)
    restore(lab)
    wait_for(lambda: " UP " in run("ip", "-n", lab.near, "-br", "link", "show", "v0"), "the link")
    return one.flow("the stream to flow again", 30)


def move(lab: Lab, one: Stream, family: int) -> float:
    new, old = MOVED[family]
    addresses(lab, "del", old)
    addresses(lab, "replace", new)
    return one.flow("the stream to flow again", 30)


@pytest.mark.parametrize("family", [4, 6])
def test_the_interface_goes_down_and_comes_back(place: Lab, family: int) -> None:
    with running(place, place.config(endpoint=OUTER[family])), stream(place) as one:
        assert interface_down(place, one, 10) < 5
        assert one.flow("more") < 5


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_our_address_changes(place: Lab, family: int, up: bool) -> None:
    """Without keepalives; where we only receive, the far peer would never learn of it by itself."""
    with running(place, place.config(endpoint=OUTER[family])), stream(place, up=up) as one:
        assert move(place, one, family) < 10
        wait_for(lambda: "network changed" in place.log("usernet.log"), "the line that says so")
        assert MOVED[family][0].partition("/")[0] in place.wg("show", place.device, "endpoints")
        restore(place)
        assert one.flow("the stream to flow again") < 30  # far kernel's timer


def test_the_far_peer_is_restarted(place: Lab) -> None:
    """It has forgotten our session and knows no address of ours: a connection that stalls asks for another."""
    with running(place, place.config()), stream(place) as one:
        place.stop_peer()
        place.start_peer()
        assert one.flow("the stream to flow again") < 12  # the timer for silence alone needs 15


def test_half_a_minute_of_silence(gso_lab: Lab) -> None:
    with running(gso_lab, gso_lab.config()), stream(gso_lab) as one:
        rules = "table inet silence {\nchain input {\ntype filter hook input priority 0;\nudp dport 51820 drop\n}\n}\n"
        run(*gso_lab.far_command("nft", "-f", "-"), stdin=rules)
        try:
            one.last(30)
        finally:
            run(*gso_lab.far_command("nft", "delete", "table", "inet", "silence"))
        assert one.flow("the stream to flow again") < 8
