"""Which route a destination takes: the [Access] section's rules, of which the first that fits decides.

A rule may ask about the name, the address, the port and the user.  A name is resolved only where a rule that comes
first in line asks about addresses: `decide` says so by `Undecided`, and is asked again with each address.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from proxy.policy import is_special
from usernet.config import AccessRule, format_network


class Undecided:
    """The address must be known first."""


UNDECIDED: Final = Undecided()


class Rules:
    """An ordered list of rules.  Immutable."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Sequence[AccessRule] = ()) -> None:
        self._rules = tuple(rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def decide(
        self, name: str | None, packed: bytes | None, port: int, user: str | None
    ) -> AccessRule | Undecided | None:
        """The rule for a destination; None where none fits.  `name`: as the client wrote it, where it wrote one."""
        for rule in self._rules:
            if rule.ports and not any(low <= port <= high for low, high in rule.ports):
                continue
            if rule.users and user not in rule.users:
                continue
            if rule.everything or (name is not None and names_match(rule, name)):
                return rule
            if rule.networks:
                if packed is None:
                    return UNDECIDED
                if covering(rule, packed) is not None:
                    return rule
        return None


def names_match(rule: AccessRule, name: str) -> bool:
    bare = name.rstrip(".")
    return bare in rule.names or any(bare == suffix[1:] or bare.endswith(suffix) for suffix in rule.suffixes)


def covering(rule: AccessRule, packed: bytes) -> tuple[bytes, int] | None:
    """The network of the rule that holds this address."""
    for network, length in rule.networks:
        if len(network) == len(packed):
            shift = len(packed) * 8 - length
            if int.from_bytes(network) >> shift == int.from_bytes(packed) >> shift:
                return network, length
    return None


def exempts(rule: AccessRule, packed: bytes) -> bool:
    """Whether a rule means a special address (policy.py) by name: its network holds nothing else."""
    found = covering(rule, packed)
    if found is None:
        return False
    network, length = found
    if length < (4 if len(network) == 4 else 8):
        return False
    last = ip_network(format_network(found)).broadcast_address.packed
    return is_special(network) and is_special(last)
