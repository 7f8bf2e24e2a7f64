"""Commands that ask a running daemon: which one is meant, and what it says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def which(function: F) -> F:
    """The option that says whom to ask."""
    option = click.option(
        "--socket",
        "where",
        metavar="NAME|PATH",
        envvar="USERNET_SOCKET",
        help="The daemon to ask, by the name of its tunnel or its admin socket. [default: the one that runs]",
    )
    return option(function)


def path_of(where: str | None) -> Path | None:
    from proxy.admin import paths

    if where is None:
        return None
    return Path(where) if "/" in where else paths.path_of(where)


def ask(where: str | None, command: str, *, timeout: float | None = 60.0, **args: Any) -> Any:
    """The answer.  A daemon that cannot be asked, or refuses, ends the command with a line that says why."""
    from proxy.admin.client import call
    from proxy.admin.protocol import CommandError

    try:
        return call(command, args, path=path_of(where), timeout=timeout)
    except CommandError as error:
        raise click.ClickException(str(error)) from None
    except TimeoutError:
        raise click.ClickException("the daemon does not answer") from None


@contextlib.contextmanager
def watching(where: str | None, command: str, **args: Any) -> Iterator[Iterator[Any]]:
    """What it says, one after the other, until it stops; the block is left where somebody interrupts it."""
    from proxy.admin.client import stream
    from proxy.admin.protocol import CommandError

    with (
        contextlib.suppress(KeyboardInterrupt),
        contextlib.closing(stream(command, args, path=path_of(where))) as items,
    ):
        try:
            yield items
        except CommandError as error:
            click.echo(f"usernet: {error}", err=True)
