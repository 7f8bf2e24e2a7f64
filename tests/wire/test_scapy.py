"""scapy as the oracle for every encoder and decoder of usernet/wire, and for the burst kernel's segmentation.

Ours against scapy goes by `rebuilt`: scapy takes a packet of ours apart, forgets lengths and checksums, and must put
the very same bytes together again.  scapy is imported nowhere else, for it is slow to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import (
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption_LSRR,
    IPOption_NOP,
    IPOption_RR,
    IPOption_SSRR,
    defragment,
    fragment,
)
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    defragment6,
    fragment6,
)
from scapy.packet import Packet, Raw

from tests.support.burst import INDEX, KEY, burst_of, open_plainly, runs_to_datagrams, seal_all
from tests.support.tcp import FLOW_V6, Peer
from usernet.burst import CHECKSUM_OK, Drops, PacketBurst, SuperPacket, default_kernel
from usernet.burst.sealing import sealed_size
from usernet.errors import WireError
from usernet.tcp import Connection, TcpSettings
from usernet.wire.icmp import (
    Echo,
    IcmpError,
    Kind,
    encode_echo_packet,
    packet_too_big_for,
    parameter_problem_for,
    parse_icmp,
    time_exceeded_for,
    unreachable_for,
)
from usernet.wire.ip import UDP as UDP_PROTOCOL
from usernet.wire.ip import format_address, pack_address
from usernet.wire.ipv4 import encode_ipv4
from usernet.wire.ipv6 import HeaderProblem, encode_ipv6
from usernet.wire.packet import checksum_holds, encode_packet, parse_packet
from usernet.wire.packet import fragment as fragment_ours
from usernet.wire.tcp import ACK, FIN, PSH, SYN, TcpSegment, encode_options, encode_segment, parse_segment
from usernet.wire.udp import UdpDatagram, parse_udp

V4 = "10.1.2.3", "192.0.2.77"
V6 = "fd00::1:2", "2001:db8::77"
FAMILIES = pytest.mark.parametrize("names", [V4, V6], ids=["v4", "v6"])

BYTE = st.integers(0, 0xFF)
SHORT = st.integers(0, 0xFFFF)
WORD = st.integers(0, 0xFFFF_FFFF)
PORT = st.integers(1, 0xFFFF)
PAYLOAD = st.binary(max_size=80)
ADDRESSES = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(
    st.ip_addresses(v=6), st.ip_addresses(v=6)
)
# Names of flags in scapy's order, the lowest bit first, are those of usernet.wire.tcp
OPTIONS = st.lists(
    st.sampled_from([("NOP", None), ("SAckOK", b"")])
    | st.tuples(st.just("MSS"), SHORT)
    | st.tuples(st.just("WScale"), BYTE)
    | st.tuples(st.just("Timestamp"), st.tuples(WORD, WORD))
    | st.tuples(st.just("SAck"), st.lists(WORD, min_size=2, max_size=8).map(lambda x: tuple(x[: len(x) // 2 * 2])))
    | st.tuples(st.sampled_from([6, 19, 30, 69, 253]), st.binary(max_size=8)),
    max_size=6,
)


def dissected(data: bytes) -> Packet:
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def forget(packet: Packet) -> Packet:
    """Take away what scapy computes by itself, down to where a fragment or an ICMP error's quote is mere bytes."""
    layer: Any = packet
    while layer and not isinstance(layer, Raw) and "error" not in type(layer).__name__:
        layer.raw_packet_cache = None  # or the bytes it came from would come back
        for field in ("chksum", "cksum", "len", "plen", "ihl", "dataofs"):
            layer.fields.pop(field, None)
        if layer.fields.get("frag") or layer.fields.get("offset") or layer.fields.get("m"):
            break
        if isinstance(layer, IP) and "MF" in layer.flags:
            break
        layer = layer.payload
    return packet


def rebuilt(data: bytes) -> bytes:
    return bytes(forget(dissected(data)))


def header(names: tuple[str, str], **fields: Any) -> Any:
    source, destination = names
    return (IP if "." in source else IPv6)(src=source, dst=destination, **fields)


