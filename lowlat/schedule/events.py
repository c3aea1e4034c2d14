"""The events that the schedule takes and the actions that it answers with: plain values, free of tensors and clocks."""

from __future__ import annotations

from dataclasses import dataclass

from lowlat.schedule.policies import Signal


@dataclass(frozen=True)
class _OfFrame:
    """The parent of events and actions that concern frame `index`."""

    index: int


@dataclass(frozen=True)
class _OfLaunch(_OfFrame):
    """The parent of actions that concern pass number `launch` of S_h, on frame `index`."""

    launch: int


@dataclass(frozen=True)
class _OfPass:
    """The parent of events and actions that concern pass number `launch` of S_h."""

    launch: int


class FrameBegun(_OfFrame):
    """Frame `index` is available and nothing of it has been computed."""


@dataclass(frozen=True)
class Measured(_OfFrame):
    """The answer to `Decide`: the policy's signal between the key frame and frame `index`."""

    value: float


class Emitted(_OfFrame):
    """The caller has the labels of frame `index`. The frame's remaining work is off the critical path."""


@dataclass(frozen=True)
class Landed(_OfPass):
    """Pass `launch` of S_h is complete, and its F_h has been carried along the first `steps` bases since the launch.
    A background pass is reported between frames, never within one."""

    steps: int = 0


class Failed(_OfPass):
    """Pass `launch` of S_h raised an error. A background pass is reported between frames, never within one."""


class RunLower(_OfFrame):
    """Compute F_l of frame `index`."""


@dataclass(frozen=True)
class Decide(_OfFrame):
    """Measure `signal` between the key frame and frame `index`; answer with `Measured`."""

    signal: Signal


class RunHigher(_OfLaunch):
    """Run S_h on F_l of frame `index` and wait for it; answer with `Landed` or `Failed`."""


class Propagate(_OfFrame):
    """Propagate the key frame's F_h to frame `index` and make its labels (Eq. 1, AdaptNet, fusion)."""


class StoreKey(_OfFrame):
    """Make frame `index` the key frame, with the F_h that has just been waited for."""


class Classify(_OfFrame):
    """Make the labels of frame `index` from its own F_h."""


@dataclass(frozen=True)
class Emit(_OfFrame):
    """Hand out the labels of frame `index`; answer with `Emitted`.

    `age` counts frames since the source, the frame whose true S_h features are shown. With a deferred decision `key`
    is False here, because a promotion follows after the labels.
    """

    key: bool
    age: int
    degraded: bool
    startup: bool


class Promote(_OfFrame):
    """Make frame `index` the temporary key frame, with its F_l and its carried F_h."""


class Rebase(_OfFrame):
    """Make frame `index` the base: later frames are propagated from its F_l and its carried F_h. Decisions are still
    measured against the key frame. If a pass of S_h is under way, its F_h is to be carried to this frame as well."""


class Launch(_OfLaunch):
    """Start S_h on F_l of frame `index` in the background."""


@dataclass(frozen=True)
class ReplaceHigh(_OfLaunch):
    """Replace the carried F_h by that of pass `launch` on key frame `index`. The base becomes the frame to which that
    F_h has been carried: number `steps` of the bases since the launch, or the key frame itself if `steps` is 0."""

    steps: int = 0


class Discard(_OfPass):
    """Throw away the outcome of pass `launch`, because the key frame is no longer the one it was launched for."""


class Degrade(_OfFrame):
    """Mark frame `index` degraded: its labels are out, and it has turned out to lie behind a scene cut."""


class GiveUp(_OfFrame):
    """Show nothing for frame `index`, since S_h failed on it with no key frame to propagate from. The next frame starts
    up again."""


Event = FrameBegun | Measured | Emitted | Landed | Failed
Action = (
    RunLower | Decide | RunHigher | Propagate | StoreKey | Classify | Emit | Promote | Rebase | Launch | ReplaceHigh
    | Discard | Degrade | GiveUp
)  # fmt: skip
