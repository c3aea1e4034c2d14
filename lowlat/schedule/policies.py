"""The policies, which decide whether a frame is a key frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Signal(str, Enum):
    """The quantity that a policy has measured between the key frame and the current one."""

    DIFFERENCE = "difference"
    """The difference of the two frames' F_l, ``|b - a| / (|a| + |b|)``, in [0, 1]."""
    DEVIATION = "deviation"
    """The predicted share of pixels whose label differs, in [0, 1] (paper, section 4.3)."""


class Policy:
    """Decides from the distance to the key frame and, if it has a `signal`, from one measured value.

    `signal` is measured on every frame; None if the distance is enough. Above the value `cut` the scene is taken to
    have changed; None looks for no cuts.
    """

    signal: Signal | None = None
    cut: float | None = None

    def is_key(self, distance: int, value: float | None) -> bool:
        """Whether the frame that comes `distance` frames after the key frame becomes a key frame itself."""
        raise NotImplementedError

    def is_cut(self, value: float | None) -> bool:
        """Whether the value says that the scene has changed."""
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
    """A key frame where the measured value exceeds `threshold`, which is at most `most`; `cut` is not below it."""

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
            raise ValueError(f"{name}: expected a threshold in {bounds}, got {self.threshold!r}; choose another one")

    def is_key(self, distance: int, value: float | None) -> bool:
        return _exceeds(value, self.threshold)


class Threshold(_Bounded):
    """A key frame where the difference of F_l to the key frame exceeds `threshold`.

    Above the difference `cut` the scene is taken to have changed. None, the default, looks for no cuts, since each
    network's features differ by another amount behind one.

    Raises:
        ValueError: `threshold` is negative or not finite, or `cut` is below it.
    """

    signal = Signal.DIFFERENCE


@dataclass(frozen=True)
class Adaptive(_Bounded):
    """A key frame where the predicted deviation from the key frame exceeds `threshold` (paper, section 4.3).

    Above the deviation `cut` the scene is taken to have changed: by default above half of all pixels. None looks for
    no cuts.

    Raises:
        ValueError: `threshold` is outside [0, 1], or `cut` is below it.
    """

    cut: float | None = 0.5

    signal, most = Signal.DEVIATION, 1.0


@dataclass(frozen=True)
class Accumulated(_Bounded):
    """A key frame where the predicted deviation times the frames since the key frame exceeds `threshold`.

    If the deviation grows by r a frame, this product is twice the deviation summed over the frames since the key frame,
    and a key frame comes every sqrt(threshold / r) frames. No other spacing shows less deviation for as many key
    frames. A bound on the deviation itself gives one every threshold / r frames: too many where much moves, too few
    elsewhere.

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
