"""`usernet bugreport`: what to put into an issue."""

from __future__ import annotations

import click

from proxy.cli.asking import ask, which


@click.command(short_help="Print what helps with a bug, without secrets.")
@which
def command(where: str | None) -> None:
    """Print the versions, counters and recent errors of a running daemon, to be put into a bug report.

    No key, password, address or name is in it.  Read it all the same before you show it to others.
    """
    click.echo(ask(where, "bugreport"), nl=False)
