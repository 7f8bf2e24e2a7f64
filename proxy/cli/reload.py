"""`usernet reload`: have a running daemon read its file again."""

from __future__ import annotations

import click

from proxy.cli.asking import ask, which


@click.command(short_help="Have the daemon read its file again.")
@which
def command(where: str | None) -> None:
    """Have a running daemon read its file again, as SIGHUP does: all of it holds from then on, or nothing.

    Connections go on.  Exit status 1, and one line, where the file cannot be used; everything is as before then.
    """
    click.echo(f"reloaded: {ask(where, 'reload')}")
