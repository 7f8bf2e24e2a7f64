"""What is written, and in which framing."""

from __future__ import annotations

import pytest

from proxy.http.head import CHUNKED, UNTIL_CLOSE, Fields
from proxy.http.writing import framed, in_chunks, write_body, write_end, write_head

LENGTH, TE, OTHER = (b"Content-Length", b"5"), (b"transfer-encoding", b"Chunked"), (b"X", b"y")
OURS = (b"Transfer-Encoding", b"chunked")


def test_a_head() -> None:
    assert write_head(b"GET / HTTP/1.1", [OTHER, LENGTH]) == b"GET / HTTP/1.1\r\nX: y\r\nContent-Length: 5\r\n\r\n"
    assert write_head(b"HTTP/1.1 200 ", []) == b"HTTP/1.1 200 \r\n\r\n"


def test_a_body() -> None:
    content = bytes(300)
    assert write_body(content, chunked=False) is content
    assert write_body(content, chunked=True) == b"12c\r\n" + content + b"\r\n"
    assert write_body(b"", chunked=True) == b"", "that would be the end"
    assert write_end([]) == b"0\r\n\r\n"
    assert write_end([OTHER]) == b"0\r\nX: y\r\n\r\n"


@pytest.mark.parametrize(
    ("framing", "minor", "fields", "said"),
    [
        (5, 1, [LENGTH, OTHER], [LENGTH, OTHER]),
        (5, 0, [LENGTH, OTHER], [LENGTH, OTHER]),
        (CHUNKED, 1, [TE, OTHER], [OTHER, OURS]),
        (CHUNKED, 0, [TE, OTHER], [OTHER]),
        (UNTIL_CLOSE, 1, [OTHER], [OTHER, OURS]),
        (UNTIL_CLOSE, 0, [OTHER], [OTHER]),
        (0, 1, [TE], [TE]),  # HEAD
        (0, 0, [TE], []),
    ],
)
def test_a_responses_framing(framing: int, minor: int, fields: Fields, said: Fields) -> None:
    assert framed(fields, framing, minor) == said
    assert in_chunks(framing, minor) is (OURS in said)
