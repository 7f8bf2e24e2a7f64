"""The `usernet` command.  `main` is the entry point; every command is a module of its own, imported when it is called.

A start of `usernet run` must not pay for what only other commands, or only people, need: rich is imported by the demo
alone, and nothing here imports the engine before it runs.
"""

from __future__ import annotations

import os
import sys

import click

from proxy.cli.group import LazyGroup

PARTS = {
    "To run a tunnel": {
        "run": "proxy.cli.run",
        "demo": "proxy.cli.demo",
        "nc": "proxy.cli.nc",
        "wireproxy": "proxy.cli.wireproxy",
    },
    "To ask one that runs": {
        "status": "proxy.cli.status",
        "top": "proxy.cli.top",
        "ping": "proxy.cli.ping",
        "netcheck": "proxy.cli.netcheck",
        "reload": "proxy.cli.reload",
        "wg": "proxy.cli.wg",
        "healthcheck": "proxy.cli.healthcheck",
        "bugreport": "proxy.cli.bugreport",
        "debug": "proxy.cli.debug",
    },
    "To have systemd run it": {
        "install-system-daemon": "proxy.cli.system:install",
        "uninstall-system-daemon": "proxy.cli.system:uninstall",
    },
    "For the configuration file": {
        "check": "proxy.cli.check",
        "route": "proxy.cli.route",
        "passwd": "proxy.cli.passwd",
        "genkey": "proxy.cli.keys:genkey",
        "pubkey": "proxy.cli.keys:pubkey",
        "genpsk": "proxy.cli.keys:genpsk",
    },
    "For your shell": {
        "completion": "proxy.cli.completion",
    },
}


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        import platform
        from importlib.metadata import version

        from usernet.burst import choose_kernel
        from usernet.compiled import describe_data_path

        kernel, why = choose_kernel()
        is_compiled, why_path = describe_data_path()
        click.echo(f"usernet {version('usernet')}, Python {platform.python_version()}")
        click.echo(f"burst kernel: {kernel.name}, {why}")
        click.echo(f"data path: {'compiled' if is_compiled else 'interpreted'}, {why_path}")
        context.exit()


@click.group(cls=LazyGroup, parts=PARTS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version, and what of it is native.",
)
def cli() -> None:
    """A WireGuard tunnel put to work without privileges: userspace TCP/IP, SOCKS5 and HTTP proxy on one port."""


def _arguments() -> list[str]:
    """Those of the command line, and what containerboot's variables add."""
    arguments = sys.argv[1:]
    if not any(name.startswith(("TS_", "USERNET_PORT")) for name in os.environ):
        return arguments
    from proxy.daemon.environment import forget_link, take_over

    forget_link(os.environ)
    return take_over(os.environ, arguments, lambda text: click.echo(f"warning: {text}", err=True))


def main() -> None:
    """Run the command line.  What a person can do something about is one line and exit status 1, never a traceback."""
    from usernet.errors import UsernetError

    try:
        cli(_arguments(), prog_name="usernet")
    except UsernetError as error:
        click.ClickException(str(error)).show()
        sys.exit(1)
    except OSError as error:  # a full disk behind standard output, say
        where = f"{error.filename}: " if error.filename else ""
        click.ClickException(f"{where}{error.strerror or error}").show()
        # What could not be written is still in the buffer, and Python would try once more, and complain, as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
