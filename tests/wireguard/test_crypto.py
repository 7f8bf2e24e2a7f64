"""The primitives against published figures, and their refusals."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.errors import HandshakeError
from usernet.wireguard.crypto import (
    PrivateKey,
    aead_open,
    aead_seal,
    cookie_key,
    hash_of,
    kdf1,
    kdf2,
    kdf3,
    mac1_key,
    mac_of,
    tai64n,
    xaead_open,
    xaead_seal,
)

# The points of small order and their non-canonical encodings (RFC 7748, 7; RFC 7748, 5 ignores the topmost bit)
_P = 2**255 - 19
_ORDER_8 = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)
_SMALL = [0, 1, *(int.from_bytes(bytes.fromhex(text), "little") for text in _ORDER_8), _P - 1, _P, _P + 1]
LOW_ORDER = [(number | top).to_bytes(32, "little") for number in _SMALL for top in (0, 1 << 255)]


# The three sets of wireguard-go's kdf_test.go
@pytest.mark.parametrize(
    ("key", "data", "outputs"),
    [
        (
            b"test-key",
            b"test-input",
            (
                "6f0e5ad38daba1bea8a0d213688736f19763239305e0f58aba697f9ffc41c633",
                "df1194df20802a4fe594cde27e92991c8cae66c366e8106aaa937a55fa371e8a",
                "fac6e2745a325f5dc5d11a5b165aad08b0ada28e7b4e666b7c077934a4d76c24",
            ),
        ),
        (
            b"wireguard",
            b"wireguard",
            (
                "491d43bbfdaa8750aaf535e334ecbfe5129967cd64635101c566d4caefda96e8",
                "1e71a379baefd8a79aa4662212fcafe19a23e2b609a3db7d6bcba8f560e3d25f",
                "31e1ae48bddfbe5de38f295e5452b1909a1b4e38e183926af3780b0c1e1f0160",
            ),
        ),
        (
            b"",
            b"",
            (
                "8387b46bf43eccfcf349552a095d8315c4055beb90208fb1be23b894bc2ed5d0",
                "58a0e5f6faefccf4807bff1f05fa8a9217945762040bcec2f4b4a62bdfe0e86e",
                "0ce6ea98ec548f8e281e93e32db65621c45eb18dc6f0a7ad94178610a2f7338e",
            ),
        ),
    ],
)
def test_kdf(key: bytes, data: bytes, outputs: tuple[str, str, str]) -> None:
    first, second, third = map(bytes.fromhex, outputs)
    assert kdf1(key, data) == first
    assert kdf2(key, data) == (first, second)
    assert kdf3(key, data) == (first, second, third)


def test_hash_is_blake2s() -> None:
    # RFC 7693, appendix B
    digest = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert hash_of(b"abc").hex() == hash_of(b"a", b"bc").hex() == digest


def test_hashes_of_names() -> None:
    """What every implementation precomputes: the construction's hash, and with the identifier behind it."""
    construction = hash_of(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    assert construction.hex() == "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36"
    identified = hash_of(construction, b"WireGuard v1 zx2c4 Jason@zx2c4.com")
    assert identified.hex() == "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3"


def test_mac_is_short_and_keyed() -> None:
    assert len(mac_of(bytes(32), b"")) == 16
    assert mac_of(bytes(32), b"data") == mac_of(bytes(32), memoryview(b"data"))
    keys = (bytes(32), bytes(16), b"\x01" * 32)  # a key's length counts, too
    assert len({mac_of(key, b"data") for key in keys}) == 3


def test_label_keys_differ() -> None:
    public_key = bytes(range(32))
    assert mac1_key(public_key) == hash_of(b"mac1----" + public_key)
    assert cookie_key(public_key) == hash_of(b"cookie--" + public_key)


def test_x25519() -> None:
    # RFC 7748, 6.1
    alice = PrivateKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = PrivateKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert alice.public_key.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public_key.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.exchange(bob.public_key).hex() == bob.exchange(alice.public_key).hex() == shared


@pytest.mark.parametrize("public_key", LOW_ORDER, ids=bytes.hex)
def test_low_order_points_are_refused(public_key: bytes) -> None:
    with pytest.raises(HandshakeError, match="low-order-point"):
        PrivateKey(bytes(range(32))).exchange(public_key)


def test_aead() -> None:
    key = bytes(range(32))
    sealed = aead_seal(key, b"plaintext", b"associated")
    assert len(sealed) == 9 + 16
    assert aead_open(key, sealed, b"associated") == b"plaintext"
    for at in range(len(sealed)):
        bad = bytearray(sealed)
        bad[at] ^= 0x80
        with pytest.raises(HandshakeError, match="handshake-not-authentic"):
            aead_open(key, bytes(bad), b"associated")
    with pytest.raises(HandshakeError):
        aead_open(key, sealed, b"other")
    with pytest.raises(HandshakeError):
        aead_open(bytes(32), sealed, b"associated")


def test_xaead() -> None:
    # draft-irtf-cfrg-xchacha-03, A.3.1
    key = bytes(range(0x80, 0xA0))
    nonce = bytes(range(0x40, 0x58))
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = bytes.fromhex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
        "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
    )
    assert xaead_seal(key, nonce, plaintext, associated) == sealed
    assert xaead_open(key, nonce, sealed, associated) == plaintext
    for bad in (sealed[:-1] + b"\0", sealed[:16], b"\0" + sealed[1:]):
        with pytest.raises(HandshakeError, match="cookie-not-authentic"):
            xaead_open(key, nonce, bad, associated)
    with pytest.raises(HandshakeError):
        xaead_open(key, nonce, sealed, b"")


def test_nacl_is_imported_only_when_needed() -> None:
    program = "import sys, usernet.wireguard.cookies, usernet.wireguard.handshake; sys.exit('nacl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


SLOT = 1 << 24


def test_tai64n() -> None:
    assert tai64n(0).hex() == "400000000000000a00000000"
    assert tai64n(1_700_000_000 * 10**9 + SLOT).hex() == "400000006553f10a01000000"
    # As wireguard-go's tai64n_test.go has it: the same up to the end of the slot, later right behind it
    start = 1_700_000_000 * 10**9 + 3 * SLOT
    assert tai64n(start + SLOT // 3) == tai64n(start + SLOT - 1) == tai64n(start)
    assert tai64n(start + SLOT) > tai64n(start)


def test_tai64n_at_the_second() -> None:
    """10^9 ns is no multiple of a slot: the last slot of a second is cut short, and the next second is later still."""
    second = 1_700_000_000 * 10**9
    assert tai64n(second - 1) < tai64n(second)
    assert tai64n(second)[8:] == bytes(4)


@given(st.integers(0, 2**61), st.integers(0, 10**10))
def test_tai64n_sorts_as_time_does(wall_ns: int, later: int) -> None:
    assert tai64n(wall_ns) <= tai64n(wall_ns + later)
    assert tai64n(wall_ns) < tai64n(wall_ns + later + SLOT)
    assert tai64n(wall_ns)[-3:] == bytes(3)
