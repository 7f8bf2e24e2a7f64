"""Which route a destination takes: the [Access] section's rules, of which the first that fits decides.

A rule may ask about the name, the address, the port and the user.  A name is resolved only where a rule that comes
first in line asks about addresses: `decide` says so by `Undecided`, and is asked again with each address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.policy import special_bits
from usernet.config import AccessRule, Network


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
                if any(holds(network, packed) for network in rule.networks):
                    return rule
        return None


def names_match(rule: AccessRule, name: str) -> bool:
    bare = name.rstrip(".")
    return bare in rule.names or any(bare == suffix[1:] or bare.endswith(suffix) for suffix in rule.suffixes)


def holds(network: Network, packed: bytes) -> bool:
    """Whether the address is in it."""
    prefix, length = network
    shift = len(packed) * 8 - length
    return len(prefix) == len(packed) and int.from_bytes(prefix) >> shift == int.from_bytes(packed) >> shift


def exempts(rule: AccessRule, packed: bytes) -> bool:
    """Whether a rule means a special address (policy.py) by name: a network that holds it holds nothing else."""
    least = special_bits(packed)
    return any(network[1] >= least and holds(network, packed) for network in rule.networks)
