"""The way out of the near host changes: direct connections that could only hang now end, and all others go on."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from tests.interop.conftest import running
from tests.support.lab import FAR, INNER_FAR, NEAR, Lab, connected, run, socket_in, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

BEYOND = "203.0.113.1"  # on the far host, by either cable
RULES = f"[Access]\nRule = direct {FAR} {BEYOND}\n"


@pytest.fixture
def place(gso_lab: Lab) -> Iterator[Lab]:
    """With a second cable."""
    near, far = gso_lab.near, gso_lab.far
    run("ip", "link", "add", "v1", "netns", near, "type", "veth", "peer", "name", "v1", "netns", far)
    for name, address in ((near, "198.51.100.1/24"), (far, "198.51.100.2/24")):
        run("ip", "-n", name, "addr", "add", address, "dev", "v1")
        run("ip", "-n", name, "link", "set", "v1", "up")
    run("ip", "-n", far, "addr", "add", BEYOND, "dev", "lo")
    wait_for(lambda: " UP " in run("ip", "-n", near, "-br", "link", "show", "v1"), "the second cable")
    gso_lab.forget_near()
    yield gso_lab
    run("ip", "-n", far, "addr", "del", BEYOND, "dev", "lo")
    run("ip", "-n", near, "link", "del", "v1")
    run("ip", "-n", near, "addr", "replace", f"{NEAR}/28", "dev", "v0")
    run("ip", "-n", near, "route", "replace", "default", "via", FAR)


class Both:
    """A connection through the proxy, and what the far host has of it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far

    def carries(self) -> bool:
        self.near.sendall(b"up")
        self.far.sendall(b"down")
        return self.far.recv(10) == b"up" and self.near.recv(10) == b"down"

    def has_ended(self) -> bool:
        """For the client."""
        if not select.select([self.near], [], [], 0)[0]:
            return False
        with contextlib.suppress(ConnectionResetError):
            return self.near.recv(10) == b""
        return True


@contextlib.contextmanager
def through_proxy(lab: Lab, host: str) -> Iterator[Both]:
    with contextlib.ExitStack() as stack:
        with socket_in(lab.far):
            listener = stack.enter_context(socket.create_server((host, 0)))
        near = stack.enter_context(connected(lab.near, "127.0.0.1", 1080))
        near.sendall(b"\5\1\0")
        assert near.recv(2) == b"\5\0"
        near.sendall(b"\5\1\0\1" + socket.inet_aton(host) + listener.getsockname()[1].to_bytes(2, "big"))
        assert near.recv(64)[:2] == b"\5\0"
        far = stack.enter_context(listener.accept()[0])
        far.settimeout(20)
        yield Both(near, far)


def said(lab: Lab, count: int) -> bool:
    return f"direct connections from the old address ended: {count}" in lab.log("usernet.log")


def test_another_default_interface(place: Lab) -> None:
    """The old one and its address are still there; but what goes to everywhere now has another address."""
    with (
        running(place, place.config(extra=RULES)),
        through_proxy(place, BEYOND) as beyond,
        through_proxy(place, FAR) as neighbour,
        through_proxy(place, INNER_FAR) as inner,
    ):
        assert beyond.carries()
        run("ip", "-n", place.near, "route", "replace", "default", "via", "198.51.100.2")
        wait_for(beyond.has_ended, "the end of the connection to far away")
        wait_for(lambda: said(place, 1), "the line that says so")
        assert neighbour.carries()
        assert inner.carries()
        with through_proxy(place, BEYOND) as again:
            assert again.far.getpeername()[0] == "198.51.100.1"
            assert again.carries()


def test_another_address(place: Lab) -> None:
    with (
        running(place, place.config(extra=RULES)),
        through_proxy(place, FAR) as neighbour,
        through_proxy(place, INNER_FAR) as inner,
    ):
        run("ip", "-n", place.near, "addr", "del", f"{NEAR}/28", "dev", "v0")
        run("ip", "-n", place.near, "addr", "add", "192.0.2.9/28", "dev", "v0")
        wait_for(neighbour.has_ended, "the end of the direct connection")
        assert inner.carries()
        run("ip", "-n", place.near, "addr", "del", "192.0.2.9/28", "dev", "v0")


def test_the_same_address_again(place: Lab) -> None:
    """A cable that was out for a moment ends nothing."""
    with running(place, place.config(extra=RULES)), through_proxy(place, BEYOND) as beyond:
        run("ip", "-n", place.near, "link", "set", "v0", "down")
        wait_for(lambda: "network changed" in place.log("usernet.log"), "its being noticed")
        run("ip", "-n", place.near, "link", "set", "v0", "up")
        run("ip", "-n", place.near, "route", "replace", "default", "via", FAR)
        wait_for(lambda: place.log("usernet.log").count("network changed") > 1, "that, too")
        assert beyond.carries()
        assert "direct connections" not in place.log("usernet.log")
