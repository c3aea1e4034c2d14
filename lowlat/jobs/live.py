"""The loop of every run on video: it keeps latency steady, and counts results."""

from __future__ import annotations

import gc
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from lowlat.runtime import Captured, Engine, FrameBuffer, FrameResult, Overload
from lowlat.runtime.cpu.threads import cores_at_hand
from lowlat.runtime.words import counted
from lowlat.segmenter import VideoSegmenter

REFRESH_S = 0.5
"""Seconds between two drawings of the progress bar, which cost the next frame time."""
SWITCH_S = 5e-4
"""Seconds after which a thread that runs Python gives way to the fast track, in place of CPython's 5 ms."""


@dataclass(frozen=True)
class Summary:
    """Figures of one run, latencies in ms. Only ``frames`` and ``startup_ms`` include start-up."""

    frames: int
    """Frames answered, start-up included."""
    dropped: int
    """Frames lost to overload."""
    startup_ms: float | None
    median_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    key_frames: int
    landings: int
    """Passes of S_h whose features came into use."""
    degraded: int
    failures: int
    """Passes of S_h that failed."""
    landing_delay_frames: float | None = None
    """How late they came, in frames from the key frame to the first frame that used its features: the median."""
    landing_delay_max: int | None = None


class Tally:
    """Counts results one by one, in bounded memory except for eight bytes a frame and a landing."""

    def __init__(self) -> None:
        self.latencies = array("d")
        self.landing_delays = array("q")
        self.startup_ms: float | None = None
        self.dropped = self._frames = self._keys = self._degraded = self._failures = 0

    def add(self, result: FrameResult) -> None:
        """Count one settled result."""
        self._frames += 1
        self._degraded += result.degraded
        self._failures += result.error is not None
        if result.startup:
            self.startup_ms = result.latency_ms
            return
        self.latencies.append(result.latency_ms)
        self._keys += result.key
        if result.landed is not None:
            self.landing_delays.append(result.index - result.landed)

    def summary(self) -> Summary:
        """Return the figures so far; None if there are no results to take them from."""
        figures: list[float | None] = [None, None, None]
        if self.latencies:
            figures = [round(float(value), 3) for value in np.percentile(self.latencies, (50, 99, 100))]
        startup = None if self.startup_ms is None else round(self.startup_ms, 3)
        delays = self.landing_delays
        counts = (self._keys, len(delays), self._degraded, self._failures)
        late = (median(delays), max(delays)) if delays else (None, None)
        return Summary(self._frames, self.dropped, startup, *figures, *counts, *late)


@contextmanager
def steady_process() -> Iterator[None]:
    """Keep the pauses of CPython out of the latency during the block: objects that live already are left out of garbage
    collection, and threads give way sooner."""
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()


class _Passing:
    """Frames on their way to the engine, which may take one early. The frames that it has not answered are in `taken`.

    For a frame of another size than the one before, the engine starts up again by ``restart``. Silence is no stall
    while ``away`` says that the source is waited for.
    """

    def __init__(self, coming: Iterable[Any], restart: Callable[[], None], away: Callable[[], bool]) -> None:
        self._coming, self._restart, self._away = coming, restart, away
        self._size: tuple[int, ...] | None = None
        # A frame of another size that is there early is shown to the engine only in its turn.
        self._held: Captured | None = None
        self.taken: deque[np.ndarray] = deque()

    def __iter__(self) -> Iterator[Any]:
        coming = iter(self._coming.get, None) if isinstance(self._coming, FrameBuffer) else iter(self._coming)
        while True:
            try:
                item, self._held = next(coming) if self._held is None else self._held, None
            except StopIteration:
                return
            except TimeoutError:
                if not self._away():
                    raise
                continue
            if self._other_size(item):
                self._restart()
            self._note(item)
            yield item

    def take_waiting(self) -> Captured | None:
        """Return the next frame if it is there already, which only a buffer can tell; otherwise None."""
        if self._held is not None or not isinstance(self._coming, FrameBuffer):
            return None
        item = self._coming.take_waiting()
        if item is None or self._other_size(item):
            self._held = item
            return None
        self._note(item)
        return item

    def _other_size(self, item: Any) -> bool:
        return self._size is not None and _size(item) != self._size

    def _note(self, item: Any) -> None:
        self.taken.append(_picture(item))
        self._size = _size(item)


def _picture(item: Any) -> np.ndarray:
    return getattr(item, "frame", item)


def _size(item: Any) -> tuple[int, ...] | None:
    return getattr(_picture(item), "shape", None)


def label_frames(
    segmenter: VideoSegmenter | Engine,
    frames: Iterable[Any],
    on_settled: Callable[[np.ndarray, FrameResult], None],
    tally: Tally,
    *,
    overload: Overload | str | None = None,
    stall_s: float | None = None,
    away: Callable[[], bool] = lambda: False,
    first: int = 0,
    scores: str = "",
) -> None:
    """Label frames as they come, and hand on each with its result once the work after its labels is done.

    Args:
        segmenter: labels the frames.
        frames: uint8 RGB ``(H, W, 3)``, or :class:`~lowlat.video.frames.Timed` ones.
        on_settled: is called with a frame and its result when the next labels are out, so that the call is part of no
            latency; for the last frame also if the run breaks off.
        tally: counts the results, and the dropped frames.
        overload: reads ``frames`` on a thread of its own into a buffer with this rule, as a live source needs; None
            takes them one by one when the segmenter is ready, so that no frame waits and none is dropped.
        stall_s: seconds without a frame after which ``TimeoutError`` is raised; needs ``overload``.
        away: says whether the source is lost and waited for; silence is no stall then.
        first: the index of the first frame, for a segmenter that has seen some; needs ``overload``.
        scores: the size at which results have their scores, "grid" or "frame"; empty for labels alone.
    """
    last: tuple[np.ndarray, FrameResult] | None = None
    buffer = None
    try:
        with steady_process():
            coming: Iterable[Any] = frames
            if overload is not None:
                coming = buffer = FrameBuffer(overload, clock=segmenter.clock, stall_s=stall_s, first=first)
                buffer.capture(frames)
            passing = _Passing(coming, lambda: segmenter.restart(), away)
            for result in segmenter.run(passing, **({"scores": scores} if scores else {})):
                done, last = last, (passing.taken.popleft(), result)
                if done is not None:
                    tally.add(done[1])
                    on_settled(*done)
    finally:
        if buffer is not None:
            buffer.close()
            tally.dropped = buffer.dropped
        if last is not None:
            tally.add(last[1])
            on_settled(*last)


def device_name(device: torch.device) -> str:
    """Name what a run ran on, for reports and titles: the GPU's name, or how many cores."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else counted(cores_at_hand(), "CPU core")


class Advance:
    """Advances a task of a progress bar, and draws the bar now and then. A thread that draws it would cost latency."""

    def __init__(self, progress: Progress, description: str, total: int | None):
        self._progress = progress
        self._task = progress.add_task(description, total=total)
        self._count, self._drawn = 0, 0.0

    def __call__(self) -> None:
        self._count += 1
        if time.perf_counter() - self._drawn > REFRESH_S:
            self.draw()

    def draw(self) -> None:
        """Draw the bar as it stands."""
        self._progress.update(self._task, completed=self._count)
        self._progress.refresh()
        self._drawn = time.perf_counter()