def packed(names: tuple[str, str]) -> tuple[bytes, bytes]:
    return pack_address(names[0]), pack_address(names[1])


@FAMILIES
@pytest.mark.parametrize("at", [-6, -8])
def test_the_oracle_notices_what_is_wrong(names: tuple[str, str], at: int) -> None:
    """A wrong checksum, a wrong length."""
    data = bytearray(encode_packet(*packed(names), UDP_PROTOCOL, UdpDatagram(7, 9, b"1234").encode(*packed(names))))
    assert rebuilt(bytes(data)) == data
    data[at] ^= 1
    assert rebuilt(bytes(data)) != data


# IP


@given(ADDRESSES, BYTE, BYTE, PAYLOAD)
def test_ip_packets_of_ours(addresses: tuple[Any, Any], tos: int, hops: int, payload: bytes) -> None:
    source, destination = (address.packed for address in addresses)
    data = encode_packet(source, destination, 253, payload, tos=tos, hop_limit=hops)
    assert rebuilt(data) == data
    seen: Any = dissected(data)
    assert (ipaddress.ip_address(seen.src), ipaddress.ip_address(seen.dst)) == addresses
    if len(source) == 4:
        assert (seen.tos, seen.ttl, seen.proto, str(seen.flags), seen.frag) == (tos, hops, 253, "DF", 0)
    else:
        assert (seen.tc, seen.hlim, seen.nh, seen.fl) == (tos, hops, 253, 0)
    assert bytes(seen.payload) == payload


@given(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), BYTE, BYTE, SHORT, st.integers(0, 8000), st.booleans(),
    st.integers(0, 10),
)  # fmt: skip
def test_ipv4_headers_of_scapy(
    addresses: tuple[Any, Any], tos: int, ttl: int, ident: int, at: int, more: bool, words: int
) -> None:
    names = str(addresses[0]), str(addresses[1])
    options = [IPOption_NOP() for _ in range(words * 4)]
    packet = header(names, tos=tos, ttl=ttl, id=ident, frag=at, flags="MF" if more else 0, proto=99, options=options)
    data = bytes(packet / Raw(b"x" * 64))
    seen = parse_packet(b"??" + data + b"??", 2)
    assert (format_address(seen.source), format_address(seen.destination)) == names
    assert (seen.tos, seen.hop_limit, seen.ident, seen.protocol) == (tos, ttl, ident, 99)
    assert (seen.fragment_offset, seen.more_fragments) == (at * 8, more)
    assert (seen.payload, seen.end) == (2 + 20 + words * 4, 2 + len(data))


@pytest.mark.parametrize("option", [IPOption_LSRR, IPOption_SSRR])
def test_source_routes_of_scapy_are_refused(option: type[Packet]) -> None:
    packet = header(V4, options=[IPOption_NOP(), option(routers=["192.0.2.9"])]) / UDP(dport=9)
    with pytest.raises(WireError, match="source-route"):
        parse_packet(bytes(packet))


def test_other_ipv4_options_of_scapy_are_skipped() -> None:
    data = bytes(header(V4, options=[IPOption_RR(routers=["192.0.2.9"])]) / UDP(sport=7, dport=9) / b"hi")
    seen = parse_packet(data)
    assert parse_udp(data, seen.payload, seen.end, *packed(V4)) == UdpDatagram(7, 9, b"hi")


EXTENSIONS = st.lists(
    st.sampled_from(["destination", "routing", "atomic"]) | st.tuples(st.just("destination"), st.integers(0, 30)),
    max_size=5,
)


@given(st.booleans(), EXTENSIONS, BYTE, BYTE, st.integers(0, 0xFFFFF), PAYLOAD)
def test_ipv6_extension_headers_of_scapy(
    hop_by_hop: bool, extensions: list[Any], traffic_class: int, hops: int, label: int, payload: bytes
) -> None:
    packet = header(V6, tc=traffic_class, hlim=hops, fl=label)
    if hop_by_hop:
        packet /= IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(5))])
    for extension in extensions:
        if extension == "routing":
            packet /= IPv6ExtHdrRouting(addresses=["2001:db8::9"], segleft=0)
        elif extension == "atomic":
            packet /= IPv6ExtHdrFragment(offset=0, m=0, id=99)
        elif extension == "destination":
            packet /= IPv6ExtHdrDestOpt()
        else:
            packet /= IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(extension[1]))])
    data = bytes(packet / UDP(sport=7, dport=9) / Raw(payload))
    seen = parse_packet(data)
    assert (seen.protocol, seen.tos, seen.hop_limit, seen.is_fragment) == (17, traffic_class, hops, False)
    assert checksum_holds(seen, data)
    assert parse_udp(data, seen.payload, seen.end, *packed(V6)) == UdpDatagram(7, 9, payload)


