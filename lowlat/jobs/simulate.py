"""`lowlat simulate`: the real schedule and engine under a simulated clock, from the costs of the stages."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean

from lowlat.jobs.simulated import Costs, SimulatedStages, SimulatedWorker, VirtualClock
from lowlat.runtime import Engine, FrameResult
from lowlat.schedule import DEFAULT_AGE_BOUND, Every, PerFrame, Policy, Schedule
from lowlat.schedule.policies import MEASURED, POLICIES

DEFAULT_INTERVAL = 5
_LEVEL = 0.1


@dataclass(frozen=True)
class SimulationReport:
    """Figures of a simulated run. All but `startup_ms` are of the steady state, after the first frame.

    Times are in ms, ages and delays in frames. The source waits for the engine: a frame becomes available when all work
    on the frame before is done.
    """

    policy: str
    mode: str
    decision: str
    frames: int
    average_ms: float
    """The mean latency of a frame. If no work is left for after the labels, it is the paper's average runtime, wall
    time over frames; otherwise `period_ms` is."""
    max_ms: float
    """The maximum latency of a frame."""
    startup_ms: float
    """The latency of the first frame, which waits for a full pass."""
    period_ms: float
    """Wall time over frames: the latency and, with a deferred decision, the decision. S_h in the background is no part
    of it."""
    work_average_ms: float
    """All work over frames, S_h in the background included: the time of a single device that is never idle."""
    key_frames: int
    mean_interval: float | None
    """Frames over key frames; None without key frames."""
    launches: int
    """S_h passes begun, waited for or in the background."""
    landings: int
    """S_h passes whose features came into use."""
    landing_delay_frames: float | None
    """Mean of the frames from a background launch to the first frame that uses its features, or None."""
    landing_delay_max_frames: int | None
    coalesced: int
    """Key frame decisions that met a busy S_h."""
    forced: int
    """Key frames that only the age bound asked for."""
    age_average_frames: float
    """Mean age of the features shown."""
    age_max_frames: int

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain values, for JSON."""
        return asdict(self)


