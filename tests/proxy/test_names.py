"""Hosts and ports as clients write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.names import BadHost, authority, parse_host, parse_port

LONG = ".".join(["a" * 63] * 3 + ["b" * 61])  # 253


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"2001:DB8:0::1", "2001:db8::1"),
        (b"::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        (b"Example.TEST", "example.test"),
        (b"example.test.", "example.test."),
        (b"a", "a"),
        (b"_dns._udp.a-b.test", "_dns._udp.a-b.test"),
        (LONG.encode(), LONG),
        ("bücher.test".encode(), "xn--bcher-kva.test"),
        (b"xn--bcher-kva.test", "xn--bcher-kva.test"),
        (b"xn--strae-oqa.test", "xn--strae-oqa.test"),  # only IDNA 2008 has it
        (b"127.1", "127.1"),  # a name, whatever a C library thinks
    ],
)
def test_hosts(raw: bytes, host: str) -> None:
    assert parse_host(raw) == host


@pytest.mark.parametrize(
    "raw",
    [b"", b".", b".a", b"a..b", b"-a", b"a-.test", b"a b", b"a\0", b"a\r\nb", b"a\n", b"a/b", b"a:b", b"a@b", b"a%b",
     b"*", b"[::1]", b"fe80::1%lo", b"::g", b"1:2:3:4:5:6:7:8:9", b"a" * 64, b"b" + LONG.encode(), b"a" * 255, b"\xff",
     "\u05d0a.test".encode(), b"xn--.test", b"xn--99999.test", b"xn--abc-.test"],
)  # fmt: skip
def test_no_hosts(raw: bytes) -> None:
    with pytest.raises(BadHost):
        parse_host(raw)


@given(st.one_of(st.binary(max_size=260), st.text(max_size=60).map(str.encode),
                 st.text(max_size=60).map(lambda text: b"xn--" + text.encode())))  # fmt: skip
def test_anything_else_never_raises(raw: bytes) -> None:
    try:
        host = parse_host(raw)
    except BadHost:
        return
    assert host.isascii()
    assert 0 < len(host) <= 253
    assert parse_host(host.encode()) == host


@pytest.mark.parametrize("raw", [b"1", b"80", b"65535", b"00080"])
def test_ports(raw: bytes) -> None:
    assert parse_port(raw) == int(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"0", b"65536", b"4294967739", b"+80", b"-1", b"8_0", b" 80", b"80 ", b"0x50", b"\xb2"]
)
def test_no_ports(raw: bytes) -> None:
    with pytest.raises(BadHost):
        parse_port(raw)


@pytest.mark.parametrize(
    ("host", "text"),
    [("192.0.2.1", "192.0.2.1:80"), ("example.test", "example.test:80"), ("2001:db8::1", "[2001:db8::1]:80")],
)
def test_with_a_port(host: str, text: str) -> None:
    assert authority(host, 80) == text
