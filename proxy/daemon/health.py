"""What is wrong with the daemon just now, and what to do about it: one Trouble each, the gravest first.

Where everything is well there is none.  What has happened and is over is in the log (recent.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from proxy.daemon.narrator import format_endpoint
from proxy.status.snapshot import PeerStatus, Trouble

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon

_UNRESOLVED = "it is asked for again and again; see whether this machine's resolver works and the name is right"
_SERVER = "names that it is asked for are not found; see whether DNS = names the right one, and a peer carries it"
_SILENT = "CheckAlive = names it; see whether it is there, and answers pings"
_UNKEPT = "a restart will not know what has happened since; it is tried again every minute"
_PAUSED = "those that come wait until somebody leaves; allow more with --max-clients or `ulimit -n`"


def troubles(daemon: Daemon, peers: Iterable[PeerStatus]) -> Iterator[Trouble]:
    """`peers`: of the same look."""
    yield from map(_of_peer, (peer for peer in peers if peer.trouble))
    for address in daemon.alive.silent():
        yield Trouble(f"{address} does not answer", _SILENT)
    for server, trouble in sorted(daemon.network.name_server_troubles().items()):
        yield Trouble(f"name server {server} {trouble}", _SERVER)
    if daemon.keeper is not None and daemon.keeper.trouble:
        yield Trouble(f"{daemon.keeper.trouble} (tried {daemon.keeper.failures} times)", _UNKEPT)
    for listener in daemon.serving.proxy.paused():
        yield Trouble(f"nobody new is accepted on {format_endpoint(listener)}", _PAUSED)


def _of_peer(peer: PeerStatus) -> Trouble:
    name = f"{peer.public_key[:8]}..."
    if peer.struggling_since is None:
        return Trouble(f"peer {name}: {peer.trouble}", _UNRESOLVED)
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(peer.struggling_since))
    return Trouble(f"no handshake completes with {name} at {peer.endpoint} since {since}", peer.trouble)
