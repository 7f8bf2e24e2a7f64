"""The immutable snapshot of a host for status, admin and metrics alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """Counts since the host was made, and sizes now."""

    rows_in: int  # super-packets taken in
    packets_in: int  # as they were on the wire, before merging
    bytes_in: int
    super_packets_out: int
    packets_out: int  # as they are on the wire, after cutting
    bytes_out: int  # payload and the first segment's headers
    drops: Mapping[str, int]  # by reason
    connections: Mapping[str, int]  # by state, as RFC 9293 spells it
    half_open: int
    segments_resent: int  # by all connections, since the host was made
    pending_forwards: int  # clients whose backend is being dialled, or whose handshake is not over yet
    syn_cookies_sent: int  # answers to SYNs that a full listener did not keep
    syn_cookies_redeemed: int  # clients that came back with one
    udp_sockets: int
    udp_flows: int  # of these: forwarded
    narrow_paths: int  # destinations known to take less than the tunnel's MTU
    path_mtu_reductions: int  # how often one was found to
    senders_waiting: int
    fragment_bytes: int  # held for reassembly
    timers: int
