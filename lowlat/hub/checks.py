"""The checks of arguments that describe a video."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether ``value`` is a whole number of at least ``least``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def checked_fps(who: str, fps: Any) -> float:
    """Return ``fps`` as a float; ValueError, which begins with ``who``, unless it is a finite number above 0."""
    if not isinstance(fps, Real) or isinstance(fps, bool) or not 0 < fps < math.inf:
        raise ValueError(f"{who}: expected fps above 0, got {fps!r}; give the source's frames a second")
    return float(fps)


def checked_size(who: str, size: Any) -> tuple[int, int]:
    """Return ``size`` as (height, width) in pixels; ValueError, which begins with ``who``, unless it is two whole
    numbers."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(map(is_whole, sides)):
        raise ValueError(f"{who}: expected a size (height, width), got {size!r}; give two sides in pixels")
    return int(sides[0]), int(sides[1])
