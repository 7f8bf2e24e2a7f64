"""TCP without a socket.  Start at connection.py; state.py is the specification of what can happen."""

from usernet.tcp.connection import (
    CLOSED,
    CONNECTED,
    EOF,
    READABLE,
    WRITABLE,
    Connection,
)
from usernet.tcp.settings import Flow, TcpSettings
from usernet.tcp.state import State
from usernet.tcp.statistics import ConnectionStatistics

__all__ = [
    "CLOSED",
    "CONNECTED",
    "EOF",
    "READABLE",
    "WRITABLE",
    "Connection",
    "ConnectionStatistics",
    "Flow",
    "State",
    "TcpSettings",
]
