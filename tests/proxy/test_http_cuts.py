"""Made-up conversations, some of them damaged: however their bytes come, the proxy makes the same of them.

And what it makes of them is in one form only: heads without a stray byte, one framing field at most, bodies complete.
"""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.proxy.belief import ANSWER, believed
from tests.proxy.memory import dialogue, settle

NAMES = [
    b"X-A", b"Accept", b"connection", b"TE", b"Transfer-Encoding", b"Content-Length", b"Cookie", b"Trailer", b"a_b",
    b"Via", b"Keep-Alive", b"Proxy-Connection", b"Upgrade", b"Expect", b"Host", b"Max-Forwards",
]  # fmt: skip
VALUES = [
    b"", b"a", b"chunked", b"5", b"close", b"x-a, te", b"trailers", b"upgrade", b"100-continue", b"a.test", b"\xff",
    b"0", b"a \t b", b'"q;\\""', b"gzip, chunked",
]  # fmt: skip
STRAY = [b"\r", b"\n", b"\0", b"\r\n", b" ", b"\t", b":", b";", b",", b"0", b"\x0b", b"\xff", b"\r\n\r\n", b"_"]
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"TRACE", b"DELETE", b"a!"]

fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=3)
extensions = st.sampled_from([b"", b";a", b' ;b="c"'])
chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=20), extensions), max_size=3)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    head = [b"%b http://a.test/%b HTTP/1.1" % (draw(st.sampled_from(METHODS)), draw(st.sampled_from([b"", b"b?c"])))]
    head.append(b"Host: a.test")
    head += [name + b": " + value for name, value in draw(fields)]
    body = b""
    match draw(st.integers(0, 2)):
        case 1:
            body = draw(st.binary(max_size=40))
            head.append(b"Content-Length: %d" % len(body))
        case 2:
            body = b"".join(b"%x%b\r\n%b\r\n" % (len(part), ext, part) for part, ext in draw(chunks)) + b"0\r\n"
            body += b"".join(b"X-%b: y\r\n" % name for name, _ in draw(fields)) + b"\r\n"
            head.append(b"Transfer-Encoding: chunked")
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """One to three messages, with up to two bytes astray, in pieces."""
    data = b"".join(draw(st.lists(messages(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        at, gone = draw(st.integers(0, len(data))), draw(st.integers(0, 2))
        data = data[:at] + draw(st.sampled_from(STRAY)) + data[at + gone :]
    marks = sorted(draw(st.sets(st.integers(1, len(data)), max_size=12)))
    return [data[start:stop] for start, stop in zip([0, *marks], [*marks, len(data)], strict=True) if start < stop]


@given(conversations())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_requests_however_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    belief = await believed([whole])
    if b"xpect" not in whole:  # else an answer may come before a body that waits for it, and ends the connection
        assert await believed(pieces) == belief
        assert await believed([whole[at : at + 1] for at in range(len(whole))]) == belief
    async with dialogue() as made:
        await made.say(pieces)
        for origin in made.origins:
            head, end, _ = origin.said.partition(b"\r\n\r\n")
            assert end
            assert re.fullmatch(rb"(?:[\t\x20-\x7e\x80-\xff]+\r\n)*[\t\x20-\x7e\x80-\xff]+", head)
            assert len(re.findall(rb"(?i)\r\n(?:content-length|transfer-encoding):", head)) <= 1
            assert len(re.findall(rb"(?i)\r\nhost:", head)) == 1


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """A response, interim ones before it perhaps, whole or damaged, in pieces."""
    data = b""
    for status in draw(st.lists(st.sampled_from([b"100", b"103", b"199"]), max_size=2)):
        data += b"HTTP/1.1 %b x\r\nX-A: b\r\n\r\n" % status
    data += messages_of_origins(draw)
    for _ in range(draw(st.integers(0, 2))):
        at, gone = draw(st.integers(0, len(data))), draw(st.integers(0, 2))
        data = data[:at] + draw(st.sampled_from(STRAY)) + data[at + gone :]
    marks = sorted(draw(st.sets(st.integers(1, len(data)), max_size=12)))
    return [data[start:stop] for start, stop in zip([0, *marks], [*marks, len(data)], strict=True) if start < stop]


def messages_of_origins(draw: st.DrawFn) -> bytes:
    head, _, body = draw(messages()).partition(b"\r\n\r\n")
    _, _, *lines = head.split(b"\r\n")
    first = b"HTTP/1.%d %b OK" % (draw(st.integers(0, 1)), draw(st.sampled_from([b"200", b"204", b"304", b"404"])))
    return b"\r\n".join([first, *lines]) + b"\r\n\r\n" + body


async def heard_by_the_client(pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """The heads, the content, and whether it was cut off."""
    async with dialogue() as made:
        await made.say([b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"])
        for piece in pieces:
            made.origin.hear(piece)
        made.origin.end()
        await settle()
        said = made.client.said
        heads = b""
        while True:
            head, end, said = said.partition(b"\r\n\r\n")
            heads += head + end
            if not end or not head.startswith(b"HTTP/1.1 1"):
                break
        if b"transfer-encoding: chunked" in head.lower():
            content = b""
            while match := re.match(rb"([0-9a-f]+)\r\n", said):
                size = int(match[1], 16)
                content += said[match.end() :][:size] if size else b"." + said[match.end() :]
                said = said[match.end() + size + 2 :] if size else b""
            said = content
        return heads, said, made.client.cut


@given(answers())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_responses_however_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    heads, content, cut = await heard_by_the_client([whole])
    for other in (pieces, [whole[at : at + 1] for at in range(len(whole))]):
        again, part, cut_again = await heard_by_the_client(other)
        assert (again, cut_again) == (heads, cut)
        assert part == content or (cut and (part.startswith(content) or content.startswith(part)))
    assert b"\0" not in heads
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", heads)
    assert whole != ANSWER or not cut
