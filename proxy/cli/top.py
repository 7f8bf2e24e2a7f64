"""`usernet top`: a live view of peers, streams and rates."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.asking import ask, watching, which
from proxy.cli.status import lines
from proxy.status.wording import ago, amount, rate

if TYPE_CHECKING:
    from rich.console import RenderableType

STREAMS = 12  # that fit below the rest on a small terminal


@click.command(short_help="Watch peers, streams and rates live.")
@which
def command(where: str | None) -> None:
    """Show peers, streams and rates, again each second.  Ctrl-C ends it.

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
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        for status in looks:
            live.update(view(status, console.width, console.height), refresh=True)


def view(status: dict[str, Any], width: int, height: int) -> RenderableType:
    """For a terminal of this size."""
    from rich.console import Group
    from rich.text import Text

    verdict = status["verdict"]
    style = {"up": "bold green", "partly": "bold yellow", "connecting": "bold yellow", "idle": "bold"}
    head = Text(f"{verdict['title']}. ", style.get(verdict["state"], "bold red")) + Text(verdict["detail"])
    second = Text(
        f"{status['name']}  {', '.join(status['addresses'])}  up {ago(status['at'] - status['started'])}  "
        f"in {rate(status['rx_rate'])}  out {rate(status['tx_rate'])}  {status['clients']} clients"
    )
    rows = max(3, min(STREAMS, height - 10 - len(status["peers"]) - len(status["health"])))
    troubles = [Text(f"! {trouble['text']}", "red") for trouble in status["health"]]
    return Group(head, second, *troubles, _peers(status, width), _streams(status, width, rows))


def _peers(status: dict[str, Any], width: int) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, expand=True, pad_edge=False)
    for title in ("peer", "endpoint", "handshake", *(("rx", "tx") if width >= 100 else ()), "in", "out"):
        table.add_column(title, no_wrap=True, justify="left" if title in ("peer", "endpoint") else "right")
    for peer in status["peers"]:
        shaken = peer["latest_handshake"]
        total = (amount(peer["rx_bytes"]), amount(peer["tx_bytes"])) if width >= 100 else ()
        table.add_row(
            peer["public_key"][:8], peer["endpoint"] or "-", "never" if shaken is None else ago(status["at"] - shaken),
            *total, rate(peer["rx_rate"]), rate(peer["tx_rate"]),
            style="" if shaken is not None and status["at"] - shaken <= 180 else "dim",
        )  # fmt: skip
    return table


def _streams(status: dict[str, Any], width: int, rows: int) -> RenderableType:
    from rich.table import Table

    title = f"{status['streams_total']} streams"
    table = Table(box=None, expand=True, pad_edge=False, title=title, title_justify="left")
    for title in ("client", "destination", *(("route", "for") if width >= 100 else ()), "up", "down", "in", "out"):
        left = title in ("client", "destination", "route")
        table.add_column(title, no_wrap=True, justify="left" if left else "right", ratio=1 if left else None)
    for stream in status["streams"][:rows]:
        more = (stream["route"], ago(status["at"] - stream["began"])) if width >= 100 else ()
        table.add_row(
            stream["client"], stream["destination"], *more, amount(stream["up_bytes"]), amount(stream["down_bytes"]),
            rate(stream["down_rate"]), rate(stream["up_rate"]),
        )  # fmt: skip
    return table
