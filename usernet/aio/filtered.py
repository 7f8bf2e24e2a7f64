"""The packet filter in front of what lies inside, and what it says.  Imported where there is one."""

from __future__ import annotations

from collections.abc import Iterable

from usernet.aio.runtime import log
from usernet.filter import FilteredLink, PacketFilter, Verdict
from usernet.links import PacketLink

_WORDS = {"filter-no-rule": "no rule: let it in with `Inbound =`"}


def filtered(link: PacketLink, packet_filter: PacketFilter, own: Iterable[bytes]) -> PacketLink:
    """`link` behind the filter; `own`: our addresses."""
    packet_filter.readdress(own)
    return FilteredLink(link, packet_filter, _tell)


def _tell(verdict: Verdict) -> None:
    more = f", and {verdict.unsaid} before it that are not told of" if verdict.unsaid else ""
    if verdict.accepted:
        log.debug("packet filter: %s let in%s", verdict, more)
    else:
        why = _WORDS.get(verdict.reason) or verdict.reason.removeprefix("filter-")
        log.info("packet filter: %s dropped (%s)%s", verdict, why, more)
