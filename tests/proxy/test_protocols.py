"""The parts without I/O, whole, cut at every place, and against anything: heads, bodies, SOCKS."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.http.framing import Body
from proxy.http.head import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadError,
    HeadScanner,
    elements,
    has_stray,
    meaning,
    parse_fields,
    parse_request,
    parse_response,
)
from proxy.http.target import end_to_end, parse_absolute, parse_connect
from proxy.replies import BY_TYPE, reply_for
from proxy.socks.protocol import Dialogue, Event, Login, Refuse, Request, Send

HEAD = b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\0", b"\r\n"]), max_size=8), st.integers(0, 9), st.integers(0, 9)
)
def test_stray_bytes_are_found_as_by_looking_beside_each(pieces: list[bytes], start: int, end: int) -> None:
    data = bytearray(b"".join(pieces))
    start, end = min(start, len(data)), min(end, len(data))
    seen = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0").search(data, start, end)
    assert has_stray(data, start, end) is (seen is not None)


@pytest.mark.parametrize(
    "block", [b"a: b\nc: d\r\n", b"a: b\r\n c\r\n", b"\r\n", b"a : b\r\n", b"a: b\r\n: c\r\n", b"a\r\n"]
)
def test_malformed_fields(block: bytes) -> None:
    with pytest.raises(HeadError):
        parse_fields(block)


def status(call: Callable[[], object]) -> int | None:
    """What a HeadError of the call says; None without one."""
    try:
        call()
    except HeadError as error:
        return error.status
    return None


def scan(pieces: list[bytes]) -> bytes | int | None:
    """The head, an error's status, or None; and nothing is lost."""
    scanner, buffer = HeadScanner(), bytearray()
    for at, piece in enumerate(pieces):
        buffer += piece
        try:
            head = scanner.take(buffer)
        except HeadError as error:
            return error.status
        if head is not None:
            return head + b"|" + bytes(buffer) + b"".join(pieces[at + 1 :])
    return None


BIG = 65536 - len(HEAD) - len(b"A: \r\n")  # a value that makes the head just fit
HEADS = [
    HEAD + b"rest\n",
    b"\r\n\r\n" + HEAD,
    b"\r\n" * 5 + HEAD,
    HEAD[:-2],
    HEAD[:20] + b"\n" + HEAD[20:],
    HEAD[:20] + b"\r" + HEAD[20:],
    HEAD[:30] + b"\0" + HEAD[30:],
    HEAD[:-2] + b"\r\r\n",
    HEAD[:-2] + b"\n",
    b"a" * 70000,
    HEAD[:-2] + b"a" * 65501 + b"\n\n",
    HEAD[:-2] + b"A: " + b"b" * BIG + b"\r\n\r\n",
    HEAD[:-2] + b"A: " + b"b" * (BIG + 1) + b"\r\n\r\n",
]


@pytest.mark.parametrize("data", HEADS, ids=range(len(HEADS)))
def test_scanner_does_not_care_how_bytes_come(data: bytes) -> None:
    whole = scan([data])
    places = range(1, len(data)) if len(data) < 1000 else [1, 34, 36, len(data) - 3, len(data) - 1, 65535]
    for at in places:
        assert scan([data[:at], data[at:]]) == whole, at
    step = 1 if len(data) < 1000 else 97
    assert scan([data[at : at + step] for at in range(0, len(data), step)]) == whole