class SyntheticSignal:
    """A synthetic deviation that exceeds `level` every `interval` frames in the mean.

    It rises with the distance to the key frame and crosses `level` after a gap of whole frames. Without a seed the gaps
    are as even as whole numbers allow (5, 5, 5 ... for 5; 4, 5, 4, 5 ... for 4.5). With a seed they are random, evenly
    spread between 1 and about twice the interval, with the same mean. With `by_distance` the value times the distance
    crosses `level` instead, for policies that look at that product. Calls must come from one video, in order.

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
        # It is half a frame more than the distance, so that no comparison depends on the last bit of a float.
        value = self._level * (index - key + 0.5) / self._gap
        return value / (index - key) if self._by_distance else value

    def _next_gap(self) -> int:
        gap = math.floor((self._gaps + 1) * self._interval) - math.floor(self._gaps * self._interval)
        self._gaps += 1
        return gap if self._random is None else gap + self._random.randint(-self._spread, self._spread)


def simulate(
    *,
    lower: float = Costs.lower,
    higher: float = Costs.higher,
    select: float = Costs.select,
    propagate: float = Costs.propagate,
    policy: str = "every",
    interval: float | None = None,
    threshold: float | None = None,
    mode: str | None = None,
    decision: str = "critical",
    frames: int = 1000,
    age_bound: int | None = None,
    seed: int | None = None,
    on_result: Callable[[FrameResult], None] | None = None,
) -> SimulationReport:
    """Run a schedule over `frames` frames after start-up on the simulated clock. With the default costs, the paper's
    Table 3, it gives the runtimes of Table 1:

    | schedule | average_ms | max_ms |
    |---|---|---|
    | per-frame, blocking | 360 | 360 |
    | every 5, blocking | 151.2 | 360 |
    | adaptive, blocking | 171.2 | 380 |
    | adaptive, low-latency | 119 | 119 |
    | adaptive, low-latency, deferred | 99 | 99 |

    The first frame is start-up and comes on top of `frames`, so any multiple of the interval is a whole number of key
    frame cycles and the averages are exact; a remainder of r frames shifts them by less than r / frames of a cycle.

    Args:
        lower, higher, select, propagate: the costs of S_l, S_h, the key frame decision and propagation, in ms.
        policy: "per-frame", "every", "threshold", "adaptive" or "accumulated". The last three see a synthetic signal
            that makes a key frame every `interval` frames in the mean.
        interval: frames, 5 by default. "every" takes whole numbers; "per-frame" doesn't use it.
        threshold: the threshold of a policy that has one. The synthetic signal scales with it, so no figure changes.
        mode: "blocking" or "low-latency"; by default blocking, unless the decision is deferred.
        decision: "critical" or "deferred".
        frames: how many frames follow the first one.
        age_bound: frames; by default the schedule's own, or the longest interval of the signal if that is longer.
        seed: makes the synthetic intervals vary at random around their mean; None keeps them regular.
        on_result: is called with every frame's result, start-up included.

    Raises:
        ValueError: an option out of range, or options that contradict each other.
    """
    if not (frames >= 1 and frames == int(frames)):
        raise ValueError(f"simulate: expected a whole number of frames of at least 1, got {frames!r}; raise --frames")
    frames = int(frames)
    costs = Costs(lower, higher, select, propagate)
    rule, signal = rule_of(policy, DEFAULT_INTERVAL if interval is None else interval, threshold, seed)
    if age_bound is None:
        age_bound = age_bound_of(rule, signal)
    if mode is None:
        mode = "low-latency" if decision == "deferred" else "blocking"
    schedule = Schedule(rule, mode=mode, decision=decision, age_bound=age_bound)

    clock = VirtualClock()
    engine = Engine(schedule, SimulatedStages(clock, costs, signal), SimulatedWorker(clock, costs.higher), clock)
    results = []
    for index in range(frames + 1):
        result = engine.step(index)
        results.append(result)
        if on_result is not None:
            on_result(result)
    startup, steady = results[0], results[1:]
    period_ms = (clock.now() - steady[0].available_ms) / frames

    latencies = [result.latency_ms for result in steady]
    keys = sum(result.key for result in steady)
    launched = sum(result.launched for result in steady)
    delays = [result.index - result.landed for result in steady if result.landed is not None]
    counts = engine.state.counts
    return SimulationReport(
        policy=policy,
        mode=schedule.mode.value,
        decision=schedule.decision.value,
        frames=frames,
        average_ms=_ms(fmean(latencies)),
        max_ms=_ms(max(latencies)),
        startup_ms=_ms(startup.latency_ms),
        period_ms=_ms(period_ms),
        work_average_ms=_ms(period_ms + launched * costs.higher / frames),
        key_frames=keys,
        mean_interval=frames / keys if keys else None,
        # The first frame's own pass is start-up.
        launches=counts.launches - 1,
        landings=counts.landings - 1,
        landing_delay_frames=fmean(delays) if delays else None,
        landing_delay_max_frames=max(delays, default=None),
        coalesced=counts.coalesced,
        forced=counts.forced,
        age_average_frames=fmean(result.age for result in steady),
        age_max_frames=max(result.age for result in steady),
    )


def age_bound_of(rule: Policy, signal: SyntheticSignal | None) -> int:
    """Return the schedule's own age bound in frames, or the longest interval that may come if that is longer."""
    longest = signal.longest if signal is not None else getattr(rule, "interval", 1)
    return max(DEFAULT_AGE_BOUND, longest)


def rule_of(
    policy: str, interval: float, threshold: float | None, seed: int | None
) -> tuple[Policy, SyntheticSignal | None]:
    """Make the policy of that name, and the synthetic signal that it sees, if it looks at one."""
    if policy == "per-frame":
        return PerFrame(), None
    if policy == "every":
        return Every(interval), None
    if policy not in POLICIES:
        raise ValueError(
            f"simulate: expected --policy to be one of {', '.join(POLICIES)}, got {policy!r}; name one of them"
        )
    # The synthetic signal has no scenes, so no cuts must be found in it.
    level = _LEVEL if threshold is None else threshold
    signal = SyntheticSignal(interval, level, seed, by_distance=policy == "accumulated")
    return MEASURED[policy](level, cut=None), signal


def _ms(value: float) -> float:
    """Round milliseconds to nanoseconds, which removes the rounding errors of sums of simulated time."""
    if not math.isfinite(value):
        raise ValueError(f"simulate: expected costs whose sum is finite, got {value!r}; lower them")
    return round(value, 6)
