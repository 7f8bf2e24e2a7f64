"""A person's first question has one answer."""

from __future__ import annotations

import pytest

from proxy.status.snapshot import Trouble
from proxy.status.verdict import FRESH, judge, peer_state
from tests.status.support import NOW, OTHER_KEY, a_peer, a_status

SILENT = a_peer(public_key=OTHER_KEY, struggling_since=NOW - 40, trouble="usually this machine is offline")
IDLE = a_peer(public_key="8" * 43 + "=", latest_handshake=NOW - FRESH - 1)
CONNECTING = a_peer(latest_handshake=None, struggling_since=NOW - 2)
NEW = a_peer(latest_handshake=None)
WAITING = a_peer(latest_handshake=None, is_dialled=False, endpoint=None)


def test_states_of_a_peer() -> None:
    for peer, state in (
        (a_peer(), "up"),
        (a_peer(latest_handshake=NOW - FRESH), "up"),
        (a_peer(struggling_since=NOW - 1), "up"),  # its next keys: nothing is wrong yet
        (SILENT, "silent"),  # although its last handshake is 24 s old
        (IDLE, "idle"),
        (CONNECTING, "connecting"),
        (NEW, "idle"),
        (WAITING, "waiting"),
    ):
        assert peer_state(peer, NOW) == state


@pytest.mark.parametrize(
    ("peers", "state", "title"),
    [
        ((a_peer(),), "up", "The tunnel works"),
        ((a_peer(), IDLE), "up", "The tunnel works"),
        ((a_peer(), SILENT), "partly", "The tunnel works, but not all is well"),
        ((SILENT, IDLE), "down", "The tunnel does not work"),
        ((CONNECTING,), "connecting", "Connecting"),
        ((IDLE,), "idle", "The tunnel is at rest"),
        ((WAITING,), "waiting", "Waiting for a peer"),
        ((), "down", "There is no peer"),
    ],
)
def test_the_verdict(peers: tuple, state: str, title: str) -> None:  # type: ignore[type-arg]
    verdict = judge(a_status(peers=peers))
    assert (verdict.state, verdict.title) == (state, title)


def test_the_cause_is_in_it() -> None:
    assert "offline" in judge(a_status(peers=(SILENT,))).detail
    health = (Trouble("name server 10.0.0.1 did not answer", "see whether it is there"),)
    verdict = judge(a_status(health=health))
    assert (verdict.state, verdict.detail) == ("partly", "name server 10.0.0.1 did not answer: see whether it is there")
    assert judge(a_status()).detail == "The latest handshake was 24 s ago."
    assert "tUYQcC2c" in judge(a_status(peers=(a_peer(), IDLE))).detail


def test_a_daemon_that_stops_is_no_fault_of_the_tunnel() -> None:
    assert judge(a_status(state="stopping", peers=(SILENT,))).state == "stopping"
