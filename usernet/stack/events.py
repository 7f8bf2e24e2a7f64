"""The rare things a host tells its owner, a list per burst.  What happens all the time is readiness instead."""

from __future__ import annotations

from dataclasses import dataclass

from usernet.stack.listener import Forwarder, Listener
from usernet.stack.udpflow import UdpFlow
from usernet.tcp.connection import Connection
from usernet.tcp.settings import Flow


@dataclass(frozen=True, slots=True)
class Accepted:
    """A client's handshake with a listener is complete."""

    listener: Listener
    connection: Connection


@dataclass(frozen=True, slots=True)
class Asked:
    """A client wants to connect and waits: dial, then `admit` or `refuse` the flow."""

    forwarder: Forwarder
    flow: Flow


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A client that had asked is gone without a connection, admitted or not: what was dialled for it is of no use."""

    forwarder: Forwarder
    flow: Flow


@dataclass(frozen=True, slots=True)
class FlowBegun:
    """A client has sent a first datagram for a UDP forwarder; it waits in the flow."""

    flow: UdpFlow


@dataclass(frozen=True, slots=True)
class FlowEnded:
    """Nothing has moved for so long that the flow is closed now."""

    flow: UdpFlow


@dataclass(frozen=True, slots=True)
class EchoReply:
    """An answer to a ping; whether anybody waits for it is the owner's matter."""

    remote: bytes
    ident: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class EchoFailed:
    """An ICMP error about a ping."""

    remote: bytes
    ident: int
    sequence: int
    error: OSError


@dataclass(frozen=True, slots=True)
class Stalled:
    """A connection to this host has retransmitted twice without an answer: the path may need a new handshake."""

    remote: bytes


HostEvent = Accepted | Asked | Abandoned | FlowBegun | FlowEnded | EchoReply | EchoFailed | Stalled
