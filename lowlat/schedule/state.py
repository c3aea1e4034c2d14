"""The state of one video's schedule: a value, replaced at every event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """How far the video is within a frame, which says what event may come next."""

    BETWEEN = "between frames"
    DECIDING = "waiting for Measured"
    HIGHER = "waiting for S_h"
    EMITTING = "waiting for Emitted"
    DEFERRED = "labels out, waiting for Measured"


class Plan(Enum):
    """What the current frame becomes."""

    UNDECIDED = "undecided"
    PROPAGATED = "propagated"
    PROMOTED = "promoted"
    BLOCKING = "blocking"


@dataclass(frozen=True)
class Flight:
    """An S_h pass under way: number `launch`, for frame `index`."""

    launch: int
    index: int
    path: tuple[int, ...] = ()
    """The bases since its launch, by frame index, along which its F_h is carried before it lands."""


@dataclass(frozen=True)
class Counts:
    """What has happened to a video so far, each a number of times."""

    frames: int = 0
    """Frames whose labels are out."""
    keys: int = 0
    """Key frames: served by S_h, or promoted."""
    launches: int = 0
    """S_h passes begun, waited for or not."""
    landings: int = 0
    failures: int = 0
    discarded: int = 0
    """Passes whose outcome was thrown away because their key frame was gone."""
    coalesced: int = 0
    """Decisions for a key frame that found S_h busy."""
    forced: int = 0
    """Key frames that only the age bound asked for."""
    cuts: int = 0
    """Frames whose value exceeded the policy's cut."""


@dataclass(frozen=True)
class VideoState:
    """All that the schedule remembers of one video, frames by their index. A video begins with `VideoState()`."""

    phase: Phase = Phase.BETWEEN
    plan: Plan = Plan.UNDECIDED
    index: int | None = None
    """The current frame, or the last one."""
    key: int | None = None
    """The key frame; None before the first one."""
    base: int | None = None
    """The frame that later ones are propagated from: the key frame, or a later one."""
    source: int | None = None
    """The frame whose true S_h features the cached F_h comes from."""
    flight: Flight | None = None
    """The pass of S_h under way, in the background or waited for."""
    owed: bool = False
    """Whether a key frame is due whatever the policy says, because a cut found S_h busy, or S_h failed."""
    cut: int | None = None
    """The last frame found to lie behind a scene cut."""
    failures_in_a_row: int = 0
    retry_from: int = 0
    """The first frame on which S_h may be tried again after a failure."""
    counts: Counts = Counts()

    @property
    def age(self) -> int:
        """Age in frames of the cached features, seen from the current frame."""
        return 0 if self.index is None or self.source is None else self.index - self.source
