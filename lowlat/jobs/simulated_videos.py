"""Several videos on one device under the simulated clock: the hub's own loop, queue and rule, from costs alone."""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lowlat.hub.capacity import Load, bound_ms, capacity, spacing
from lowlat.hub.costs import Costs as MeasuredCosts
from lowlat.hub.loop import Loop
from lowlat.hub.passes import Parts, Pass, Passes
from lowlat.hub.policy import spaced
from lowlat.hub.port import Port, Started
from lowlat.hub.seat import Seat
from lowlat.hub.turns import PartRule
from lowlat.jobs.simulate import DEFAULT_INTERVAL, SyntheticSignal, age_bound_of, rule_of
from lowlat.jobs.simulated import Costs, SimulatedStages, VirtualClock
from lowlat.runtime import Captured, Engine, FrameResult
from lowlat.schedule import Schedule


class EventClock(VirtualClock):
    """Simulated milliseconds in which things happen at their times, also while work is under way."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, ms: float, happen: Callable[[], None]) -> None:
        """Calls ``happen`` when it is so late."""
        heapq.heappush(self._events, (ms, next(self._order), happen))

    def advance(self, ms: float) -> None:
        end = self.now() + ms
        while self._events and self._events[0][0] <= end:
            due, _, happen = heapq.heappop(self._events)
            super().advance(max(0.0, due - self.now()))
            happen()
        super().advance(max(0.0, end - self.now()))

    def idle(self, ms: float) -> bool:
        """Lets ``ms`` pass, or less if something happens before; False where neither ever ends."""
        if self._events:
            ms = min(ms, max(0.0, self._events[0][0] - self.now()))
        if ms == math.inf:
            return False
        self.advance(ms)
        return True


class SimulatedMachine:
    """S_h in parts that cost their time.

    Args:
        clock: of the simulation.
        parts: cost of each, in ms.
        more: what each further frame of a batch costs, as a share of one alone.
        fails: whether a pass raises; asked when its parts are done.
    """

    def __init__(
        self,
        clock: VirtualClock,
        parts: Sequence[float],
        more: float = 1.0,
        fails: Callable[[Pass], bool] = lambda one: False,
    ) -> None:
        self._clock, self._parts, self._more, self._fails = clock, list(parts), more, fails
        self.busy_ms = 0.0
        self.ran: Callable[[float, float], None] | None = None
        """Called with the beginning and the end of every part."""

    def ready(self, passes: Sequence[Pass]) -> bool:
        return True

    def keep(self, sizes: Collection[Hashable]) -> None: ...

    def idle(self) -> bool:
        return True

    def close(self) -> None: ...

    def parts(self, passes: Sequence[Pass]) -> Parts:
        times = 1 + (len(passes) - 1) * self._more
        for number, ms in enumerate(self._parts):
            begun = self._clock.now()
            self._clock.advance(ms * times)
            self.busy_ms += ms * times
            if self.ran is not None:
                self.ran(begun, self._clock.now())
            if number < len(self._parts) - 1:
                yield
        if any(self._fails(one) for one in passes):
            raise ArithmeticError("a simulated S_h fails")
        return [one.low for one in passes]


class SimulatedHub:
    """Videos on one device in virtual time.

    Args:
        costs: of the stages; S_h in as many parts as ``parts``.
        parts, more, fails: of `SimulatedMachine`.
        batch: passes in a batch at most.
    """

    def __init__(self, costs: Costs, parts: Sequence[float], *, batch: int = 1, **machine: object) -> None:
        self.clock, self._costs = EventClock(), costs
        self.machine = SimulatedMachine(self.clock, parts, **machine)
        rule, self.measured = PartRule(), MeasuredCosts()
        self.passes = Passes(self.machine, self.clock, self.measured, rule, batch)
        self.loop = Loop(self.clock, self.passes, self.measured, rule)

    def open(
        self,
        name: str,
        schedule: Schedule,
        frames_ms: Iterable[float],
        signal: Callable[[int, int], float] | None = None,
        on_result: Callable[[FrameResult], None] | None = None,
    ) -> Seat:
        """Takes in a video whose frames come at these times, which rise."""

        def build(seat: Seat, schedule: Schedule) -> tuple[Engine, Started]:
            stages = Started(SimulatedStages(self.clock, self._costs, signal))
            return Engine(schedule, stages, Port(seat), self.clock), stages

        seat = Seat(name, schedule, self.passes, build, self.clock, on_result=on_result)
        self.loop.join(seat)
        self._let_come(seat, enumerate(frames_ms))
        return seat

    def play(self) -> None:
        """Goes on until no frame is to come and none waits, and S_h has nothing to do."""
        while (wait := self.loop.turn()) == 0 or self.clock.idle(wait):
            pass

    def _let_come(self, seat: Seat, frames: Iterator[tuple[int, float]]) -> None:
        """Has the next frame come, and then the one after it."""
        if (frame := next(frames, None)) is None:
            return
        index, ms = frame

        def come() -> None:
            seat.put(Captured(index, 0.0, index))
            self._let_come(seat, frames)

        self.clock.at(ms, come)


@dataclass(frozen=True)
class VideosReport:
    """Figures of several simulated videos; times in ms, ages in frames. Latencies leave first frames out."""

    videos: int
    fps: float
    frames: int
    """Frames that came of every video."""
    labelled: int
    """Frames of all videos that were labelled."""
    dropped: int
    bound_ms: float
    """What a frame may take at most: a frame of every video and one part of S_h."""
    p50_ms: float
    p99_ms: float
    """The highest 99th percentile of any video."""
    max_ms: float
    alone_p99_ms: float
    """The 99th percentile of such a video by itself."""
    age_mean_frames: float
    age_max_frames: int
    landings: int
    batches: int
    """Passes of more than one frame."""
    fast_share: float
    """The share of the device's time that the fast tracks take."""
    higher_share: float
    """The share of the device's time that S_h takes."""
    capacity: int
    """Videos that keep their bound."""
    spacing: int | None
    """Frames between key frames at least, for S_h to keep up; None where labels alone are too much."""

    def as_dict(self) -> dict[str, object]:
        """The report as plain values, for JSON."""
        return asdict(self)


