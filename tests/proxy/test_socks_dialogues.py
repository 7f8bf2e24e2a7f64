"""SOCKS4, 4a and 5 without I/O: exact events and bytes, cut anywhere, and anything at all."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.auth import Users
from proxy.socks.protocol import Dialogue, Event, Login, Refuse, Request, encode_reply
from proxy.socks.socks4 import Dialogue4, encode_reply4

REJECTED = Refuse(b"\0\x5b" + bytes(6), "")
NAME = b"\x04\x01\x01\xbb\0\0\0\x01me\0a.test\0"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces between these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    starts = [0, *ends[:-1]]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def play4(pieces: list[bytes], *, login: bool = False) -> tuple[list[Event], bytes]:
    dialogue, events = Dialogue4(login_required=login), list[Event]()
    for piece in pieces:
        dialogue.receive_data(piece)
        while (event := dialogue.next_event()) is not None:
            events.append(event)
    return events, dialogue.trailing_data if events and isinstance(events[-1], Request) else b""


def play5(pieces: list[bytes], *, login: bool, right: bool) -> tuple[list[Event], bytes]:
    dialogue, events = Dialogue(login_required=login), list[Event]()
    for piece in pieces:
        dialogue.receive_data(piece)
        while (event := dialogue.next_event()) is not None:
            events.append(event)
            if isinstance(event, Login):
                events.append(dialogue.login(right))
    return events, dialogue.trailing_data if events and isinstance(events[-1], Request) else b""


REQUESTS = [
    (b"\x04\x01\0\x50\xc0\0\x02\x01\0", Request(1, "192.0.2.1", 80)),
    (b"\x04\x01\0\x50\xc0\0\x02\x01somebody\0", Request(1, "192.0.2.1", 80)),
    (b"\x04\x01\0\x50\xc0\0\x02\x01" + b"u" * 255 + b"\0", Request(1, "192.0.2.1", 80)),
    (b"\x04\x01\0\x50\xc0\0\x02\x01\xff\r\n\x04\0", Request(1, "192.0.2.1", 80)),  # whatever the user id is
    (b"\x04\x02\0\0\xc0\0\x02\x01\0", Request(2, "192.0.2.1", 0)),
    (NAME, Request(1, "a.test", 443)),
    (b"\x04\x01\0\x50\0\0\0\xff\0A.Test.\0", Request(1, "a.test.", 80)),
    (b"\x04\xf0\0\0\0\0\0\x01\0a.test\0", Request(0xF0, "a.test", 0)),
    (b"\x04\x01\0\x50\0\0\0\x01\x00192.0.2.1\0", Request(1, "192.0.2.1", 80)),
    (b"\x04\x01\0\x50\0\0\0\x01\0::1\0", Request(1, "::1", 80)),
    (b"\x04\x01\0\x50\0\0\0\x01\0" + b"b\xc3\xbccher.test" + b"\0", Request(1, "xn--bcher-kva.test", 80)),
    (b"\x04\x01\0\x50\0\0\0\x01\0" + (b"a" * 49 + b".") * 5 + b"abc\0", Request(1, ("a" * 49 + ".") * 5 + "abc", 80)),
    (b"\x04\x01\0\x50\0\0\0\0\0", Request(1, "0.0.0.0", 80)),  # x = 0: an address, which the policy will refuse
    (b"\x04\x01\0\x50\0\0\x01\x01\0", Request(1, "0.0.1.1", 80)),
]


@pytest.mark.parametrize(("data", "request_"), REQUESTS, ids=range(len(REQUESTS)))
@pytest.mark.parametrize("trailing", [b"", b"\0trailing\0"])
def test_socks4_requests(data: bytes, request_: Request, trailing: bytes) -> None:
    whole = data + trailing
    expected = ([request_], trailing)
    assert play4([whole]) == expected
    for at in range(1, len(whole)):
        events, rest = play4([whole[:at], whole[at:]])
        assert events == [request_]
        assert rest == trailing
        if at < len(data):
            assert play4([whole[:at]]) == ([], b"")
    events, rest = play4(cut(whole, list(range(len(whole)))))
    assert (events, rest) == expected


REFUSALS = [
    (b"\x04\x00", "command-not-supported"),
    (b"\x04\x03\0\x50\xc0\0\x02\x01\0", "command-not-supported"),
    (b"\x04\xf1\0\x50\xc0\0\x02\x01\0", "command-not-supported"),
    (b"\x04\x01\0\0\xc0\0\x02\x01\0", "bad-port"),
    (b"\x04\x01\0\x50\xc0\0\x02\x01" + b"u" * 256 + b"\0", "bad-user-id"),
    (b"\x04\x01\0\x50\0\0\0\x01\0\0", "bad-host"),
    (b"\x04\x01\0\x50\0\0\0\x01\0a\r\nb\0", "bad-host"),
    (b"\x04\x01\0\x50\0\0\0\x01\0a b\0", "bad-host"),
    (b"\x04\x01\0\x50\0\0\0\x01\0\xff\xfe\0", "bad-host"),
    (b"\x04\x01\0\x50\0\0\0\x01\0fe80::1%lo\0", "bad-host"),
    (b"\x04\x01\0\x50\0\0\0\x01\0" + b"a" * 64 + b"\0", "bad-host"),
    (b"\x04\x01\0\x50\0\0\0\x01\0" + (b"a" * 49 + b".") * 5 + b"abcd\0", "bad-host"),
    (b"\x04\x01\0\x50\0\0\0\x01\0" + (b"a" * 49 + b".") * 5 + b"abcdef", "bad-host"),
]


@pytest.mark.parametrize(("data", "reason"), REFUSALS, ids=range(len(REFUSALS)))
def test_socks4_refusals(data: bytes, reason: str) -> None:
    expected = ([REJECTED._replace(reason=reason)], b"")
    assert play4([data]) == expected
    assert play4([data + b"\x04\x01\0\x50\xc0\0\x02\x01\0"]) == expected
    for at in range(1, len(data)):
        assert play4([data[:at], data[at:]]) == expected
    assert play4(cut(data, list(range(len(data))))) == expected


def test_socks4_without_a_login() -> None:
    """Where one is asked for, its first byte is the last that is heard; 93 is the protocol's word for a wrong user."""
    for data in (b"\x04", NAME):
        assert play4([data], login=True) == ([Refuse(b"\0\x5d" + bytes(6), "socks4-without-login")], b"")


