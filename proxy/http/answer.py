"""What the proxy itself says in HTTP: one line of text, and nothing of the request or of an exception; more to who
takes it for a web site."""

from __future__ import annotations

from http import HTTPStatus

from proxy.replies import Reply

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"  # RFC 9110 section 9.3.6: no framing fields


def answer(status: int, reason: str, *fields: str, close: bool = True) -> bytes:
    """A whole response, after which the connection ends where it says so."""
    body = reason + "\n"
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        *fields,
    ]
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def head_of(words: bytes) -> bytes:
    """An answer as HEAD gets it."""
    return b"".join(words.partition(b"\r\n\r\n")[:2])


def proxy_status(token: str, reason: str) -> str:
    """The field that says who failed and how (RFC 9209); a reason is a constant without quotes."""
    return f'Proxy-Status: usernet; error={token}; details="{reason}"'


def refusal(reply: Reply) -> bytes:
    """For a dial's or an origin's failure."""
    return answer(reply.status, f"{reply.reason}; {reply.remedy}", proxy_status(reply.token, reply.reason))


def fault(status: int, reason: str) -> bytes:
    """For a request that is at fault itself."""
    return answer(status, reason, proxy_status("http_request_error", reason))


def not_a_web_site(url: str, *, socks: bool, script: bool) -> bytes:
    """For who takes the proxy for a web server.  `script`: there is a /proxy.pac for it."""
    reason = "this is a proxy and not a web site"
    lines = [
        f"{reason}.  Enter it as the proxy of a program, such as:",
        f"    curl -x {url} http://example.org/",
        f"    export http_proxy={url} https_proxy={url}",
    ]
    if socks:
        lines.append("It speaks SOCKS5 at the same address, too.")
    if script:
        lines.append(f"Browsers configure themselves by the address of a script: {url}/proxy.pac")
    return answer(400, "\n".join(lines), proxy_status("http_request_error", reason))


def challenge(*, close: bool) -> bytes:
    """For absent and wrong credentials alike (RFC 9110 section 11.7.1)."""
    reason = "this proxy asks for a user name and a password"
    return answer(
        407,
        reason,
        'Proxy-Authenticate: Basic realm="usernet", charset="UTF-8"',
        proxy_status("http_request_denied", reason),
        close=close,
    )
