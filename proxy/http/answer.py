"""What the proxy itself says in HTTP: one line of text, and nothing of the request or of an exception."""

from __future__ import annotations

from http import HTTPStatus

from proxy.replies import Reply

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"  # RFC 9110 section 9.3.6: no framing fields


def answer(status: int, reason: str, *fields: str) -> bytes:
    """A whole response, after which the connection ends."""
    body = reason + "\n"
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        *fields,
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def refusal(reply: Reply) -> bytes:
    """A dial's or an origin's failure, with its Proxy-Status (RFC 9209)."""
    return answer(reply.status, reply.reason, f"Proxy-Status: usernet; error={reply.token}")


def challenge() -> bytes:
    """For absent and wrong credentials alike (RFC 9110 section 11.7.1)."""
    return answer(
        407,
        "this proxy asks for a user name and a password",
        'Proxy-Authenticate: Basic realm="usernet", charset="UTF-8"',
        "Proxy-Status: usernet; error=http_request_denied",
    )
