"""`Costs`: what frames and parts of S_h have cost so far on this device. Turns, batches and admission go by them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable

from lowlat.hub.turns import Progress

REMEMBERED = 64
"""How many frames of a size are remembered."""
SIZES = 100
"""How many sizes of frames are remembered."""
HIGH = 0.9
"""The cost of a frame is the one that this share of the remembered frames did not exceed."""


class Costs:
    """Costs in ms by the size of frames: those of the fast track, and those of each part of S_h by the number of frames
    in its batch.

    A `size` is any value that tells sizes apart. `batch` is the number of frames that a pass is run on.
    """

    def __init__(self) -> None:
        self._fast: dict[Hashable, deque[float]] = {}
        self._parts: dict[tuple[Hashable, int], list[float]] = {}
        self._passes: dict[tuple[Hashable, int], int] = {}

    def clear(self) -> None:
        """Forgets all costs."""
        for known in (self._fast, self._parts, self._passes):
            known.clear()

    def frame_took(self, size: Hashable, ms: float) -> None:
        """Takes note that a frame, with its labels and what followed them, took ``ms``."""
        self._fast.setdefault(size, deque(maxlen=REMEMBERED)).append(ms)
        if len(self._fast) > SIZES:
            self._forget(next(iter(self._fast)))

    def _forget(self, size: Hashable) -> None:
        del self._fast[size]
        for known in (self._parts, self._passes):
            for key in [key for key in known if key[0] == size]:
                del known[key]

    def part_took(self, size: Hashable, batch: int, part: int, ms: float) -> None:
        """Takes note that part number ``part`` of a pass took ``ms``."""
        parts = self._parts.setdefault((size, batch), [])
        if part > len(parts):
            # The pass began before its costs were forgotten.
            return
        if part == len(parts):
            parts.append(ms)
        # A higher cost counts at once, a lower one by half: a part that is dearer than expected makes a frame late.
        parts[part] = max(ms, (ms + parts[part]) / 2)

    def pass_ended(self, size: Hashable, batch: int) -> None:
        """Takes note that a whole pass has run."""
        self._passes[size, batch] = self.passes(size, batch) + 1

    def passes(self, size: Hashable, batch: int) -> int:
        """Return how many whole passes there have been."""
        return self._passes.get((size, batch), 0)

    def fast_ms(self, size: Hashable) -> float | None:
        """Return the cost of a frame without S_h; if there was none of this size, that of the dearest size; None if
        there was none at all."""
        # These are copies, because other threads ask while the hub's thread takes notes.
        found = self._fast.get(size)
        known = list(self._fast.values()) if found is None else [found]
        return max((sorted(costs)[math.ceil(HIGH * len(costs)) - 1] for costs in known), default=None)

    def pass_ms(self, size: Hashable, batch: int = 1) -> float:
        """Return the cost of a whole pass; if there was none of this size, that of the dearest size; 0 if there was
        none at all."""
        return max((sum(parts) for parts in self._known(size, batch)), default=0.0)

    def longest_ms(self, size: Hashable, batch: int = 1) -> float:
        """Return the cost of the longest part of a pass, found as in :meth:`pass_ms`."""
        return max((max(parts) for parts in self._known(size, batch) if parts), default=0.0)

    def progress(self, size: Hashable, batch: int, part: int) -> Progress:
        """Return how far a pass is whose next part is number ``part``. A batch that never ran is taken to cost as many
        single passes."""
        times = 1 if (size, batch) in self._parts else batch
        parts = self._parts.get((size, batch)) or self._parts.get((size, 1)) or []
        following = parts[part] if part < len(parts) else 0.0
        figures = (sum(parts[:part]), following, sum(parts), max(parts, default=0.0))
        return Progress(*(times * ms for ms in figures))

    def _known(self, size: Hashable, batch: int) -> list[list[float]]:
        if (found := self._parts.get((size, batch))) is not None:
            return [found]
        return [parts for (_, other), parts in list(self._parts.items()) if other == batch]
