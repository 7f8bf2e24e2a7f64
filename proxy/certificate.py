"""The certificate of an HTTPS proxy: two PEM files, and the TLS context made of them.

They are looked at before every handshake and read again where they have changed, so that a renewed certificate serves
the next client.  A pair that cannot be used (half of it is new, say) leaves the one before in service.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat

from usernet.errors import UsernetError

log = logging.getLogger("usernet.proxy")

Stamp = tuple[int, ...]

CERTIFICATE_MARK, KEY_MARK, ENCRYPTED_MARK = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----", b"ENCRYPTED"


class BadCertificate(UsernetError):
    """The files cannot be used; the text names the one at fault, and what to do."""


class Certificate:
    """`chain`: our certificate, then those of its issuers.  `key`: its private key, not encrypted."""

    __slots__ = ("_chain", "_context", "_key", "_seen")

    def __init__(self, chain: str, key: str) -> None:
        """Raises BadCertificate."""
        self._chain = chain
        self._key = key
        self._seen = self._stamp()
        self._context = load(chain, key)

    def context(self) -> ssl.SSLContext:
        """For the next handshake."""
        seen = self._stamp()
        if seen != self._seen:
            self._seen = seen  # so that a pair that is no good is complained about once
            try:
                self._context = load(self._chain, self._key)
                log.info("the certificate in %s has changed: it is used from now on", self._chain)
            except BadCertificate as error:
                log.warning("%s; the certificate of before stays in use", error)
        return self._context

    def _stamp(self) -> Stamp | None:
        """Differs when a file was written, or replaced."""
        try:
            found = [os.stat(path) for path in (self._chain, self._key)]
        except OSError:
            return None
        return tuple(value for one in found for value in (one.st_mtime_ns, one.st_ino, one.st_size))


def load(chain: str, key: str) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and up, HTTP/1.1 only.  Raises BadCertificate."""
    _read(chain, CERTIFICATE_MARK, "a certificate in PEM form")
    if ENCRYPTED_MARK in _read(key, KEY_MARK, "a private key in PEM form"):
        raise BadCertificate(f"{key}: the private key is encrypted; decrypt it with `openssl pkey -in {key} -out FILE`")
    _warn_of_readers(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(chain, key, password="")  # a password, lest OpenSSL ask for it on the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadCertificate(
                f"{key}: the private key does not belong to the first certificate in {chain}; "
                "give the key that it was issued for, and put our certificate before its issuers'"
            ) from None
        raise BadCertificate(
            f"{chain}, {key}: OpenSSL cannot use them ({error.reason or 'malformed'}); "
            "`openssl x509 -in FILE` and `openssl pkey -in FILE` say which is damaged"
        ) from None
    except OSError as error:
        raise BadCertificate(f"{chain}, {key}: {error.strerror}") from None
    return context


def _read(path: str, mark: bytes, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise BadCertificate(f"{path}: {error.strerror}; name a file with {what}") from None
    if mark not in content:
        raise BadCertificate(f"{path}: there is no {what.removeprefix('a ')} in it; name a file that has one")
    return content


def _warn_of_readers(key: str) -> None:
    if os.stat(key).st_mode & stat.S_IROTH:
        log.warning("%s: every user of this machine can read the private key; `chmod o-r %s`", key, key)
