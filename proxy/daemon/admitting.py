"""What the packet filter lets in: what the configuration makes us answer, and `Inbound =`; nothing else.

What is opened while it runs, for BIND and UDP ASSOCIATE, is permitted by whoever opens it (`proxy.routes.let_in`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from proxy.daemon.serving import Bound
from usernet.config import Config
from usernet.filter import FilterRule
from usernet.wire.ip import ICMP, TCP, UDP

PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}


def rules(config: Config, bound: Iterable[Bound]) -> Iterator[FilterRule]:
    """`bound`: the proxy's listeners, of which some are inside."""
    yield FilterRule(ICMP)  # our addresses answer pings
    for tunnel in config.server_tunnels:
        yield FilterRule(PROTOCOLS[tunnel.kind], tunnel.listen_port, tunnel.listen_port)
    for one in bound:
        if one.listen.inside:
            yield FilterRule(TCP, one.port, one.port)
    for rule in config.interface.inbound:
        protocol = PROTOCOLS[rule.transport] if rule.transport is not None else None
        yield FilterRule(protocol, rule.low, rule.high, rule.sources, rule.destinations)
