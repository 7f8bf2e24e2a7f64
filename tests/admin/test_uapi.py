"""`wg`'s side of the protocol, by bytes."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin import uapi
from proxy.admin.uapi import NO_KEY, Framer, Get, PeerChange, Set, UapiError, describe, encode, parse
from usernet.config import Config, Interface, Peer
from usernet.wireguard.statistics import PeerStatistics

A, B, KEY = b"\xaa" * 32, b"\xbb" * 32, b"\x11" * 32
NET4, NET6 = (bytes([10, 1, 0, 0]), 16), (bytes.fromhex("fd00") + bytes(14), 64)

EVERYTHING = (
    f"set=1\nprivate_key={KEY.hex()}\nlisten_port=51820\nfwmark=0\nreplace_peers=true\n"
    f"public_key={A.hex()}\nupdate_only=true\npreshared_key={KEY.hex()}\nendpoint=192.0.2.1:5\n"
    "persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.1.2.3/16\nallowed_ip=-fd00::1/64\n"
    f"protocol_version=1\npublic_key={B.hex()}\nremove=true\n"
    f"public_key={B.hex()}\nendpoint=[2001:db8::1]:7\npreshared_key={NO_KEY.hex()}"
)
PARSED = Set(
    KEY, 51820, 0, True,
    (
        PeerChange(A, False, True, KEY, ("192.0.2.1", 5), 25, True, ((True, NET4), (False, NET6))),
        PeerChange(B, True),
        PeerChange(B, False, False, NO_KEY, ("2001:db8::1", 7)),
    ),
)  # fmt: skip


def refused(text: str) -> int:
    with pytest.raises(UapiError) as caught:
        parse(text.encode())
    assert KEY.hex() not in str(caught.value)
    return caught.value.number


def test_everything_there_is() -> None:
    assert parse(EVERYTHING.encode()) == PARSED
    assert parse(b"set=1") == Set()
    assert parse(b"get=1") == Get()
    assert parse(b"\n\nget=1") == Get()
    assert KEY.hex() not in repr(PARSED)
    assert repr(KEY) not in repr(PARSED)


def outcome(text: bytes) -> Get | Set | int:
    """What it says, or the number of what is wrong."""
    try:
        return parse(text)
    except UapiError as error:
        return error.number


def test_cut_at_every_length() -> None:
    found = [outcome(EVERYTHING[:size].encode()) for size in range(len(EVERYTHING))]
    assert {one for one in found if isinstance(one, int)} == {errno.EPROTO, errno.EINVAL, errno.EPROTONOSUPPORT}
    ends = [len(EVERYTHING[:at]) for at, letter in enumerate(EVERYTHING) if letter == "\n"]
    assert all(isinstance(found[end], Set) for end in ends)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", errno.EPROTO),
        ("get=2", errno.EPROTO),
        ("get=1\nlisten_port=1", errno.EPROTO),
        ("set=1\nhello", errno.EPROTO),
        ("set=1\nwhat=1", errno.EINVAL),
        ("set=1\nendpoint=192.0.2.1:5", errno.EINVAL),  # of no peer
        (f"set=1\nprivate_key={KEY.hex()}0", errno.EINVAL),
        ("set=1\nprivate_key=" + "x" * 64, errno.EINVAL),
        ("set=1\nprivate_key=", errno.EINVAL),
        ("set=1\nlisten_port=65536", errno.EINVAL),
        ("set=1\nlisten_port=-1", errno.EINVAL),
        ("set=1\nlisten_port= 1", errno.EINVAL),
        ("set=1\nlisten_port=off", errno.EINVAL),
        ("set=1\nfwmark=4294967296", errno.EINVAL),
        ("set=1\nreplace_peers=false", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\nlisten_port=1", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\nprotocol_version=2", errno.EPROTONOSUPPORT),
        (f"set=1\npublic_key={A.hex()}\nendpoint=vpn.example.org:5", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\nendpoint=192.0.2.1", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\nendpoint=192.0.2.1:0", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\nallowed_ip=10.0.0.0/33", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\nallowed_ip=--10.0.0.0/8", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\nallowed_ip=", errno.EINVAL),
        (f"set=1\npublic_key={A.hex()}\npersistent_keepalive_interval=65536", errno.EINVAL),
        ("set=1\nlisten_port=\u0663", errno.EPROTO),
    ],
)
def test_what_is_refused(text: str, number: int) -> None:
    assert refused(text) == number


@given(
    st.binary(max_size=300) | st.text(alphabet="=\nsetgpublic_keyalowdip.:/-0123456789f", max_size=300).map(str.encode)
)
def test_any_bytes(data: bytes) -> None:
    for text in (data, b"set=1\n" + data, f"set=1\npublic_key={A.hex()}\n".encode() + data):
        assert isinstance(outcome(text), Get | Set | int)


# Framing


def framed(*pieces: bytes) -> list[bytes | int]:
    framer, found = Framer(), list[bytes | int]()
    for piece in pieces:
        framer.receive_data(piece)
        while True:
            try:
                request = framer.next_request()
            except UapiError as error:
                found.append(error.number)
                continue
            if request is None:
                break
            found.append(request)
    return found


def test_every_split_point() -> None:
    text = b"get=1\n\nset=1\nlisten_port=1\n\n"
    wanted = [b"get=1", b"set=1\nlisten_port=1"]
    for at in range(len(text) + 1):
        assert framed(text[:at], text[at:]) == wanted
    assert framed(*(text[n : n + 1] for n in range(len(text)))) == wanted
    assert framed(text[:-1]) == wanted[:1]


def test_a_request_that_is_too_long_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi, "REQUEST_MAX", 100)
    text = b"set=1\n" + b"allowed_ip=10.0.0.0/8\n" * 50 + b"\nget=1\n\n"
    for size in (1, 7, 99, 4096):
        assert framed(*(text[at : at + size] for at in range(0, len(text), size))) == [errno.EMSGSIZE, b"get=1"]

    assert framed(b"a" * 100 + b"\n", b"\n", b"get=1\n\n") == [errno.EMSGSIZE, b"get=1"]  # cut inside its end


# Describing

STATISTICS = PeerStatistics(
    A, ("192.0.2.1", 5), 1.0, 1_700_000_000_000_000_005, 1, rx_bytes=7, tx_bytes=9, staged_packets=0, staged_bytes=0,
    session=True,
)  # fmt: skip
UNSEEN = PeerStatistics(B, None, None, None, 0, 0, 0, 0, 0, False)
CONFIG = Config(
    Interface(KEY, ()),
    (Peer(A, b"\x22" * 32, ("vpn.example.org", 5), (NET4, NET6), 25), Peer(B)),
)


def test_a_description() -> None:
    assert encode(describe(CONFIG, 51820, (STATISTICS, UNSEEN), secrets=True)).decode() == (
        f"private_key={KEY.hex()}\nlisten_port=51820\npublic_key={A.hex()}\npreshared_key={'22' * 32}\n"
        "protocol_version=1\nendpoint=192.0.2.1:5\nlast_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\n"
        "tx_bytes=9\nrx_bytes=7\npersistent_keepalive_interval=25\nallowed_ip=10.1.0.0/16\nallowed_ip=fd00::/64\n"
        f"public_key={B.hex()}\nprotocol_version=1\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n"
        "tx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\n"
    )
    text = encode(describe(CONFIG, 51820, (STATISTICS, UNSEEN), secrets=False)).decode()
    assert KEY.hex() not in text
    assert "22" * 32 not in text
    assert text.count("REDACTED") == 2


def test_what_is_zero_is_left_out() -> None:
    assert list(describe(Config(Interface(NO_KEY, ()), ()), 0, (), secrets=True)) == []


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("2001:db8::1", 5, 0, 0), "[2001:db8::1]:5"),
        (("fe80::1", 5, 0, 3), "[fe80::1%3]:5"),
        (("192.0.2.1", 5), "192.0.2.1:5"),
    ],
)
def test_endpoints(address: tuple[str, int] | tuple[str, int, int, int], text: str) -> None:
    found = PeerStatistics(A, address, None, None, 0, 0, 0, 0, 0, False)
    assert ("endpoint", text) in list(describe(CONFIG, 1, (found,), secrets=True))
