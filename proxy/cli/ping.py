"""`usernet ping [FILE] ADDR`: an ICMP echo through the tunnel of a daemon, or one of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click

from proxy.cli.asking import path_of, which, with_key_of
from proxy.cli.files import load
from proxy.cli.ranges import Whole
from usernet.aio.peers import Memory
from usernet.config import Config
from usernet.errors import DialError, NameNotFound, NoRoute

INTERVAL = 1.0  # s
SECONDS = 10.0  # for the daemon's answer, which waits for an echo for five


@click.command(short_help="Ping an address or a name through the tunnel.")
@which
@click.argument("arguments", nargs=-1, metavar="[FILE] ADDR")
@click.option("-c", "count", type=Whole(1), metavar="N", default=4, show_default=True, help="How many.")
def command(where: str | None, arguments: tuple[str, ...], count: int) -> None:
    """Ping ADDR, an address or a name, through the tunnel.  Exit status 0 if anything came back.

    Without FILE the daemon that runs does it; with FILE the one that has its key, or else a tunnel is opened for the
    question.

    \b
    usernet ping 10.0.0.1
    usernet ping wg0.conf www.example.org -c 1
    """
    from proxy.admin.paths import name_of
    from proxy.daemon import logs, process
    from proxy.daemon.keeping import borrowed

    if len(arguments) not in (1, 2):
        raise click.UsageError("ADDR is needed, with or without a FILE before it.")
    address = arguments[-1]
    if len(arguments) == 1:
        sys.exit(0 if _by_daemon(path_of(where), address, count) else 1)
    logs.set_up_log(0)
    config = load(arguments[0])
    daemon = with_key_of(where, config)
    if daemon is not None:
        sys.exit(0 if _by_daemon(daemon, address, count) else 1)
    answered = 0

    async def main() -> None:
        nonlocal answered
        answered = await ping(config, address, count, borrowed(name_of(arguments[0])))

    process.run(main())
    sys.exit(0 if answered else 1)


def _by_daemon(path: Path | None, host: str, count: int) -> int:
    """As `ping`."""
    from proxy.admin.client import call
    from proxy.admin.protocol import CommandError

    answered = 0
    for number in range(1, count + 1):
        began = time.monotonic()
        try:
            seconds = call("ping-through", {"host": host}, path=path, timeout=SECONDS)
        except CommandError as error:
            if error.code == "not-sent":
                raise click.ClickException(str(error)) from None
            click.echo(f"{host}: {error}")
        except TimeoutError:
            click.echo(f"{host}: the daemon does not answer")
        else:
            answered += 1
            click.echo(f"answer from {host}: number {number}, {seconds * 1000:.1f} ms")
        if number < count:
            time.sleep(max(0.0, INTERVAL - (time.monotonic() - began)))
    click.echo(f"{count} sent, {answered} answered")
    return answered


async def ping(config: Config, host: str, count: int, memory: Memory) -> int:
    """Prints a line each; how many were answered.  `memory`: where our timestamps begin."""
    import usernet

    answered = 0
    async with usernet.open_tunnel(config, port=0, memory=memory) as network:
        for number in range(1, count + 1):
            began = time.monotonic()
            try:
                seconds = await network.ping(host)
            except (NoRoute, NameNotFound) as error:  # nothing was sent, nor will be a second later
                raise click.ClickException(str(error.strerror)) from None
            except DialError as error:
                click.echo(f"{host}: {error.strerror}")
            except TimeoutError:
                click.echo(f"{host}: no answer")
            else:
                answered += 1
                click.echo(f"answer from {host}: number {number}, {seconds * 1000:.1f} ms")
            if number < count:
                await asyncio.sleep(max(0.0, INTERVAL - (time.monotonic() - began)))
    click.echo(f"{count} sent, {answered} answered")
    return answered
