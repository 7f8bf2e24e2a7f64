"""`usernet wireproxy`: wireproxy's own arguments and files, so that it can be swapped in."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import click

from proxy.cli.check import as_warning
from proxy.cli.files import load, read

DEFAULT_PATHS = ("/etc/wireproxy/wireproxy.conf", "~/.config/wireproxy.conf")


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"usernet {version('usernet')}, in wireproxy's place")
        context.exit()


@click.command(short_help="Run a file of wireproxy's, with wireproxy's arguments.")
@click.option("-c", "--config", "path", type=click.Path(), metavar="FILE", help="The file of configuration.")
@click.option("-s", "--silent", is_flag=True, help="Say nothing but errors.")
@click.option("-d", "--daemon", is_flag=True, help="Run in the background.")
@click.option("-i", "--info", metavar="ADDR", help="Answer /readyz and /metrics on HOST:PORT, over HTTP.")
@click.option("-n", "--configtest", is_flag=True, help="Check the file, and no more.")
@click.option(
    "-v", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version."
)
def command(path: str | None, silent: bool, daemon: bool, info: str | None, configtest: bool) -> None:
    """Do what wireproxy does with its file: that of -c, else /etc/wireproxy/wireproxy.conf or ~/.config/wireproxy.conf.

    As there, and other than with `usernet run`: a [Peer] without AllowedIPs takes everything, nothing listens but what
    the file names, and a proxy that is open to other machines starts without a password, with a warning.
    """
    path = path or _default_path()
    config = load(path, carry_all=True)
    if configtest:
        click.echo("Config OK")
        return
    from proxy.daemon import app, limiting, listeners, logs, process

    where = listeners.parse_listen(info, "--info") if info is not None else None
    if daemon:
        _start_again(path, silent, info)
        return
    logs.set_up_log(0)
    if silent:
        for logger in (process.log, logging.getLogger("usernet.proxy")):
            logger.setLevel(logging.ERROR)
    for warning in config.warnings:
        process.log.warning("%s", as_warning(warning), extra=limiting.UNLIMITED)
    options = app.Options(
        lambda: read(path, carry_all=True),
        lambda config: listeners.plan((), (), config) if config.proxies else [],
        os.path.splitext(os.path.basename(path))[0],
        allow_anyone=True,
        info=where,
    )

    async def main() -> None:
        await app.run(config, options)

    process.run(main())


def _default_path() -> str:
    for path in map(os.path.expanduser, DEFAULT_PATHS):
        if os.path.exists(path):
            return path
    raise click.UsageError(f"a file is needed: name it with -c, or write {' or '.join(DEFAULT_PATHS)}.")


def _start_again(path: str, silent: bool, info: str | None) -> None:
    """In a session of its own, with nobody to talk to."""
    arguments = ["-c", path, *(["-s"] if silent else []), *(["-i", info] if info is not None else [])]
    null = subprocess.DEVNULL
    subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "wireproxy", *arguments],
        stdin=null, stdout=null, stderr=null, start_new_session=True,
    )  # fmt: skip
