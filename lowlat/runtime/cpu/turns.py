"""The rule by which parts of S_h run between frames, for `lowlat.runtime.cpu.team`. Free of torch and threads."""

from __future__ import annotations

import math
from collections import deque

from lowlat.schedule import DEFAULT_AGE_BOUND

LANDS_WITHIN = 2 * DEFAULT_AGE_BOUND
"""A pass lands within so many frames at any load. Steps of carrying that never ran before follow, one a frame."""
GRACE_MS = 1.0
"""The time left free after a frame's labels, for the decision that follows them."""
PERIODS = 5
"""How many periods between frames are remembered; the shortest says when the next frame is due."""


class TurnRule:
    """Says when the next part of S_h may begin, judging by past frames and passes. Times are given to it, in ms.

    A part never begins while a frame is under way. Otherwise it begins if it will be done before the next frame is due,
    or once that frame is late by half a period, since then the source has slowed down or stalled. If the pass would not
    land within `LANDS_WITHIN` frames, a part is overdue: it begins at once, even before a frame that waits. So under
    full load each frame waits for a share of S_h.
    """

    def __init__(self) -> None:
        self._begun: float | None = None
        self._periods: deque[float] = deque(maxlen=PERIODS)
        self._ended, self._under_way = 0.0, False
        self._frames = self._frames_then = 0  # answered in this pass: by now, and when its last part ran
        self._costs: list[float] = []

    def frame_begun(self, now: float) -> None:
        """Takes note that a frame has come."""
        if self._begun is not None:
            self._periods.append(now - self._begun)
        self._begun, self._under_way = now, True

    def frame_ended(self, now: float) -> None:
        """Takes note that the frame under way has its labels, or has failed."""
        self._frames += self._under_way
        self._ended, self._under_way = now, False

    def pass_begun(self) -> None:
        """Takes note that a pass of S_h has been submitted."""
        self._frames = self._frames_then = 0

    def part_ran(self, part: int, cost: float) -> None:
        """Takes note that part number ``part`` of a pass took ``cost`` ms."""
        self._frames_then = self._frames
        if part == len(self._costs):
            self._costs.append(cost)
        # A higher cost counts at once, a lower one by half: a part that is dearer than expected makes a frame late.
        self._costs[part] = max(cost, (cost + self._costs[part]) / 2)

    def overdue(self, part: int) -> bool:
        """Whether part number ``part`` must go before a frame that waits."""
        if part >= len(self._costs):
            # A part that never ran is a step that carries F_h on; these go one a frame.
            return not self._under_way and self._frames >= max(LANDS_WITHIN, self._frames_then + 1)
        share = self._frames / LANDS_WITHIN
        return not self._under_way and sum(self._costs[:part]) < share * sum(self._costs)

    def wait(self, part: int, now: float) -> float:
        """Returns how many ms part number ``part`` has to wait from ``now``; infinite while a frame is under way."""
        if self._under_way:
            return math.inf
        if self.overdue(part) or not self._periods:
            return 0.0
        if now < self._ended + GRACE_MS:
            return self._ended + GRACE_MS - now
        period = min(self._periods)
        due = self._begun + period
        cost = self._costs[part] if part < len(self._costs) else 0.0
        return 0.0 if now + cost <= due else max(0.0, due + period / 2 - now)
