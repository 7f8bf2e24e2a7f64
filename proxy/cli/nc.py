"""`usernet nc [FILE] HOST PORT`: standard input and output joined to a connection through the tunnel.

For ssh:  ssh -o ProxyCommand='usernet nc wg0.conf %h %p' host
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import click

from proxy.cli.ranges import Seconds
from proxy.replies import reason
from usernet.aio.peers import Memory
from usernet.config import Config
from usernet.errors import UsernetError

DEFAULT_PROXY = "socks5h://127.0.0.1:1080"
SOCKS5_SCHEMES = ("socks5", "socks5h", "socks")


class NoConnection(UsernetError):
    """It did not come about; the text says why."""


@click.command(short_help="Join standard input and output to HOST PORT.")
@click.argument("arguments", nargs=-1, metavar="[FILE] HOST PORT")
@click.option(
    "--dial-timeout",
    type=Seconds(0.1, 3600),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds until a connection that does not come about fails.",
)
def command(arguments: tuple[str, ...], dial_timeout: float) -> None:
    """Connect to HOST and PORT through the tunnel, and pass standard input and output on.

    With FILE it opens that tunnel for itself: the peer then sends to it, no longer to a daemon that has the same key.
    Without FILE it goes through a running proxy: the one in ALL_PROXY, else 127.0.0.1:1080.  Names are resolved at the
    tunnel's far end.  Exit status 0 once both directions have ended, 1 where there is no connection or it breaks.

    ssh -o ProxyCommand='usernet nc wg0.conf %h %p' host
    """
    if len(arguments) not in (2, 3):
        raise click.UsageError("HOST and PORT are needed, with or without a FILE before them.")
    file, (host, port) = arguments[:-2], (arguments[-2], _port(arguments[-1]))
    from proxy.admin.paths import name_of
    from proxy.cli.files import load
    from proxy.daemon import logs, process
    from proxy.daemon.keeping import borrowed

    logs.set_up_log(0)
    if file:
        config = load(file[0])
        main = _through_file(config, borrowed(name_of(file[0])), host, port, dial_timeout)
    else:
        main = _through_proxy(_proxy_url(), host, port, dial_timeout)
    ended_by = 0

    async def run() -> None:
        nonlocal ended_by
        ended_by = await _unless_told_to_stop(main)

    process.run(run())
    if ended_by:
        raise click.exceptions.Exit(128 + ended_by)


async def _unless_told_to_stop(main: Coroutine[Any, Any, None]) -> int:
    """The signal that ended it, or 0.  ssh sends SIGHUP when it is done: the far end is to hear of that, too."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    return received[0] if received else 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise click.UsageError(f"{text!r} is not a port: write a number from 1 to 65535.")
    return int(text)


async def _through_file(config: Config, memory: Memory, host: str, port: int, dial_timeout: float) -> None:
    import usernet
    from proxy.stdio import PIECE

    async with usernet.open_tunnel(config, port=0, dial_timeout=dial_timeout, memory=memory) as network:
        try:
            streams = await network.open_connection(host, port, limit=PIECE)
        except OSError as error:
            raise NoConnection(f"cannot connect to {host} port {port}: {reason(error)}") from None
        await _join(*streams, host)


async def _through_proxy(url: SplitResult, host: str, port: int, dial_timeout: float) -> None:
    from python_socks import ProxyError, ProxyType
    from python_socks.async_.asyncio import Proxy

    from proxy.stdio import PIECE

    where = f"{url.hostname}:{url.port or 1080}"
    proxy = Proxy(
        ProxyType.SOCKS5,
        url.hostname or "",
        url.port or 1080,
        username=None if url.username is None else unquote(url.username),
        password=None if url.password is None else unquote(url.password),
        rdns=True,
    )
    try:
        sock = await proxy.connect(host, port, timeout=dial_timeout)
    except ProxyError as error:
        remedy = (
            "; ALL_PROXY has the name and password: socks5h://NAME:PASSWORD@..." if error.error_code is None else ""
        )
        raise NoConnection(f"the proxy at {where} says of {host} port {port}: {error}{remedy}") from None
    except TimeoutError:
        raise NoConnection(f"the proxy at {where} did not answer within {dial_timeout:g} s") from None
    except OSError as error:
        raise NoConnection(
            f"there is no proxy at {where}: {os.strerror(error.errno) if error.errno else error}; "
            "start `usernet run FILE`, name the proxy in ALL_PROXY, or give nc the FILE"
        ) from None
    await _join(*await asyncio.open_connection(sock=sock, limit=PIECE), host)


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
    from proxy import stdio

    try:
        await stdio.join(reader, writer)
    except ConnectionError as error:
        raise NoConnection(f"the connection to {host} broke: {reason(error)}") from None


def _proxy_url() -> SplitResult:
    """The proxy of the environment, or where `usernet run` listens by itself."""
    text = os.environ.get("ALL_PROXY") or DEFAULT_PROXY
    url = urlsplit(text if "://" in text else f"socks5h://{text}")
    try:
        usable = url.scheme in SOCKS5_SCHEMES and url.hostname and url.port != 0
    except ValueError:  # of the port
        usable = False
    if not usable:
        shown = f"{url.scheme}://..." if url.scheme else "what it says"
        raise NoConnection(
            f"ALL_PROXY: {shown} is no SOCKS5 proxy; write socks5h://127.0.0.1:1080, or give nc the FILE"
        )
    return url