def test_a_routing_header_with_segments_left_points_where_scapy_has_them() -> None:
    packet = header(V6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["2001:db8::9"], segleft=1) / UDP(dport=9)
    with pytest.raises(HeaderProblem) as caught:
        parse_packet(bytes(packet))
    assert caught.value.pointer == 40 + 8 + 2


@settings(deadline=None)
@given(st.sampled_from([V4, V6]), st.integers(0, 9000), st.integers(1280, 1500), WORD)
def test_fragments_of_ours_are_put_together_by_scapy(names: tuple[str, str], size: int, mtu: int, ident: int) -> None:
    payload = UdpDatagram(7, 9, (bytes(range(256)) * 36)[:size]).encode(*packed(names))
    pieces = fragment_ours(*packed(names), UDP_PROTOCOL, payload, mtu, ident)
    assert max(map(len, pieces)) <= mtu
    assert all(rebuilt(piece) == piece for piece in pieces)
    if len(pieces) == 1:
        return
    packets = [dissected(piece) for piece in pieces]
    join: Any = defragment if names is V4 else defragment6
    whole = join(packets)[0] if names is V4 else join(packets)
    assert bytes(whole)[20 if names is V4 else 40 :] == payload


@settings(deadline=None)
@given(st.sampled_from([V4, V6]), st.integers(1500, 9000), st.integers(1288, 1500))
def test_fragments_of_scapy_are_understood(names: tuple[str, str], size: int, mtu: int) -> None:
    payload = (bytes(range(256)) * 36)[:size]
    cut: Any = fragment if names is V4 else fragment6
    if names is V4:
        pieces = cut(header(names, id=77) / UDP(sport=7, dport=9) / Raw(payload), mtu - 20)
    else:
        packet = header(names) / IPv6ExtHdrFragment(id=77) / UDP(sport=7, dport=9) / Raw(payload)
        pieces = cut(packet, mtu)
    found = bytearray(8 + size)
    for number, piece in enumerate(pieces):
        data = bytes(piece)
        seen = parse_packet(data)
        assert (seen.protocol, seen.ident, seen.is_fragment) == (17, 77, True)
        assert seen.more_fragments is (number < len(pieces) - 1)
        found[seen.fragment_offset : seen.fragment_offset + seen.end - seen.payload] = data[seen.payload : seen.end]
    assert parse_udp(found, 0, len(found), *packed(names)) == UdpDatagram(7, 9, payload)


# UDP


@given(st.sampled_from([V4, V6]), SHORT, PORT, PAYLOAD)
def test_udp_both_ways(names: tuple[str, str], source_port: int, destination_port: int, payload: bytes) -> None:
    datagram = UdpDatagram(source_port, destination_port, payload)
    data = bytes(header(names) / UDP(sport=source_port, dport=destination_port) / Raw(payload))
    seen = parse_packet(data)
    assert checksum_holds(seen, data)
    assert parse_udp(data, seen.payload, seen.end, *packed(names)) == datagram
    ours = encode_packet(*packed(names), UDP_PROTOCOL, datagram.encode(*packed(names)))
    assert rebuilt(ours) == ours
    assert ours[-8 - len(payload) :] == data[-8 - len(payload) :]


@FAMILIES
def test_a_udp_checksum_of_zero_is_sent_as_ones(names: tuple[str, str]) -> None:
    plain = bytes(header(names) / UDP(sport=7, dport=9) / bytes(2))
    total = int.from_bytes(plain[-4:-2], "big")
    data = bytes(header(names) / UDP(sport=7, dport=9) / total.to_bytes(2, "big"))
    assert data[-4:-2] == b"\xff\xff"
    assert UdpDatagram(7, 9, total.to_bytes(2, "big")).encode(*packed(names)) == data[-10:]


