"""The network under the tunnel goes, comes back and changes, with a stream open: it survives, and flows again soon."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import laboratory, running
from tests.support.lab import FAR, FAR6, FAR_PORT, NEAR, NEAR6, Lab, run, wait_for
from tests.support.stream import Stream, stream

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

OUTER = {4: f"{FAR}:{FAR_PORT}", 6: f"[{FAR6}]:{FAR_PORT}"}
MOVED = {4: ("192.0.2.9/28", f"{NEAR}/28"), 6: ("2001:db8:1::9/64", f"{NEAR6}/64")}  # to there, from here


@pytest.fixture(scope="module", params=["go-gso userspace", "go-gso tun", "debian userspace"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Far peer, and where the tunnel ends: in the second, streams are the kernel's, and so is when they try again."""
    kind, mode = request.param.split()
    for each in laboratory(kind):
        each.flags = ("--tun", "usernet0") if mode == "tun" else ()
        yield each


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
    lab.stop_peer()  # one that only forgot us does not always answer over the other family: it sends nothing for 10 s
    lab.start_peer()
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


@pytest.fixture
def named(place: Lab) -> Iterator[Lab]:
    """The near host knows the far one by a name with an address of each family."""
    hosts = Path("/etc/netns", place.near, "hosts")
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f"{FAR} far.example.test\n{FAR6} far.example.test\n")
    yield place
    shutil.rmtree(hosts.parent)


@pytest.mark.parametrize("lost", [4, 6])
def test_a_network_with_the_other_family_alone(named: Lab, lost: int) -> None:
    """The name is asked for anew, and what cannot be reached from here is not waited for."""
    with running(named, named.config(endpoint=f"far.example.test:{FAR_PORT}")), stream(named) as one:
        addresses(named, "del", MOVED[lost][1])
        assert one.flow("the stream to flow again", 30) < 5
        near = NEAR6 if lost == 4 else NEAR
        wait_for(lambda: near in named.wg("show", named.device, "endpoints"), "the far peer to know")
