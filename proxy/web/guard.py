"""Whom the daemon's own pages are shown to: not to other people's web sites, whose scripts run in our users' browsers.

A site whose name is made to point here (DNS rebinding, CVE-2022-41924) gives itself away by the Host field, which is
that name; a site that asks for our pages from elsewhere by Origin or Referer (RFC 6454, RFC 9110 section 10.1.3), or by
Sec-Fetch-Site.  No script can forge them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from proxy.http.head import HeadError
from proxy.http.own import is_local
from proxy.http.target import parse_authority

OUR_SITE = ("same-origin", "none")  # "none": a person typed the address


def refusal(fields: Sequence[tuple[str, str]], local: str, hostnames: Collection[str]) -> str | None:
    """Why a request is refused, or None.  `local`: the address that it came to; names of fields are in lower case."""
    hosts = [value for name, value in fields if name == "host"]
    try:
        host, _ = parse_authority(hosts[0].encode("latin-1") if len(hosts) == 1 else b"", 80)
    except HeadError:
        return "a request names the host that it is for, once"
    # The port may be another one, where it is forwarded: a port makes no name point elsewhere
    if host not in hostnames and not is_local(host, local.removeprefix("::ffff:").partition("%")[0]):
        return "this is not that host: come by the address, or by localhost; --hostname names others"
    for name, value in fields:
        if name in ("origin", "referer") and _site(value) != hosts[0].lower():
            return "another site asks for it"
        if name == "sec-fetch-site" and value.lower() not in OUR_SITE:
            return "another site asks for it"
    return None


def _site(url: str) -> str | None:
    """host:port as a Host field of the same site has it; None where it is no URL of ours."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None
