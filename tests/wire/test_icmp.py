"""ICMP of both families: golden bytes, truncation, errors made and errors read, and those that must not be made."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.errors import WireError
from usernet.wire.checksum import checksum
from usernet.wire.icmp import (
    Echo,
    IcmpError,
    Kind,
    Quoted,
    encode_echo_packet,
    packet_too_big_for,
    parameter_problem_for,
    parse_icmp,
    time_exceeded_for,
    unreachable_for,
)
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP, pack_address
from usernet.wire.ipv4 import encode_ipv4, fragment_ipv4
from usernet.wire.ipv6 import DESTINATION_OPTIONS, fragment_ipv6
from usernet.wire.packet import checksum_holds, encode_packet, parse_packet
from usernet.wire.udp import UdpDatagram

A4, B4 = pack_address("10.0.0.1"), pack_address("10.0.0.2")
A6, B6 = pack_address("fd00::1"), pack_address("fd00::2")
FAMILIES = [(A4, B4), (A6, B6)]
# type 8, code 0, ident 0x1234, sequence 1, "abcd": 0800+1234+0001+6162+6364 = defb -> complement 2104
GOLDEN_ECHO = bytes.fromhex("08002104123400016162" + "6364")


def udp_packet(source: bytes, destination: bytes, payload: bytes = b"question") -> bytes:
    return encode_packet(source, destination, UDP, UdpDatagram(4000, 53, payload).encode(source, destination))


def read(packet: bytes) -> tuple[bytes, bytes, Echo | IcmpError]:
    parsed = parse_packet(packet)
    assert parsed.protocol in (ICMP, ICMPV6)
    assert checksum_holds(parsed, packet)
    message = parse_icmp(packet, parsed.payload, parsed.end, parsed.source, parsed.destination)
    return parsed.source, parsed.destination, message


def test_golden_echo() -> None:
    echo = Echo(False, 0x1234, 1, b"abcd")
    assert echo.encode(A4, B4) == GOLDEN_ECHO
    assert parse_icmp(GOLDEN_ECHO, 0, len(GOLDEN_ECHO), A4, B4) == echo


def test_every_truncation_is_refused() -> None:
    for size in range(len(GOLDEN_ECHO)):
        with pytest.raises(WireError):
            parse_icmp(GOLDEN_ECHO, 0, size, A4, B4)


@pytest.mark.parametrize(("source", "destination"), FAMILIES)
@pytest.mark.parametrize("is_reply", [False, True])
def test_echo_both_ways(source: bytes, destination: bytes, is_reply: bool) -> None:
    echo = Echo(is_reply, 7, 65_535, b"odd")
    assert read(encode_echo_packet(source, destination, echo)) == (source, destination, echo)


def test_a_wrong_checksum_code_or_type() -> None:
    with pytest.raises(WireError, match="icmp-checksum"):
        parse_icmp(GOLDEN_ECHO[:-1] + b"x", 0, 12, A4, B4)
    with pytest.raises(WireError, match="icmp-checksum"):  # IPv6 has a pseudo-header
        parse_icmp(GOLDEN_ECHO, 0, 12, A6, B6)
    for message, reason in (("0801", "icmp-code"), ("0d00", "icmp-type"), ("0500", "icmp-type")):
        with pytest.raises(WireError, match=reason):
            parse_icmp(bytes.fromhex(message) + bytes(10), 0, 12, A4, B4, verified=True)


@pytest.mark.parametrize(("source", "destination"), FAMILIES)
@pytest.mark.parametrize(
    "kind", [Kind.NETWORK_UNREACHABLE, Kind.HOST_UNREACHABLE, Kind.PORT_UNREACHABLE, Kind.PROHIBITED]
)
def test_unreachable(source: bytes, destination: bytes, kind: Kind) -> None:
    error = unreachable_for(udp_packet(source, destination), kind)
    assert error is not None
    expected = IcmpError(kind, 0, Quoted(source, destination, UDP, 4000, 53, 16 << 16 | read_checksum(source)))
    assert read(error) == (destination, source, expected)


def read_checksum(source: bytes) -> int:
    """What stands where TCP has its sequence number: UDP's length and checksum."""
    destination = B4 if source == A4 else B6
    return int.from_bytes(UdpDatagram(4000, 53, b"question").encode(source, destination)[6:8], "big")


@pytest.mark.parametrize(("source", "destination"), FAMILIES)
def test_packet_too_big_carries_the_mtu(source: bytes, destination: bytes) -> None:
    error = packet_too_big_for(udp_packet(source, destination), 1280, source=destination)
    assert error is not None
    message = read(error)[2]
    assert isinstance(message, IcmpError)
    assert (message.kind, message.mtu) == (Kind.PACKET_TOO_BIG, 1280)


@pytest.mark.parametrize(("source", "destination"), FAMILIES)
def test_time_exceeded_and_parameter_problem(source: bytes, destination: bytes) -> None:
    packet = udp_packet(source, destination)
    for error, kind in (
        (time_exceeded_for(packet), Kind.TIME_EXCEEDED),
        (time_exceeded_for(packet, reassembly=True), Kind.REASSEMBLY_TIME_EXCEEDED),
        (parameter_problem_for(packet, 0, 4), Kind.PARAMETER_PROBLEM),
    ):
        assert error is not None
        message = read(error)[2]
        assert isinstance(message, IcmpError)
        assert message.kind is kind


