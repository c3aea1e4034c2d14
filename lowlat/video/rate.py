"""`at_rate` gives out the frames of a file at a camera's pace, for runs that are to be timed like live ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def at_rate(frames: Iterable[Item], fps: float) -> Iterator[Item]:
    """Yield one frame every ``1 / fps`` seconds; each is decoded before its time comes.

    A consumer that takes longer shifts all later frames: they never come faster to catch up.

    Raises:
        ValueError: ``fps`` is not above 0.
    """
    if not 0 < fps < float("inf"):
        raise ValueError(f"at_rate: expected a finite number of frames a second above 0, got fps={fps!r}")
    return _at_rate(frames, 1 / fps)


def _at_rate(frames: Iterable[Item], period: float) -> Iterator[Item]:
    due = time.perf_counter()
    for frame in frames:
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        else:
            due -= wait
        due += period
        yield frame
