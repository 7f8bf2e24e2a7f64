"""`usernet run FILE`: the daemon."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from proxy.cli.check import as_warning
from proxy.cli.files import load, read
from proxy.cli.ranges import Seconds, Whole

if TYPE_CHECKING:
    from proxy.daemon.listeners import Listen
    from usernet.config import Config


def _host_names(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from proxy.names import BadHost, parse_host

    try:
        return tuple(parse_host(name.strip("[]").encode()) for name in value)
    except BadHost as bad:
        raise click.BadParameter(f"{bad}; name the host alone, without a port.", context, parameter) from None


def _token(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and re.fullmatch("[0-9A-Za-z._-]+", value) is None:
        raise click.BadParameter("A name is made of letters, digits, '.', '-' and '_'.", context, parameter)
    return value


@click.command(
    short_help="Run a tunnel and a proxy in front of it.", context_settings={"auto_envvar_prefix": "USERNET"}
)
@click.argument("file", type=click.Path(), envvar="USERNET_FILE")
@click.option(
    "--socks5-server", multiple=True, metavar="ADDR", help="Speak SOCKS on HOST:PORT; may be repeated; port 0 is any."
)
@click.option(
    "--outbound-http-proxy-listen",
    multiple=True,
    metavar="ADDR",
    help="Be an HTTP proxy on HOST:PORT; may be repeated. An address that has both speaks both.",
)
@click.option(
    "--port",
    type=Whole(0, 65535),
    metavar="N",
    help="UDP port of the tunnel; 0 is any. [default: ListenPort, or any]",
)
@click.option(
    "--dial-timeout",
    type=Seconds(0.1, 3600),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds until a connection that does not come about fails.",
)
@click.option("--http-proxy-tls-cert", metavar="FILE", help="Be an HTTPS proxy, too, with this certificate (PEM).")
@click.option("--http-proxy-tls-key", metavar="FILE", help="Its private key (PEM, not encrypted).")
@click.option(
    "--hostname",
    multiple=True,
    metavar="NAME",
    callback=_host_names,
    help="A name of the proxy itself, under which its own pages (/proxy.pac) may be fetched; may be repeated.",
)
@click.option(
    "--access-log",
    type=click.Choice(["off", "text", "json"]),
    default="off",
    show_default=True,
    help="One line for each request when it is over, on standard output.",
)
@click.option("--access-log-file", type=click.Path(dir_okay=False), metavar="FILE", help="Append it to FILE instead.")
@click.option(
    "--via",
    metavar="NAME",
    callback=_token,
    help="Say in HTTP's Via fields that messages came through NAME, and refuse a request that did before: a loop.",
)
@click.option("--max-clients", type=Whole(1), metavar="N", help="Clients at once. [default: what `ulimit -n` allows]")
@click.option(
    "--max-clients-per-address",
    type=Whole(1),
    metavar="N",
    help="Clients at once of one IPv4 address or IPv6 /64. [default: as many as in all]",
)
@click.option(
    "--idle-timeout",
    type=Seconds(1),
    default=7440.0,
    show_default=True,
    metavar="S",
    help="Seconds after which a connection ends that neither side has sent anything on.",
)
@click.option(
    "--drain",
    type=Seconds(0),
    default=0.0,
    show_default=True,
    metavar="S",
    help="Seconds that connections have to finish after INT or TERM; a second signal ends them at once.",
)
@click.option(
    "--forward",
    multiple=True,
    metavar="FORWARD",
    help="Forward [HOST:]PORT of this machine into the tunnel: [HOST:]PORT:HOST:PORT[:TCP,UDP]; may be repeated.",
)
@click.option(
    "--remote",
    multiple=True,
    metavar="FORWARD",
    help="Forward a port of the tunnel's addresses to this machine: PORT:HOST:PORT[:TCP,UDP]; may be repeated.",
)
@click.option(
    "--socket",
    type=click.Path(),
    metavar="PATH",
    help="The admin socket. [default: NAME.sock, by the name of FILE, in /run/usernet as root, else in"
    " $XDG_RUNTIME_DIR/usernet or /tmp/usernet-UID]",
)
@click.option(
    "--state",
    metavar="WHERE",
    help="What outlives a restart is kept there: a file, mem: (nowhere), kube:SECRET, or"
    " arn:aws:ssm:...:parameter/NAME[?kmsKey=KEY]. [default: NAME.state in --statedir]",
)
@click.option(
    "--statedir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="[default: $STATE_DIRECTORY, /var/lib/usernet as root, else ~/.local/state/usernet]",
)
@click.option(
    "--tun",
    metavar="NAMES",
    help="Interfaces of the kernel's to try, in order, with commas between; userspace-networking is none, and needs no"
    " privileges. [default: userspace-networking; on Synology usernet0,userspace-networking]",
)
@click.option(
    "--run-hooks", is_flag=True, help="Run the PreUp, PostUp, PreDown and PostDown commands of FILE, where --tun is."
)
@click.option("--cleanup", is_flag=True, help="Take away what a crash has left of the --tun interfaces, and end.")
@click.option(
    "--debug",
    metavar="ADDR",
    help="Show how the daemon is on [IP]:PORT, over HTTP: a page for people, /metrics, /readyz, /debug/...",
)
@click.option(
    "--local-addr", metavar="ADDR", help="Answer probes on [IP]:PORT, over HTTP: /healthz, /readyz and /metrics."
)
@click.option(
    "--bird-socket",
    type=click.Path(),
    metavar="PATH",
    help="BIRD's control socket: its protocol `usernet` is enabled while a peer answers.",
)
@click.option("--allow-anyone", is_flag=True, help="Listen beyond this machine without credentials.")
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    help="The event loop; auto is uvloop, or asyncio where that is not installed.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The daemon's own log, on standard error: lines for people, or an object a line.",
)
@click.option("--verbose", type=Whole(0, 2), default=0, metavar="N", help="Say more: 1 or 2.")
@click.option("-v", "more", count=True, help="As --verbose 1; -vv as --verbose 2.")
def command(
    file: str,
    socks5_server: tuple[str, ...],
    outbound_http_proxy_listen: tuple[str, ...],
    port: int | None,
    dial_timeout: float,
    http_proxy_tls_cert: str | None,
    http_proxy_tls_key: str | None,
    hostname: tuple[str, ...],
    access_log: str,
    access_log_file: str | None,
    via: str | None,
    max_clients: int | None,
    max_clients_per_address: int | None,
    idle_timeout: float,
    drain: float,
    forward: tuple[str, ...],
    remote: tuple[str, ...],
    socket: str | None,
    state: str | None,
    statedir: str | None,
    tun: str | None,
    run_hooks: bool,
    cleanup: bool,
    debug: str | None,
    local_addr: str | None,
    bird_socket: str | None,
    allow_anyone: bool,
    loop: str,
    log_format: Literal["text", "json"],
    verbose: int,
    more: int,
) -> None:
    """Run the tunnel of a wg-quick FILE, and a proxy in front of it, until INT or TERM.

    Without an address SOCKS5 and HTTP share 127.0.0.1:1080 and [::1]:1080, unless FILE has [Socks5] or [http] sections.

    Every flag has a variable: --dial-timeout is USERNET_DIAL_TIMEOUT, and FILE is USERNET_FILE.  One that may be
    repeated takes several values with spaces between them; the command line wins.
    """
    known = {f"USERNET_{option.name}".upper() for option in click.get_current_context().command.params}
    if any(name.startswith("USERNET_") for name in os.environ.keys() - known):
        from proxy.daemon.environment import misspelt

        for remark in misspelt(os.environ, known | {"USERNET_KERNEL"}):
            click.echo(f"warning: {remark}", err=True)
    if (http_proxy_tls_cert is None) != (http_proxy_tls_key is None):
        raise click.UsageError("--http-proxy-tls-cert and --http-proxy-tls-key come together.")
    if access_log_file is not None and access_log == "off":
        raise click.UsageError("--access-log-file needs --access-log text or json.")
    from proxy.admin import paths
    from proxy.daemon import (
        activation,
        app,
        controls,
        keeping,
        limiting,
        listeners,
        logs,
        notation,
        process,
        sdnotify,
        serving,
        wgkeys,
    )
    from proxy.state import opening
    from usernet.tun import candidates

    names = candidates.parse_candidates(tun if tun is not None else candidates.default_candidates())
    if (run_hooks or cleanup) and names == (candidates.USERSPACE,):
        raise click.UsageError(f"{'--cleanup' if cleanup else '--run-hooks'} needs --tun and the interface's name.")
    if cleanup:
        _clean_up(names)
        return
    kernel = names != (candidates.USERSPACE,)
    name = paths.name_of(file)
    store, why = opening.choose(state, statedir, name)

    generated: list[bytes] = []

    def generate() -> bytes:
        generated.append(keeping.private_key(store, name, wgkeys.generate))
        return generated[-1]

    answered = tuple(chain.from_iterable(map(notation.parse_remote, remote)))
    led = tuple(chain.from_iterable(map(notation.parse_forward, forward)))

    sockets = activation.inherited(os.environ)

    def with_flags(found: Config) -> Config:
        return replace(
            found,
            client_tunnels=(*found.client_tunnels, *led),
            server_tunnels=(*found.server_tunnels, *answered),
        )

    def plan(found: Config) -> list[Listen]:
        return listeners.plan(socks5_server, outbound_http_proxy_listen, found, sockets)

    config = with_flags(load(file, kernel=kernel, generate=generate))
    if config.stdio_tunnel is not None and access_log != "off" and access_log_file is None:
        raise click.UsageError("standard output is [STDIOTunnel]'s: --access-log needs --access-log-file.")
    logs.set_up_log(verbose + more, log_format)
    for warning in config.warnings:
        process.log.warning("%s", as_warning(warning), extra=limiting.UNLIMITED)
    certificate = None
    if http_proxy_tls_cert is not None and http_proxy_tls_key is not None:
        from proxy.certificate import Certificate

        listeners.need_http(plan(config), "--http-proxy-tls-cert")
        certificate = Certificate(http_proxy_tls_cert, http_proxy_tls_key)
    caps = serving.Caps(max_clients, max_clients_per_address, idle_timeout)
    if why:
        process.log.info("no state is kept: %s", why)
    if generated:
        process.log.info("our key was made here; public key: %s", wgkeys.text(wgkeys.public(generated[-1])))
        if not store.lasts:
            process.log.warning("the next start may make another key: nothing is kept; see --state")
    where = controls.Where(Path(socket or paths.default_path(name)), socket is not None)
    options = app.Options(
        lambda: with_flags(read(file, kernel=kernel, generate=generate)), plan, name, port, dial_timeout, allow_anyone,
        certificate=certificate, hostnames=hostname, via=via, caps=caps, drain=drain, admin=where,
        store=store, tun=names, run_hooks=run_hooks,
        debug=None if debug is None else listeners.parse_listen(debug, "--debug"),
        local_addr=None if local_addr is None else listeners.parse_listen(local_addr, "--local-addr"),
        notifier=sdnotify.Notifier.of(os.environ), bird=None if bird_socket is None else Path(bird_socket),
    )  # fmt: skip
    if access_log != "off":
        from proxy.accesslog import AccessLog

        options = replace(options, access_log=AccessLog(logs.lines_to(access_log_file), as_json=access_log == "json"))

    async def main() -> None:
        await app.run(config, options)

    process.run(main(), loop)


def _clean_up(names: Sequence[str]) -> None:
    from usernet.tun.candidates import USERSPACE
    from usernet.tun.cleanup import cleanup

    for name in names:
        if name == USERSPACE:
            continue
        try:
            removed = cleanup(name)
        except OSError as error:
            raise click.ClickException(f"--cleanup {name}: {error.strerror or error}") from None
        click.echo(f"{name}: removed {', '.join(removed)}" if removed else f"{name}: nothing is left of it")
