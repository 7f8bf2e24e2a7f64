"""Commands that ask a running daemon: which one is meant, and what it says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from usernet.config import Config

SECONDS = 5.0  # for a daemon that is asked only who it is

F = TypeVar("F", bound=Callable[..., Any])


def which(function: F) -> F:
    """The option that says whom to ask."""
    option = click.option(
        "--socket",
        "where",
        metavar="NAME|PATH",
        envvar="USERNET_SOCKET",
        help="The daemon to ask, by the name of its tunnel or its admin socket. [default: the one that runs]",
        shell_complete=_complete,
    )
    return option(function)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of those that run, or a path."""
    from click.shell_completion import CompletionItem

    from proxy.admin.paths import all_running

    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    names = sorted({path.stem for path in all_running()})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def path_of(where: str | Path | None) -> Path | None:
    from proxy.admin import paths

    if where is None or isinstance(where, Path):
        return where
    return Path(where) if "/" in where else paths.path_of(where)


def with_key_of(where: str | None, config: Config) -> Path | None:
    """The admin socket of a daemon that runs with the configuration's key: no other tunnel is to have it, too, since
    the peers then send to the one that spoke last.
    """
    from proxy.admin.client import call
    from proxy.admin.paths import all_running
    from proxy.admin.protocol import CommandError
    from proxy.daemon import wgkeys
    from usernet.errors import UsernetError

    public_key = wgkeys.text(wgkeys.public(config.interface.private_key))
    path = path_of(where)
    for candidate in all_running() if path is None else (path,):
        with contextlib.suppress(CommandError, UsernetError, OSError):  # that one cannot be asked
            if call("status", path=candidate, timeout=SECONDS)["public_key"] == public_key:
                return candidate
    return None


def ask(where: str | Path | None, command: str, *, timeout: float | None = 60.0, **args: Any) -> Any:
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
