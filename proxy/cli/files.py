"""Reading FILE for a command: what stands in the way is one line a problem."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import click

from proxy.daemon import wgkeys
from usernet import config
from usernet.errors import ConfigError

SUFFIX: Final = ".conf"  # what `wg-quick` lets people leave out


def read(
    path: str, *, carry_all: bool = False, kernel: bool = False, generate: Callable[[], bytes] | None = None
) -> config.Config:
    """The configuration.  See usernet.config.parse for the others.  Raises OSError and ConfigError."""
    return config.load(path, derive_public=wgkeys.public, carry_all=carry_all, kernel=kernel, generate=generate)


def load(
    path: str, *, carry_all: bool = False, kernel: bool = False, generate: Callable[[], bytes] | None = None
) -> config.Config:
    """The configuration, or an exit with everything that is wrong with it."""
    try:
        return read(path, carry_all=carry_all, kernel=kernel, generate=generate)
    except OSError as error:
        meant = path + SUFFIX
        hint = f"; {click.format_filename(meant)} is there" if path and os.path.isfile(meant) else ""
        raise click.ClickException(
            f"cannot read {click.format_filename(path) or repr(path)}: {error.strerror}{hint}"
        ) from None
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        raise click.ClickException(f"{path} cannot be used: {count(len(error.problems), 'problem')}") from None


def count(number: int, noun: str) -> str:
    """'1 peer', '2 peers'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