@given(st.binary(max_size=200))
@example(b"\r\n\r\n")
def test_heads_never_raise_anything_else(data: bytes) -> None:
    for head in (data + b"\r\n\r\n", HEAD[:-2] + data + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n"):
        for parse in (parse_request, parse_response):
            assert status(lambda: parse(head)) in (None, 400, 431, 501, 502, 505)  # noqa: B023


@given(st.binary(max_size=80))
def test_targets_never_raise_anything_else(data: bytes) -> None:
    for target in (data, b"http://" + data, data + b":80"):
        assert status(lambda: parse_connect(target)) in (None, 400)  # noqa: B023
        assert status(lambda: parse_absolute(b"GET", target)) in (None, 400)  # noqa: B023


def test_framing_fields_survive_a_connection_field() -> None:
    options = (b"Connection", b"host, content-length, Transfer-Encoding, x")
    fields = [options, (b"Host", b"a"), (b"X", b"b"), (b"TE", b"c"), (b"Content-Length", b"1")]
    named = elements(meaning(fields), b"connection")
    assert end_to_end(fields, named, request=True) == [(b"Host", b"a"), (b"Content-Length", b"1")]


def read(framing: int, pieces: list[bytes]) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bool]:
    body, buffer, content = Body(framing), bytearray(), b""
    for piece in pieces:
        if not buffer and body.takes(piece):
            content += piece
        else:
            buffer += piece
            content += body.take(buffer)
    return content, bytes(buffer), body.trailers, body.done


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.sampled_from([b"", b";a=b", b' ; q="x"']),
    st.booleans(),
)
def test_chunked_cut_everywhere(chunks: list[bytes], extension: bytes, trailers: bool) -> None:
    wire = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    wire += b"0\r\nX-Sum: 1\r\n\r\n" if trailers else b"0\r\n\r\n"
    expected = (b"".join(chunks), b"next", [(b"X-Sum", b"1")] if trailers else [], True)
    data = wire + b"next"
    assert read(CHUNKED, [data]) == expected
    assert read(CHUNKED, [data[at : at + 1] for at in range(len(data))]) == expected
    for at in range(1, len(data)):
        assert read(CHUNKED, [data[:at], data[at:]]) == expected
        if at < len(wire):
            assert not read(CHUNKED, [data[:at]])[3]


@given(st.binary(max_size=100))
def test_chunks_never_raise_anything_else(data: bytes) -> None:
    def outcome(pieces: list[bytes]) -> object:
        try:
            return read(CHUNKED, pieces)
        except HeadError as error:
            return error.status, error.reason

    whole = outcome([data])
    assert outcome([data[at : at + 1] for at in range(len(data))]) == whole


def test_other_framings() -> None:
    assert read(5, [b"hel", b"lonext"]) == (b"hello", b"next", [], True)
    assert read(5, [b"hel"]) == (b"hel", b"", [], False)
    assert read(0, [b"next"]) == (b"", b"next", [], True)
    assert read(UNTIL_CLOSE, [b"a", b"b"]) == (b"ab", b"", [], False)
    body = Body(UNTIL_CLOSE)
    assert body.end()
    assert not Body(CHUNKED).end()
    assert not Body(1).end()
    assert Body(0).end()


def play(pieces: list[bytes], *, login: bool, right: bool) -> tuple[list[Event], bytes]:
    dialogue, events = Dialogue(login_required=login), list[Event]()
    for piece in pieces:
        dialogue.receive_data(piece)
        while (event := dialogue.next_event()) is not None:
            events.append(event)
            if isinstance(event, Login):
                events.append(dialogue.login(right))
    return events, dialogue.trailing_data if events and isinstance(events[-1], Request) else b""


LOGGED_IN = b"\x05\x01\x02\x01\x01a\x01b\x05\x01\x00\x03"
REQUESTED = LOGGED_IN + b"\x06a.test\x01\xbb"


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x05\x01\x00", LOGGED_IN, REQUESTED]),
       st.booleans(), st.booleans())  # fmt: skip
@example(b"", REQUESTED, True, False)
def test_socks_does_not_care_how_bytes_come(data: bytes, start: bytes, login: bool, right: bool) -> None:
    data = start + data
    whole = play([data], login=login, right=right)
    assert play([data[at : at + 1] for at in range(len(data))], login=login, right=right) == whole
    for at in range(1, len(data)):
        assert play([data[:at], data[at:]], login=login, right=right) == whole
    if any(isinstance(event, Request) for event in whole[0]) and login:
        assert right
    assert sum(isinstance(event, (Refuse, Request)) for event in whole[0]) <= 1


def test_socks_events() -> None:
    data = b"\x05\x02\x00\x02" + b"\x01\x01a\x02bc" + b"\x05\x01\x00\x03\x06a.test\x01\xbbrest"
    assert play([data], login=True, right=True) == (
        [Send(b"\x05\x02"), Login(b"a", b"bc"), Send(b"\x01\x00"), Request(1, "a.test", 443)], b"rest"
    )  # fmt: skip
    with pytest.raises(RuntimeError):
        Dialogue(login_required=True).login(True)


def test_replies() -> None:
    """Each has one line and an error type; nobody knows an error that is none."""
    for _, reply in BY_TYPE:
        assert not set('\n\r"\\') & set(reply.reason + reply.remedy), "it goes into a field, quoted"
        assert reply.reason
        assert reply.remedy
        assert reply.token.replace("_", "").isalpha()
        assert 400 <= reply.status < 600
        assert 0 < reply.socks <= 8
    assert reply_for(ValueError("x")).status == 500
