"""`usernet check FILE`: every problem and every warning, and whether the file can be used."""

from __future__ import annotations

import sys

import click

from proxy.cli.files import count
from proxy.daemon import wgkeys
from usernet import config
from usernet.errors import ConfigError, Problem


@click.command()
@click.argument("file", type=click.Path())
def command(file: str) -> None:
    """Check a wg-quick FILE.  Exit status 0 if it can be used, 1 if not.

    Each line reads FILE:LINE: what is wrong; what would be right.
    """
    try:
        found = config.load(file, derive_public=wgkeys.public, generate=wgkeys.generate)
    except OSError as error:
        raise click.ClickException(
            f"cannot read {click.format_filename(file) or repr(file)}: {error.strerror}"
        ) from None
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem)
        click.echo(f"{file}: cannot be used: {count(len(error.problems), 'problem')}")
        sys.exit(1)
    for warning in found.warnings:
        click.echo(as_warning(warning))
    warnings = f", {count(len(found.warnings), 'warning')}" if found.warnings else ""
    click.echo(f"{file}: can be used: {count(len(found.peers), 'peer')}{warnings}")


def as_warning(problem: Problem) -> str:
    return f"{problem.file}:{problem.line}: warning: {problem.message}; {problem.remedy}"
