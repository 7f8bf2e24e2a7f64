"""`usernet status`: how a running daemon is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from proxy.cli.asking import ask, watching, which
from proxy.cli.files import count
from proxy.status.wording import ago, amount, rate


@click.command(short_help="Say whether the tunnel works, and how its peers are.")
@which
@click.option("--json", "as_json", is_flag=True, help="Everything there is, as JSON; with --watch an object a line.")
@click.option("--peers", is_flag=True, help="Only the peers, a line each.")
@click.option("--watch", "again", is_flag=True, help="Again each second, until Ctrl-C or the daemon's end.")
def command(where: str | None, as_json: bool, peers: bool, again: bool) -> None:
    """Say whether the tunnel works, where its peers are, and what is wrong.

    Exit status 0 where a daemon runs, 1 where none does.  `usernet healthcheck` says by its exit status whether the
    tunnel works.
    """
    if not again:
        _show(ask(where, "status"), as_json, peers)
        return
    with watching(where, "status", watch=True) as looks:
        for number, status in enumerate(looks):
            if number and not as_json:
                click.echo("\033[H\033[2J" if sys.stdout.isatty() else "", nl=not sys.stdout.isatty())
            _show(status, as_json, peers, indent=None)


def _show(status: dict[str, Any], as_json: bool, peers: bool, indent: int | None = 2) -> None:
    if as_json:
        click.echo(json.dumps(status["peers"] if peers else status, indent=indent))
        return
    for line in peer_lines(status) if peers else lines(status):
        click.echo(line)


def lines(status: dict[str, Any]) -> Iterator[str]:
    verdict = status["verdict"]
    yield f"{verdict['title']}. {verdict['detail']}"
    yield (
        f"{status['name']}: {', '.join(status['addresses'])}, {status['mode']}, UDP port {status['listen_port']}, "
        f"up {ago(status['at'] - status['started'])}"
    )
    yield from peer_lines(status)
    for line in (*status["listeners"], *status["forwards"]):
        yield f"  {line}"
    yield (
        f"  {count(status['streams_total'], 'stream')} of {count(status['clients'], 'client')}, "
        f"{count(status['accepted'], 'client')} since the start; "
        f"{rate(status['rx_rate'])} in, {rate(status['tx_rate'])} out"
    )
    for trouble in status["health"]:
        yield f"! {trouble['text']}: {trouble['remedy']}"


def peer_lines(status: dict[str, Any]) -> Iterator[str]:
    """Address or network, name, `active; direct ENDPOINT`, `idle` or `-`, bytes: as `tailscale status` has them."""
    for peer in status["peers"]:
        first = peer["allowed_ips"][0] if peer["allowed_ips"] else "-"
        address = first.removesuffix("/128" if ":" in first else "/32")
        yield (
            f"{address:<20} {peer['public_key'][:8]}...  {_state(peer, status['at'])}, "
            f"tx {amount(peer['tx_bytes'])} rx {amount(peer['rx_bytes'])}"
        )


def _state(peer: dict[str, Any], now: float) -> str:
    shaken = peer["latest_handshake"]
    where = peer["endpoint"] or "nowhere yet"
    if shaken is None:
        return f"-; {where}"
    if now - shaken <= 180:
        return f"active; direct {where}, handshake {ago(now - shaken)} ago"
    return f"idle; {where}, handshake {ago(now - shaken)} ago"
