"""What is simulated, each as a table.  `SECTIONS` names them; the quick ones are part of `make test`.

Losses strike both directions, as in smoltcp's own simulation, which also has no bottleneck and counts the handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tests.netsim.link import Conditions, Link
from tests.netsim.simulation import Simulation, Stream
from usernet.tcp.cubic import Cubic
from usernet.tcp.reno import Reno
from usernet.tcp.settings import TcpSettings

SMOLTCP: Final = {
    0.0: 322_945, 0.001: 314_780, 0.01: 219_671, 0.02: 166_588, 0.05: 76_627, 0.1: 37_775, 0.2: 6_079, 0.3: 1_156,
}  # fmt: skip
_MBIT: Final = 125_000  # B/s
_SEED: Final = 4


class Unlimited:
    """No congestion control at all: only the peer's window limits."""

    cwnd = ssthresh = 1 << 40
    wants_rtt = False

    def __init__(self, mss: int, limit: int) -> None:
        pass

    def set_mss(self, mss: int) -> None:
        pass

    def on_ack(self, acked: int, in_flight: int, now: float, srtt: float, rtt: float) -> None:
        pass

    def on_loss(self, in_flight: int) -> None:
        pass

    def on_ecn(self) -> None:
        pass

    def on_timeout(self, in_flight: int) -> None:
        pass

    def undo(self) -> None:
        pass

    def on_syn_lost(self) -> None:
        pass

    def on_idle(self) -> None:
        pass


class Counting(Cubic):
    """CUBIC, and how often it was told of losses."""

    __slots__ = ("losses", "timeouts")

    def __init__(self, mss: int, limit: int) -> None:
        super().__init__(mss, limit)
        self.losses = self.timeouts = 0

    def on_loss(self, in_flight: int) -> None:
        super().on_loss(in_flight)
        self.losses += 1

    def on_timeout(self, in_flight: int) -> None:
        super().on_timeout(in_flight)
        self.timeouts += 1


def path(there: Conditions, *clients: TcpSettings, mtu: int = 1420, server: TcpSettings | None = None,
         seed: int = _SEED) -> Simulation:  # fmt: skip
    """The same conditions both ways, save that ACKs meet no bottleneck."""
    back = Conditions(there.delay, loss=there.loss, hole=there.hole)
    return Simulation(Link(there, seed), Link(back, seed + 1), *clients, mtu=mtu, server=server)


def mathis(rtt: float, loss: float, mss: int) -> float:
    """Mathis et al. 1997: what Reno with SACK reaches, B/s, with an ACK for each segment."""
    return mss / rtt * float((1.5 / loss) ** 0.5)


