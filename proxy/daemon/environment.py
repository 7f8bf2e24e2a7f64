"""The variables of tailscale's containerboot, so that its manifests serve here: TS_... -> USERNET_... and more.
And those that look like ours and are not.

Read tailscale's cmd/containerboot.  What USERNET_... or the command line says wins.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from typing import Final, NamedTuple

from usernet.errors import UsernetError

PROBES: Final = "[::]:9002"  # where they are by default
SAME: Final = {
    "TS_SOCKS5_SERVER": "USERNET_SOCKS5_SERVER",
    "TS_OUTBOUND_HTTP_PROXY_LISTEN": "USERNET_OUTBOUND_HTTP_PROXY_LISTEN",
    "TS_STATE_DIR": "USERNET_STATEDIR",
    "TS_SOCKET": "USERNET_SOCKET",
    "TS_DEBUG_ADDR_PORT": "USERNET_DEBUG",
}
# What they do belongs to tailscale's own network.
MEANINGLESS: Final = (
    "TS_AUTHKEY", "TS_AUTH_ONCE", "TS_HOSTNAME", "TS_ROUTES", "TS_DEST_IP", "TS_ACCEPT_DNS", "TS_EXTRA_ARGS",
    "TS_SERVE_CONFIG", "TS_TAILNET_TARGET_IP", "TS_TAILNET_TARGET_FQDN",
)  # fmt: skip
# Kubernetes tells its pods of a service named usernet by USERNET_PORT=tcp://..., and others that are longer.
_LINK: Final = re.compile("(tcp|udp|sctp)://")
_LINKED: Final = re.compile("USERNET_(.*_)?(SERVICE|PORT)_")
_BOOLEANS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False, "": False}


class BadVariable(UsernetError):
    """A TS_ variable that is not one; the text says what would be right."""


class Translated(NamedTuple):
    variables: dict[str, str]  # to be set where they are not
    arguments: list[str]  # for `run`
    remarks: list[str]  # for the log


def translate(environ: Mapping[str, str]) -> Translated:
    """Raises BadVariable."""
    found = {ours: environ[theirs] for theirs, ours in SAME.items() if environ.get(theirs)}
    if environ.get("TS_KUBE_SECRET"):
        found["USERNET_STATE"] = f"kube:{environ['TS_KUBE_SECRET']}"
    if "TS_USERSPACE" in environ and not _boolean(environ, "TS_USERSPACE"):
        found["USERNET_TUN"] = "usernet0"
    if _boolean(environ, "TS_ENABLE_METRICS") or _boolean(environ, "TS_ENABLE_HEALTH_CHECK"):
        found["USERNET_LOCAL_ADDR"] = environ.get("TS_LOCAL_ADDR_PORT") or PROBES
    try:
        arguments = shlex.split(environ.get("TS_TAILSCALED_EXTRA_ARGS", ""))
    except ValueError as error:
        raise BadVariable(f"TS_TAILSCALED_EXTRA_ARGS: {error}; quote it as for a shell") from None
    remarks = [
        f"{name} is set, and means nothing here: what it does belongs to tailscale's own network"
        for name in MEANINGLESS
        if environ.get(name)
    ]
    return Translated(found, arguments, remarks)


def forget_link(environ: MutableMapping[str, str]) -> None:
    """USERNET_PORT is --port only where it is none of Kubernetes'."""
    if _LINK.match(environ.get("USERNET_PORT", "")):
        del environ["USERNET_PORT"]


def misspelt(environ: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    """Variables that mean nothing and are nearly one of the `known` ones, for the log."""
    import difflib  # few misspell one

    for name in sorted(environ):
        if name.startswith("USERNET_") and name not in known and not _LINKED.match(name):
            for meant in difflib.get_close_matches(name, known, 1, 0.8):
                yield f"{name} is set, and means nothing; did you mean {meant}?"


def _boolean(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "")
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise BadVariable(f"{name}: {value!r} is neither true nor false") from None


def take_over(environ: MutableMapping[str, str], arguments: list[str], remark: Callable[[str], None]) -> list[str]:
    """Set the variables, and give the arguments of a command line with those that TS_... adds to `run`."""
    if not any(name.startswith("TS_") for name in environ):
        return arguments
    if arguments[:1] != ["run"]:  # whoever asks the daemon, as a HEALTHCHECK does, finds it where `run` put it
        if environ.get("TS_SOCKET"):
            environ.setdefault(SAME["TS_SOCKET"], environ["TS_SOCKET"])
        return arguments
    variables, more, remarks = translate(environ)
    for name, value in variables.items():
        environ.setdefault(name, value)
    for text in remarks:
        remark(text)
    return ["run", *more, *arguments[1:]]
