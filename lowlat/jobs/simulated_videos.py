"""`lowlat simulate --videos`: figures of several videos on one device under the simulated clock."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from lowlat.hub.capacity import Load, bound_ms, capacity, spacing
from lowlat.hub.policy import spaced
from lowlat.hub.seat import Seat
from lowlat.jobs.simulate import DEFAULT_INTERVAL, SyntheticSignal, age_bound_of, rule_of
from lowlat.jobs.simulated import Costs
from lowlat.jobs.simulated_hub import SimulatedHub
from lowlat.runtime import FrameResult
from lowlat.schedule import Schedule


@dataclass(frozen=True)
class VideosReport:
    """Figures of several simulated videos; times in ms, ages in frames. First frames are left out of the latencies."""

    videos: int
    fps: float
    frames: int
    """How many frames of each video came."""
    labelled: int
    """How many frames of all videos were labelled."""
    dropped: int
    bound_ms: float
    """The most that a frame may take: a frame of every video and one part of S_h."""
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
    """How many passes were of more than one frame."""
    fast_share: float
    """The share of the device's time that the fast tracks take."""
    higher_share: float
    """The share of the device's time that S_h takes."""
    capacity: int
    """How many such videos keep their bound."""
    spacing: int | None
    """How many frames apart key frames have to be at least, for S_h to keep up; None if labels alone are too much."""

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain values, for JSON."""
        return asdict(self)


def _evenly(fps: float, first: float, frames: int) -> Iterator[float]:
    """Return the times of frames in ms; the first one comes ``first`` periods after 0."""
    return ((first + index) * 1e3 / fps for index in range(frames))


class _Figures:
    """Latencies and ages, without start-up: the first frame, and a frame that came while it was under way."""

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
    """Play videos of one rate on one device, in low-latency mode with deferred decisions, their frames evenly spread.

    Args:
        videos: how many videos.
        lower, higher, select, propagate, policy, interval, threshold: as in `lowlat.jobs.simulate.simulate`.
        fps: frames a second of each video.
        parts: how many parts S_h has, all of one cost.
        batch: the most passes in a batch.
        more: the cost of each further frame of a batch, as a share of one alone.
        frames: how many frames each video has.

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
