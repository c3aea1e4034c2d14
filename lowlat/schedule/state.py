"""The state of one video's schedule: a value, replaced at every event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """Where in a frame the video is: what event may come next."""

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
    """The bases since, along which its F_h is carried on before it lands."""


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
    """Outcomes thrown away because their key frame is gone."""
    coalesced: int = 0
    """Key frame decisions that met a busy S_h."""
    forced: int = 0
    """Key frames that only the age bound asked for."""
    cuts: int = 0
    """Frames whose value exceeded the policy's cut."""


@dataclass(frozen=True)
class VideoState:
    """All that the schedule remembers of one video. A fresh one is `VideoState()`."""

    phase: Phase = Phase.BETWEEN
    plan: Plan = Plan.UNDECIDED
    index: int | None = None
    """The current frame, or the last one."""
    key: int | None = None
    """The cached key frame; None before the first one."""
    base: int | None = None
    """The frame that later ones are propagated from: the key frame, or one since."""
    source: int | None = None
    """The frame whose true S_h features the cached F_h comes from."""
    flight: Flight | None = None
    """The one S_h pass under way, in the background or waited for."""
    owed: bool = False
    """A key frame is due without another test: a cut met a busy S_h, or S_h failed."""
    cut: int | None = None
    """The last frame found to lie behind a scene cut."""
    failures_in_a_row: int = 0
    retry_from: int = 0
    """First frame on which S_h may be tried again after a failure."""
    counts: Counts = Counts()

    @property
    def age(self) -> int:
        """Age in frames of the cached features, seen from the current frame."""
        return 0 if self.index is None or self.source is None else self.index - self.source
