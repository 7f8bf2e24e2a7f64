"""The protocol's numbers against the paper's."""

from __future__ import annotations

from usernet.wireguard import constants as c


def test_times_of_the_paper() -> None:
    assert (c.REKEY_AFTER_TIME, c.REJECT_AFTER_TIME, c.REKEY_TIMEOUT, c.KEEPALIVE_TIMEOUT) == (120, 180, 5, 10)
    assert c.COOKIE_SECRET_LIFETIME == c.COOKIE_LIFETIME == 120


def test_counts_of_the_paper() -> None:
    assert c.REKEY_AFTER_MESSAGES == 2**60
    assert c.REJECT_AFTER_MESSAGES == 2**64 - 2**13 - 1


def test_sizes() -> None:
    header, index = 4, 4
    macs = 2 * c.MAC_BYTES
    sealed_key, sealed_timestamp = c.KEY_BYTES + c.TAG_BYTES, c.TIMESTAMP_BYTES + c.TAG_BYTES
    assert header + index + c.KEY_BYTES + sealed_key + sealed_timestamp + macs == c.INITIATION_BYTES
    assert header + 2 * index + c.KEY_BYTES + c.TAG_BYTES + macs == c.RESPONSE_BYTES
    assert header + index + c.XNONCE_BYTES + c.MAC_BYTES + c.TAG_BYTES == c.COOKIE_REPLY_BYTES
    assert len(c.CONSTRUCTION) == 37
    assert len(c.IDENTIFIER) == 34
