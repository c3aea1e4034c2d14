"""How many videos a device can take, computed from measured costs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from lowlat.runtime.words import counted
from lowlat.schedule import DEFAULT_AGE_BOUND

SPARE = 0.1
"""The share of the device's time that is left free, because costs vary."""
MOST = 1000
"""The most videos that are counted."""


@dataclass(frozen=True)
class Load:
    """What one video asks of the device; costs in ms."""

    fps: float
    fast_ms: float
    """The cost of a frame without S_h."""
    pass_ms: float
    """The cost of a pass of S_h."""
    part_ms: float
    """The cost of the longest part of that pass."""


@dataclass(frozen=True)
class _Total:
    """What several videos ask of the device together."""

    fast_ms: float = 0.0
    part_ms: float = 0.0
    fps: float = 0.0
    """The rate of the fastest video."""
    fast_share: float = 0.0
    """The share of the device's time that frames take."""
    pass_share: float = 0.0
    """The share of its time that passes of S_h on every frame would take."""

    def plus(self, load: Load) -> _Total:
        return _Total(
            self.fast_ms + load.fast_ms,
            max(self.part_ms, load.part_ms),
            max(self.fps, load.fps),
            self.fast_share + load.fps * load.fast_ms / 1e3,
            self.pass_share + load.fps * load.pass_ms / 1e3,
        )

    @property
    def bound_ms(self) -> float:
        return self.fast_ms + self.part_ms

    def spacing(self, age_bound: int) -> int | None:
        free = 1 - SPARE - self.fast_share
        if self.bound_ms * self.fps > 1e3 or free <= 0 < self.fast_share:
            return None
        return 1 if self.pass_share <= free * age_bound else math.ceil(self.pass_share / free)


def _total(loads: Sequence[Load]) -> _Total:
    total = _Total()
    for load in loads:
        total = total.plus(load)
    return total


def bound_ms(loads: Sequence[Load]) -> float:
    """Return the most ms that a frame may take to its labels: the frames of all videos, one each, and the longest part
    of S_h."""
    return _total(loads).bound_ms


def spacing(loads: Sequence[Load], age_bound: int) -> int | None:
    """Return how many frames apart the passes of S_h of each video have to be at least, for there to be time.

    It is 1, so that policies decide freely, if a pass every ``age_bound`` frames of each video leaves `SPARE`. It is
    None if even the fast tracks are too much: a frame of every video and a part of S_h don't fit between two frames of
    the fastest video, or leave no time for S_h.
    """
    return _total(loads).spacing(age_bound)


def capacity(loads: Sequence[Load], more: Load, age_bound: int) -> int:
    """Return how many videos like ``more`` fit beside ``loads``, with S_h at least every ``age_bound`` frames."""
    count, total = 0, _total(loads).plus(more)
    while count < MOST and total.spacing(age_bound) == 1:
        count, total = count + 1, total.plus(more)
    return count


def admitted(name: str, loads: Sequence[Load], over: str) -> int:
    """Return the `spacing` for ``loads``, the last of which is the video ``name``, that asks to be taken in.

    Raises:
        RuntimeError: there is no room for it. With ``over="lower"`` that is so only if even the fast tracks are too
            much; if only passes of S_h are, a RuntimeWarning says how far apart the key frames are then.
    """
    least = spacing(loads, DEFAULT_AGE_BOUND)
    if least is None:
        busy = sum(load.fps * load.fast_ms for load in loads) / 1e3
        raise RuntimeError(
            f"Hub.open: expected room for {name!r}, got none: with {counted(len(loads), 'video')} a frame may wait "
            f"{bound_ms(loads):.0f} ms, and labels without S_h take {busy:.0%} of the time; lower fps, "
            "close a video, or take another device"
        )
    if least > 1:
        words = f"there is time for S_h every {least} frames of {counted(len(loads), 'video')}"
        if over == "refuse":
            raise RuntimeError(
                f"Hub.open: expected room for {name!r}, got none: {words}, not every {DEFAULT_AGE_BOUND}; lower "
                "fps, close a video, or give over='lower'"
            )
        warnings.warn(f"Hub.open: {words}: key frames of all are spaced so with {name!r}", RuntimeWarning, 3)
    return least
