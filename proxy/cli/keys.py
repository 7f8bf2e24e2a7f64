"""`genkey`, `pubkey`, `genpsk`: the same bytes in and out as `wg` has (wireguard-tools, src/genkey.c, src/pubkey.c)."""

from __future__ import annotations

import binascii
import os
import stat
import sys

import click

from proxy.daemon import wgkeys
from usernet.config import values

KEY_CHARACTERS = 44


def _show(key: bytes) -> None:
    click.echo(binascii.b2a_base64(key, newline=False))


def _warn_if_exposed() -> None:
    """A secret on its way into a file that everybody can read is worth a word."""
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except OSError:  # no descriptor behind it
        return
    if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
        click.echo(
            "Warning: writing to world accessible file.\nConsider setting the umask to 077 and trying again.", err=True
        )


@click.command()
def genkey() -> None:
    """Print a new private key."""
    _warn_if_exposed()
    _show(wgkeys.generate())


@click.command()
def genpsk() -> None:
    """Print a new preshared key."""
    _warn_if_exposed()
    _show(os.urandom(wgkeys.KEY_BYTES))


@click.command(short_help="Print the public key of a private one.")
def pubkey() -> None:
    """Read a private key from standard input, print its public key."""
    text, trailing = _split(sys.stdin.buffer.read(4096))
    if trailing:
        raise click.ClickException("trailing characters found after the key")
    try:
        key = values.key(text.decode("ascii"))
    except (values.BadValue, UnicodeDecodeError):
        raise click.ClickException("the key is not the correct length or format") from None
    _show(wgkeys.public(key))


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The key, and what stands behind it other than white space."""
    return data[:KEY_CHARACTERS], data[KEY_CHARACTERS:].strip()
