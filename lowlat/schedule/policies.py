"""Policies: when is a frame a key frame? For the schedule, and for whoever reads a command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Signal(str, Enum):
    """What a policy wants measured between the key frame and the current one."""

    DIFFERENCE = "difference"
    """Difference of the two frames' F_l over the sum of their sizes, in [0, 1]."""
    DEVIATION = "deviation"
    """Predicted share of pixels whose label changes, in [0, 1] (paper, section 4.3)."""


class Policy:
    """Decides from the distance to the key frame and, where `signal` is set, from one measured value.

    `signal` is what has to be measured on every frame; None if the distance is enough. `cut` is the value above which
    the scene must have changed; None looks for no cuts.
    """

    signal: Signal | None = None
    cut: float | None = None

    def is_key(self, distance: int, value: float | None) -> bool:
        """Whether a frame `distance` frames after the key frame becomes one itself."""
        raise NotImplementedError

    def is_cut(self, value: float | None) -> bool:
        """Whether the value is so high that the scene must have changed."""
        return self.cut is not None and value is not None and value > self.cut


@dataclass(frozen=True)
class PerFrame(Policy):
    """Every frame is a key frame: the baseline of the paper's Table 1."""

    def is_key(self, distance: int, value: float | None) -> bool:
        return True


@dataclass(frozen=True)
class Every(Policy):
    """A key frame every `interval` frames (the paper's fixed schedule, l = 5 in Table 1).

    Frames are counted by index, so frames dropped before the engine count too.

    Raises:
        ValueError: `interval` is not a whole number of at least 1.
    """

    interval: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.interval) or self.interval != int(self.interval) or self.interval < 1:
            raise ValueError(
                f"Every: expected a whole number of frames of at least 1, got interval={self.interval!r}; "
                "round it, or use an adaptive policy for a mean interval between two whole numbers"
            )
        object.__setattr__(self, "interval", int(self.interval))

    def is_key(self, distance: int, value: float | None) -> bool:
        return distance >= self.interval


@dataclass(frozen=True)
class _Bounded(Policy):
    """A key frame where the measured value exceeds `threshold`, which is at most `most`; a cut lies no lower."""

    threshold: float
    cut: float | None = None

    most = math.inf

    def __post_init__(self) -> None:
        self._check_threshold()
        if self.cut is not None and not self.cut >= self.threshold:
            raise ValueError(
                f"{type(self).__name__}: expected cut >= threshold ({self.threshold!r}), got cut={self.cut!r}; raise "
                "cut, or None for no cuts"
            )

    def _check_threshold(self) -> None:
        if not (0 <= self.threshold <= self.most and math.isfinite(self.threshold)):
            name, bounds = type(self).__name__, "[0, 1]" if self.most == 1 else "the finite numbers from 0 up"
            raise ValueError(
                f"{name}: expected a threshold in {bounds}, got {self.threshold!r}; choose one in that range"
            )

    def is_key(self, distance: int, value: float | None) -> bool:
        return _exceeds(value, self.threshold)


class Threshold(_Bounded):
    """A key frame where the difference of F_l to the key frame exceeds `threshold`.

    `cut` is the difference above which the scene must have changed; None (the default) looks for no cuts,
    since how far features differ behind one is the network's own.

    Raises:
        ValueError: `threshold` is negative or not finite, or `cut` is below it.
    """

    signal = Signal.DIFFERENCE


@dataclass(frozen=True)
class Adaptive(_Bounded):
    """A key frame where the predicted deviation from the key frame exceeds `threshold` (paper, section 4.3).

    `cut` is the deviation above which the scene must have changed: by default half of all pixels. None looks
    for no cuts.

    Raises:
        ValueError: `threshold` is outside [0, 1], or `cut` is below it.
    """

    cut: float | None = 0.5

    signal, most = Signal.DEVIATION, 1.0


@dataclass(frozen=True)
class Accumulated(_Bounded):
    """A key frame where the predicted deviation times the frames since the key frame exceeds `threshold`.

    Where the deviation grows by r a frame that is twice its sum over the frames since the key frame, and a key frame
    comes every sqrt(threshold / r) frames. No other spacing shows less deviation for as many key frames. A bound on
    the deviation itself has one every threshold / r: too many where much moves, too few elsewhere.

    `cut` is a deviation, as in `Adaptive`.

    Raises:
        ValueError: `threshold` is negative or not finite, or `cut` is outside [0, 1].
    """

    cut: float | None = 0.5

    signal = Signal.DEVIATION

    def __post_init__(self) -> None:
        self._check_threshold()
        if self.cut is not None and not 0 <= self.cut <= 1:
            raise ValueError(f"Accumulated: expected cut in [0, 1], got {self.cut!r}; choose one, or None for no cuts")

    def is_key(self, distance: int, value: float | None) -> bool:
        return _exceeds(None if value is None else value * distance, self.threshold)


MEASURED = {"threshold": Threshold, "adaptive": Adaptive, "accumulated": Accumulated}
"""The policies that compare a measured value with a threshold, by name."""
POLICIES = {"per-frame": PerFrame, "every": Every, **MEASURED}
"""All policies, by name."""


def _exceeds(value: float | None, threshold: float) -> bool:
    if value is None:
        raise ValueError("is_key: expected a measured value, got None; feed Measured before asking")
    # Written so that NaN counts as exceeding: a selector that can't tell must not keep old features alive.
    return not value <= threshold
