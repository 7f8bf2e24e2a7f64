"""PEM files: what is wrong with them is said, and changed ones are read again."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.certificate import BadCertificate, Certificate
from tests.support.certificates import Authority, Pair, write_key


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Authority(tmp_path).issue()


def made(pair: Pair) -> Certificate:
    return Certificate(str(pair.chain), str(pair.key))


def test_context(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    context = made(pair).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    assert not caplog.records


def spoil_key(pair: Pair) -> None:
    pair.key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def encrypt(pair: Pair) -> None:
    write_key(pair.key, ec.generate_private_key(ec.SECP256R1()), b"secret")


def other_key(pair: Pair) -> None:
    write_key(pair.key, ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pair: pair.chain.unlink(), "server.pem: No such file or directory; name a file with a certificate"),
        (lambda pair: pair.key.unlink(), "server.key: No such file or directory; name a file with a private key"),
        (lambda pair: pair.key.write_bytes(b""), "server.key: there is no private key in PEM form in it; name a file"),
        (lambda pair: pair.chain.write_bytes(b"\x30\x82"), "server.pem: there is no certificate in PEM form in it"),
        (spoil_key, "OpenSSL cannot use them"),
        (encrypt, "server.key: the private key is encrypted; decrypt it with `openssl pkey -in "),
        (other_key, "server.key: the private key does not belong to the first certificate in "),
    ],
)
def test_what_is_wrong(pair: Pair, spoil: Callable[[Pair], object], said: str) -> None:
    spoil(pair)
    with pytest.raises(BadCertificate) as caught:
        made(pair)
    assert said in str(caught.value)


def test_a_key_that_everybody_reads(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.key.chmod(0o644)
    made(pair)
    assert "every user of this machine can read the private key; `chmod o-r " in caplog.text


def test_changed_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "usernet")
    authority = Authority(tmp_path)
    pair = authority.issue()
    certificate = made(pair)
    first = certificate.context()
    assert certificate.context() is first

    old_key = pair.key.read_bytes()
    authority.issue()
    new_key = pair.key.read_bytes()
    pair.key.write_bytes(old_key)  # half a change
    for _ in range(2):
        assert certificate.context() is first
    assert caplog.text.count("does not belong") == 1
    assert "the certificate of before stays in use" in caplog.text

    pair.key.write_bytes(new_key)
    os.utime(pair.key, ns=(1, 1))  # a clock too coarse to tell two writes apart does not matter here
    second = certificate.context()
    assert second is not first
    assert "it is used from now on" in caplog.text

    pair.key.unlink()
    assert certificate.context() is second
