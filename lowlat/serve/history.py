"""`History`: the last minutes of a video's latency in bounded memory, for the page and for `/metrics`."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from lowlat.runtime import FrameResult

HISTORY_S = 180.0
"""Seconds of latency that are remembered."""
HISTORY_FRAMES = 5400
"""Frames that are remembered at most: three minutes at 30 a second."""
OUTCOMES = ("labelled", "dropped", "skipped", "failed")
"""What becomes of a frame that was captured: labels; its place taken by a newer one; left out because the video gets
no more frames a second; an error on the way."""


class Sample(NamedTuple):
    """One frame in the history: time in s since 1970, latency in ms, age in frames."""

    number: int
    captured_at: float
    latency_ms: float
    age: int
    key: bool
    landed: bool
    degraded: bool
    startup: bool


class History:
    """Remembers what became of the last frames. It may be asked from any thread.

    Attributes:
        degraded: how many frames so far had labels that are known to be worse than usual.
        last_at: when the last frame got its labels, in s by `time.monotonic`; None before the first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=HISTORY_FRAMES)
        self._number = self.degraded = 0
        self.last_at: float | None = None

    def add(self, result: FrameResult, captured_at: float) -> None:
        """Remember a frame that has its labels; ``captured_at`` is in s since 1970."""
        with self._lock:
            self._number += 1
            self.degraded += result.degraded
            marks = (result.key, result.landed is not None, result.degraded, result.startup)
            self._samples.append(Sample(self._number, captured_at, result.latency_ms, result.age, *marks))
            while self._samples[0].captured_at < captured_at - HISTORY_S:
                self._samples.popleft()
            self.last_at = time.monotonic()

    def after(self, number: int = 0) -> list[Sample]:
        """Return the samples of the frames after number ``number``, as far as they are remembered."""
        with self._lock:
            return [sample for sample in self._samples if sample.number > number]

    def figures(self) -> dict[str, float | None]:
        """Return the latency in ms, start-up left out, and the frames a second, over the last ten seconds of the
        history."""
        samples = [sample for sample in self.after() if not sample.startup]
        if not samples:
            return {"median_ms": None, "p99_ms": None, "max_ms": None, "fps": None}
        median, p99, most = np.percentile([sample.latency_ms for sample in samples], (50, 99, 100))
        newest = samples[-1].captured_at
        recent = [sample.captured_at for sample in samples if sample.captured_at > newest - 10]
        span = recent[-1] - recent[0]
        fps = round((len(recent) - 1) / span, 2) if span > 0 else None
        return {"median_ms": round(median, 2), "p99_ms": round(p99, 2), "max_ms": round(most, 2), "fps": fps}
