"""A tunnel's events go in, a person's lines come out: each state once."""

from __future__ import annotations

from proxy.daemon.narrator import SILENCE, Line, Narrator, duration, format_endpoint, short_key
from usernet.wireguard.events import (
    ClockJumped,
    EndpointMoved,
    HandshakeCompleted,
    HandshakeGaveUp,
    HandshakeStarted,
    PathReturned,
    SessionExpired,
    TunnelEvent,
)

PEER = bytes(range(32))
END = ("192.0.2.1", 51820)
STARTED = HandshakeStarted(PEER, END, 1)
COMPLETED = HandshakeCompleted(PEER, END, True)


def seen(lines: list[Line]) -> list[str]:
    """What is shown without --verbose."""
    return [line.text for line in lines if not line.detail]


def test_a_handshake_and_how_long_it_took() -> None:
    narrator = Narrator()
    assert seen(narrator.event(STARTED, 10.0)) == ["handshake with AAECAwQF... at 192.0.2.1:51820 begun"]
    assert narrator.next_timeout() == 10.0 + SILENCE
    assert seen(narrator.event(COMPLETED, 10.012)) == [
        "handshake with AAECAwQF... at 192.0.2.1:51820 completed in 12 ms"
    ]
    assert narrator.next_timeout() is None


def test_struggles() -> None:
    """What is so, while lines tell what happens."""
    narrator = Narrator()
    assert narrator.struggles() == {}
    narrator.event(STARTED, 10.0)
    (struggle,) = narrator.struggles().values()
    assert struggle == (10.0, "192.0.2.1:51820", "")
    narrator.handle_timeout(10.0 + SILENCE)
    assert "preshared key" in narrator.struggles()[PEER].why
    narrator.event(HandshakeGaveUp(PEER, 20, 0), 100.0)
    narrator.event(STARTED, 200.0)
    (struggle,) = narrator.struggles().values()
    assert struggle.since == 10.0, "it has been so from the first on"
    narrator.event(COMPLETED, 200.1)
    assert narrator.struggles() == {}
    narrator.event(STARTED, 300.0)
    narrator.handle_timeout(300.0 + SILENCE)
    assert "offline" in narrator.struggles()[PEER].why


def test_new_keys_of_a_healthy_peer_are_details() -> None:
    narrator = Narrator()
    narrator.event(STARTED, 0.0)
    narrator.event(COMPLETED, 0.1)
    for now in (120.0, 240.0):
        assert seen(narrator.event(STARTED, now)) == []
        assert seen(narrator.event(COMPLETED, now + 0.1)) == []


def test_silence_is_told_once_and_the_return_once() -> None:
    narrator = Narrator()
    narrator.event(STARTED, 0.0)
    for attempt in (2, 3):
        assert seen(narrator.event(HandshakeStarted(PEER, END, attempt), attempt * 5.0)) == []
    assert narrator.handle_timeout(SILENCE - 0.1) == []
    (line,) = narrator.handle_timeout(SILENCE)
    assert line.warning
    assert line.text.startswith("no handshake completes with AAECAwQF... at 192.0.2.1:51820: usually ")
    assert "preshared key" in line.text, "the peer answers the initiation then, yet nothing comes of it"
    assert narrator.next_timeout() is None
    assert narrator.handle_timeout(1000.0) == []
    narrator.event(HandshakeGaveUp(PEER, 20, 7), 100.0)
    assert seen(narrator.event(STARTED, 200.0)) == []  # somebody tries again: nothing new
    assert narrator.next_timeout() is None
    assert seen(narrator.event(COMPLETED, 201.0)) == [
        "peer AAECAwQF... at 192.0.2.1:51820 answers again: handshake completed"
    ]
    narrator.event(STARTED, 400.0)
    (line,) = narrator.handle_timeout(400.0 + SILENCE)  # lost again: said again, for another reason
    assert "any more" in line.text


def test_peers_do_not_mix() -> None:
    narrator = Narrator()
    other = bytes(32)
    narrator.event(STARTED, 0.0)
    narrator.event(HandshakeStarted(other, END, 1), 5.0)
    narrator.event(COMPLETED, 6.0)
    assert narrator.next_timeout() == 5.0 + SILENCE
    assert len(narrator.handle_timeout(100.0)) == 1


def test_the_first_move_is_no_news() -> None:
    narrator = Narrator()
    assert narrator.event(EndpointMoved(PEER, None, END), 0.0) == []
    moved = narrator.event(EndpointMoved(PEER, END, ("2001:db8::1", 7, 0, 0)), 1.0)
    assert seen(moved) == ["peer AAECAwQF... has moved to [2001:db8::1]:7"]


def test_the_rest_are_details_or_warnings() -> None:
    narrator = Narrator()
    details: list[TunnelEvent] = [SessionExpired(PEER), PathReturned(PEER), HandshakeGaveUp(PEER, 20, 0)]
    for event in details:
        assert seen(narrator.event(event, 0.0)) == []
    (line,) = narrator.event(ClockJumped(PEER, 1e6), 0.0)
    assert line.warning


def test_words() -> None:
    assert format_endpoint(("::ffff:192.0.2.1", 5, 0, 0)) == "192.0.2.1:5"
    assert format_endpoint(("vpn.example", 5)) == "vpn.example:5"
    assert short_key(b"\xff" * 32) == "////////..."
    assert [duration(0.0004), duration(0.5), duration(12.34)] == ["0 ms", "500 ms", "12.3 s"]
