"""A recorded video under a clock that charges measured costs: which frame is the newest when labels are ready.

Streaming accuracy after Li, Wang, Ramanan, "Towards Streaming Perception", ECCV 2020: an output is compared with the
truth of the time at which it is completed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowlat.jobs.simulated import Costs, SimulatedWorker, VirtualClock
from lowlat.lab.metrics import Confusion
from lowlat.lab.study.parts import Row
from lowlat.runtime import Engine, KeyFrame
from lowlat.runtime.protocols import Outcome, Stages
from lowlat.schedule import Schedule, Signal


class ChargedStages:
    """Stages that compute what ``stages`` compute and advance the clock by ``costs``.

    Args:
        stages: the stages of a recorded video, where a frame is its index.
    """

    def __init__(self, stages: Stages, clock: VirtualClock, costs: Costs):
        self._stages, self._clock, self._costs = stages, clock, costs

    def lower(self, frame: int) -> Any:
        self._clock.advance(self._costs.lower)
        return self._stages.lower(frame)

    def higher(self, low: Any) -> Any:
        self._clock.advance(self._costs.higher)
        return self._stages.higher(low)

    def classify(self, high: Any) -> np.ndarray:
        return self._stages.classify(high)

    def propagate(self, key: KeyFrame, low: Any) -> tuple[np.ndarray, Any]:
        self._clock.advance(self._costs.propagate)
        return self._stages.propagate(key, low)

    def measure(self, key: KeyFrame, low: Any, signal: Signal) -> float:
        self._clock.advance(self._costs.select)
        return self._stages.measure(key, low, signal)


class ChargedWorker(SimulatedWorker):
    """A worker for S_h in the background: a job lands with real features once its cost has passed."""

    def __init__(self, stages: Stages, clock: VirtualClock, higher_ms: float):
        super().__init__(clock, higher_ms)
        self._stages = stages

    def poll(self, index: int) -> Outcome | None:
        outcome = super().poll(index)
        return outcome and replace(outcome, high=self._stages.higher(outcome.job.low))


@dataclass(frozen=True)
class Shown:
    """One output: labels of frame ``index``, ready while frame ``current`` was the newest."""

    index: int
    current: int
    labels: np.ndarray
    latency_ms: float


def run_clocked(stages: Stages, frames: int, schedule: Schedule, costs: Costs, fps: float) -> list[Shown]:
    """Run frames 0 to ``frames`` - 1 as they arrive at ``fps``; a schedule too slow for that skips to the newest frame.

    Start-up comes before the first frame. Outputs completed after the last frame has passed are left out.
    """
    clock, period = VirtualClock(), 1000 / fps
    worker = ChargedWorker(stages, clock, costs.higher) if schedule.mode.value == "low-latency" else None
    shown = []
    with Engine(schedule, ChargedStages(stages, clock, costs), worker, clock) as engine:
        engine.step(0, index=0)
        start, index = clock.now(), 1
        while index < frames:
            # Frame i arrives (i - 1) periods after start-up.
            arrival = start + (index - 1) * period
            clock.advance(max(0.0, arrival - clock.now()))
            result = engine.step(index, index=index, available_ms=arrival)
            current = 1 + int((result.emitted_ms - start) / period)
            if current < frames:
                shown.append(Shown(index, current, result.labels, result.latency_ms))
            index = max(index + 1, 1 + int((clock.now() - start) / period))
    return shown


def completed(shown: Sequence[Shown], truth: Sequence[Tensor | None], classes: int) -> Row:
    """How late outputs were, and their accuracy against their own frame and against the newest at their completion.

    Every figure is None where the machine is so slow that the video ended before the first output.
    """
    late, own = Confusion(classes), Confusion(classes)
    for output in shown:
        for confusion, index in ((own, output.index), (late, output.current)):
            if truth[index] is not None:
                confusion.add(torch.from_numpy(output.labels), truth[index])

    def figure(value: Callable[[], float], digits: int = 2) -> float | None:
        return round(float(value()), digits) if shown else None

    return {
        "shown": len(shown),
        "latency_ms": figure(lambda: np.mean([output.latency_ms for output in shown])),
        "frames_late": figure(lambda: np.mean([output.current - output.index for output in shown]), 3),
        "miou_of_its_frame": figure(lambda: own.miou),
        "streaming_miou": figure(lambda: late.miou),
    }
