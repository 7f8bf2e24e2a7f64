"""A Status -> metrics as Prometheus reads them: names and units by its conventions, and a bounded number of series.

Read https://prometheus.io/docs/practices/naming/.  The registry is one of our own, made for each request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from proxy.replies import TOKENS
from proxy.status.snapshot import Status
from proxy.status.verdict import PEER_STATES, judge, peer_state

PEERS: Final = 1000  # that have series of their own, in the file's order

Values = Iterable[tuple[tuple[str, ...], float]]


class StatusCollector:
    """What prometheus_client calls a collector."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        built = {"version": status.version, "kernel": status.kernel, "loop": status.loop}
        yield InfoMetricFamily("usernet_build", "What runs.", value=built)
        which = {"name": status.name, "mode": status.mode}
        yield InfoMetricFamily("usernet_tunnel", "Which tunnel it is.", value=which)
        works = judge(status).state in ("up", "partly")
        yield _gauge("tunnel_up", "Whether a peer has completed a handshake of late, and answers.", int(works))
        yield _gauge("troubles", "How many things are wrong just now: a status lists them.", len(status.health))
        drops = [((where, reason), n) for where, found in status.drops.items() for reason, n in found.items()]
        yield _counters("drops", "Packets and datagrams that were dropped.", ("where", "reason"), drops)
        yield from _peers(status)
        yield from _proxy(status)
        connections = [((state,), n) for state, n in status.tcp_connections.items()]
        yield _gauges("tcp_connections", "TCP connections inside the tunnel.", ("state",), connections)
        resent = status.tcp_segments_resent
        yield _counter("tcp_retransmitted_segments", "TCP segments that were sent again.", resent)


def _peers(status: Status) -> Iterator[Metric]:
    states = [peer_state(peer, status.at) for peer in status.peers]
    counts = [((state,), states.count(state)) for state in PEER_STATES]
    yield _gauges("peers", "Peers by how they are.", ("state",), counts)
    keys, peers = ("public_key",), [((peer.public_key,), peer) for peer in status.peers[:PEERS]]
    received = [(key, peer.rx_bytes) for key, peer in peers]
    yield _counters("peer_receive_bytes", "Bytes from the peer, as wg counts them.", keys, received)
    sent = [(key, peer.tx_bytes) for key, peer in peers]
    yield _counters("peer_transmit_bytes", "Bytes to the peer, as wg counts them.", keys, sent)
    handshakes = [(key, peer.handshakes) for key, peer in peers]
    yield _counters("peer_handshakes", "Handshakes with the peer that completed.", keys, handshakes)
    latest = [(key, peer.latest_handshake) for key, peer in peers if peer.latest_handshake is not None]
    what = "When the latest one completed, in seconds since 1970; absent before the first."
    yield _gauges("peer_last_handshake_timestamp_seconds", what, keys, latest)


def _proxy(status: Status) -> Iterator[Metric]:
    yield _gauge("proxy_clients", "Clients that are connected.", status.clients)
    yield _gauge("proxy_streams", "Clients that something is carried for.", status.streams_total)
    yield _counter("proxy_accepted", "Clients that were accepted.", status.accepted)
    requests = [((protocol,), n) for protocol, n in status.requests.items()]
    yield _counters("proxy_requests", "Requests of clients.", ("protocol",), requests)
    failed = [((reason,), n) for reason, n in status.refused.items() if reason in TOKENS]
    outcomes: Values = [(("ok",), status.dialled), *failed]
    what = "Connections to destinations, by what came of them: ok, or an error type of RFC 9209."
    yield _counters("proxy_dials", what, ("outcome",), outcomes)
    others = [((reason,), n) for reason, n in status.refused.items() if reason not in TOKENS]
    yield _counters("proxy_refused", "Clients that were refused, by what they did.", ("reason",), others)
    yield _counter("proxy_upload_bytes", "Bytes from clients.", status.up_bytes)
    yield _counter("proxy_download_bytes", "Bytes to clients.", status.down_bytes)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"usernet_{name}", what, value=value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"usernet_{name}", what, value=value)


def _gauges(name: str, what: str, labels: Sequence[str], values: Values) -> Metric:
    family = GaugeMetricFamily(f"usernet_{name}", what, labels=labels)
    for each, value in values:
        family.add_metric(each, value)
    return family


def _counters(name: str, what: str, labels: Sequence[str], values: Values) -> Metric:
    family = CounterMetricFamily(f"usernet_{name}", what, labels=labels)
    for each, value in values:
        family.add_metric(each, value)
    return family


def exposition(status: Status, accept: str) -> tuple[bytes, str]:
    """The text, and its media type: OpenMetrics where the Accept field asks for it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    for standard in (ProcessCollector, PlatformCollector, GCCollector):
        standard(registry=registry)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
