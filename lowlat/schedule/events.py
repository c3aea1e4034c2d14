"""The schedule's vocabulary: events in, actions out. Plain values, free of tensors and clocks."""

from __future__ import annotations

from dataclasses import dataclass

from lowlat.schedule.policies import Signal


@dataclass(frozen=True)
class _OfFrame:
    """What concerns frame `index`."""

    index: int


@dataclass(frozen=True)
class _OfLaunch(_OfFrame):
    """What concerns pass `launch` of S_h on frame `index`."""

    launch: int


@dataclass(frozen=True)
class _OfPass:
    """What concerns pass `launch` of S_h."""

    launch: int


class FrameBegun(_OfFrame):
    """Frame `index` is available and nothing of it has been computed."""


@dataclass(frozen=True)
class Measured(_OfFrame):
    """The answer to `Decide`: the policy's signal between the key frame and frame `index`."""

    value: float


class Emitted(_OfFrame):
    """The labels of frame `index` are with the caller: what is left of the frame is off the critical path."""


@dataclass(frozen=True)
class Landed(_OfPass):
    """The S_h pass `launch` is complete, its F_h carried along the first `steps` of the bases since its launch. A
    background pass is reported between frames, never within one."""

    steps: int = 0


class Failed(_OfPass):
    """The S_h pass `launch` raised. A background pass is reported between frames, never within one."""


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
    """Cache frame `index` with the F_h that was just waited for as the key frame."""


class Classify(_OfFrame):
    """Make the labels of frame `index` from its own F_h."""


@dataclass(frozen=True)
class Emit(_OfFrame):
    """Hand out the labels of frame `index`; answer with `Emitted`.

    `age` is in frames, from the frame whose true S_h features are the source of what is shown. With a
    deferred decision `key` is False here: a promotion follows after the labels.
    """

    key: bool
    age: int
    degraded: bool
    startup: bool


class Promote(_OfFrame):
    """Cache (F_l, carried F_h) of frame `index` as the temporary key frame."""


class Rebase(_OfFrame):
    """Propagate later frames from frame `index`, by its F_l and the F_h carried to it. The key frame stays what
    decisions are measured against. While S_h is under way, its F_h is to be carried here as well."""


class Launch(_OfLaunch):
    """Start S_h on F_l of frame `index` in the background."""


@dataclass(frozen=True)
class ReplaceHigh(_OfLaunch):
    """Put the F_h of pass `launch`, on key frame `index`, in place of the propagated one. The base from here on is the
    frame that it has been carried to: the last of the first `steps` bases since, or the key frame itself."""

    steps: int = 0


class Discard(_OfPass):
    """Throw the outcome of pass `launch` away: the cached key frame is not the one it was launched for."""


class Degrade(_OfFrame):
    """Frame `index`, whose labels are out, turns out to lie behind a scene cut."""


class GiveUp(_OfFrame):
    """S_h failed on the first frame: nothing to show for frame `index`. The next one starts up again."""


Event = FrameBegun | Measured | Emitted | Landed | Failed
Action = (
    RunLower | Decide | RunHigher | Propagate | StoreKey | Classify | Emit | Promote | Rebase | Launch | ReplaceHigh
    | Discard | Degrade | GiveUp
)  # fmt: skip
