"""`FrameResult`: what a step of the engine returns, the labels of a frame and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

TRACKS = ("S_l", "propagation", "S_h", "host")
"""The rows of a trace. "host" is there if stages run on a GPU: the calls that enqueue them, and the wait for labels."""


@dataclass(frozen=True)
class Span:
    """One stage's time on one track.

    `track` is one of `TRACKS`; `stage` one of "lower", "select", "propagate", "higher", "classify" ("select"
    lies on the propagation track, "classify" on that of S_h), on a device also "upload", "fetch", "wait";
    `index` is the frame the work was for. Times in ms on the engine's clock.
    """

    track: str
    stage: str
    index: int
    start_ms: float
    end_ms: float


@dataclass
class FrameResult:
    """The labels of one frame and how they came about.

    `key`, `degraded`, `launched`, `value` and `deferred_ms` are final once the frame is settled (`settled`):
    at once after `Engine.step`; after `Engine.settle` where the result was handed out before the deferred work.
    """

    index: int
    """Frame index; frames dropped before the engine leave gaps."""
    labels: Any
    """The labels on the host, uint8 `(H, W)`."""
    age: int
    """Frames from the source, the frame whose true S_h features the labels come from, to this one; 0 if S_h was waited
    for. A temporary key frame has carried features, so its age goes on counting from the source."""
    key: bool = False
    """Whether this frame was made the key frame (labelled by S_h, or promoted and S_h launched on it)."""
    degraded: bool = False
    """Whether the labels are known to be worse than usual, as `lowlat.schedule.Schedule` says."""
    startup: bool = False
    """Whether the video started up with this frame: it waited for a full pass."""
    available_ms: float = 0.0
    """When the frame was available on the host, on the engine's clock."""
    emitted_ms: float = 0.0
    """When its labels were on the host, on the engine's clock."""
    wait_ms: float = 0.0
    """Time from available to the start of the engine's work on it."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Times on the critical path, of "lower", "select", "propagate"; "higher" and "classify" if S_h was waited for."""
    deferred_ms: dict[str, float] = field(default_factory=dict)
    """Times of the stages after the labels, which are no part of the latency: "select" with a deferred decision."""
    value: float | None = None
    """The measured deviation or feature difference; None if nothing was measured."""
    landed: int | None = None
    """Index of the key frame whose S_h features became usable with this frame; None if none did."""
    launched: bool = False
    """Whether S_h was launched in the background on this frame."""
    error: BaseException | None = None
    """What S_h raised, if a failure of it became known with this frame; the video goes on."""
    settled: bool = False
    """Whether the work after the labels is done."""
    time_s: float | None = None
    """The frame's time in the source, in seconds since its first frame; None where frames came without times."""
    spans: list[Span] = field(default_factory=list)
    """The timed stages, for a trace. A background span of S_h belongs to the frame that it landed with."""
    classes: Any = None
    """The network's `Classes`: the labels' names and colours."""
    scores: Any = None
    """The scores that the labels come from, float32 `(classes, h, w)`, if they were asked for: on the network's grid,
    or interpolated to the frame's size. They have no fixed range; the highest one wins."""

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the scores over the classes, float32 `(classes, h, w)`. RuntimeError without scores."""
        if self.scores is None:
            raise RuntimeError("FrameResult: expected a result with scores, got none; ask for them by scores=True")
        likelihoods = np.exp(self.scores - self.scores.max(0))
        return likelihoods / likelihoods.sum(0)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the likeliest class, float32 `(h, w)`, at the size of the scores; RuntimeError without."""
        return self.probabilities.max(0)

    @property
    def latency_ms(self) -> float:
        """The time in ms from the frame on the host to its labels on the host. Deferred work is no part of it."""
        return self.emitted_ms - self.available_ms
