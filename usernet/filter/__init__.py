"""The packet filter: `core.py` says what comes in, in which order it is asked, and what is remembered."""

from usernet.filter.core import PacketFilter
from usernet.filter.link import FilteredLink
from usernet.filter.rules import FilterRule
from usernet.filter.statistics import FilterStatistics
from usernet.filter.verdicts import Verdict

__all__ = ["FilterRule", "FilterStatistics", "FilteredLink", "PacketFilter", "Verdict"]
