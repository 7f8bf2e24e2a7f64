"""From the true cause of a failed dial to what each protocol says: the one table.

Never the exception's text, never anything of the request: both are the client's own words or our insides.
"""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from proxy.policy import Forbidden
from proxy.routes import UpstreamFailed
from usernet.errors import (
    DialError,
    EndpointUnresolved,
    HostUnreachable,
    NameNotFound,
    NameServerFailed,
    NetworkUnreachable,
    NoHandshake,
    NoRoute,
)

# RFC 1928 section 6
SUCCEEDED, GENERAL_FAILURE, NOT_ALLOWED, NETWORK_UNREACHABLE, HOST_UNREACHABLE = 0, 1, 2, 3, 4
CONNECTION_REFUSED, TTL_EXPIRED, COMMAND_NOT_SUPPORTED, ADDRESS_TYPE_NOT_SUPPORTED = 5, 6, 7, 8


class Reply(NamedTuple):
    """What to tell a client: a SOCKS5 reply code, an HTTP status, an RFC 9209 section 2.3 error type, one line about
    the cause, and what to do about it."""

    socks: int
    status: int
    token: str
    reason: str
    remedy: str


FORBIDDEN = Reply(
    NOT_ALLOWED,
    403,
    "destination_ip_prohibited",
    "a rule of this proxy forbids the destination",
    "an address that is this machine's own or special needs a rule that names it",
)
NO_ROUTE = Reply(
    NETWORK_UNREACHABLE,
    502,
    "destination_ip_unroutable",
    "no peer's allowed IPs cover the destination",
    "add it to the AllowedIPs of a peer, or a rule that sends it elsewhere",
)
NO_HANDSHAKE = Reply(
    TTL_EXPIRED,
    503,
    "destination_unavailable",
    "the tunnel's peer does not answer: no handshake",
    "see that the peer runs, that both keys are right, and that UDP gets to its endpoint",
)
NO_PEER = Reply(
    TTL_EXPIRED,
    503,
    "dns_error",
    "the name of the tunnel's own endpoint does not resolve",
    "see that Endpoint is right and that this machine can resolve names",
)
HOST = Reply(
    HOST_UNREACHABLE,
    502,
    "destination_ip_unroutable",
    "the destination host is unreachable",
    "see that it is up and that the far side has a way to it",
)
NETWORK = Reply(
    NETWORK_UNREACHABLE,
    502,
    "destination_ip_unroutable",
    "the destination network is unreachable",
    "see that the far side has a way to it",
)
NO_NAME = Reply(
    HOST_UNREACHABLE,
    502,
    "dns_error",
    "the name does not exist or has no usable address",
    "see that it is spelt right, and that DNS in the file is who knows it",
)
NO_NAME_SERVER = Reply(
    GENERAL_FAILURE,
    502,
    "dns_error",
    "no name server gave an answer",
    "see that DNS in the file names servers that answer through the tunnel",
)
REFUSED = Reply(
    CONNECTION_REFUSED,
    502,
    "connection_refused",
    "the destination refused the connection",
    "see that a server listens on that port there",
)
TIMED_OUT = Reply(
    TTL_EXPIRED,
    504,
    "connection_timeout",
    "the destination did not answer in time",
    "see that it is up, and that no firewall drops what comes from the tunnel",
)
TERMINATED = Reply(
    GENERAL_FAILURE,
    502,
    "connection_terminated",
    "the destination ended the connection",
    "try again; its server or something on the way broke off",
)
INCOMPLETE = Reply(
    GENERAL_FAILURE,
    502,
    "http_response_incomplete",
    "the origin ended before its response did",
    "try again; where it stays so, its log may say why",
)
NOT_HTTP = Reply(
    GENERAL_FAILURE,
    502,
    "http_protocol_error",
    "the origin's response is not valid HTTP/1.1",
    "see that a web server without TLS listens on that port",
)
UPSTREAM = Reply(
    GENERAL_FAILURE,
    502,
    "destination_unavailable",
    "the upstream proxy did not connect",
    "see that it runs, and that it lets this one in",
)
LOOP = Reply(
    GENERAL_FAILURE,
    502,
    "proxy_loop_detected",
    "the request has been through this proxy before",
    "see that the next proxy does not lead back here",
)
LIMIT = Reply(
    GENERAL_FAILURE,
    503,
    "connection_limit_reached",
    "the proxy is out of descriptors or memory",
    "close some connections, or raise `ulimit -n`",
)
UNSUPPORTED = Reply(
    COMMAND_NOT_SUPPORTED,
    501,
    "proxy_configuration_error",
    "the route cannot do what was asked",
    "see that a rule sends it through the tunnel or out directly",
)
INTERNAL = Reply(GENERAL_FAILURE, 500, "proxy_internal_error", "the proxy failed", "its log says why")

BY_TYPE: tuple[tuple[type[BaseException], Reply], ...] = (  # the first that fits
    (Forbidden, FORBIDDEN),
    (UpstreamFailed, UPSTREAM),
    (NoRoute, NO_ROUTE),
    (EndpointUnresolved, NO_PEER),
    (NoHandshake, NO_HANDSHAKE),
    (HostUnreachable, HOST),
    (NetworkUnreachable, NETWORK),
    (NameNotFound, NO_NAME),
    (NameServerFailed, NO_NAME_SERVER),
    (ConnectionRefusedError, REFUSED),
    (TimeoutError, TIMED_OUT),
    (ConnectionError, TERMINATED),
    (socket.gaierror, NO_NAME),
)
BY_ERRNO = {  # a kernel's sockets say it with a number
    errno.EHOSTUNREACH: HOST,
    errno.ENETUNREACH: NETWORK,
    errno.ETIMEDOUT: TIMED_OUT,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EMFILE: LIMIT,
    errno.ENFILE: LIMIT,
    errno.ENOBUFS: LIMIT,
    errno.ENOMEM: LIMIT,
    errno.EOPNOTSUPP: UNSUPPORTED,
}


# The error types of all these: what a dial, or an exchange with an origin, may come to
TOKENS = frozenset(reply.token for reply in (*(reply for _, reply in BY_TYPE), *BY_ERRNO.values(), INCOMPLETE, NOT_HTTP,
                                             LOOP, LIMIT, UNSUPPORTED, INTERNAL))  # fmt: skip


def reason(error: OSError) -> str:
    """For a person at the machine itself: the tunnel's own words name the address, a socket's error gets a client's."""
    return str(error.strerror) if isinstance(error, DialError) else reply_for(error).reason


def reply_for(error: BaseException) -> Reply:
    """What to tell the client when a dial ended like this."""
    for kind, reply in BY_TYPE:
        if isinstance(error, kind):
            return reply
    return BY_ERRNO.get(error.errno or 0, TERMINATED) if isinstance(error, OSError) else INTERNAL