def _evenly(fps: float, first: float, frames: int) -> Iterator[float]:
    """Times of frames, the first one a share of a period late."""
    return ((first + index) * 1e3 / fps for index in range(frames))


class _Figures:
    """Latencies and ages, without start-up: the first frame, and one that came while that was under way."""

    def __init__(self) -> None:
        self.latencies, self.ages = array("d"), array("q")
        self._started_ms = math.inf

    def add(self, result: FrameResult) -> None:
        if result.startup:
            self._started_ms = result.emitted_ms
        elif result.available_ms >= self._started_ms:
            self.latencies.append(result.latency_ms)
            self.ages.append(result.age)


def simulate_videos(
    videos: int,
    *,
    lower: float = Costs.lower,
    higher: float = Costs.higher,
    select: float = Costs.select,
    propagate: float = Costs.propagate,
    policy: str = "every",
    interval: float | None = None,
    threshold: float | None = None,
    fps: float = 10.0,
    parts: int = 25,
    batch: int = 1,
    more: float = 1.0,
    frames: int = 1000,
) -> VideosReport:
    """Plays videos of one rate on one device, their frames evenly spread: low-latency, with deferred decisions.

    Args:
        videos: how many.
        lower, higher, select, propagate, policy, interval, threshold: as of `lowlat.jobs.simulate.simulate`.
        fps: frames a second of each.
        parts: of S_h, all alike.
        batch: passes in a batch at most.
        more: what each further frame of a batch costs, as a share of one alone.
        frames: of each video.

    Raises:
        ValueError: an option out of range.
    """
    whole = {"--videos": videos, "--parts": parts, "--batch": batch, "--frames": frames}
    for option, value in whole.items():
        if value < 1 or value != int(value):
            raise ValueError(f"simulate: expected {option} to be a whole number of at least 1, got {value}; raise it")
    if not 0 < fps < math.inf:
        raise ValueError(f"simulate: expected --fps above 0, got {fps!r}; give the frames a second of each video")
    if not 0 <= more <= 1:
        raise ValueError(f"simulate: expected --more from 0 to 1, got {more!r}; 1 where batches gain nothing")
    costs = Costs(lower, higher, select, propagate)
    load = Load(fps, lower + propagate + select, higher, higher / parts)
    loads = [load] * videos

    def rule_of_one() -> tuple[Schedule, SyntheticSignal | None]:
        rule, signal = rule_of(policy, DEFAULT_INTERVAL if interval is None else interval, threshold, None)
        return Schedule(rule, decision="deferred", age_bound=age_bound_of(rule, signal)), signal

    age_bound = rule_of_one()[0].age_bound
    least = spacing(loads, age_bound)

    def play(count: int) -> tuple[SimulatedHub, list[Seat], list[_Figures]]:
        hub = SimulatedHub(costs, [higher / parts] * parts, batch=batch, more=more)
        figures, seats = [_Figures() for _ in range(count)], []
        for number, video in enumerate(figures):
            schedule, signal = rule_of_one()
            schedule, times = spaced(schedule, least or 1), _evenly(fps, number / count, frames)
            seats.append(hub.open(str(number), schedule, times, signal, video.add))
        hub.play()
        if not all(video.latencies for video in figures):
            raise ValueError(f"simulate: expected --frames enough for labels after start-up, got {frames}; raise it")
        return hub, seats, figures

    _, _, (alone,) = play(1)
    hub, seats, figures = play(videos)
    latencies = np.concatenate([np.asarray(video.latencies) for video in figures])
    ages = np.concatenate([np.asarray(video.ages) for video in figures])
    labelled, passed = sum(seat.labelled for seat in seats), hub.clock.now()
    return VideosReport(
        videos=videos,
        fps=fps,
        frames=frames,
        labelled=labelled,
        dropped=sum(seat.buffer.dropped for seat in seats),
        bound_ms=round(bound_ms(loads), 6),
        p50_ms=round(float(np.median(latencies)), 6),
        p99_ms=round(max(float(np.percentile(video.latencies, 99)) for video in figures), 6),
        max_ms=round(float(latencies.max()), 6),
        alone_p99_ms=round(float(np.percentile(alone.latencies, 99)), 6),
        age_mean_frames=round(float(ages.mean()), 3),
        age_max_frames=int(ages.max()),
        landings=sum(seat.engine.state.counts.landings for seat in seats),
        batches=hub.passes.batches,
        fast_share=round(labelled * load.fast_ms / passed, 4),
        higher_share=round(hub.machine.busy_ms / passed, 4),
        capacity=capacity([], load, age_bound),
        spacing=least,
    )
