"""The protocol's own numbers.  Read the WireGuard paper, 5.4 and 6; what is ours to choose says so.

Seconds are floats of the caller's clock; sizes are bytes.
"""

from __future__ import annotations

from typing import Final

# 5.4: the identifiers that go into the handshake's hash and the MACs' keys
CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# 5.4.1: the first byte is the type and the next three are reserved zeros, which makes it a little-endian 32 bit word
TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_COOKIE_REPLY: Final = 3
TYPE_DATA: Final = 4

INITIATION_BYTES: Final = 148
RESPONSE_BYTES: Final = 92
COOKIE_REPLY_BYTES: Final = 64
MIN_DATA_BYTES: Final = 32  # header and tag: a keepalive

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
MAC_BYTES: Final = 16
TIMESTAMP_BYTES: Final = 12
XNONCE_BYTES: Final = 24
NO_PRESHARED_KEY: Final = bytes(KEY_BYTES)  # 5.4: "or zero": an absent one is mixed in all the same

# 6.1: time and count limits
REKEY_AFTER_MESSAGES: Final = 1 << 60
REJECT_AFTER_MESSAGES: Final = (1 << 64) - (1 << 13) - 1
REKEY_AFTER_TIME: Final = 120.0
REJECT_AFTER_TIME: Final = 180.0
REKEY_TIMEOUT: Final = 5.0  # also the least time between two initiations to one peer
REKEY_TIMEOUT_JITTER: Final = 0.333
KEEPALIVE_TIMEOUT: Final = 10.0
# The paper gives up after 90 s; counting sends, as implementations do, makes it about 100 s
MAX_HANDSHAKE_SENDS: Final = 20

# 5.3, 5.4.7: cookies
COOKIE_SECRET_LIFETIME: Final = 120.0
COOKIE_LIFETIME: Final = 120.0

# Of implementations, not of the paper
UNDER_LOAD_HOLD: Final = 1.0  # load is over only this long after the queue was last long
HANDSHAKE_QUEUE: Final = 1024
UNDER_LOAD_QUEUE: Final = HANDSHAKE_QUEUE // 8
INITIATION_MIN_INTERVAL: Final = 0.02  # a peer that begins handshakes faster than this is flooding
STAGED_PACKETS: Final = 128
HANDSHAKE_TOS: Final = 0x88  # AF41

# Handshakes per source while under load
HANDSHAKES_PER_SECOND: Final = 20
HANDSHAKE_BURST: Final = 5
