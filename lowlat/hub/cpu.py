"""A hub's videos on the CPU: stages on the hub's thread, S_h of several frames at once where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lowlat.hub.passes import Parts, Pass
from lowlat.hub.seat import Seat
from lowlat.runtime.engine import Engine
from lowlat.runtime.protocols import Clock, Job, KeyFrame, Outcome
from lowlat.runtime.stages import High, Low, NetworkStages
from lowlat.schedule import Schedule, Signal


def cpu_video(seat: Seat, schedule: Schedule, stages: NetworkStages, clock: Clock) -> tuple[Engine, Started]:
    """The engine of one video, and its stages."""
    started = Started(stages)
    engine = Engine(schedule, started, Port(seat), clock)
    engine.classes = stages.network.legend
    return engine, started


class Started:
    """The stages of one video; its first frame has been worked on before the engine asks for it (`StartStages`).

    Args:
        stages: the network; shared by all videos.
    """

    def __init__(self, stages: Any) -> None:
        self._stages = stages
        self._frame: Any = None
        self._low: Any = None
        self._outcome: tuple[Any, BaseException | None] | None = None

    def start(self, frame: Any, index: int) -> Any:
        self._outcome = None
        self._frame, self._low = frame, self._stages.lower(frame)
        return self._low

    def started(self, high: Any, error: BaseException | None) -> None:
        self._outcome = high, error

    def lower(self, frame: Any) -> Any:
        if self._frame is not None and self._frame is frame:
            low, self._frame, self._low = self._low, None, None
            return low
        return self._stages.lower(frame)

    def higher(self, low: Any) -> Any:
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return self._stages.higher(low)
        high, error = outcome
        if error is not None:
            raise error
        return high

    def classify(self, high: Any, *scores: str) -> Any:
        return self._stages.classify(high, *scores)

    def propagate(self, key: KeyFrame, low: Any, *scores: str) -> tuple[Any, Any]:
        return self._stages.propagate(key, low, *scores)

    def measure(self, key: KeyFrame, low: Any, signal: Signal) -> float:
        return self._stages.measure(key, low, signal)


class Port:
    """The worker of one video's engine: its passes go through the hub's queue."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._job: Job | None = None
        self._landed: Outcome | None = None

    def submit(self, job: Job) -> None:
        if self._job is not None:
            raise RuntimeError("Port.submit: expected no pass in flight, got a second one; poll until it lands")
        self._job = job

        def ended(high: Any, error: BaseException | None, start_ms: float, end_ms: float) -> None:
            self._landed = Outcome(job, high, error, start_ms, end_ms)

        self._seat.ask(job.low, ended)

    def poll(self, index: int) -> Outcome | None:
        landed, self._landed = self._landed, None
        if landed is not None:
            self._job = None
        return landed

    def forget(self) -> None:
        self._job = self._landed = None
        self._seat.passes.forget(self._seat)

    def close(self) -> None:
        self.forget()


class CpuMachine:
    """S_h on the calling thread: each part is complete when it returns.

    Args:
        stages: the network.
    """

    def __init__(self, stages: NetworkStages) -> None:
        self._stages = stages

    def idle(self) -> bool:
        return True

    def parts(self, passes: Sequence[Pass]) -> Parts:
        lows = [one.low for one in passes]
        if len(lows) == 1:
            return _single(self._stages, lows[0])
        return _several(self._stages, lows)


def _single(stages: NetworkStages, low: Low) -> Parts:
    high = yield from stages.higher_parts(low)
    return [high]


@torch.inference_mode()
def _several(stages: NetworkStages, lows: Sequence[Low]) -> Parts:
    """S_h of frames of one size side by side, a link of its chain each part."""
    for low in lows:
        if stages.fast_track:
            low.anchor(stages.network)
    crossing = _side_by_side([low.crossing for low in lows])
    features = crossing
    for run in stages.network.higher_chain():
        yield
        features = run(features, crossing)
    # Copies: a view would keep the features of the whole batch in memory.
    return [High(features[n : n + 1].clone(), low.size) for n, low in enumerate(lows)]


def _side_by_side(values: Sequence[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return torch.cat(tuple(values))
    return tuple(torch.cat(parts) for parts in zip(*values, strict=True))
