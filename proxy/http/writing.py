"""What is written: heads, and bodies in the framing that their reader understands (RFC 9112 sections 3 to 7).

Nothing is checked here: what came from outside was, when it was read (head.py, target.py, framing.py).
"""

from __future__ import annotations

from proxy.http.head import Fields

FRAMING = (b"content-length", b"transfer-encoding")
CHUNKED_FIELD = (b"Transfer-Encoding", b"chunked")
CLOSE_FIELD = (b"Connection", b"close")


def write_head(line: bytes, fields: Fields) -> bytes:
    """A head, its empty line included."""
    return b"%b\r\n%b\r\n" % (line, b"".join([b"%b: %b\r\n" % field for field in fields]))


def write_body(content: bytes, *, chunked: bool) -> bytes:
    """A piece of a body."""
    return b"%x\r\n%b\r\n" % (len(content), content) if chunked and content else content


def write_end(trailers: Fields) -> bytes:
    """The end of a body in chunks."""
    return write_head(b"0", trailers)


def without_length(fields: Fields) -> Fields:
    """The fields without those of framing, which 1xx and 204 have no use for (RFC 9112 sections 6.1, 6.2)."""
    return [field for field in fields if field[0].lower() not in FRAMING]


def framed(fields: Fields, framing: int, minor: int) -> Fields:
    """A response's fields, for a body of this framing and a reader of HTTP/1.minor.

    What comes in chunks, or ends with its connection, goes in chunks to who knows them, else until the end.
    """
    if framing >= 0 and minor:
        return fields
    if framing >= 0:  # HEAD and 304 may have a Transfer-Encoding, but not for HTTP/1.0 (RFC 9112 section 6.1)
        return [field for field in fields if field[0].lower() != FRAMING[1]]
    return [*without_length(fields), CHUNKED_FIELD] if minor else without_length(fields)


def in_chunks(framing: int, minor: int) -> bool:
    """Whether `framed` says so."""
    return framing < 0 and minor > 0
