"""The clock of the machine."""

from __future__ import annotations

import time


class WallClock:
    """Milliseconds of the machine's monotonic clock since this object was made."""

    def __init__(self) -> None:
        self._origin = time.perf_counter()

    def now(self) -> float:
        return (time.perf_counter() - self._origin) * 1e3