# ICMP


@given(st.sampled_from([V4, V6]), st.booleans(), SHORT, SHORT, PAYLOAD)
def test_echo_both_ways(names: tuple[str, str], is_reply: bool, ident: int, sequence: int, payload: bytes) -> None:
    echo = Echo(is_reply, ident, sequence, payload)
    if names is V4:
        message: Any = ICMP(type="echo-reply" if is_reply else "echo-request", id=ident, seq=sequence)
    else:
        message = (ICMPv6EchoReply if is_reply else ICMPv6EchoRequest)(id=ident, seq=sequence)
    data = bytes(header(names) / message / Raw(payload))
    seen = parse_packet(data)
    assert parse_icmp(data, seen.payload, seen.end, *packed(names)) == echo
    ours = encode_echo_packet(*packed(names), echo)
    assert rebuilt(ours) == ours
    assert ours[seen.payload :] == data[seen.payload :]


BUILDERS: list[tuple[str, Callable[[bytes], bytes | None], tuple[int, int], tuple[int, int]]] = [
    *[
        (kind.value, partial(unreachable_for, kind=kind), v4, v6)
        for kind, v4, v6 in [
            (Kind.NETWORK_UNREACHABLE, (3, 0), (1, 0)),
            (Kind.HOST_UNREACHABLE, (3, 1), (1, 3)),
            (Kind.PROTOCOL_UNREACHABLE, (3, 2), (4, 1)),
            (Kind.PORT_UNREACHABLE, (3, 3), (1, 4)),
            (Kind.PROHIBITED, (3, 13), (1, 1)),
        ]
    ],
    ("packet-too-big", lambda packet: packet_too_big_for(packet, 1300), (3, 4), (2, 0)),
    ("time-exceeded", time_exceeded_for, (11, 0), (3, 0)),
    ("reassembly", lambda packet: time_exceeded_for(packet, reassembly=True), (11, 1), (3, 1)),
    ("parameter-problem", lambda packet: parameter_problem_for(packet, 0, 6), (12, 0), (4, 0)),
]


@FAMILIES
@pytest.mark.parametrize("size", [0, 100, 3000])
@pytest.mark.parametrize(("name", "build", "v4", "v6"), BUILDERS, ids=[entry[0] for entry in BUILDERS])
def test_errors_of_ours(
    names: tuple[str, str], size: int, name: str, build: Callable[[bytes], bytes | None], v4: Any, v6: Any
) -> None:
    offending = bytes(header(names) / TCP(sport=7, dport=9, seq=0xDEAD_BEEF) / bytes(size))
    data = build(offending)
    assert data is not None
    assert len(data) <= (576 if names is V4 else 1280)
    assert rebuilt(data) == data
    seen: Any = dissected(data)
    assert (seen.src, seen.dst) == names[::-1]
    message = seen.payload
    assert (message.type, message.code) == (v4 if names is V4 else v6)
    if name == "packet-too-big":
        assert (message.nexthopmtu if names is V4 else message.mtu) == 1300
    if name == "parameter-problem":
        assert message.ptr == 6
    assert offending.startswith(bytes(message.payload))
    assert len(data) >= min(len(offending) + 28, 576)


