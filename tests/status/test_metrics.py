"""What Prometheus reads: by its own tool, its own parser, and the dashboard that asks for it."""

from __future__ import annotations

import subprocess

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.status.metrics import PEERS, exposition
from tests.status.support import KEY, NOW, OTHER_KEY, a_peer, a_status
from tests.support.skipping import needs

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def values(**changes: object) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, _ = exposition(a_status(**changes), "")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text.decode())
        for sample in family.samples
    }


def test_values() -> None:
    found = values()
    for name, labels, value in (
        ("usernet_tunnel_up", (), 1),
        ("usernet_peer_receive_bytes_total", (("public_key", KEY),), 5_000_000),
        ("usernet_peer_transmit_bytes_total", (("public_key", KEY),), 1_000_000),
        ("usernet_peer_last_handshake_timestamp_seconds", (("public_key", KEY),), NOW - 24),
        ("usernet_peer_handshakes_total", (("public_key", KEY),), 3),
        ("usernet_peers", (("state", "up"),), 1),
        ("usernet_peers", (("state", "silent"),), 0),
        ("usernet_drops_total", (("reason", "replayed"), ("where", "tunnel")), 2),
        ("usernet_proxy_dials_total", (("outcome", "ok"),), 6),
        ("usernet_proxy_dials_total", (("outcome", "dns_error"),), 2),
        ("usernet_proxy_refused_total", (("reason", "idle"),), 1),
        ("usernet_proxy_requests_total", (("protocol", "socks5"),), 5),
        ("usernet_tcp_retransmitted_segments_total", (), 3),
        ("usernet_build_info", (("kernel", "native"), ("loop", "uvloop"), ("version", "1.2.3")), 1),
    ):
        assert found[name, labels] == value
    assert any(name == "process_cpu_seconds_total" for name, _ in found)


def test_a_tunnel_that_does_not_work() -> None:
    silent = a_peer(struggling_since=NOW - 40, trouble="usually offline", latest_handshake=None)
    found = values(peers=(silent,))
    assert found["usernet_tunnel_up", ()] == 0
    assert not any(name == "usernet_peer_last_handshake_timestamp_seconds" for name, _ in found), "there was none"


def test_formats() -> None:
    text, media_type = exposition(a_status(), "")
    assert media_type.startswith("text/plain")
    text, media_type = exposition(a_status(), OPENMETRICS)
    assert media_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    families = parse_openmetrics(text.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"usernet_peer_receive_bytes", "usernet_peers"}


def test_a_name_cannot_break_out_of_its_line() -> None:
    text, _ = exposition(a_status(name='a"} 1\nevil 2'), "")
    assert not any(family.name == "evil" for family in parse_text(text.decode()))


def test_series_are_bounded() -> None:
    peers = tuple(a_peer(public_key=f"{number:043}=") for number in range(PEERS + 50))
    keys = {dict(labels)["public_key"] for name, labels in values(peers=peers) if name.startswith("usernet_peer_rec")}
    assert len(keys) == PEERS


def test_by_its_own_tool() -> None:
    needs("promtool")
    text, _ = exposition(a_status(peers=(a_peer(), a_peer(public_key=OTHER_KEY))), "")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
