"""Where the daemon's own pages are: --debug, --local-addr, and `usernet wireproxy -i`.

Only where one is asked for is there an HTTP server, and only then is this imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from proxy.binding import addresses_of
from proxy.daemon.info import info_pages
from proxy.daemon.limiting import UNLIMITED
from proxy.daemon.listeners import ListenError
from proxy.daemon.narrator import format_endpoint
from proxy.daemon.pages import Pages
from proxy.daemon.process import log
from proxy.daemon.serving import refusal
from proxy.web.server import Page, WebServer

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon


async def show(daemon: Daemon, stack: contextlib.AsyncExitStack) -> None:
    """Open what the options name, for as long as the stack lasts.  ListenError."""
    options, pages = daemon.options, Pages(daemon)
    if options.debug is not None:
        await _refuse_others(*options.debug, options.allow_anyone)
        await _serve(stack, "debug", options.debug, pages.all(), options.hostnames)
    if options.local_addr is not None:
        await _serve(stack, "local-addr", options.local_addr, pages.for_probes(), None)
    if options.info is not None:
        await _serve(stack, "info", options.info, info_pages(daemon.network, daemon.alive), None)


async def _refuse_others(host: str, port: int, allow_anyone: bool) -> None:
    """What it shows (destinations, users) is nobody else's business."""
    try:
        addresses = await addresses_of(host)
    except OSError as error:
        raise refusal(error, host) from None
    if allow_anyone or all(ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        return
    raise ListenError(
        f"--debug: {host or 'every address'} port {port} would show others who connects where; listen on 127.0.0.1, or"
        " add --allow-anyone"
    )


async def _serve(
    stack: contextlib.AsyncExitStack,
    what: str,
    where: tuple[str, int],
    pages: Mapping[str, Page],
    hostnames: Collection[str] | None,
) -> None:
    server = WebServer(pages, hostnames)
    stack.push_async_callback(server.close)
    try:
        names = await server.listen(*where)
    except OSError as error:
        raise refusal(error, where[0] or "every address") from None
    for name in names:
        log.info("%s: http://%s%s", what, format_endpoint(name), "/" if "/" in pages else "", extra=UNLIMITED)
