"""`usernet healthcheck`: for containers, by its exit status.  It is started every few seconds, so it imports little."""

from __future__ import annotations

import sys

import click

from proxy.cli.asking import ask, which

SECONDS = 10.0


@click.command(short_help="Exit status 0 if the tunnel works, else 1.")
@which
@click.option("--live", is_flag=True, help="Only whether the daemon answers, not whether the tunnel works.")
def command(where: str | None, live: bool) -> None:
    """Exit with 0 where the tunnel of a running daemon works, and with 1 and the reason where it does not.

    It works if there was a handshake of late or something answers through it: nobody else is asked.  For Docker's
    HEALTHCHECK, and as an exec probe of Kubernetes.
    """
    answer = ask(where, "ready", timeout=SECONDS, live=live)
    if not answer["ready"]:
        click.echo(answer["why"], err=True)
        sys.exit(1)
