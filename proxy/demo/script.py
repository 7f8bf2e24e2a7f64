"""What the demo does, in order: open the world, fetch the page both ways, move 64 MiB both ways, stay for the user."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Iterable, Iterator
from importlib.resources import files

from proxy.daemon.hints import authority
from proxy.daemon.listeners import Listen
from proxy.daemon.narrator import Narrator
from proxy.daemon.process import stop_event
from proxy.daemon.serving import Bound, serve
from proxy.demo import content
from proxy.demo.client import Address, DemoError, Via, request
from proxy.demo.show import Advance, Show
from proxy.demo.world import FAR, NAME, World, open_world
from usernet.wireguard.events import TunnelEvent

BULK_BYTES = 64 << 20
PAGES = {"/": "index.html", "/way.svg": "way.svg", "/picture.png": "picture.png"}


async def run(listeners: list[Listen], show: Show, *, stay: bool, bulk: int = BULK_BYTES) -> None:
    """The whole demo.  DemoError at the first thing that does not work."""
    stop = stop_event()
    async with open_world() as world:
        narrate(world, show)
        async with serve(world.near, listeners, allow_anyone=True) as bound:
            show.say(f"far side: a web server at http://{NAME}/ ({FAR}), which only the tunnel reaches")
            for one in bound:
                show.say(f"proxy: {one}")
            work = asyncio.create_task(_work(world, bound[0], show, bulk))
            await _unless_stopped(work, stop)
            if stay and not stop.is_set():
                for line in _invitation(bound[0]):
                    show.say(line)
                await stop.wait()


def free_port(host: str, preferred: int) -> int:
    """The preferred port, or 0, any, where somebody has that already."""
    try:
        socket.create_server((host, preferred)).close()
    except OSError:
        return 0
    return preferred


def narrate(world: World, show: Show) -> None:
    """Say when the handshake completes, and how long it took."""
    narrator = Narrator()

    def tell(event: TunnelEvent) -> None:
        for line in narrator.event(event, time.monotonic()):
            if not line.detail:
                show.say(line.text)

    world.near.on_event(tell)


def _invitation(bound: Bound) -> Iterator[str]:
    where, url = authority(bound), f"http://{NAME}/"
    yield "Now you, while this runs:"
    yield f"  curl -x socks5h://{where} {url}"
    yield f"  curl -x http://{where} {url}down -o /dev/null"
    yield f"  curl -x socks5h://{where} {url}up -T FILE"
    yield f"  chromium --user-data-dir=$(mktemp -d) --proxy-server=socks5://{where} {url}"
    yield "Ctrl-C ends the demo."


async def _unless_stopped(work: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Wait for the work, or cut it short; its error is raised here."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    cut_short = not work.done()
    for task in (work, stopped):
        task.cancel()
    results = await asyncio.gather(work, stopped, return_exceptions=True)
    if cut_short:
        raise DemoError("stopped before everything was tried")
    if isinstance(results[0], BaseException):
        raise results[0]


async def _work(world: World, bound: Bound, show: Show, bulk: int) -> None:
    proxy = bound.client_address
    for via in ("SOCKS5", "HTTP"):
        await _fetch_page(via, proxy, show)
    expected = await asyncio.to_thread(content.digest, bulk)
    await _down(proxy, show, bulk, expected)
    await _up(proxy, show, bulk, expected)
    show.say(f"everything worked: the far side answered {world.website.requests} requests, both digests agree")


async def _fetch_page(via: Via, proxy: Address, show: Show) -> None:
    began = time.monotonic()
    total = 0
    for path, name in PAGES.items():
        page = bytearray()
        await request(via, proxy, NAME, path, sink=page.extend)
        if page != files("proxy.demo").joinpath(name).read_bytes():
            raise DemoError(f"through {via}: http://{NAME}{path} came back changed")
        total += len(page)
    took = (time.monotonic() - began) * 1000
    show.say(f"through {via}: http://{NAME}/ and its pictures, {len(PAGES)} requests, {total} bytes in {took:.0f} ms")


async def _down(proxy: Address, show: Show, size: int, expected: str) -> None:
    found = hashlib.sha256()
    with show.transfer("down", size) as advance:

        def take(piece: bytes) -> None:
            found.update(piece)
            advance(len(piece))

        await request("SOCKS5", proxy, NAME, f"/down?{size}", sink=take)
    _compare("down", found.hexdigest(), expected)


async def _up(proxy: Address, show: Show, size: int, expected: str) -> None:
    answer = bytearray()
    with show.transfer("up", size) as advance:
        body = _counted(content.pieces(size), advance)
        await request("SOCKS5", proxy, NAME, "/up", body=body, length=size, sink=answer.extend)
    _compare("up", answer.decode("ascii", "replace").strip(), f"{size} {expected}")


def _counted(pieces: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        advance(len(piece))


def _compare(way: str, found: str, expected: str) -> None:
    if found != expected:
        raise DemoError(f"{way}: what arrived is not what was sent (SHA-256 {found} instead of {expected})")
