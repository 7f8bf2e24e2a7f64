"""`usernet ping FILE ADDR`: an ICMP echo through a tunnel of its own."""

from __future__ import annotations

import asyncio
import sys
import time

import click

from proxy.cli.files import load
from usernet.config import Config
from usernet.errors import DialError

INTERVAL = 1.0  # s


@click.command()
@click.argument("file", type=click.Path())
@click.argument("address", required=False, metavar="ADDR")
@click.option("-c", "count", type=click.IntRange(1), metavar="N", default=4, show_default=True, help="How many.")
def command(file: str, address: str | None, count: int) -> None:
    """Ping ADDR, an address or a name, through the tunnel of FILE.  Exit status 0 if anything came back.

    It opens the tunnel for itself: the peer then sends to it, and no longer to a daemon that has the same key.
    """
    from proxy.daemon import logs, process

    if address is None:
        raise click.UsageError("FILE and ADDR are both needed, for ping opens a tunnel of its own.")
    logs.set_up_log(0)
    config = load(file)
    answered = 0

    async def main() -> None:
        nonlocal answered
        answered = await ping(config, address, count)

    process.run(main())
    sys.exit(0 if answered else 1)


async def ping(config: Config, host: str, count: int) -> int:
    """Prints a line each; how many were answered."""
    import usernet

    answered = 0
    async with usernet.open_tunnel(config, port=0) as network:
        for number in range(1, count + 1):
            began = time.monotonic()
            try:
                seconds = await network.ping(host)
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