def jain(shares: list[float]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def events(stream: Stream) -> str:
    """Losses noticed / time-outs / segments sent again."""
    control = stream.client.congestion
    assert isinstance(control, Counting)
    return f"{control.losses}/{control.timeouts}/{stream.client.statistics().segments_resent}"


def small_buffers() -> Iterator[str]:
    yield "10 MiB (1 MiB at 20 % and above), RTT 100 ms, buffers 32 KiB, MTU 1500, no bottleneck; B/s, mean of 3 seeds"
    yield "  loss    smoltcp  no control  of smoltcp  of window/RTT     CUBIC  of Mathis"
    for loss, theirs in SMOLTCP.items():
        total = 10 << 20 if loss < 0.2 else 1 << 20
        speeds = []
        for control in (Unlimited, Counting):
            settings = TcpSettings(receive_buffer=32768, receive_buffer_max=32768, congestion_control=control)
            found = []
            for seed in (1, 11, 21):
                simulation = path(Conditions(0.05, loss=loss), settings, mtu=1500, server=settings, seed=seed)
                stream = simulation.start(total)
                simulation.run(100_000.0)
                assert stream.is_done
                found.append(stream.speed)
            speeds.append(sum(found) / len(found))
        off, cubic = speeds
        bound = f"{cubic / mathis(0.1, loss, 1448):10.2f}" if loss else "         -"
        ratio = off / 327_680
        yield f"{loss:6.1%} {theirs:10,} {off:11,.0f} {off / theirs:11.2f} {ratio:14.3f} {cubic:9,.0f} {bound}"


def large_buffers() -> Iterator[str]:
    yield "30 s, buffers 8 MiB (to send: 6), 1 Gbit/s, a queue of 2 MiB; Mbit/s of payload (losses/time-outs/resent)"
    yield "   RTT        loss 0 %                 0.1 %                   1 %"
    for rtt in (0.02, 0.1, 0.3):
        cells = []
        for loss in (0.0, 0.001, 0.01):
            settings = TcpSettings(congestion_control=Counting)
            simulation = path(Conditions(rtt / 2, rate=1000 * _MBIT, queue=2 << 20, loss=loss), settings)
            stream = simulation.start()
            simulation.run(30.0)
            cells.append(f"{stream.received / 30 / _MBIT:7.1f} {'(' + events(stream) + ')':14}")
        yield f"{rtt * 1000:3.0f} ms {' '.join(cells)}".rstrip()


def fairness() -> Iterator[str]:
    yield "one bottleneck of 100 Mbit/s, RTT 50 ms, queue of one bandwidth-delay product; 60 s after 5 s"
    yield " flows  Jain index  Mbit/s  least  most"
    for flows in (2, 8, 64):
        simulation = path(Conditions(0.025, rate=100 * _MBIT, queue=625_000))
        streams = []
        for _ in range(flows):
            streams.append(simulation.start())
            simulation.run(0.02)
        simulation.run(5.0)
        before = [stream.received for stream in streams]
        simulation.run(60.0)
        shares = [(stream.received - at) / 60 / _MBIT for stream, at in zip(streams, before, strict=True)]
        yield f"{flows:6} {jain(shares):11.4f} {sum(shares):7.1f} {min(shares):6.2f} {max(shares):5.2f}"


def coexistence() -> Iterator[str]:
    yield "two flows from two hosts, 50 Mbit/s, queue of one bandwidth-delay product; Mbit/s over 60 s after 10 s"
    yield "   RTT           CUBIC  beside   Reno"
    for rtt in (0.01, 0.03, 0.1):
        queue = int(50 * _MBIT * rtt)
        simulation = path(Conditions(rtt / 2, rate=50 * _MBIT, queue=queue), TcpSettings(),
                          TcpSettings(congestion_control=Reno))  # fmt: skip
        streams = [simulation.start(client=0), simulation.start(client=1)]
        simulation.run(10.0)
        before = [stream.received for stream in streams]
        simulation.run(60.0)
        cubic, reno = ((stream.received - at) / 60 / _MBIT for stream, at in zip(streams, before, strict=True))
        yield f"{rtt * 1000:3.0f} ms {cubic:15.1f} {reno:14.1f}"


def tail_loss() -> Iterator[str]:
    yield "40 segments, RTT 100 ms; which of them are lost, and how much later all have come"
    yield "lost          RTTs late  time-outs"
    for name, lost in (
        ("last", {40}),
        ("last 2", {39, 40}),
        ("last 5", set(range(36, 41))),
        ("last 20", set(range(21, 41))),
        ("39th", {39}),
        ("21st", {21}),
    ):
        times = []
        for losses in (set(), lost):
            simulation = path(Conditions(0.05), TcpSettings(congestion_control=Counting))
            simulation.nodes[0].link.lose = losses.__contains__
            stream = simulation.start(40 * 1368)
            simulation.run(60.0)
            assert stream.is_done
            times.append(stream.received_at - stream.started_at)
        late = times[1] - times[0]
        control = stream.client.congestion
        assert isinstance(control, Counting)
        yield f"{name:10} {late / 0.1:12.2f} {control.timeouts:10}"


def black_hole() -> Iterator[str]:
    yield "100 Mbit/s, RTT 50 ms, nothing passes from 5 to 15 s; ms from its end until new bytes arrive"
    for name, told in (("nobody tells", False), ("path_changed when it ends", True)):
        simulation = path(Conditions(0.025, rate=100 * _MBIT, queue=625_000, hole=(1005.0, 1015.0)),
                          TcpSettings(congestion_control=Counting))  # fmt: skip
        stream = simulation.start()
        simulation.run(15.0)
        before = stream.received
        if told:
            simulation.path_changed()
        while stream.received == before:
            simulation.run(0.001)
        waited = simulation.now - 1015.0
        at = stream.received
        simulation.run(5.0)
        speed = (stream.received - at) / 5 / _MBIT
        yield f"{name:26} {waited * 1000:6.0f} ms, then {speed:5.1f} Mbit/s over 5 s ({events(stream)})"


def impairments() -> Iterator[str]:
    yield "20 s at 100 Mbit/s, RTT 40 ms, queue of one bandwidth-delay product; Mbit/s (losses/time-outs/resent)"
    clean = Conditions(0.02, rate=100 * _MBIT, queue=500_000)
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("clean", {}),
        ("10 % of packets 5 ms late", {"reorder": 0.1}),
        ("1 % of packets 20 ms late", {"reorder": 0.01, "late": 0.02}),
        ("5 % twice", {"duplicate": 0.05}),
        ("0.1 % damaged", {"corrupt": 0.001}),
        ("0.02 % begin a burst of 4 lost", {"bursts": 0.0002}),
        ("queue of a tenth", {"queue": 50_000}),
    )
    for name, changes in cases:
        simulation = path(replace(clean, **changes), TcpSettings(congestion_control=Counting))
        stream = simulation.start()
        simulation.run(20.0)
        yield f"{name:31} {stream.received / 20 / _MBIT:6.1f} ({events(stream)})"


