"""What a step of the engine says: labels and how they came about. For callers, plots and traces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

TRACKS = ("S_l", "propagation", "S_h", "host")
"""The last one where the stages run on a device: the calls that enqueue them, and the wait for the labels."""


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
    """What the stages made: labels on the host."""
    age: int
    """Frames between this one and the frame whose true S_h features are the source of the labels; 0 where S_h was
    waited for. A temporary key frame has propagated features, so its age goes on counting from the true source."""
    key: bool = False
    """Whether this frame was made the key frame (served by S_h, or promoted and S_h launched on it)."""
    degraded: bool = False
    """Labels known to be worse than usual: see `lowlat.schedule.Schedule`."""
    startup: bool = False
    """The video's first frame: a full pass, waited for."""
    available_ms: float = 0.0
    """When the frame was available on the host, on the engine's clock."""
    emitted_ms: float = 0.0
    """When its labels were on the host, on the engine's clock."""
    wait_ms: float = 0.0
    """Time from available to the start of the engine's work on it."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Critical path by stage: "lower", "select", "propagate"; "higher" and "classify" where S_h was waited for."""
    deferred_ms: dict[str, float] = field(default_factory=dict)
    """Stages run after the labels, no part of the latency: "select" with a deferred decision."""
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
    """Timed stages for a trace. A background S_h span belongs to the result of the frame it landed with."""
    classes: Any = None
    """What the labels are called and how they are drawn: the `Classes` of the network."""
    scores: Any = None
    """Where they were asked for, the scores that the labels come from, float32 `(classes, h, w)`, as the network gives
    them: of any size, the highest one wins. At the network's grid, or interpolated to the frame's size."""

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the scores over the classes, float32 `(classes, h, w)`. RuntimeError without scores."""
        if self.scores is None:
            raise RuntimeError("FrameResult: expected a result with scores, got none; ask for them by scores=True")
        likelihoods = np.exp(self.scores - self.scores.max(0))
        return likelihoods / likelihoods.sum(0)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the likeliest class, float32 `(h, w)`, at the size of the scores. RuntimeError without."""
        return self.probabilities.max(0)

    @property
    def latency_ms(self) -> float:
        """From the frame available on the host to its labels on the host, in ms. Deferred work is no part of it."""
        return self.emitted_ms - self.available_ms
