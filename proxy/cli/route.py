"""`usernet route FILE DESTINATION`: which way a destination goes, and why."""

from __future__ import annotations

import sys

import click

from proxy.cli.files import load
from proxy.names import BadHost, parse_address, parse_host, parse_port

DEFAULT_PORT = 443


@click.command(short_help="Say which way a destination goes, and why.")
@click.argument("file", type=click.Path())
@click.argument("destination", metavar="NAME|ADDR[:PORT]")
@click.option("--user", metavar="NAME", help="As this user of the proxy.")
def command(file: str, destination: str, user: str | None) -> None:
    """Say which way the proxies of FILE send a destination (of port 443, unless it names one), and why.

    Exit status 0 if it can be dialled, 1 if not.  A name that has to be resolved through the tunnel is: it is then
    opened for the question, and the peer sends to it, and no longer to a daemon that has the same key.
    """
    from proxy.daemon import explain, logs, process, wgkeys

    host, port = _parse(destination)
    stand_ins: list[bytes] = []

    def generate() -> bytes:
        """Which way something goes is no matter of the key."""
        stand_ins.append(wgkeys.generate())
        return stand_ins[-1]

    config = load(file, generate=generate)
    logs.set_up_log(0)
    allowed = True

    async def main() -> None:
        nonlocal allowed
        async for line, good in explain.explain(config, host, port, user, has_key=not stand_ins):
            click.echo(line)
            allowed = allowed and good

    process.run(main())
    sys.exit(0 if allowed else 1)


def _parse(text: str) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        port = port.removeprefix(":")
        host = host if closed else text
    elif parse_address(text) is None and text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        return parse_host(host.encode()), parse_port(port.encode()) if port else DEFAULT_PORT
    except BadHost as error:
        raise click.UsageError(f"{text!r}: {error}; write NAME, ADDR, NAME:PORT or [IPv6]:PORT") from None
