"""`usernet top`: a live view of peers, streams and rates."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from proxy.cli.asking import ask, watching, which
from proxy.cli.files import count
from proxy.cli.status import lines
from proxy.status.verdict import FRESH
from proxy.status.wording import ago, amount, rate

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

NARROW, WIDE = 60, 100  # columns of a terminal: below the first there is less to see, from the second on more
PEERS = 8  # at most, the busiest


@click.command(short_help="Watch peers, streams and rates live.")
@which
def command(where: str | None) -> None:
    """Show peers, streams and rates, again each second.  `q` or Ctrl-C ends it.

    Where standard output is no terminal it is one look.
    """
    if not sys.stdout.isatty():
        for line in lines(ask(where, "status")):
            click.echo(line)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with (
        watching(where, "status", watch=True) as looks,
        ended_by_key(sys.stdin),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        for status in looks:
            live.update(view(status, console.width, console.height), refresh=True)


@contextlib.contextmanager
def ended_by_key(terminal: TextIO) -> Iterator[None]:
    """While the block lasts keys come at once and unseen, and `q` is as Ctrl-C."""
    if not terminal.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever began us may have had it ignored
    tty.setcbreak(terminal, termios.TCSANOW)
    main = threading.get_ident()

    def listen() -> None:
        while key := os.read(terminal.fileno(), 1):
            if key in b"qQ":
                signal.pthread_kill(main, signal.SIGINT)
                return

    threading.Thread(target=listen, name="keys", daemon=True).start()
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
        signal.signal(signal.SIGINT, interrupt)


def view(status: dict[str, Any], width: int, height: int) -> RenderableType:
    """For a terminal of this size."""
    from rich.console import Group
    from rich.text import Text

    verdict = status["verdict"]
    style = {"up": "bold green", "partly": "bold yellow", "connecting": "bold yellow", "idle": "bold"}
    above = [
        Text(f"{verdict['title']}. ", style.get(verdict["state"], "bold red")) + Text(verdict["detail"]),
        Text(
            f"{status['name']}  {', '.join(status['addresses'])}  up {ago(status['at'] - status['started'])}  "
            f"in {rate(status['rx_rate'])}  out {rate(status['tx_rate'])}"
        ),
        *(Text(f"! {trouble['text']}", "red") for trouble in status["health"]),
    ]
    taken = sum(-(-len(text) // width) for text in above) + 3  # the tables' heads, and the last line
    peers = sorted(status["peers"], key=_busy, reverse=True)[: max(1, min(PEERS, (height - taken) // 2))]
    streams = sorted(status["streams"], key=_busy, reverse=True)[: max(0, height - taken - len(peers))]
    last = Text(f"{_those(streams, status['streams_total'], 'stream')}, ", "dim")
    last += Text(f"{_those(peers, len(status['peers']), 'peer')}; q quits", "dim")
    last.truncate(width)
    return Group(*above, _peers(peers, status["at"], width), _streams(streams, status["at"], width), last)


def _busy(one: dict[str, Any]) -> float:
    """A peer or a stream."""
    busy: float = one["rx_rate"] + one["tx_rate"] if "rx_rate" in one else one["up_rate"] + one["down_rate"]
    return busy


def _those(shown: list[Any], total: int, noun: str) -> str:
    return count(total, noun) if len(shown) == total else f"{len(shown)} of {count(total, noun)}"


def _peers(peers: list[dict[str, Any]], now: float, width: int) -> RenderableType:
    table = _table(
        ("peer", *(("endpoint",) if width >= NARROW else ())),
        ("handshake", *(("rx", "tx") if width >= WIDE else ()), "in", "out"),
    )
    for peer in peers:
        shaken = peer["latest_handshake"]
        table.add_row(
            peer["public_key"][:8],
            *((peer["endpoint"] or "-",) if width >= NARROW else ()),
            "never" if shaken is None else ago(now - shaken),
            *((amount(peer["rx_bytes"]), amount(peer["tx_bytes"])) if width >= WIDE else ()),
            rate(peer["rx_rate"]), rate(peer["tx_rate"]),
            style="" if shaken is not None and now - shaken <= FRESH else "dim",
        )  # fmt: skip
    return table


def _streams(streams: list[dict[str, Any]], now: float, width: int) -> RenderableType:
    table = _table(
        (*(("client",) if width >= NARROW else ()), "destination", *(("route",) if width >= WIDE else ())),
        (*(("for",) if width >= WIDE else ()), *(("up", "down") if width >= NARROW else ()), "in", "out"),
    )
    for stream in streams:
        table.add_row(
            *((stream["client"],) if width >= NARROW else ()),
            stream["destination"],
            *((stream["route"], ago(now - stream["began"])) if width >= WIDE else ()),
            *((amount(stream["up_bytes"]), amount(stream["down_bytes"])) if width >= NARROW else ()),
            rate(stream["down_rate"]), rate(stream["up_rate"]),
        )  # fmt: skip
    return table


def _table(words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    """Words share the room that numbers leave."""
    from rich.table import Table

    table = Table(box=None, expand=True, pad_edge=False)
    for title in words:
        table.add_column(title, no_wrap=True, ratio=1)
    for title in numbers:
        table.add_column(title, no_wrap=True, justify="right")
    return table
