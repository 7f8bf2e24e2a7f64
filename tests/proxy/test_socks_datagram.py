"""The header of relayed datagrams: golden bytes both ways, cut everywhere, and anything at all."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.socks.datagram import DESTINATION, encode_header, header_end, parse_destination
from usernet.errors import WireError

GOLDEN = [
    (b"\0\0\0\x01\xc0\x00\x02\x01\x00\x35", "192.0.2.1", 53),
    (b"\0\0\0\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x01\xbb", "2001:db8::1", 443),
    (b"\0\0\0\x03\x08www.test\xff\xff", "www.test", 65535),
    (b"\0\0\0\x03\x08WWW.test\x00\x01", "www.test", 1),
    (b"\0\0\0\x03\x01a\x00\x01", "a", 1),
    (b"\0\0\0\x03\x09192.0.2.7\x00\x35", "192.0.2.7", 53),  # an address as a name
]
DROPPED = [
    (b"", "udp-short"),
    (b"\x01\0\0\x01\xc0\x00\x02\x01\x00\x35x", "udp-reserved"),
    (b"\0\x01\0\x01\xc0\x00\x02\x01\x00\x35x", "udp-reserved"),
    (b"\0\0\x01\x01\xc0\x00\x02\x01\x00\x35x", "udp-fragment"),
    (b"\0\0\x80\x01\xc0\x00\x02\x01\x00\x35x", "udp-fragment"),  # the end of a sequence
    (b"\0\0\0\x00\xc0\x00\x02\x01\x00\x35x", "udp-address-type"),
    (b"\0\0\0\x02\xc0\x00\x02\x01\x00\x35x", "udp-address-type"),
    (b"\0\0\0\x03\xff" + b"a" * 256, "udp-short"),
    (b"\0\0\0\x01\xc0\x00\x02\x01\x00\x00x", "udp-bad-port"),
    (b"\0\0\0\x03\x00\x00\x35" + b"data", "udp-bad-name"),
    (b"\0\0\0\x03\x03a\0b\x00\x35", "udp-bad-name"),
    (b"\0\0\0\x03\x04a..b\x00\x35", "udp-bad-name"),
    (b"\0\0\0\x03\xff" + b"a" * 255 + b"\x00\x35", "udp-bad-name"),
    (b"\0\0\0\x03\x05a\r\nb.\x00\x35", "udp-bad-name"),
]


def read(data: bytes) -> tuple[str, int, bytes]:
    end = header_end(data, len(data))
    return *parse_destination(data[DESTINATION:end]), data[end:]


@pytest.mark.parametrize(("header", "host", "port"), GOLDEN)
def test_golden(header: bytes, host: str, port: int) -> None:
    for data in (b"", b"x", bytes(65000)):
        assert read(header + data) == (host, port, data)
    if header[3] != 3:
        assert encode_header(host, port) == header


@pytest.mark.parametrize("header", [row[0] for row in GOLDEN])
def test_cut_at_every_length(header: bytes) -> None:
    for length in range(len(header)):
        with pytest.raises(WireError, match=r"^udp-short$"):
            header_end(header[:length], length)
        with pytest.raises(WireError, match=r"^udp-short$"):  # in a buffer that holds another's bytes behind it
            header_end(memoryview(header), length)


@pytest.mark.parametrize(("data", "reason"), DROPPED)
def test_dropped(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=rf"^{reason}$"):
        read(data)


@given(st.binary(max_size=255))
def test_anything(data: bytes) -> None:
    for made in (data, b"\0\0\0" + data, b"\0\0\0\x03" + bytes((len(data),)) + data + b"\x00\x35"):
        with contextlib.suppress(WireError):
            read(made)


NAME = st.from_regex(r"[a-zA-Z0-9]{1,20}(\.[a-z]{1,20}){0,3}", fullmatch=True).map(str.encode)
ADDRESS = (
    st.binary(min_size=4, max_size=4).map(b"\x01".__add__)
    | st.binary(min_size=16, max_size=16).map(b"\x04".__add__)
    | NAME.map(lambda name: bytes((3, len(name))) + name)
)


@given(ADDRESS, st.integers(1, 65535), st.binary(max_size=40))
def test_any_destination(address: bytes, port: int, data: bytes) -> None:
    before = b"\0\0\0" + address
    host, *rest = read(before + port.to_bytes(2) + data)
    assert host
    assert rest == [port, data]
    with pytest.raises(WireError, match=r"^udp-bad-port$"):
        read(before + bytes(2) + data)


@given(st.ip_addresses(), st.integers(1, 65535), st.binary())
def test_there_and_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, data: bytes) -> None:
    host, got, rest = read(encode_header(str(address), port) + data)
    assert (ipaddress.ip_address(host), got, rest) == (address, port, data)