# scapy's message, and what we are to make of it
ERRORS_V4 = [
    (ICMP(type=3, code=code), kind)
    for code, kind in {
        0: Kind.NETWORK_UNREACHABLE,
        1: Kind.HOST_UNREACHABLE,
        2: Kind.PROTOCOL_UNREACHABLE,
        3: Kind.PORT_UNREACHABLE,
        4: Kind.PACKET_TOO_BIG,
        9: Kind.PROHIBITED,
        10: Kind.PROHIBITED,
        13: Kind.PROHIBITED,
        99: Kind.HOST_UNREACHABLE,
    }.items()
] + [(ICMP(type=11, code=0), Kind.TIME_EXCEEDED), (ICMP(type=12, code=0, ptr=6), Kind.PARAMETER_PROBLEM)]
ERRORS_V6 = [
    (ICMPv6DestUnreach(code=0), Kind.NETWORK_UNREACHABLE),
    (ICMPv6DestUnreach(code=1), Kind.PROHIBITED),
    (ICMPv6DestUnreach(code=3), Kind.HOST_UNREACHABLE),
    (ICMPv6DestUnreach(code=4), Kind.PORT_UNREACHABLE),
    (ICMPv6PacketTooBig(mtu=1300), Kind.PACKET_TOO_BIG),
    (ICMPv6TimeExceeded(code=0), Kind.TIME_EXCEEDED),
    (ICMPv6TimeExceeded(code=1), Kind.REASSEMBLY_TIME_EXCEEDED),
    (ICMPv6ParamProblem(code=0, ptr=40), Kind.PARAMETER_PROBLEM),
    (ICMPv6ParamProblem(code=1, ptr=40), Kind.PROTOCOL_UNREACHABLE),
]


@pytest.mark.parametrize(
    ("names", "message", "kind"), [(V4, *entry) for entry in ERRORS_V4] + [(V6, *entry) for entry in ERRORS_V6]
)
def test_errors_of_scapy(names: tuple[str, str], message: Any, kind: Kind) -> None:
    if kind is Kind.PACKET_TOO_BIG and names is V4:
        message = ICMP(type=3, code=4, nexthopmtu=1300)
    offending = header(names) / TCP(sport=7, dport=9, seq=0xDEAD_BEEF)
    router = ("192.0.2.1", V4[0]) if names is V4 else ("2001:db8::1", V6[0])
    data = bytes(header(router) / message / offending)
    seen = parse_packet(data)
    error = parse_icmp(data, seen.payload, seen.end, *packed(router))
    assert isinstance(error, IcmpError)
    assert (error.kind, error.mtu) == (kind, 1300 if kind is Kind.PACKET_TOO_BIG else 0)
    assert error.quoted == (*packed(names), 6, 7, 9, 0xDEAD_BEEF)


def test_messages_of_scapy_that_are_not_for_such_a_host() -> None:
    for names, message in [(V6, ICMPv6ND_NS(tgt=V6[1])), (V4, ICMP(type=13)), (V4, ICMP(type=5) / IP() / UDP())]:
        data = bytes(header(names) / message)
        seen = parse_packet(data)
        with pytest.raises(WireError, match="icmp-type"):
            parse_icmp(data, seen.payload, seen.end, *packed(names))


# TCP


