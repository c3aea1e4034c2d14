"""The simulated runtime, for `lowlat simulate` and the study: a clock that moves only when told to, stages that cost
its milliseconds, and a worker that lands when its time has passed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from lowlat.runtime.protocols import Job, KeyFrame, Outcome
from lowlat.schedule import Signal


class VirtualClock:
    """Simulated milliseconds, which pass only as costs are charged."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def advance(self, ms: float) -> None:
        """Let `ms` milliseconds pass.

        Raises:
            ValueError: `ms` is negative or not finite.
        """
        if not 0 <= ms < float("inf"):
            raise ValueError(
                f"VirtualClock.advance: expected finite milliseconds of at least 0, got {ms!r}; time runs on"
            )
        self._now += ms


@dataclass(frozen=True)
class Costs:
    """Milliseconds of each stage; the defaults are the paper's Table 3.

    Raises:
        ValueError: a cost is negative or not finite.
    """

    lower: float = 61.0
    higher: float = 299.0
    select: float = 20.0
    propagate: float = 38.0

    def __post_init__(self) -> None:
        for cost in fields(self):
            ms = getattr(self, cost.name)
            if not 0 <= ms < math.inf:
                raise ValueError(
                    f"Costs: expected {cost.name} in finite milliseconds from 0 up, got {ms!r}; give its cost"
                )


class SimulatedStages:
    """Stages that only charge their cost to the clock. A frame is its own index."""

    def __init__(self, clock: VirtualClock, costs: Costs, signal: Callable[[int, int], float] | None = None) -> None:
        self._clock = clock
        self._costs = costs
        self._signal = signal

    def lower(self, frame: int) -> int:
        self._clock.advance(self._costs.lower)
        return frame

    def higher(self, low: int) -> int:
        self._clock.advance(self._costs.higher)
        return low

    def classify(self, high: int) -> int:
        return high

    def propagate(self, key: KeyFrame, low: int) -> tuple[int, int]:
        self._clock.advance(self._costs.propagate)
        return low, key.high

    def hold(self, key: KeyFrame) -> None: ...

    def measure(self, key: KeyFrame, low: int, signal: Signal) -> float:
        self._clock.advance(self._costs.select)
        return self._signal(key.index, low)


class SimulatedWorker:
    """S_h beside the fast track in simulated time. A job lands `higher_ms` after it was submitted, and slows
    nothing."""

    def __init__(self, clock: VirtualClock, higher_ms: float) -> None:
        self._clock = clock
        self._higher_ms = higher_ms
        self._job: Job | None = None
        self._start_ms = 0.0

    def submit(self, job: Job) -> None:
        if self._job is not None:
            raise RuntimeError(
                "SimulatedWorker.submit: expected no job in flight, got a second one; poll until it lands"
            )
        self._job, self._start_ms = job, self._clock.now()

    def poll(self, index: int) -> Outcome | None:
        end_ms = self._start_ms + self._higher_ms
        if self._job is None or self._clock.now() < end_ms:
            return None
        job, self._job = self._job, None
        return Outcome(job, job.low, None, self._start_ms, end_ms, steps=len(job.path))

    def forget(self) -> None:
        self._job = None

    def close(self) -> None:
        self.forget()
