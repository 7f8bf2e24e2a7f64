"""Whether the tunnel works, in one word and in a sentence: a Status -> a Verdict.

A handshake is at most 180 s old where there is traffic, since no session is used for longer (WireGuard paper,
section 6.1); so that is what "works" means, and it asks nobody else.  A tunnel that nobody uses has no session: that is
rest, and no fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from proxy.status.snapshot import PeerStatus, Status
from proxy.status.wording import ago

FRESH: Final = 180.0  # s: Reject-After-Time

PeerState = Literal["up", "silent", "connecting", "idle", "waiting"]
PEER_STATES: Final[tuple[PeerState, ...]] = get_args(PeerState)
State = Literal["up", "partly", "connecting", "idle", "waiting", "down", "stopping"]


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    title: str
    detail: str  # the cause, where it does not work


def peer_state(peer: PeerStatus, now: float) -> PeerState:
    if peer.trouble:
        return "silent"
    if peer.latest_handshake is not None and now - peer.latest_handshake <= FRESH:
        return "up"
    if peer.struggling_since is not None:
        return "connecting"
    return "idle" if peer.is_dialled or peer.latest_handshake is not None else "waiting"


def judge(status: Status) -> Verdict:
    """What a person asks first."""
    peers = {peer.public_key: peer_state(peer, status.at) for peer in status.peers}
    up = sum(state == "up" for state in peers.values())
    silent = [peer for peer in status.peers if peers[peer.public_key] == "silent"]
    if status.state == "stopping":
        return Verdict("stopping", "The daemon is stopping", "Nobody new is served.")
    if not peers:
        return Verdict("down", "There is no peer", "The configuration has no [Peer], so nothing can be reached.")
    if up and (silent or status.health):
        return Verdict("partly", "The tunnel works, but not all is well", _first_trouble(status))
    if up:
        return Verdict("up", "The tunnel works", _latest(status))
    if silent:
        return Verdict("down", "The tunnel does not work", _first_trouble(status))
    if "connecting" in peers.values():
        return Verdict("connecting", "Connecting", "A handshake was begun, and has not been answered yet.")
    if "idle" in peers.values():
        return Verdict(
            "idle", "The tunnel is at rest", "Nothing goes through it just now; what comes next makes a new handshake."
        )
    return Verdict("waiting", "Waiting for a peer", "No peer has an Endpoint, so one of them has to speak first.")


def _first_trouble(status: Status) -> str:
    if status.health:
        return str(status.health[0])
    return next(peer.trouble for peer in status.peers if peer.trouble)


def _latest(status: Status) -> str:
    peer = max(status.peers, key=lambda peer: peer.latest_handshake or 0.0)
    whose = f", with {peer.public_key[:8]}…," if len(status.peers) > 1 else ""
    return f"The latest handshake{whose} was {ago(status.at - (peer.latest_handshake or 0.0))} ago."