def options_of(options: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The fields of a TcpSegment that these options make."""
    fields: dict[str, Any] = {}
    for name, value in options:
        if name == "EOL":
            break
        if name == "MSS":
            fields["mss"] = value
        elif name == "WScale":
            fields["window_scale"] = min(value, 14)
        elif name == "SAckOK":
            fields["sack_permitted"] = True
        elif name == "Timestamp":
            fields["timestamp"] = value
        elif name == "SAck":
            fields["sack_blocks"] = tuple(zip(value[::2], value[1::2], strict=True))
    return fields


@given(st.sampled_from([V4, V6]), PORT, PORT, WORD, WORD, BYTE, SHORT, OPTIONS, st.booleans(), PAYLOAD)
def test_segments_of_scapy(
    names: tuple[str, str], source_port: int, destination_port: int, seq: int, ack: int, flags: int, window: int,
    options: list[tuple[Any, Any]], ends: bool, payload: bytes,
) -> None:  # fmt: skip
    while len(bytes(TCP(options=options))) > 56:  # the header holds 40 bytes of options, one of them perhaps End
        options = options[:-1]
    listed = [*options, ("EOL", None)] if ends else options
    segment = TCP(
        sport=source_port, dport=destination_port, seq=seq, ack=ack, flags=flags, window=window, options=listed
    )
    data = memoryview(bytes(header(names) / segment / Raw(payload)))
    seen = parse_packet(data)
    assert checksum_holds(seen, data)
    numbers = source_port, destination_port, seq, ack, flags, window
    assert parse_segment(data, seen.payload, seen.end) == TcpSegment(*numbers, **options_of(options), payload=payload)


@given(
    ADDRESSES, PORT, PORT, WORD, WORD, BYTE, SHORT, st.none() | SHORT, st.none() | st.integers(0, 14), st.booleans(),
    st.lists(st.tuples(WORD, WORD), max_size=2), st.none() | st.tuples(WORD, WORD), PAYLOAD,
)  # fmt: skip
def test_segments_of_ours(
    addresses: tuple[Any, Any], source_port: int, destination_port: int, seq: int, ack: int, flags: int, window: int,
    mss: int | None, scale: int | None, sackok: bool, blocks: list[tuple[int, int]], stamp: tuple[int, int] | None,
    payload: bytes,
) -> None:  # fmt: skip
    if stamp is not None and mss is not None:
        blocks = blocks[:1]  # 40 bytes of options
    numbers = source_port, destination_port, seq, ack, flags, window
    segment = TcpSegment(*numbers, mss, scale, sackok, tuple(blocks), stamp, payload)
    data = segment.encode(addresses[0].packed, addresses[1].packed)
    assert rebuilt(data) == data
    seen: Any = dissected(data)[TCP]
    assert (seen.sport, seen.dport, seen.seq, seen.ack, int(seen.flags), seen.window) == numbers
    assert seen.urgptr == 0
    assert bytes(seen.payload) == payload
    got = TcpSegment(*numbers, **options_of(seen.options), payload=payload)
    assert got == segment


@FAMILIES
@pytest.mark.parametrize("blocks", range(5))
@pytest.mark.parametrize("stamped", [False, True])
def test_every_layout_of_sack_blocks(names: tuple[str, str], blocks: int, stamped: bool) -> None:
    blocks = min(blocks, 3) if stamped else blocks
    wire = tuple((at * 10, at * 10 + 5) for at in range(blocks))
    options = encode_options(sack_blocks=wire, timestamp=(1, 2) if stamped else None)
    data = encode_segment(*packed(names), 7, 9, 1, 2, ACK, 3, options)
    assert rebuilt(data) == data
    seen: Any = dissected(data)[TCP]
    assert [name for name, _ in seen.options if name != "NOP"] == ["Timestamp"] * stamped + ["SAck"] * bool(blocks)
    assert options_of(seen.options).get("sack_blocks", ()) == wire


@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("names", ["v4", "v6"])
def test_the_finished_packets_of_a_connection(names: str, stamped: bool) -> None:
    """SYN, SYN-ACK, ACK with and without blocks, probe, FIN and RST, whose checksums are summed up by shortcuts."""
    syn = Peer.syn(SYN, timestamp=(0xFFFF_FFF0, 0) if stamped else None)
    if names == "v4":
        peer = Peer.accepting(syn={"timestamp": (0xFFFF_FFF0, 0)} if stamped else {})
    else:
        peer = Peer(
            Connection.accept(FLOW_V6, TcpSettings(), syn, mtu=1420, isn=Peer.isn, timestamp_offset=7, now=100.0)
        )
    stamp: dict[str, Any] = {"timestamp": (0xFFFF_FFFF, 1)} if stamped else {}
    packets = peer.connection.take(9999, peer.now)
    for text, size in [("1:1 A", 1000), ("5001:1 A", 1000), ("9001:1 A", 3), ("1:1 A", 5), ("900000:1 A", 0)]:
        peer.sends(text, bytes(size), segments=2, **stamp)
        packets += peer.connection.take(9999, peer.now)
    peer.connection.shutdown_write(peer.now)
    packets += peer.connection.take(9999, peer.now)
    peer.connection.abort(peer.now)
    packets += peer.connection.take(9999, peer.now)
    assert len(packets) >= 6
    for packet in packets:
        assert packet.mss == 0 or not packet.pieces
        assert rebuilt(packet.header) == packet.header


# The burst kernel


def layouts() -> list[list[tuple[Any, Any]]]:
    nops = [("NOP", None)] * 2
    return [[], [*nops, ("Timestamp", (7, 9))], [*nops, ("Timestamp", (7, 9)), *nops, ("SAck", (1, 2, 3, 4))]]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([V4, V6]), st.sampled_from(layouts()), st.integers(536, 1380), st.integers(1, 9000), WORD, SHORT,
    BYTE, st.sampled_from([ACK, ACK | PSH, ACK | PSH | FIN, ACK | 0x40]), st.binary(min_size=1, max_size=40),
    st.integers(1, 5000),
)  # fmt: skip
def test_segmentation(
    names: tuple[str, str], options: list[tuple[Any, Any]], mss: int, size: int, seq: int, ident: int, tos: int,
    flags: int, seed: bytes, cut: int,
) -> None:  # fmt: skip
    """Each segment is what scapy builds for it: numbers, lengths, identification, flags, checksums."""
    payload = (seed * size)[:size]
    fields = {"tos": tos, "id": ident, "flags": "DF"} if names is V4 else {"tc": tos}

    def built(at: int, piece: bytes) -> bytes:
        is_last = at + mss >= size
        numbers: dict[str, Any] = {"seq": (seq + at) % 2**32, "flags": flags if is_last else flags & ~(FIN | PSH)}
        more = {"id": (ident + at // mss) % 2**16} if names is V4 else {}
        segment = TCP(sport=7, dport=9, ack=77, window=500, options=options, **numbers)
        return bytes(header(names, **(fields | more)) / segment / Raw(piece))

    template = bytes(
        header(names, **fields) / TCP(sport=7, dport=9, seq=seq, ack=77, window=500, flags=flags, options=options)
    )
    packets = [SuperPacket(template, (payload[:cut], payload[cut:]), mss)]
    kernel = default_kernel()
    out = bytearray(sealed_size(packets, 1500))
    datagrams = runs_to_datagrams(out, kernel.seal_burst(kernel.send_key(KEY, INDEX), packets, 1500, out, 0))
    expected = [built(at, payload[at : at + mss]) for at in range(0, size, mss)]
    plain = [open_plainly(datagram)[2] for datagram in datagrams]
    assert [data[: len(want)] for data, want in zip(plain, expected, strict=True)] == expected
    assert not any(any(data[len(want) :]) for data, want in zip(plain, expected, strict=True))


@FAMILIES
@pytest.mark.parametrize("options", layouts())
def test_coalescing(names: tuple[str, str], options: list[tuple[Any, Any]]) -> None:
    """What scapy builds, sealed one by one, comes up as one row with scapy's first header and the whole payload."""
    payload = (bytes(range(251)) * 30)[:7000]

    def built(at: int) -> bytes:
        segment = TCP(sport=7, dport=9, seq=(at - 3000) % 2**32, ack=77, flags="A", options=options)
        ip = header(names, **({"flags": "DF"} if names is V4 else {}))
        return bytes(ip / segment / Raw(payload[at : at + 1000]))

    packets = [built(at) for at in range(0, 7000, 1000)]
    kernel = default_kernel()
    burst, drops = PacketBurst(), Drops()
    kernel.open_burst(kernel.receive_key(KEY, INDEX), burst_of(seal_all(packets)), 0, burst, drops)
    assert not drops
    ((at, length, size, segments, _, flags),) = burst.rows
    assert (size, segments, flags & CHECKSUM_OK) == (1000, 7, CHECKSUM_OK)
    assert burst.buf[at : at + length] == packets[0][:-1000] + payload


def test_what_is_encoded_by_hand_elsewhere_is_what_scapy_builds() -> None:
    """Golden packets, whole: whoever changes one of the three sees it here."""
    golden = "450000280001400040066c7e0a010203c000024d00070009000000010000000250120003e16b0000"
    built = bytes(
        IP(src=V4[0], dst=V4[1], id=1, flags="DF") / TCP(sport=7, dport=9, seq=1, ack=2, flags="SA", window=3)
    )
    ours = encode_segment(*packed(V4), 7, 9, 1, 2, SYN | ACK, 3)
    assert built[20:] == ours[20:]
    assert encode_ipv4(*packed(V4), 6, built[20:], ident=1) == built
    assert encode_ipv6(*packed(V6), 59, b"") == bytes(IPv6(src=V6[0], dst=V6[1], nh=59))
    assert built.hex() == golden
