"""The figures of a latency run, computed from its results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from lowlat.runtime import FrameResult, Span

FAST = ("S_l", "propagation")


@dataclass(frozen=True)
class Figures:
    """Latencies in ms, from a frame on the host to its labels on the host, and what goes with them; start-up is left
    out."""

    frames: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    jitter_ms: float
    """The mean difference between the latencies of one frame and the next."""
    p99_over_p50: float
    deadline_ms: float
    deadline_misses: int
    key_frames: int
    landings: int
    landing_delay_frames: float | None
    """Median of the frames from the launch of S_h to the first one that used its features."""
    landing_delay_max: int | None
    age_mean: float
    age_max: int
    degraded: int
    failures: int
    stages_ms: dict[str, float]
    """Median time by track and stage: of the device where there is one."""
    fast_track_ms: float | None
    """Median computing time of a frame while S_h does not run, ..."""
    fast_track_beside_s_h_ms: float | None
    """... while it does, ..."""
    slowdown: float | None
    """... and the ratio of the two."""
    host_gap_p50_ms: float
    """Latency without waiting and computing: what the host adds."""
    host_gap_max_ms: float


def summarise(results: Sequence[FrameResult], spans: Iterable[Span], deadline_ms: float | None = None) -> Figures:
    """Compute the figures of results in order, all settled and none of them start-up.

    Args:
        results: at least one.
        spans: the spans of the whole run, which may have those of start-up among them.
        deadline_ms: the deadline beyond which a frame is a miss; by default 1.2 x p99.

    Raises:
        ValueError: there are no results.
    """
    if not results:
        raise ValueError("summarise: expected at least 1 result after start-up, got none; run more frames")
    latencies = np.array([result.latency_ms for result in results])
    p50, p95, p99, longest = np.percentile(latencies, (50, 95, 99, 100))
    deadline = 1.2 * float(p99) if deadline_ms is None else deadline_ms
    measured = {result.index for result in results}
    spans = [span for span in spans if span.index in measured or span.track == "S_h"]
    busy = _busy(spans)
    slow = [(span.start_ms, span.end_ms) for span in spans if span.track == "S_h" and span.stage == "higher"]
    beside, alone = [], []
    for result in results:
        if result.index in busy and "higher" not in result.stages_ms:
            (beside if _overlaps(result, slow) else alone).append(busy[result.index])
    without, with_s_h = (median(times) if times else None for times in (alone, beside))
    # While a frame that was begun early waits for its turn, S_l may compute: that time is its waiting.
    in_turn = _busy(spans, {result.index: result.available_ms + result.wait_ms for result in results})
    gaps = [result.latency_ms - result.wait_ms - in_turn.get(result.index, 0.0) for result in results]
    delays = [result.index - result.landed for result in results if result.landed is not None]
    ages = [result.age for result in results]
    return Figures(
        frames=len(results),
        p50_ms=_ms(p50),
        p95_ms=_ms(p95),
        p99_ms=_ms(p99),
        max_ms=_ms(longest),
        jitter_ms=_ms(np.abs(np.diff(latencies)).mean() if len(latencies) > 1 else 0.0),
        p99_over_p50=round(float(p99 / p50), 4),
        deadline_ms=_ms(deadline),
        deadline_misses=int((latencies > deadline).sum()),
        key_frames=sum(result.key for result in results),
        landings=len(delays),
        landing_delay_frames=median(delays) if delays else None,
        landing_delay_max=max(delays, default=None),
        age_mean=round(float(np.mean(ages)), 3),
        age_max=max(ages),
        degraded=sum(result.degraded for result in results),
        failures=sum(result.error is not None for result in results),
        stages_ms=stage_medians(spans),
        fast_track_ms=None if without is None else _ms(without),
        fast_track_beside_s_h_ms=None if with_s_h is None else _ms(with_s_h),
        slowdown=None if without is None or with_s_h is None else round(with_s_h / without, 4),
        host_gap_p50_ms=_ms(median(gaps)),
        host_gap_max_ms=_ms(max(gaps)),
    )


def stage_medians(spans: Iterable[Span]) -> dict[str, float]:
    """Return the median ms of each stage, by "track: stage"."""
    times: dict[str, list[float]] = {}
    for span in spans:
        times.setdefault(f"{span.track}: {span.stage}", []).append(span.end_ms - span.start_ms)
    return {name: _ms(median(values)) for name, values in sorted(times.items())}


def _busy(spans: Iterable[Span], since: Mapping[int, float] | None = None) -> dict[int, float]:
    """Return the ms of computing on the critical path of each frame, from frames that began at ``since`` or later. The
    decision after the labels is no part of it."""
    busy: dict[int, float] = {}
    since = since or {}
    for span in spans:
        waited_for = span.track == "S_h" and span.stage == "classify"
        if (span.track in FAST and span.stage != "select") or waited_for:
            start = max(span.start_ms, since.get(span.index, -math.inf))
            busy[span.index] = busy.get(span.index, 0.0) + max(0.0, span.end_ms - start)
    return busy


def _overlaps(result: FrameResult, spans: Iterable[tuple[float, float]]) -> bool:
    begun = result.available_ms + result.wait_ms
    return any(start < result.emitted_ms and begun < end for start, end in spans)


def _ms(value: float) -> float:
    return round(float(value), 4)
