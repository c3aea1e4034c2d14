"""Schedules in replay for the accuracy protocol: a policy, and how many frames after its launch S_h lands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lowlat.lab.recorded import DecisionsOnly, LabelledVideo
from lowlat.lab.replay import PAPER_DELAY, ReplayWorker
from lowlat.runtime import Engine, FrameResult
from lowlat.runtime.protocols import Stages
from lowlat.schedule import DEFAULT_AGE_BOUND, Every, Policy, Schedule
from lowlat.schedule.policies import MEASURED


@dataclass(frozen=True)
class Timing:
    """A schedule in replay.

    Args:
        policy: decides which frames are key frames.
        delay: frames from the launch of S_h to the first frame that uses its features; 0 waits for it (blocking).
        age_bound: the age bound of `Schedule`.
    """

    policy: Policy
    delay: int = PAPER_DELAY
    age_bound: int | None = DEFAULT_AGE_BOUND

    def engine(self, stages: Stages) -> Engine:
        """Make an engine that runs these stages by this schedule; close it afterwards."""
        if self.delay == 0:
            return Engine(Schedule(self.policy, mode="blocking", age_bound=self.age_bound), stages)
        schedule = Schedule(self.policy, decision="deferred", age_bound=self.age_bound)
        return Engine(schedule, stages, ReplayWorker(stages, self.delay))

    def run(self, stages: Stages, frames: int, scores: str = "") -> list[FrameResult]:
        """Send frames 0 to ``frames`` - 1, each given by its index, through the engine.

        ``scores`` is as in `Engine.run`.
        """
        with self.engine(stages) as engine:
            return [engine.step(index, scores=scores) for index in range(frames)]


def timing_at(
    video: LabelledVideo,
    policy: str,
    interval: float = 5,
    delay: int = PAPER_DELAY,
    *,
    threshold: float | None = None,
) -> Timing:
    """Make a schedule whose key frames come every ``interval`` frames of this video, on average.

    Args:
        policy: ``"every"`` or one of `MEASURED`.
        interval: frames. The age bound is `DEFAULT_AGE_BOUND` or twice the interval, whichever is more, since the
            default bound would set the rate of long intervals by itself.
        delay: frames, as in `Timing`.
        threshold: the policy's threshold, given in place of ``interval``.

    Raises:
        ValueError: an unknown policy, or a threshold for one that has none.
    """
    if policy != "every" and policy not in MEASURED:
        raise ValueError(
            f"evaluate: expected --policy to be every or one of {', '.join(MEASURED)}, got {policy!r}; name one of them"
        )
    if threshold is not None:
        if policy == "every":
            raise ValueError(
                f"evaluate: expected no --threshold with policy 'every', got {threshold}; give an interval, or one of "
                f"{', '.join(MEASURED)}"
            )
        return Timing(MEASURED[policy](threshold, cut=None), delay)
    age_bound = max(DEFAULT_AGE_BOUND, math.ceil(2 * interval))
    if policy == "every":
        return Timing(Every(interval), delay, age_bound)
    stages = DecisionsOnly(video)

    def interval_of(rule: Policy) -> float:
        return mean_interval(Timing(rule, delay, age_bound).run(stages, len(video)))

    return Timing(_find_threshold(policy, interval_of, interval, age_bound), delay, age_bound)


def _find_threshold(policy: str, interval_of: Callable[[Policy], float], interval: float, age_bound: int) -> Policy:
    """Return the policy whose mean interval comes nearest to ``interval``; it looks for no cuts."""
    tried = {}
    # A deviation of 1 at the bound on ages is the most that accumulates.
    low, high = 0.0, float(age_bound) if policy == "accumulated" else 1.0
    for _ in range(14):
        threshold = (low + high) / 2
        found = interval_of(MEASURED[policy](threshold, cut=None))
        tried[threshold] = abs(found - interval)
        low, high = (threshold, high) if found < interval else (low, threshold)
    return MEASURED[policy](min(tried, key=tried.get), cut=None)


def mean_interval(results: list[FrameResult]) -> float:
    """Return how many frames there are for each key frame, start-up left out of both."""
    return (len(results) - 1) / max(1, sum(result.key for result in results[1:]))
