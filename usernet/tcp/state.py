"""The states of a connection and every way between them.  Read RFC 9293 3.3.2 and figure 5.

TRANSITIONS is the specification: what is not in it does not happen, and `ControlBlock.set_state` is the only code that
changes a state.  LISTEN is where a passive connection is born, for an instant, by the SYN that makes it; the listener
itself lives in the stack.  A CLOSE before ESTABLISHED is queued until then (RFC 9293 3.10.4 allows it in SYN-RECEIVED),
and an acceptable ACK is looked at before a FIN, so figure 5's edges from SYN-RECEIVED to FIN-WAIT-1 and CLOSE-WAIT are
walked in two steps, by way of ESTABLISHED.
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """RFC 9293 3.3.2."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"

    __hash__ = object.__hash__  # members are singletons; Enum hashes their name, in Python, for every lookup


class Event(enum.Enum):
    """What moves a connection from one state to another."""

    OPEN = "active OPEN"
    SYN = "a SYN came"
    SYN_ACKED = "our SYN is acknowledged, and theirs is here"
    CLOSE = "CLOSE or shutdown for writing"
    FIN = "their FIN is next in order"
    FIN_ACKED = "our FIN is acknowledged"
    ABORT = "a reset by either side, or giving up"
    TIMEOUT = "2 MSL are over, or an orphan has waited long enough"

    __hash__ = object.__hash__  # as above


# Module constants, for looking a member up in its class costs more than the comparison it is for.
CLOSED: Final = State.CLOSED
LISTEN: Final = State.LISTEN
SYN_SENT: Final = State.SYN_SENT
SYN_RECEIVED: Final = State.SYN_RECEIVED
ESTABLISHED: Final = State.ESTABLISHED
FIN_WAIT_1: Final = State.FIN_WAIT_1
FIN_WAIT_2: Final = State.FIN_WAIT_2
CLOSE_WAIT: Final = State.CLOSE_WAIT
CLOSING: Final = State.CLOSING
LAST_ACK: Final = State.LAST_ACK
TIME_WAIT: Final = State.TIME_WAIT

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (CLOSED, Event.OPEN): SYN_SENT,
    (LISTEN, Event.SYN): SYN_RECEIVED,
    (SYN_SENT, Event.SYN): SYN_RECEIVED,  # simultaneous open
    (SYN_SENT, Event.SYN_ACKED): ESTABLISHED,
    (SYN_SENT, Event.ABORT): CLOSED,
    (SYN_RECEIVED, Event.SYN_ACKED): ESTABLISHED,
    (SYN_RECEIVED, Event.ABORT): CLOSED,
    (ESTABLISHED, Event.CLOSE): FIN_WAIT_1,
    (ESTABLISHED, Event.FIN): CLOSE_WAIT,
    (ESTABLISHED, Event.ABORT): CLOSED,
    (FIN_WAIT_1, Event.FIN_ACKED): FIN_WAIT_2,
    (FIN_WAIT_1, Event.FIN): CLOSING,
    (FIN_WAIT_1, Event.ABORT): CLOSED,
    (FIN_WAIT_2, Event.FIN): TIME_WAIT,
    (FIN_WAIT_2, Event.TIMEOUT): CLOSED,
    (FIN_WAIT_2, Event.ABORT): CLOSED,
    (CLOSE_WAIT, Event.CLOSE): LAST_ACK,
    (CLOSE_WAIT, Event.ABORT): CLOSED,
    (CLOSING, Event.FIN_ACKED): TIME_WAIT,
    (CLOSING, Event.ABORT): CLOSED,
    (LAST_ACK, Event.FIN_ACKED): CLOSED,
    (LAST_ACK, Event.ABORT): CLOSED,
    (TIME_WAIT, Event.TIMEOUT): CLOSED,
    (TIME_WAIT, Event.ABORT): CLOSED,
}

# Before these our SYN is not acknowledged; after them there is nothing left to send.
MAY_SEND: Final = frozenset((ESTABLISHED, FIN_WAIT_1, CLOSE_WAIT, CLOSING, LAST_ACK))
# A FIN has not come in yet, so data may.
MAY_RECEIVE: Final = frozenset((ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2))
OPENING: Final = frozenset((SYN_SENT, SYN_RECEIVED))
