"""What the proxy makes of a client's bytes: the requests that it sends on, read off what it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from tests.proxy.memory import dialogue, settle
from tests.support.origins import HOPS, PLAIN, Seen

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def believed(pieces: Iterable[bytes]) -> tuple[list[Seen], bytes]:
    """What the proxy makes of it: the requests that it sends on whole, and what it says itself."""
    async with dialogue() as made:
        answered = 0
        await made.say(pieces)
        while (
            made.origins and len(seen := [one for origin in made.origins for one in requests(origin.said)]) > answered
        ):
            answered = len(seen)
            made.origin.hear(ANSWER)
            await settle()
        return seen if made.origins else [], made.client.said.replace(ANSWER, b"")


def requests(said: bytes) -> Iterator[Seen]:
    """Read what the proxy writes, which has one form only.  An incomplete request is none."""
    while b"\r\n\r\n" in said:
        head, said = said.split(b"\r\n\r\n", 1)
        line, *lines = head.decode("latin-1").split("\r\n")
        fields = [(name.lower(), value) for name, value in (one.split(": ", 1) for one in lines)]
        named = dict(fields)
        if "transfer-encoding" in named:
            body, size = b"", -1
            while size:
                digits, _, said = said.partition(b"\r\n")
                size = int(digits or b"-1", 16)
                if len(said) < size + 2 or size < 0:
                    return
                body, said = body + said[:size], said[size + 2 if size else 0 :]
            while not said.startswith(b"\r\n"):  # trailers
                said = said.partition(b"\r\n")[2]
            said = said[2:]
        else:
            size = int(named.get("content-length", "0"))
            if len(said) < size:
                return
            body, said = said[:size], said[size:]
        method, target, version = line.split(" ")
        assert version == "HTTP/1.1"
        kept: dict[str, str] = {}
        for name, value in fields:
            if name not in HOPS and PLAIN.fullmatch(name):
                kept[name] = f"{kept[name]},{value.strip()}" if name in kept else value.strip()
        yield Seen(
            method,
            target.removesuffix("?"),
            tuple(sorted(kept.items())),
            f"{len(body)} {hashlib.sha256(body).hexdigest()[:16]}",
        )