def marking() -> Iterator[str]:
    yield "100 Mbit/s, queue of one bandwidth-delay product that marks above a quarter of it; 10 s after 2 s"
    yield "   RTT  flows  asking  Mbit/s  Jain index  dropped  resent  marks heeded"
    for rtt, flows in ((0.02, 1), (0.02, 8), (0.1, 1)):
        product = int(100 * _MBIT * rtt)
        for asking in (0, flows // 2, flows) if flows > 1 else (0, 1):
            settings = [TcpSettings(ecn_request=number < asking) for number in range(flows)]
            there = Conditions(rtt / 2, rate=100 * _MBIT, queue=product, mark=product // 4)
            simulation = path(there, *settings)
            streams = [simulation.start(client=number) for number in range(flows)]
            simulation.run(2.0)
            before = [stream.received for stream in streams]
            simulation.run(10.0)
            shares = [(stream.received - at) / 10 / _MBIT for stream, at in zip(streams, before, strict=True)]
            told = [stream.client.statistics() for stream in streams]
            resent, heeded = (sum(one.segments_resent for one in told), sum(one.ecn_reductions for one in told))
            dropped = simulation.nodes[0].link.dropped
            yield (f"{rtt * 1000:3.0f} ms {flows:6} {asking:7} {sum(shares):7.1f} {jain(shares):11.4f} {dropped:8} "
                   f"{resent:7} {heeded:13}")  # fmt: skip


class Section(NamedTuple):
    title: str
    lines: Callable[[], Iterator[str]]
    is_quick: bool


SECTIONS: Final = (
    Section("Small buffers, against smoltcp's own figures", small_buffers, True),
    Section("Large buffers", large_buffers, False),
    Section("Fairness", fairness, False),
    Section("CUBIC beside Reno", coexistence, False),
    Section("A queue that marks", marking, False),
    Section("Tail loss", tail_loss, True),
    Section("A black hole of ten seconds", black_hole, True),
    Section("Other ways for a path to be bad", impairments, False),
)


def render(section: Section) -> str:
    return "\n".join((f"## {section.title}", *section.lines())) + "\n"
