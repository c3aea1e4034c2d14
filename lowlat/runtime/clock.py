"""Clocks: the machine's, and one that moves only when told to."""

from __future__ import annotations

import time


class WallClock:
    """Milliseconds of the machine's monotonic clock since this object was made."""

    def __init__(self) -> None:
        self._origin = time.perf_counter()

    def now(self) -> float:
        return (time.perf_counter() - self._origin) * 1e3


class VirtualClock:
    """Simulated milliseconds: time passes where a cost is charged, nowhere else."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def advance(self, ms: float) -> None:
        """Lets `ms` milliseconds pass.

        Raises:
            ValueError: `ms` is negative or not finite.
        """
        if not 0 <= ms < float("inf"):
            raise ValueError(
                f"VirtualClock.advance: expected finite milliseconds of at least 0, got {ms!r}; time runs on"
            )
        self._now += ms
