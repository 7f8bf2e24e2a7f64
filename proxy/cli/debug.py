"""`usernet debug ...`: for who looks into a running daemon."""

from __future__ import annotations

import base64
import signal
import sys
from typing import IO

import click

from proxy.cli.asking import ask, watching, which
from proxy.cli.ranges import Seconds, Whole


@click.group(short_help="Look into a running daemon.")
def command() -> None:
    """Look into a running daemon."""


@command.command(short_help="Bind the tunnel's UDP socket anew.")
@which
def rebind(where: str | None) -> None:
    """Have the tunnel's UDP socket bound anew, as after a change of network."""
    click.echo(f"bound anew: {ask(where, 'rebind')}")


@command.command()
@which
def stacks(where: str | None) -> None:
    """Print where every thread and task stands."""
    click.echo(ask(where, "stacks"), nl=False)


@command.command(name="break-tcp-conns")
@which
def break_connections(where: str | None) -> None:
    """Reset every connection through the proxies and forwards."""
    click.echo(ask(where, "break-tcp-conns"))


@command.command(short_help="Print what the daemon does, for a flame graph.")
@which
@click.option(
    "--seconds",
    type=Seconds(1, 120),
    default=10.0,
    show_default=True,
    metavar="S",
    help="For how long.",
)
def profile(where: str | None, seconds: float) -> None:
    """Print what the daemon does, as collapsed stacks: `flamegraph.pl` makes a picture of them.

    What is compiled counts as its caller's; a daemon with USERNET_KERNEL=python shows all.
    """
    click.echo(ask(where, "profile", timeout=seconds + 30, seconds=seconds), nl=False)


@command.command(short_help="Write what goes through the tunnel into a file.")
@which
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("-c", "count", type=Whole(1), metavar="N", help="End after N packets. [default: at Ctrl-C]")
@click.option("-s", "snaplen", type=Whole(1, 65_535), metavar="B", help="Only B bytes of each packet. [default: all]")
def capture(where: str | None, file: str, count: int | None, snaplen: int | None) -> None:
    """Write what goes through the tunnel into FILE, which tcpdump and Wireshark read; `-` is standard output.

    Packets are written as they are inside: unencrypted, and up to 64 KiB where segments are merged.

    \b
    usernet debug capture tunnel.pcap -s 120
    usernet debug capture - | tcpdump -nr -
    """
    if file == "-" and sys.stdout.isatty():
        raise click.UsageError("a terminal shows no packets: name a FILE, or pipe them to `tcpdump -nr -`.")
    left_out = 0
    args = {name: value for name, value in (("count", count), ("snaplen", snaplen)) if value is not None}
    with click.open_file(file, "wb") as out, watching(where, "capture", **args) as pieces:
        part = b""
        for piece in pieces:
            part += base64.b64decode(piece["data"])
            left_out = piece["left_out"]
            if piece["whole"]:
                _write(out, part)
                part = b""
    if left_out:
        remedy = "" if snaplen is not None else "; -s 120 takes only the headers"
        click.echo(f"{left_out} packets were left out: what reads them is too slow{remedy}", err=True)
        sys.exit(1)


def _write(out: IO[bytes], data: bytes) -> None:
    """All of it: an interrupt waits."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        out.write(data)
        out.flush()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