@given(st.binary(max_size=600), st.sampled_from([b"", b"\x04", NAME[:8], NAME[:4] + b"\xc0\0\x02\x01", NAME[:11]]),
       st.lists(st.integers(0, 700), max_size=6))  # fmt: skip
@example(b"u" * 256, NAME[:8], [263])
@example((b"a" * 50 + b".") * 5, NAME[:11], [264])
def test_socks4_does_not_care_how_bytes_come(data: bytes, start: bytes, places: list[int]) -> None:
    data = start + data
    whole = play4([data])
    assert play4(cut(data, places)) == whole
    assert play4(cut(data, list(range(len(data))))) == whole
    assert len(whole[0]) <= 1


@given(st.binary(max_size=80), st.sampled_from([1, 2, 3, 4, 0xF0, 0xF1]), st.sampled_from([1, 2, 3, 4]),
       st.booleans(), st.booleans(), st.lists(st.integers(0, 120), max_size=6))  # fmt: skip
def test_socks5_does_not_care_how_bytes_come(
    data: bytes, command: int, kind: int, login: bool, right: bool, places: list[int]
) -> None:
    start = b"\x05\x01\x02\x01\x01a\x01b" if login else b"\x05\x01\x00"
    data = start + bytes((5, command, 0, kind)) + data
    whole = play5([data], login=login, right=right)
    assert play5(cut(data, places), login=login, right=right) == whole
    if login and not right:
        assert whole[0][-1] == Refuse(b"\x01\x01", "wrong-credentials")


def test_every_mutation_of_a_login_fails() -> None:
    """Each byte of greeting and login, in each other value (CVE-2021-3116): no request is ever reached."""
    users = Users([("alice", "pa:ss")])
    login = b"\x05\x01\x02\x01\x05alice\x05pa:ss"
    rest = b"\x05\x01\x00\x01\xc0\0\x02\x01\0\x50" + bytes(600)

    def reaches(data: bytes) -> bool:
        dialogue = Dialogue(login_required=True)
        dialogue.receive_data(data)
        while (event := dialogue.next_event()) is not None:
            if isinstance(event, Request):
                return True
            if isinstance(event, Login):
                dialogue.login(users.check(event.username, event.password) is not None)
        return False

    assert reaches(login + rest)
    for at in range(1, len(login)):  # the first byte brought the client here
        for value in set(range(256)) - {login[at]}:
            assert not reaches(login[:at] + bytes([value]) + login[at + 1 :] + rest), (at, value)


def test_replies() -> None:
    assert encode_reply(0, "192.0.2.1", 258) == b"\x05\0\0\x01\xc0\0\x02\x01\x01\x02"
    assert encode_reply(0, "2001:db8::1", 258) == b"\x05\0\0\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x01\x02"
    assert (
        encode_reply(0, "a.test") == b"\x05\0\0\x03\x06a.test\0\0"
    )  # Tor's socks-extensions: an answer to RESOLVE_PTR
    assert encode_reply(5) == b"\x05\x05\0\x01" + bytes(6)
    assert encode_reply4(90, "192.0.2.1", 258) == b"\0\x5a\x01\x02\xc0\0\x02\x01"
    assert encode_reply4(90, "2001:db8::1", 258) == b"\0\x5a\x01\x02\0\0\0\0"
    assert encode_reply4(91) == b"\0\x5b" + bytes(6)
