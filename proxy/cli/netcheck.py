"""`usernet netcheck`: what this machine's network offers a tunnel."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from proxy.cli.asking import ask, which, with_key_of
from proxy.status.netcheck import lines


@click.command(short_help="Say what is in the way of a tunnel here.")
@which
@click.argument("file", type=click.Path(), required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(where: str | None, file: str | None, as_json: bool) -> None:
    """Look at names, UDP to each peer, families, packet sizes and what the kernel helps with.

    Without FILE the daemon that runs looks; with FILE the one that has its key, or else a tunnel is opened for the
    question.  Nobody but the peers is asked.  Exit status 1 where something is in the way.
    """
    found = ask(where, "netcheck") if file is None else _of_file(where, file)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in lines(found):
            click.echo(line)
    sys.exit(1 if found["findings"] else 0)


def _of_file(where: str | None, file: str) -> dict[str, Any]:
    from proxy.admin.paths import name_of
    from proxy.cli.files import load
    from proxy.daemon import netcheck, process
    from proxy.daemon.keeping import borrowed

    config = load(file)
    daemon = with_key_of(where, config)
    if daemon is not None:
        asked: dict[str, Any] = ask(daemon, "netcheck")
        return asked
    found: dict[str, Any] = {}

    async def main() -> None:
        found.update(await netcheck.check_alone(config, borrowed(name_of(file))))

    process.run(main())
    return found
