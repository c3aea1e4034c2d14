"""How many videos a device takes: arithmetic on measured costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SPARE = 0.1
"""Share of the device's time that is left free: costs are no constants."""
MOST = 1000
"""Videos beyond which nobody counts."""


@dataclass(frozen=True)
class Load:
    """What one video asks of the device. Costs in ms."""

    fps: float
    fast_ms: float
    """A frame takes so long without S_h."""
    pass_ms: float
    """A pass of S_h takes so long."""
    part_ms: float
    """The longest part of that pass takes so long."""


@dataclass(frozen=True)
class _Total:
    fast_ms: float = 0.0
    part_ms: float = 0.0
    fps: float = 0.0
    """The fastest video gives so many frames a second."""
    fast_share: float = 0.0
    """The frames take this share of the device's time."""
    pass_share: float = 0.0
    """Passes of S_h on every frame would take this share of it."""

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
    """How long a frame may take to its labels: with a frame of every video before it, and a part of S_h."""
    return _total(loads).bound_ms


def spacing(loads: Sequence[Load], age_bound: int) -> int | None:
    """Frames between the passes of S_h of each video that there is time for.

    1 where a pass every ``age_bound`` frames of each video leaves `SPARE`: then policies are free to ask for more.
    None where the fast tracks alone are too much: a frame of every video and a part of S_h don't fit between two
    frames of the fastest one, or leave no time for S_h.
    """
    return _total(loads).spacing(age_bound)


def capacity(loads: Sequence[Load], more: Load, age_bound: int) -> int:
    """How many videos like ``more`` fit beside those there are, with S_h at least every ``age_bound`` frames."""
    count, total = 0, _total(loads).plus(more)
    while count < MOST and total.spacing(age_bound) == 1:
        count, total = count + 1, total.plus(more)
    return count