@pytest.mark.parametrize(("source", "destination", "limit"), [(A4, B4, 576), (A6, B6, 1280)])
def test_quotes_as_much_as_it_may(source: bytes, destination: bytes, limit: int) -> None:
    large = unreachable_for(udp_packet(source, destination, bytes(4000)), Kind.PORT_UNREACHABLE)
    assert large is not None
    assert len(large) == limit
    small_packet = udp_packet(source, destination)
    small = unreachable_for(small_packet, Kind.PORT_UNREACHABLE)
    assert small is not None
    assert small.endswith(small_packet)


@pytest.mark.parametrize(("source", "destination"), FAMILIES)
def test_never_an_error_about_an_error(source: bytes, destination: bytes) -> None:
    error = unreachable_for(udp_packet(source, destination), Kind.PORT_UNREACHABLE)
    assert error is not None
    assert unreachable_for(error, Kind.HOST_UNREACHABLE) is None
    assert time_exceeded_for(error) is None


@pytest.mark.parametrize(("source", "destination"), FAMILIES)
def test_an_echo_request_may_be_answered_with_an_error(source: bytes, destination: bytes) -> None:
    packet = encode_echo_packet(source, destination, Echo(False, 1, 2, b""))
    error = unreachable_for(packet, Kind.HOST_UNREACHABLE, source=destination)
    assert error is not None


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (A4, pack_address("224.0.0.5")),
        (A4, pack_address("255.255.255.255")),
        (bytes(4), B4),
        (pack_address("127.0.0.1"), B4),
        (pack_address("239.0.0.1"), B4),
        (A6, pack_address("ff02::1")),
        (bytes(16), B6),
        (pack_address("ff02::1"), B6),
    ],
)
def test_never_about_or_to_what_is_not_one_host(source: bytes, destination: bytes) -> None:
    packet = udp_packet(source, destination)
    assert unreachable_for(packet, Kind.PORT_UNREACHABLE, source=B4 if len(source) == 4 else B6) is None


def test_two_errors_about_ipv6_multicast_are_allowed() -> None:
    packet = udp_packet(A6, pack_address("ff02::1"))
    assert packet_too_big_for(packet, 1280, source=B6) is not None
    assert parameter_problem_for(packet, 2, 40, source=B6) is not None
    assert parameter_problem_for(packet, 0, 40, source=B6) is None
    assert packet_too_big_for(packet, 1280) is None  # nobody to say it


def test_only_about_the_first_fragment() -> None:
    payload = UdpDatagram(4000, 53, bytes(3000)).encode(A4, B4)
    first, *rest = fragment_ipv4(A4, B4, UDP, payload, 1280, 7)
    assert time_exceeded_for(first, reassembly=True) is not None
    assert all(time_exceeded_for(packet, reassembly=True) is None for packet in rest)
    first, *rest = fragment_ipv6(A6, B6, UDP, payload, 1280, 7)
    assert time_exceeded_for(first, reassembly=True) is not None
    assert all(time_exceeded_for(packet, reassembly=True) is None for packet in rest)


def test_a_quoted_first_ipv6_fragment_gives_its_flow() -> None:
    payload = UdpDatagram(4000, 53, bytes(3000)).encode(A6, B6)
    error = time_exceeded_for(fragment_ipv6(A6, B6, UDP, payload, 1280, 7)[0], reassembly=True)
    assert error is not None
    message = read(error)[2]
    assert isinstance(message, IcmpError)
    assert message.quoted[:5] == (A6, B6, UDP, 4000, 53)


def test_the_chain_is_walked_before_an_error() -> None:
    inner = unreachable_for(udp_packet(A6, B6), Kind.PORT_UNREACHABLE)
    assert inner is not None
    chained = encode_packet(A6, B6, DESTINATION_OPTIONS, bytes([ICMPV6, 0, 1, 4, 0, 0, 0, 0]) + inner[40:])
    assert parameter_problem_for(chained, 2, 42) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [(6, Kind.NETWORK_UNREACHABLE), (7, Kind.HOST_UNREACHABLE), (13, Kind.PROHIBITED), (99, Kind.HOST_UNREACHABLE)],
)
def test_other_codes_of_ipv4_unreachable(code: int, kind: Kind) -> None:
    body = bytearray([3, code]) + bytes(6) + encode_ipv4(B4, A4, TCP, bytes.fromhex("0050ffff00000001"))
    body[2:4] = checksum(body).to_bytes(2, "big")
    message = parse_icmp(body, 0, len(body), A4, B4)
    assert message == IcmpError(kind, 0, Quoted(B4, A4, TCP, 80, 65_535, 1))


@given(st.sampled_from(FAMILIES), st.binary(max_size=120), st.integers(0, 255), st.integers(0, 15))
def test_random_bytes_raise_nothing_but_wire_error(
    family: tuple[bytes, bytes], body: bytes, message_type: int, code: int
) -> None:
    message = bytes([message_type, code, 0, 0]) + body
    with contextlib.suppress(WireError):
        parse_icmp(message, 0, len(message), *family, verified=True)


@given(st.sampled_from(FAMILIES), st.integers(0, 255), st.binary(max_size=120))
def test_errors_about_random_packets(family: tuple[bytes, bytes], protocol: int, body: bytes) -> None:
    packet = encode_packet(*family, protocol, body)
    error = unreachable_for(packet, Kind.PROTOCOL_UNREACHABLE)
    if error is not None:
        assert parse_packet(error).source == family[1]
