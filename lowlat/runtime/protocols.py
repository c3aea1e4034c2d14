"""The engine's three parts, which a runtime implements: stages, worker, clock.

What passes between them (frames, F_l, F_h, labels) is opaque to the engine: arrays, tensors, or, under the simulated
clock, nothing at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lowlat.runtime.result import Span
from lowlat.schedule import Signal


@dataclass(frozen=True)
class KeyFrame:
    """The cached key frame: the pair (F_l^k, F_h^k), and the base that later frames are propagated from.

    `low` is F_l of frame `index`, against which decisions are measured. `high` is an F_h whose true S_h features are
    those of frame `source`, an earlier one while the key frame is temporary. `base` is F_l of the frame that `high`
    belongs to: the key frame, or a later one to which it has been carried. `path`, a list that grows in place, is F_l
    of the bases since S_h was launched on the key frame, along which its F_h will be carried.
    """

    index: int
    source: int
    low: Any
    high: Any
    base: Any = None
    """F_l of the base, by default `low`."""
    path: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.base is None:
            object.__setattr__(self, "base", self.low)


@dataclass(frozen=True)
class Job:
    """A background pass of S_h: pass number `launch`, on `low`, which is F_l of frame `index`. Its F_h is carried along
    `path`, a list that grows while the pass is under way (`KeyFrame`)."""

    launch: int
    index: int
    low: Any
    path: list[Any] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Outcome:
    """A finished job: `high` is its F_h, or `error` what it raised. Start and end are in ms on the engine's clock.
    `steps` says how far F_h has been carried along the job's path: by default `high.steps` if it has them, or 0."""

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
    """The network's stages on one device.

    `lower` may return whatever `propagate` and `measure` need of a frame, such as F_l together with its reductions.
    `higher` is given the same object, on another thread if the worker has one.
    """

    def lower(self, frame: Any) -> Any:
        """S_l: frame -> low (F_l)."""

    def higher(self, low: Any) -> Any:
        """S_h: low -> high (F_h)."""

    def classify(self, high: Any, scores: str = "") -> Any:
        """F_h of a key frame -> labels on the host; with ``scores``, "grid" or "frame", a pair of labels and scores at
        that size. The engine passes the argument only if scores are asked for."""

    def propagate(self, key: KeyFrame, low: Any, scores: str = "") -> tuple[Any, Any]:
        """Eq. 1, AdaptNet, fusion: returns labels, as `classify` does, and the F_h to carry on."""

    def measure(self, key: KeyFrame, low: Any, signal: Signal) -> float:
        """Returns the key frame decision's value: the difference of features, or the predicted deviation."""

    def hold(self, key: KeyFrame) -> None:
        """Keeps `key` as the key frame. The same key frame comes again when its F_h has landed, or when it has a later
        `base`, which is the last of its `path` while S_h is under way."""


@runtime_checkable
class Pipelined(Stages, Protocol):
    """Stages on a device beside the host: every call returns once its work is enqueued, and labels are a promise.

    `measure` returns the newest value that is known without waiting, 0 if there is none for this key frame. What a held
    key frame refers to must outlive its frame.
    """

    def begin(self, frame: Any, index: int) -> Any:
        """Does `lower` of frame `index`, perhaps while the frame before it is under way."""

    def wait(self, labels: Any) -> Any:
        """Waits for the promised labels and returns them, with scores as a pair if these were asked for. Nowhere else
        in a frame does the host wait for the device."""

    def abandon(self) -> None:
        """Takes note that nobody will ask for the frames under way."""

    def restart(self) -> None:
        """Forgets the key frame; the next frame may have another size."""

    def spans(self) -> list[Span]:
        """Returns the stages that the device has completed since the last call, by its own timers."""


class Worker(Protocol):
    """Runs S_h beside the fast track, one job at a time. Neither `submit` nor `poll` ever waits."""

    def submit(self, job: Job) -> None:
        """Starts a job. Raises RuntimeError while another one is under way."""

    def poll(self, index: int) -> Outcome | None:
        """Returns the finished job, once, or None. It is asked at the start of frame `index`."""

    def forget(self) -> None:
        """Gives up the job under way, if there is one, without waiting: it never lands, and another job may be
        submitted at once. May be called again, and after `close`."""

    def close(self) -> None:
        """Ends the worker within a bounded time; a job under way is lost. May be called again."""


class Clock(Protocol):
    """The one time base of the frames, the stages and the worker."""

    def now(self) -> float:
        """Milliseconds since the clock's origin; never runs backwards."""


class WallClock:
    """The machine's monotonic clock, from the moment at which this object was made."""

    def __init__(self) -> None:
        self._origin = time.perf_counter()

    def now(self) -> float:
        return (time.perf_counter() - self._origin) * 1e3
