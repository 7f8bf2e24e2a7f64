"""`usernet netcheck`: what this machine's network offers a tunnel."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from proxy.cli.asking import ask, which


@click.command(short_help="Say what this network offers a tunnel, and what is in its way.")
@which
@click.argument("file", type=click.Path(), required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(where: str | None, file: str | None, as_json: bool) -> None:
    """Look at names, UDP to each peer, families, packet sizes and what the kernel helps with.

    Without FILE the daemon that runs looks. With FILE a tunnel is opened for the question: the peer then sends to it,
    and no longer to a daemon that has the same key.  Nobody but the peers is asked.  Exit status 1 where something is
    in the way.
    """
    found = ask(where, "netcheck") if file is None else _by_ourselves(file)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in lines(found):
            click.echo(line)
    sys.exit(1 if found["findings"] else 0)


def _by_ourselves(file: str) -> dict[str, Any]:
    from proxy.cli.files import load
    from proxy.daemon import netcheck, process

    config = load(file)
    found: dict[str, Any] = {}

    async def main() -> None:
        import usernet

        async with usernet.open_tunnel(config, port=0) as network:
            found.update(await netcheck.check(network, config))

    process.run(main())
    return found


def lines(found: dict[str, Any]) -> Iterator[str]:
    for family, source in found["families"].items():
        yield f"{family.replace('ip', 'IP')}: {f'from {source}' if source else 'no way out'}"
    udp = found["udp"]
    for one in udp["sockets"] if udp is not None else ():
        has = [name for name, there in (("GSO", one["gso"]), ("GRO", one["gro"])) if there] or ["neither GSO nor GRO"]
        yield f"UDP port {udp['port']}, {one['family']}: {' and '.join(has)}, receive buffer {one['receive_buffer']} B"
    yield f"TUN: {found['tun']}"
    for peer in found["peers"]:
        answers = f"answers in {peer['handshake_ms']} ms" if peer.get("handshake_ms") is not None else "does not answer"
        size = f", packets of {peer['mtu']} B go there" if peer.get("mtu") else ""
        yield f"peer {peer['peer']} at {peer['endpoint'] or 'nowhere'}: {answers}{size}"
    for finding in found["findings"]:
        yield f"! {finding}"
    if not found["findings"]:
        yield "nothing is in the way"
