"""What frames and parts of S_h have cost so far on this device: for the rule of turns, batches and admission."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable

from lowlat.hub.turns import Progress

REMEMBERED = 64
"""Frames that a cost of the fast track is taken from."""
SIZES = 100
"""Sizes of frames that costs are remembered of."""
HIGH = 0.9
"""The cost of a frame is the one that this share of them stays within."""


class Costs:
    """Costs in ms by the size of frames: of the fast track; of S_h by the number of frames in a batch, part by part.

    `size` is whatever tells sizes apart.
    """

    def __init__(self) -> None:
        self._fast: dict[Hashable, deque[float]] = {}
        self._parts: dict[tuple[Hashable, int], list[float]] = {}
        self._passes: dict[tuple[Hashable, int], int] = {}

    def clear(self) -> None:
        """Forgets everything."""
        for known in (self._fast, self._parts, self._passes):
            known.clear()

    def frame_took(self, size: Hashable, ms: float) -> None:
        """Takes note of a frame: labels, and what followed them."""
        self._fast.setdefault(size, deque(maxlen=REMEMBERED)).append(ms)
        if len(self._fast) > SIZES:
            self._forget(next(iter(self._fast)))

    def _forget(self, size: Hashable) -> None:
        del self._fast[size]
        for known in (self._parts, self._passes):
            for key in [key for key in known if key[0] == size]:
                del known[key]

    def part_took(self, size: Hashable, batch: int, part: int, ms: float) -> None:
        """Takes note of part number ``part`` of a pass of so many frames."""
        parts = self._parts.setdefault((size, batch), [])
        if part > len(parts):
            # A pass was under way when everything was forgotten.
            return
        if part == len(parts):
            parts.append(ms)
        # A cost that rose is taken as it is, one that fell by half: parts must not begin too late.
        parts[part] = max(ms, (ms + parts[part]) / 2)

    def pass_ended(self, size: Hashable, batch: int) -> None:
        """Takes note of a whole pass of so many frames."""
        self._passes[size, batch] = self.passes(size, batch) + 1

    def passes(self, size: Hashable, batch: int) -> int:
        """Whole passes of so many frames so far."""
        return self._passes.get((size, batch), 0)

    def fast_ms(self, size: Hashable) -> float | None:
        """A frame's cost without S_h, of this size or, where there was none so far, of the dearest one; or None."""
        # Copies: other threads ask while the hub's notes.
        found = self._fast.get(size)
        known = list(self._fast.values()) if found is None else [found]
        return max((sorted(costs)[math.ceil(HIGH * len(costs)) - 1] for costs in known), default=None)

    def pass_ms(self, size: Hashable, batch: int = 1) -> float:
        """A whole pass of so many frames, of this size or the dearest one; 0 where nothing is known."""
        return max((sum(parts) for parts in self._known(size, batch)), default=0.0)

    def longest_ms(self, size: Hashable, batch: int = 1) -> float:
        """Its longest part."""
        return max((max(parts) for parts in self._known(size, batch) if parts), default=0.0)

    def progress(self, size: Hashable, batch: int, part: int) -> Progress:
        """How far a pass is whose next part is number ``part``. A batch that never ran costs as many single passes."""
        times = 1 if (size, batch) in self._parts else batch
        parts = self._parts.get((size, batch)) or self._parts.get((size, 1)) or []
        following = parts[part] if part < len(parts) else 0.0
        figures = (sum(parts[:part]), following, sum(parts), max(parts, default=0.0))
        return Progress(*(times * ms for ms in figures))

    def _known(self, size: Hashable, batch: int) -> list[list[float]]:
        if (found := self._parts.get((size, batch))) is not None:
            return [found]
        return [parts for (_, other), parts in list(self._parts.items()) if other == batch]
