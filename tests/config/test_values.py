"""Single values: what is taken, what is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from usernet.config import values
from usernet.config.values import BadValue

KEY = base64.b64encode(bytes(range(200, 232))).decode()


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (values.key, KEY, bytes(range(200, 232))),
        (values.preshared_key, base64.b64encode(bytes(32)).decode(), None),
        (values.port, "0", 0),
        (values.port, "65535", 65535),
        (values.mtu, "576", 576),
        (values.mtu, "65440", 65440),
        (values.keepalive, "off", 0),
        (values.keepalive, "OFF", 0),
        (values.keepalive, "65535", 65535),
        (values.network, "10.0.0.1", (b"\x0a\0\0\1", 32)),
        (values.network, "::1", (bytes(15) + b"\1", 128)),
        (values.network, "10.0.0.1/0", (b"\x0a\0\0\1", 0)),
        (values.network, "10.0.0.1 / 8", (b"\x0a\0\0\1", 8)),
        (values.networks, "", ()),
        (values.networks, "10.0.0.1,, ::/0,", ((b"\x0a\0\0\1", 32), (bytes(16), 0))),
        (values.endpoint, "192.0.2.1:1", ("192.0.2.1", 1)),
        (values.endpoint, "[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        (values.endpoint, "2001:db8::1:51820", ("2001:db8::1", 51820)),
        (values.endpoint, "[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        (values.endpoint, "a-b.c_d.example.:1", ("a-b.c_d.example.", 1)),
        (values.endpoint, "bücher.example:1", ("bücher.example", 1)),
        (values.bind_address, ":1080", ("", 1080)),
        (values.bind_address, "localhost:0", ("localhost", 0)),
        (values.bind_address, "[::]:1080", ("::", 1080)),
        (values.reserved, "0,0,255", b"\0\0\xff"),
        (values.reserved, "AQID", b"\1\2\3"),
        (values.boolean, "True", True),
        (values.dns, "1.1.1.1, 2606:4700:4700:0::1111, lan", ("1.1.1.1", "2606:4700:4700::1111", "lan")),
        (values.fwmark, "0xFFFFFFFF", 0xFFFFFFFF),
        (values.fwmark, "off", 0),
        (values.credential, "x" * 255, "x" * 255),
    ],
)
def test_taken(parse: Callable[[str], object], text: str, expected: object) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (values.key, ""),
        (values.key, KEY[:-1]),
        (values.key, KEY[:-4] + "===="),
        (values.key, KEY + "A"),
        (values.key, base64.b64encode(bytes(31)).decode()),
        (values.key, base64.b64encode(bytes(33)).decode()),
        (values.key, KEY.replace(KEY[5], "é")),
        (values.key, KEY[:10] + " " + KEY[10:]),
        (values.key, KEY[:-2] + "B="),
        (values.port, "-1"),
        (values.port, "65536"),
        (values.port, "٣"),
        (values.port, "1_0"),
        (values.port, "+5"),
        (values.port, ""),
        (values.port, "9" * 5000),
        (values.mtu, "575"),
        (values.mtu, "65441"),
        (values.keepalive, "65536"),
        (values.keepalive, "on"),
        (values.network, "10.0.0"),
        (values.network, "10.0.0.1/33"),
        (values.network, "::/129"),
        (values.network, "fe80::1%eth0/64"),
        (values.network, "10.0.0.1/"),
        (values.network, "010.0.0.1"),
        (values.endpoint, ""),
        (values.endpoint, "host"),
        (values.endpoint, ":1"),
        (values.endpoint, "host:0"),
        (values.endpoint, "host:65536"),
        (values.endpoint, "[::1]"),
        (values.endpoint, "[::1]1"),
        (values.endpoint, "[::1:1"),
        (values.endpoint, "[192.0.2.1]:1"),
        (values.endpoint, "192.0.2.1%eth0:1"),
        (values.endpoint, "10.0.0.300:1"),
        (values.endpoint, "ho st:1"),
        (values.endpoint, "-x.example:1"),
        (values.endpoint, "x" * 64 + ".example:1"),
        (values.endpoint, "a..b:1"),
        (values.endpoint, "\N{SNOWMAN}" * 80 + ":1"),
        (values.reserved, "1,2"),
        (values.reserved, "1,2,3,4"),
        (values.reserved, "1,2,256"),
        (values.reserved, "AQI="),
        (values.reserved, "é"),
        (values.boolean, "yes"),
        (values.dns, "1.1.1.300"),
        (values.dns, "a b"),
        (values.fwmark, "0x100000000"),
        (values.fwmark, "4294967296"),
        (values.fwmark, "x"),
        (values.credential, ""),
        (values.credential, "é" * 128),
    ],
)
def test_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse(text)
    assert caught.value.message
    assert caught.value.remedy


def test_mask() -> None:
    assert values.mask((b"\xff\xff\xff\xff", 9)) == (b"\xff\x80\0\0", 9)
    assert values.mask((b"\xff" * 16, 0)) == (bytes(16), 0)
    assert values.mask((b"\xff" * 16, 128)) == (b"\xff" * 16, 128)
