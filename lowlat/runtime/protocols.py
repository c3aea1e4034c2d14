"""The engine's three parts: stages, worker, clock. For whoever writes a runtime.

What passes between them (frames, F_l, F_h, labels) is opaque to the engine: arrays, tensors, or, under the
simulated clock, nothing at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lowlat.runtime.result import Span
from lowlat.schedule import Signal


@dataclass(frozen=True)
class KeyFrame:
    """The cached key frame: the pair (F_l^k, F_h^k), and what later frames are propagated from.

    `index` is the frame of F_l^k, in `low`; decisions are measured against it. `source` is the frame whose true S_h
    features `high` comes from; it is another one while the key frame is temporary, with a carried F_h. `base` is F_l of
    the frame that `high` belongs to: the key frame's, or a later one's to which F_h has been carried since. `path` is
    F_l of the bases since S_h was launched on the key frame, along which its F_h will be carried; it grows in place.
    """

    index: int
    source: int
    low: Any
    high: Any
    base: Any = None
    """By default that of the key frame."""
    path: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.base is None:
            object.__setattr__(self, "base", self.low)


@dataclass(frozen=True)
class Job:
    """One background pass of S_h: pass number `launch`, on `low` = F_l of frame `index`. Its F_h is carried on along
    `path`, a list that grows while the pass is under way (`KeyFrame`)."""

    launch: int
    index: int
    low: Any
    path: list[Any] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Outcome:
    """A finished job: `high` = F_h, or the exception in `error`. Start and end in ms on the engine's clock. `steps` are
    those that F_h has come along the job's path: by default what `high` says of itself, or none."""

    job: Job
    high: Any
    error: BaseException | None
    start_ms: float
    end_ms: float
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is None:
            object.__setattr__(self, "steps", getattr(self.high, "steps", 0))


class Stages(Protocol):
    """The network's stages on one device. They hold no state of a video.

    `lower` may return whatever `propagate` and `measure` need of a frame (F_l together with its reductions,
    say); `higher` is given the same object, from another thread if the worker has one.
    """

    def lower(self, frame: Any) -> Any:
        """S_l: frame -> low (F_l)."""

    def higher(self, low: Any) -> Any:
        """S_h: low -> high (F_h)."""

    def classify(self, high: Any, scores: str = "") -> Any:
        """F_h of a key frame -> labels on the host; with ``scores``, "grid" or "frame", a pair: labels, and scores at
        that size. The engine gives the argument only where scores are asked for."""

    def propagate(self, key: KeyFrame, low: Any, scores: str = "") -> tuple[Any, Any]:
        """Eq. 1, AdaptNet, fusion: -> (labels as of `classify`, the F_h that is carried on)."""

    def measure(self, key: KeyFrame, low: Any, signal: Signal) -> float:
        """The key frame decision's value: difference of features or predicted deviation."""

    def hold(self, key: KeyFrame) -> None:
        """`key` is the key frame from here on. The same one comes again when its F_h has been replaced, or carried to a
        later frame, its `base`, the last of its `path` if S_h is under way."""


@runtime_checkable
class Pipelined(Stages, Protocol):
    """Stages on a device of its own: every call returns once its work is enqueued, and labels are a promise.

    `measure` gives the newest value known without waiting, 0 if there is none for this key frame. What a key frame that
    is held refers to must outlive its frame.
    """

    def begin(self, frame: Any, index: int) -> Any:
        """`lower` of frame `index`; may be called while the frame before it is under way."""

    def wait(self, labels: Any) -> Any:
        """The labels on the host, a pair where scores were asked for: the one place of a frame where the host waits
        for the device."""

    def abandon(self) -> None:
        """The frames under way will not be asked for again."""

    def restart(self) -> None:
        """The key frame is forgotten: the next frame may have another size."""

    def spans(self) -> list[Span]:
        """Stages that the device has completed since the last call, by its own timers."""


class Worker(Protocol):
    """Runs S_h beside the fast track, one job at a time. Neither `submit` nor `poll` ever waits."""

    def submit(self, job: Job) -> None:
        """Starts a job. Raises RuntimeError while one is in flight."""

    def poll(self, index: int) -> Outcome | None:
        """The finished job, once, or None. Asked at the start of frame `index`."""

    def forget(self) -> None:
        """Gives up the job in flight, if there is one: it never lands, and another may be submitted at once. Does not
        wait for S_h. May be called again, and after `close`."""

    def close(self) -> None:
        """Ends the worker within a bounded time; a job in flight is lost. May be called again."""


class Clock(Protocol):
    """One time base for the frames, the stages and the worker."""

    def now(self) -> float:
        """Milliseconds since an origin of the clock's own; never runs backwards."""


class WallClock:
    """Milliseconds of the machine's monotonic clock since this object was made."""

    def __init__(self) -> None:
        self._origin = time.perf_counter()

    def now(self) -> float:
        return (time.perf_counter() - self._origin) * 1e3
