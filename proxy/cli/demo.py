"""`usernet demo`: see it work, without a configuration and without a far machine."""

from __future__ import annotations

import sys

import click


@click.command(short_help="See it work, against a far side of its own.")
@click.option("--listen", metavar="ADDR", help="HOST:PORT of the proxy.  [default: 127.0.0.1:1080, or any free port]")
@click.option("--once", is_flag=True, help="End when everything was tried: status 0 if it worked, else 1.")
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    help="The event loop; auto is uvloop, or asyncio where that is not installed.",
)
def command(listen: str | None, once: bool, loop: str) -> None:
    """Both ends of a tunnel in one process: fetch a page and move 64 MiB each way through the proxy.

    On a terminal it then stays up for your own curl or browser until Ctrl-C.
    """
    from proxy.daemon import logs, process
    from proxy.daemon.listeners import Listen, parse_listen
    from proxy.demo import script, show

    logs.set_up_log(0)
    host, port = parse_listen(listen, "--listen") if listen else ("127.0.0.1", script.free_port("127.0.0.1", 1080))
    chosen = show.choose()
    stay = chosen.interactive and sys.stdin.isatty() and not once
    process.run(script.run([Listen(host, port, socks5=True, http=True)], chosen, stay=stay), loop)
