"""Keys of flows, and which of our addresses speaks to whom."""

from __future__ import annotations

import pytest

from tests.support.stack import A4, A6, B4, B6
from usernet.errors import NetworkUnreachable
from usernet.stack.flows import choose_source, flow_key
from usernet.wire.ip import pack_address
from usernet.wire.tcp import ACK, encode_segment


def test_a_key_is_what_an_incoming_packet_has() -> None:
    assert encode_segment(B4, A4, 80, 5000, 0, 0, ACK, 0)[12:24] == flow_key(B4, A4, 80, 5000)
    assert encode_segment(B6, A6, 80, 5000, 0, 0, ACK, 0)[8:44] == flow_key(B6, A6, 80, 5000)


def test_the_closest_address_of_the_family_speaks() -> None:
    near, far = pack_address("10.0.5.1"), pack_address("192.168.1.1")
    assert choose_source([far, A6, near], pack_address("10.0.9.9")) == near
    assert choose_source([far, A6, near], pack_address("192.168.7.7")) == far
    assert choose_source([far, A6, near], B6) == A6
    with pytest.raises(NetworkUnreachable, match="no IPv4 address"):
        choose_source([A6], B4)
