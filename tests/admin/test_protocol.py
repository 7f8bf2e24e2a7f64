"""Lines of JSON: whole, cut everywhere, too long, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.protocol import (
    ID_MAX,
    LINE_MAX,
    CommandError,
    End,
    Event,
    Failure,
    Item,
    Refused,
    Replies,
    Request,
    Requests,
    Result,
    encode_end,
    encode_event,
    encode_failure,
    encode_item,
    encode_request,
    encode_result,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-ID_MAX, ID_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
REQUESTS = st.builds(
    Request,
    st.integers(0, ID_MAX),
    st.from_regex(r"[a-z][a-z0-9-]{0,9}(/[a-z][a-z0-9-]{0,9}){0,2}", fullmatch=True),
    st.dictionaries(st.text(max_size=8), JSON, max_size=3),
)


def heard(*pieces: bytes, eof: bool = False) -> list[Request | Refused]:
    requests = Requests()
    events = []
    for piece in pieces:
        requests.receive_data(piece)
        while (event := requests.next_event()) is not None:
            events.append(event)
    if eof:
        requests.receive_eof()
        while (event := requests.next_event()) is not None:
            events.append(event)
    return events


def code(event: Request | Refused) -> str:
    assert isinstance(event, Refused)
    return event.error.code


def test_a_request() -> None:
    line = b'{"id":7,"command":"debug/rebind","args":{"a":1}}\n'
    assert heard(line) == [Request(7, "debug/rebind", {"a": 1})]
    assert encode_request(Request(7, "debug/rebind", {"a": 1})) == line
    assert heard(b'{"command":"ping","id":0}\r\n\n  \n') == [Request(0, "ping", {})]


@given(st.lists(REQUESTS, max_size=3), st.data())
def test_cut_anywhere(wanted: list[Request], data: st.DataObject) -> None:
    text = b"".join(map(encode_request, wanted))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert heard(*pieces) == wanted


def test_every_split_point_and_byte_by_byte() -> None:
    wanted = [Request(1, "status", {"ä": "é\n"}), Request(2, "ping")]
    text = b"".join(map(encode_request, wanted))
    for at in range(len(text) + 1):
        assert heard(text[:at], text[at:]) == wanted
    assert heard(*(text[n : n + 1] for n in range(len(text)))) == wanted


def test_cut_off_at_every_length() -> None:
    line = encode_request(Request(1, "status", {"a": [1]}))
    for size in range(len(line) - 1):
        assert heard(line[:size]) == []
        events = heard(line[:size], eof=True)
        assert events == [] if size == 0 else code(events[0]) == "bad-request"
    assert heard(line[:-1], eof=True) == [Request(1, "status", {"a": [1]})]  # its newline may be missing at the end


@pytest.mark.parametrize(
    ("line", "number", "word"),
    [
        (b"hello", None, "not JSON"),
        (b"\xff\xfe{}", None, "not JSON"),
        (b"[1]", None, "not an object"),
        (b"[" * 60_000, None, "nested"),
        (b"{}", None, "id is not"),
        (b'{"id":true,"command":"a"}', None, "id is not"),
        (b'{"id":-1,"command":"a"}', None, "id is not"),
        (b'{"id":1e3,"command":"a"}', None, "id is not"),
        (b'{"id":%d,"command":"a"}' % (ID_MAX + 1), None, "id is not"),
        (b'{"id":' + b"9" * 5000 + b',"command":"a"}', None, "not JSON"),
        (b'{"id":3}', 3, "command is not"),
        (b'{"id":3,"command":"Status"}', 3, "command is not"),
        (b'{"id":3,"command":"../x"}', 3, "command is not"),
        (b'{"id":3,"command":"a\\n"}', 3, "command is not"),
        (b'{"id":3,"command":["a"]}', 3, "command is not"),
        (b'{"id":3,"command":"a","args":[]}', 3, "args is not"),
        (b'{"id":3,"command":"a","args":{"x":NaN}}', None, "not JSON"),
        (b'{"id":3,"command":"a","what":1}', 3, "no 'what'"),
    ],
)
def test_what_is_no_request(line: bytes, number: int | None, word: str) -> None:
    bad, good = heard(line + b"\n" + encode_request(Request(9, "ping")))
    assert isinstance(bad, Refused)
    assert bad.id == number
    assert bad.error.code == "bad-request"
    assert word in str(bad.error)
    assert good == Request(9, "ping")  # the next line counts again


@pytest.mark.parametrize("piece", [1 << 20, 1000, LINE_MAX + 1])
def test_a_line_that_is_too_long_is_said_once_and_not_kept(piece: int) -> None:
    text = b'{"id":1,"command":"' + b"a" * (3 * LINE_MAX) + b'"}\n' + encode_request(Request(2, "ping"))
    long, ping = heard(*(text[at : at + piece] for at in range(0, len(text), piece)))
    assert code(long) == "too-long"
    assert ping == Request(2, "ping")


def test_a_line_without_end_is_not_kept() -> None:
    requests, said = Requests(), 0
    for _ in range(20):
        requests.receive_data(b"x" * LINE_MAX)
        while requests.next_event() is not None:
            said += 1
        assert len(requests._lines._buf) <= LINE_MAX
    assert said == 1


def test_the_limit_itself() -> None:
    empty = len(encode_request(Request(1, "a", {"x": ""}))) - 1
    (event,) = heard(encode_request(Request(1, "a", {"x": "y" * (LINE_MAX - empty)})))
    assert isinstance(event, Request)
    (event,) = heard(encode_request(Request(1, "a", {"x": "y" * (LINE_MAX - empty + 1)})))
    assert code(event) == "too-long"


REPLIES: list[tuple[bytes, Any]] = [
    (encode_result(1, {"up": True}), Result(1, {"up": True})),
    (encode_result(1, None), Result(1, None)),
    (encode_item(2, "a\nb"), Item(2, "a\nb")),
    (encode_end(2), End(2)),
    (encode_failure(3, CommandError("busy", "why")), Failure(3, "busy", "why")),
    (encode_failure(None, CommandError("busy", "why")), Failure(None, "busy", "why")),
    (encode_event("system-shutdown"), Event("system-shutdown")),
]


def test_replies_in_both_directions_and_cut_everywhere() -> None:
    text = b"".join(line for line, _ in REPLIES)
    for at in range(len(text) + 1):
        replies, found = Replies(), []
        for piece in (text[:at], text[at:]):
            replies.receive_data(piece)
            while (reply := replies.next_event()) is not None:
                found.append(reply)
        assert found == [reply for _, reply in REPLIES]


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"{}", b'{"id":1}', b'{"id":1,"end":false}', b'{"error":{}}'])
def test_what_no_daemon_says(line: bytes) -> None:
    replies = Replies()
    replies.receive_data(line + b"\n")
    with pytest.raises(CommandError):
        replies.next_event()


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for event in heard(data, eof=True):
        assert isinstance(event, Request | Refused)
        if isinstance(event, Refused):
            json.loads(encode_failure(event.id, event.error))
