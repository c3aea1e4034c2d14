"""A recorded video under a clock that charges measured costs: which frame is the newest when labels are ready.

What accuracy comes of it says `lowlat.lab.streaming`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lowlat.jobs.simulated import Costs, SimulatedWorker, VirtualClock
from lowlat.lab.replay import carried_on
from lowlat.lab.streaming import Shown
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

    def hold(self, key: KeyFrame) -> None:
        self._stages.hold(key)

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
        return outcome and carried_on(self._stages, replace(outcome, high=self._stages.higher(outcome.job.low)))


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
