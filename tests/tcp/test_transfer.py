"""Two real connections over a bad link in virtual time: what arrives is what was sent, and all ends."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.tcp import FLOW_V6, Pair, Side
from usernet.tcp import State, TcpSettings


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def check(pair: Pair, *, last_ack_may_be_lost: bool = False) -> None:
    """Both ends have all, are closed without an error, and hold nothing any more.

    On a very bad link the very last ACK can be lost until the end that owes it has left TIME-WAIT.
    """
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        connection = side.connection
        assert connection is not None
        assert side.incoming == other.outgoing
        assert side.eof
        assert connection.state is State.CLOSED
        assert connection.error is None or (last_ack_may_be_lost and isinstance(connection.error, TimeoutError))
        assert connection.next_timeout() is None
        assert not connection.wants_to_send
        assert connection.sender._chunks == []
        assert connection.recovery is None
        assert connection.receiver.reassembly is None


@pytest.mark.parametrize("gro", [True, False])
@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.10])
def test_ten_megabytes(loss: float, gro: bool) -> None:
    pair = Pair(Side(data_of(10_000_000)), Side(b"short answer"), loss=loss, gro=gro)
    pair.run()
    check(pair)


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_both_ways_at_once(loss: float) -> None:
    pair = Pair(Side(data_of(2_000_000)), Side(data_of(3_000_000, 2)), loss=loss, duplicate=0.01, reorder=0.02)
    pair.run()
    check(pair)


@given(
    largest=st.integers(600, 1400),
    after=st.integers(0, 200_000),
    loss=st.sampled_from([0.0, 0.02, 0.05]),
    settings_a=st.builds(TcpSettings, sack=st.booleans(), timestamps=st.booleans()),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_path_that_swallows_what_is_large(
    largest: int, after: int, loss: float, settings_a: TcpSettings, seed: int
) -> None:
    """From some byte on, both ways: all arrives for all that."""
    pair = Pair(Side(data_of(300_000)), Side(data_of(300_000, 2)), loss=loss, reorder=0.02, seed=seed,
                settings_a=settings_a)  # fmt: skip
    while len(pair.b.incoming) < after:
        pair.step()
    pair.largest = largest
    narrowed_at = pair.now
    while not (pair.a.eof and pair.b.eof):
        pair.step()
    assert pair.now - narrowed_at < 600  # small segments, 5 % of them lost, and no hang
    pair.run()
    check(pair, last_ack_may_be_lost=loss > 0)


def test_speed_without_loss() -> None:
    """50 MB/s and 20 ms: slow start, and the receive buffer's growth, take some of it."""
    pair = Pair(Side(data_of(30_000_000)), Side(b""))
    start = pair.now
    while len(pair.b.incoming) < 30_000_000:
        pair.step()
    assert pair.now - start < 2.0
    assert pair.a.connection is not None
    assert pair.a.connection.statistics().segments_resent == 0


@pytest.mark.parametrize(
    "options",
    [
        {"settings_b": TcpSettings(sack=False)},
        {"settings_b": TcpSettings(timestamps=False)},
        {"settings_a": TcpSettings(sack=False, timestamps=False, window_scaling=False)},
        {"settings_b": TcpSettings(receive_buffer=3000, receive_buffer_max=3000)},
        {"settings_b": TcpSettings(receive_buffer=100, receive_buffer_max=100, window_scaling=False)},
        {"settings_b": TcpSettings(receive_buffer_max=1 << 30)},  # scale 14
        {"simultaneous": True},
        {"mtu": 576},
        {"mtu": 9000},
        {"flow": FLOW_V6},
    ],
    ids=str,
)
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_peers_of_all_kinds(options: dict[str, object], loss: float) -> None:
    pair = Pair(Side(data_of(200_000)), Side(data_of(100_000, 2)), loss=loss, seed=7, **options)  # type: ignore[arg-type]
    pair.run()
    check(pair)


@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_a_slow_reader_closes_the_window_and_nothing_is_lost(loss: float) -> None:
    pair = Pair(Side(data_of(3_000_000)), Side(b"", reads=200_000.0), loss=loss)
    held = 0
    while pair.step():
        if pair.b.connection is not None:
            held = max(held, pair.b.connection.readable_bytes)
    check(pair)
    assert 200_000 < held <= (256 << 10) * 1.25
    assert pair.now > 15


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    duplicate=st.sampled_from([0.0, 0.1, 0.5]),
    reorder=st.sampled_from([0.0, 0.1, 0.5]),
    gro=st.booleans(),
    simultaneous=st.booleans(),
    sizes=st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)),
    sack=st.booleans(),
    timestamps=st.booleans(),
    buffer=st.sampled_from([700, 5000, 256 << 10]),
    delay=st.sampled_from([0.0001, 0.01, 0.3]),
)
def test_an_adversarial_link(
    seed: int,
    loss: float,
    duplicate: float,
    reorder: float,
    gro: bool,
    simultaneous: bool,
    sizes: tuple[int, int],
    sack: bool,
    timestamps: bool,
    buffer: int,
    delay: float,
) -> None:
    pair = Pair(
        Side(data_of(sizes[0])),
        Side(data_of(sizes[1], 2)),
        seed=seed,
        loss=loss,
        duplicate=duplicate,
        reorder=reorder,
        delay=delay,
        gro=gro,
        simultaneous=simultaneous,
        settings_a=TcpSettings(receive_buffer=buffer, syn_retries=10, orphan_timeout=900.0),
        settings_b=TcpSettings(sack=sack, timestamps=timestamps, syn_retries=10),
    )
    for _ in range(1_000_000):
        if not pair.step():
            break
        for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
            assert other.outgoing.startswith(bytes(side.incoming[-2000:]), max(0, len(side.incoming) - 2000))
    check(pair, last_ack_may_be_lost=loss > 0.1)
