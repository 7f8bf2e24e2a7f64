"""What the daemon says once it serves: what there is, and what to do with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.daemon.answering import shown
from proxy.daemon.hints import pac_url, shell_lines
from proxy.daemon.leading import BoundForward
from proxy.daemon.narrator import format_endpoint, short_key
from proxy.daemon.serving import Bound
from usernet.aio.engine import Engine
from usernet.config import Config, Peer, format_network
from usernet.wire.ip import format_address

SHOWN_ALLOWED_IPS = 4


def hello(
    config: Config, network: Engine, bound: Sequence[Bound], forwards: Sequence[BoundForward] = ()
) -> Iterator[str]:
    """What there is, and what to do with it."""
    yield f"tunnel: {', '.join(network.addresses)}, MTU {network.mtu}, UDP port {network.listen_port}"
    for peer in config.peers:
        yield f"peer {short_key(peer.public_key)}: {_endpoint(peer)}, {_allowed(peer)}"
    for tunnel in config.server_tunnels:
        yield shown(tunnel)
    for forwarded in forwards:
        yield str(forwarded)
    for one in bound:
        yield f"proxy: {one}"
    if bound:
        yield "to use it from a shell, paste:"
        for line in shell_lines(bound, example_url(config)):
            yield f"  {line}"
    url = pac_url(bound)
    if url is not None:
        yield f"to use it from a browser, automatic proxy configuration (PAC): {url}"


def _endpoint(peer: Peer) -> str:
    return "endpoint " + format_endpoint(peer.endpoint) if peer.endpoint else "no endpoint: it has to speak first"


def _allowed(peer: Peer) -> str:
    nets = [format_network(net) for net in peer.allowed_ips[:SHOWN_ALLOWED_IPS]]
    more = len(peer.allowed_ips) - len(nets)
    return "allowed IPs " + (", ".join(nets) or "none") + (f" and {more} more" if more else "")


def example_url(config: Config) -> str:
    """A first thing to fetch: anything where a peer takes everything, else the first host of the first network."""
    nets = [net for peer in config.peers for net in peer.allowed_ips]
    if not nets or any(length == 0 for _, length in nets):
        return "https://example.org/"
    packed, length = nets[0]
    first = int.from_bytes(packed, "big") + (0 if length == len(packed) * 8 else 1)
    address = format_address(first.to_bytes(len(packed), "big"))
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"
