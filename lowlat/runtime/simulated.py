"""The simulated runtime: stages that cost virtual milliseconds, and a worker that lands in virtual time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields

from lowlat.runtime.clock import VirtualClock
from lowlat.runtime.protocols import Job, KeyFrame, Outcome
from lowlat.schedule import Signal


@dataclass(frozen=True)
class Costs:
    """Milliseconds by stage; the defaults are the paper's Table 3.

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


class SyntheticSignal:
    """A deviation that exceeds `level` at a mean of `interval` frames after the key frame.

    It rises with the distance to the key frame and crosses `level` after a gap of whole frames: without a
    seed the gaps are as even as whole numbers allow (5, 5, 5 ... for 5; 4, 5, 4, 5 ... for 4.5); with one
    they are spread evenly between 1 and about twice the interval, with the same mean. With `by_distance` it
    does so times the distance, for policies that look at that. Calls must come from one stream, in order.

    Raises:
        ValueError: `interval` is below 1, or `level` isn't above 0.
    """

    def __init__(self, interval: float, level: float, seed: int | None = None, by_distance: bool = False) -> None:
        if not 1 <= interval < math.inf:
            raise ValueError(
                f"SyntheticSignal: expected an interval of at least 1 frame, got {interval!r}; use 1 or more"
            )
        if not 0 < level < math.inf:
            raise ValueError(f"SyntheticSignal: expected a level above 0, got {level!r}; raise the policy's threshold")
        self._interval = interval
        self._level = level
        self._by_distance = by_distance
        self._spread = math.floor(interval) - 1
        self._random = random.Random(seed) if seed is not None else None
        self._gaps = 0
        self._key: int | None = None
        self._gap = 0

    @property
    def longest(self) -> int:
        """The longest gap in frames that may come."""
        return math.ceil(self._interval) + (self._spread if self._random is not None else 0)

    def __call__(self, key: int, index: int) -> float:
        if key != self._key:
            self._key, self._gap = key, self._next_gap()
        # Half a frame more than the distance: no comparison hangs on the last bit of a float.
        value = self._level * (index - key + 0.5) / self._gap
        return value / (index - key) if self._by_distance else value

    def _next_gap(self) -> int:
        gap = math.floor((self._gaps + 1) * self._interval) - math.floor(self._gaps * self._interval)
        self._gaps += 1
        return gap if self._random is None else gap + self._random.randint(-self._spread, self._spread)


class SimulatedStages:
    """Stages that do nothing but charge their cost to the clock. A frame is its own index."""

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

    def measure(self, key: KeyFrame, low: int, signal: Signal) -> float:
        self._clock.advance(self._costs.select)
        return self._signal(key.index, low)


class SimulatedWorker:
    """S_h beside the fast track in virtual time: a job lands `higher_ms` after it was submitted and slows
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
        return Outcome(job, job.low, None, self._start_ms, end_ms)

    def forget(self) -> None:
        self._job = None

    def close(self) -> None:
        self.forget()
