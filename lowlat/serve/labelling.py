"""`Labelling`: frames in, labels out, for any number of videos. No other file of the service knows the hub."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowlat.hub.hub import DEFAULT_SIZE, Hub
from lowlat.hub.video import Video
from lowlat.jobs.cameras import in_one_line
from lowlat.runtime import FrameResult
from lowlat.schedule import PerFrame, Policy
from lowlat.segmenter import VideoSegmenter, prepare
from lowlat.serve.history import History
from lowlat.serve.log import say
from lowlat.video.steady import Steady

BASELINE_PASSES = 4
"""Passes of the whole network that are measured for the per-frame baseline; the first one is warm-up."""
HELD = 8
"""Results that wait for the thread that shows them: as many as come while it is at one."""
LOOK_S = 2.0
"""Seconds between two looks at the bound, which moves with what frames have cost."""
MARGIN = 1.5
"""What the bound must leave for more frames a second to be given again."""
LOWEST_FPS, LEAST_SHARE = 0.25, 1e-4
"""Frames a second below which a video beside others is refused; the share of its rate below which the hub is broken."""


@dataclass(frozen=True)
class Labelled:
    """A frame with its result."""

    frame: np.ndarray
    """uint8 RGB ``(H, W, 3)``."""
    result: FrameResult
    captured_at: float
    """When the frame came, in s since 1970."""


class Labelling(AbstractContextManager):
    """The one hub that labels all videos.

    Args:
        weights: a shipped network's name, a file of weights, or a network.
        policy: decides which frames of each video are key frames; by default as the weights say.
        size: the ``(height, width)`` that frames are taken to have before any has come.
        cores: threads on a CPU, by default one for each core at hand.
        steady: whether labels are those that `Steady` shows.
        options: further arguments of `lowlat.prepare`: device, dtype, pixels.

    Attributes:
        classes: the labels' names and colours.
        baseline_ms: the median time in ms of the whole network on a frame of that size, measured before there was any
            video.

    Raises:
        ValueError, RuntimeError: as `lowlat.prepare`.
    """

    def __init__(
        self,
        weights: Any = "lite",
        *,
        policy: Policy | None = None,
        size: tuple[int, int] = DEFAULT_SIZE,
        cores: int | None = None,
        steady: bool = False,
        **options: Any,
    ) -> None:
        prepared = prepare(weights, **options)
        self.classes, self._policy, self._size = prepared.network.legend, policy, size
        # The frame is smooth, as a camera's are; noise would have all scores interpolated.
        frame = np.linspace(0, 255, size[0] * size[1] * 3).astype(np.uint8).reshape(*size, 3)
        with VideoSegmenter(prepared, policy=PerFrame(), mode="blocking") as whole:
            times = [whole.step(frame).latency_ms for _ in range(BASELINE_PASSES)]
        self.baseline_ms = float(np.median(times[1:]))
        self._hub = Hub(prepared, cores=cores)
        self._lock, self._videos, self._steady = threading.Lock(), [], steady
        self._share, self._bound, self._looked_at = 1.0, None, 0.0

    def open(
        self, name: str, fps: float, on_labelled: Callable[[Labelled], None], *, size: tuple[int, int] | None = None
    ) -> LabelledVideo:
        """Begin a video. If there is no room for it, all videos get half their frames a second, or a quarter, and so
        on, until frames cost less or a video is closed; the log says so.

        Args:
            fps: how many frames a second will come.
            on_labelled: a function that a thread of the video calls with each frame and its result.
            size: ``(height, width)`` of the frames, if it is known.

        Raises:
            RuntimeError: there is no room, or the hub is closed.
        """
        with self._lock:
            made, before = LabelledVideo(self, fps, on_labelled, Steady() if self._steady else None), self._share
            options = {"size": size or self._size, "policy": self._policy, "over": "lower", **made.options}
            # A first video is never refused, since whatever made frames dear may be over soon.
            lowest, why = LOWEST_FPS if self._videos else 0.0, ""
            while True:
                try:
                    with warnings.catch_warnings():
                        # The hub's warning of rarer key frames goes to the log.
                        warnings.simplefilter("ignore", RuntimeWarning)
                        made.begin(self._hub.open(name, fps=fps * self._share, **options))
                except RuntimeError as error:
                    if fps * self._share / 2 < lowest or self._share < LEAST_SHARE:
                        self._give(before)
                        raise
                    self._give(self._share / 2)
                    why = in_one_line(error)
                else:
                    break
            self._videos.append(made)
            self._bound = self._hub.bound_ms
        if self._share < before:
            say("fewer frames a second", share=self._share, why=why)
        if self._hub.spacing > 1:
            say("rarer key frames", frames=self._hub.spacing)
        return made

    def room(self, fps: float) -> int:
        """Return how many more videos of that rate fit, by the costs measured so far."""
        return self._hub.capacity(fps, size=self._size)

    def leave(self, video: LabelledVideo) -> None:
        """Forget a video that is closed."""
        with self._lock:
            self._videos = [other for other in self._videos if other is not video]
            self._looked_at = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Look at the bound again, now and then, and take more frames a second if they cost less than before."""
        # A thread that opens a video holds the lock meanwhile, and looks at the bound itself.
        if time.monotonic() < self._looked_at + LOOK_S or not self._lock.acquire(blocking=False):
            return
        try:
            self._looked_at = time.monotonic()
            self._bound = self._hub.bound_ms if self._videos else None
            fastest = max((video.asked_fps for video in self._videos), default=0.0)
            if self._share < 1 and (not fastest or self._bound * 2 * MARGIN < 1e3 / (fastest * self._share)):
                self._give(2 * self._share)
                say("more frames a second again", share=self._share)
        finally:
            self._lock.release()

    def _give(self, share: float) -> None:
        """Give all videos this share of the frames a second that they were opened for."""
        self._share = share
        for video in self._videos:
            video.take_share(share)

    @property
    def bound_ms(self) -> float | None:
        """The most ms that a frame waits for its labels, by the hub's measured costs; None without videos."""
        return self._bound

    def close(self) -> None:
        """End the hub."""
        self._hub.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class LabelledVideo:
    """One video. Frames are handed in by one thread at a time, and each is handed on with its labels. The newest frame
    wins.

    Attributes:
        history: what became of the last frames.
        asked_fps: the frames a second that it was opened for.
        fps: the frames a second that it gets.
    """

    def __init__(
        self, labelling: Labelling, fps: float, on_labelled: Callable[[Labelled], None], steady: Steady | None = None
    ) -> None:
        self.history, self.asked_fps, self.fps = History(), fps, fps
        self._labelling, self._on_labelled, self._steady = labelling, on_labelled, steady
        self._video: Video | None = None
        self._lock = threading.Lock()
        # Frames without a result yet: the one under way, the one that waits, and some whose result is being handed on.
        self._frames: dict[int, np.ndarray] = {}
        self._submitted = self._skipped = self._failed_before = 0
        self._handed_on = -1
        self._due = 0.0
        self.options = {"hold": HELD, "settled": True, "scores": steady is not None, "on_result": self._take}

    def begin(self, video: Video) -> None:
        """Take the video that the hub has opened."""
        self._video, self.fps = video, video.fps

    def take_share(self, share: float) -> None:
        """Take this share of the frames a second that the video was opened for."""
        self.fps = self._video.fps = self.asked_fps * share

    def submit(self, frame: np.ndarray, time_s: float | None = None, *, thinned: bool = False) -> int | None:
        """Hand in a frame. It takes the place of a frame that nobody has begun. Never waits.

        Args:
            frame: uint8 RGB ``(H, W, 3)``, which must not be written to any more.
            time_s: its time in the source, in s.
            thinned: whether it is left out, and counted as skipped, if frames come faster than `fps`.

        Returns:
            The frame's index, counted from 0; None if the frame is left out, or dropped because the video is closed.

        Raises:
            ValueError: another kind of array.
        """
        with self._lock:
            if thinned and self._early():
                self._skipped += 1
                return None
            # Skipped frames have no index, because ages and intervals count only frames that may be labelled.
            index = self._submitted
            dropped = self._video.counts.dropped
            self._frames[index] = frame
            try:
                taken = self._video.submit(frame, time_s=time_s, index=index)
            except ValueError:
                del self._frames[index]
                raise
            self._submitted = index + 1
            if not taken:
                del self._frames[index]
                return None
            waiting = [number for number in self._frames if number < index]
            if waiting and self._video.counts.dropped > dropped:
                # The frame before was still waiting, and this one has taken its place.
                del self._frames[waiting.pop()]
            for number in waiting[: -HELD - 1]:
                del self._frames[number]
            return index

    def _early(self) -> bool:
        now, period = time.monotonic(), 1 / self.fps
        if now < self._due:
            return True
        # The rate evens out small variations of a source, and begins anew after a gap.
        self._due = max(self._due + period, now + period / 2)
        return False

    def _take(self, result: FrameResult) -> None:
        with self._lock:
            frame = self._frames.pop(result.index, None)
        self._failed_before = self._video.counts.failed
        captured_at = time.time() - (self._video.clock.now() - result.available_ms) / 1000
        self.history.add(result, captured_at)
        try:
            # Steadying a large frame may take longer than labelling it: the newest labels win here too.
            late = self._steady is not None and self._behind(result.index)
            if frame is not None and not late:
                if self._steady is not None:
                    result.labels, result.scores = self._steady(frame, result), None
                self._on_labelled(Labelled(frame, result, captured_at))
        finally:
            self._handed_on = result.index
        self._labelling.refresh()

    def _behind(self, index: int) -> bool:
        """Whether there is a result of a frame after that one."""
        newest = self._video.latest()
        return newest is not None and newest.index > index

    @property
    def baseline_ms(self) -> float:
        """The baseline of :class:`Labelling`, in ms."""
        return self._labelling.baseline_ms

    @property
    def bound_ms(self) -> float | None:
        """The bound of :class:`Labelling`, in ms."""
        return self._labelling.bound_ms

    @property
    def trouble(self) -> str:
        """The error of the frames since the last one with labels; empty if none has failed."""
        error = self._video.error
        return in_one_line(error) if error is not None and self._video.counts.failed > self._failed_before else ""

    def counts(self) -> dict[str, int]:
        """Return what became of the frames: captured == labelled + dropped + skipped + failed + under_way."""
        with self._lock:
            counts, schedule = self._video.counts, self._video.counts.schedule
            ended = {"labelled": counts.labelled, "dropped": counts.dropped, "skipped": self._skipped}
            captured = self._submitted + self._skipped
            under_way = captured - sum(ended.values()) - counts.failed
            events = {"key_frames": schedule.keys, "landings": schedule.landings, "passes_failed": schedule.failures}
        return {
            "captured": captured,
            **ended,
            "failed": counts.failed,
            "under_way": under_way,
            **events,
            "degraded": self.history.degraded,
        }

    def finish(self, timeout_s: float = 10.0) -> bool:
        """Wait for the labels of the frames that are here, then close; return whether they came in time."""
        end = time.monotonic() + timeout_s
        while (under_way := self.counts()["under_way"]) and time.monotonic() < end:
            time.sleep(0.01)
        self._video.close()
        # All results are out; the thread that hands them on may still be at one.
        while self._behind(self._handed_on) and time.monotonic() < end:
            time.sleep(0.01)
        self._labelling.leave(self)
        return not under_way
