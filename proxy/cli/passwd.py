"""`usernet passwd NAME`: a line for the [Access] section, with a hash in place of the password."""

from __future__ import annotations

import sys

import click

from usernet.config.values import BadValue, credential


@click.command(short_help="Make a user's line for the [Access] section.")
@click.argument("name")
def command(name: str) -> None:
    """Ask for a password, and print a line `User = NAME:HASH` for the [Access] section of a file.

    Where standard input is not a terminal, its first line is the password.
    """
    from proxy.passwords import make_hash

    if ":" in name or "#" in name or name.strip() != name:
        raise click.UsageError("NAME cannot have a colon or a #, or begin or end with a space.")
    if sys.stdin.isatty():
        word = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        word = sys.stdin.readline().rstrip("\n")
    try:
        credential(name)
        credential(word)
    except BadValue as bad:
        raise click.ClickException(f"a name or password of 1 to 255 bytes is needed: {bad.message}") from None
    click.echo(f"User = {name}:{make_hash(word.encode())}")
