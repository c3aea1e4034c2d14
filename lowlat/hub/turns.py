"""When S_h may take its turn among the frames of several videos. Free of torch and threads; times in ms, handed in.

The rule for one video is `lowlat.runtime.cpu.turns`. Here a part of S_h must get out of the way of every video, and the
passes of S_h of many videos must get on all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from lowlat.runtime.cpu.turns import LANDS_WITHIN, PERIODS

LANDS_SOON = 5
"""Frames answered, of all videos, in which a pass should be through: behind that, its parts no longer wait for a gap
that they fit into."""

SHORTEST_MS = 1e-3
"""What is not worth a wait."""


class Progress(NamedTuple):
    """How far a pass is: costs in ms as they were before, 0 where nothing is known."""

    done_ms: float
    """The parts that have run took so long."""
    next_ms: float
    """The next part takes so long."""
    total_ms: float
    """The whole pass takes so long."""
    longest_ms: float
    """The longest part takes so long."""


class Pace:
    """When the next frame of one video is due: a shortest period of the last few after the last frame."""

    def __init__(self) -> None:
        self._came: float | None = None
        self._periods: deque[float] = deque(maxlen=PERIODS)

    def frame_came(self, now: float) -> None:
        """Takes note of a frame."""
        if self._came is not None and now > self._came:
            self._periods.append(now - self._came)
        self._came = now

    def wait(self, cost: float, now: float) -> float:
        """How long a part that costs so much waits for this video: not at all where it will be done before the next
        frame is due, or where that one is late by half a period, since its source has slowed down or stalled."""
        if not self._periods:
            return 0.0
        period = min(self._periods)
        due = self._came + period
        return 0.0 if now + cost <= due else max(0.0, due + period / 2 - now)


class PartRule:
    """When the next part of S_h may begin, as far as past frames and passes tell.

    A part never begins between a frame and its labels. While no frame waits, it begins if it will be done before the
    next frame of any video is due. Where the pass is behind (`LANDS_SOON`) it begins all the same, and a frame that
    comes meanwhile waits for it. Where frames never cease to wait, parts go before them only as far as the pass would
    not land within `LANDS_WITHIN` frames otherwise, and as no frame that waits meets more of S_h than one longest part.
    """

    def __init__(self) -> None:
        self._paces: dict[Hashable, Pace] = {}
        self._met: dict[Hashable, float] = {}
        self._frames = 0

    def frame_begun(self, video: Hashable, came_ms: float) -> None:
        """Takes note that the frame of a video that came at ``came_ms`` is begun."""
        self._paces.setdefault(video, Pace()).frame_came(came_ms)
        self._met.pop(video, None)

    def frame_ended(self) -> None:
        """Takes note that a frame has its labels, or has failed."""
        self._frames += 1

    def pass_begun(self) -> None:
        """Takes note that a pass, or a batch of them, is begun."""
        self._frames = 0

    def part_ran(self, cost: float, waiting: Iterable[Hashable]) -> None:
        """Takes note that a part took ``cost`` while the frames of these videos waited."""
        for video in waiting:
            self._met[video] = self._met.get(video, 0.0) + cost

    def forget(self, video: Hashable) -> None:
        """Lets go of a video."""
        self._paces.pop(video, None)
        self._met.pop(video, None)

    def goes_first(self, progress: Progress, waiting: Iterable[Hashable]) -> bool:
        """Whether the next part goes before the frames of these videos, which wait."""
        if not self._behind(progress, LANDS_WITHIN):
            return False
        return all(self._met.get(video, 0.0) + progress.next_ms <= progress.longest_ms for video in waiting)

    def wait(self, progress: Progress, now: float) -> float:
        """How long the next part waits, where no frame does."""
        if not self._paces or self._behind(progress, LANDS_SOON):
            return 0.0
        wait = max(pace.wait(progress.next_ms, now) for pace in self._paces.values())
        return wait if wait > SHORTEST_MS else 0.0

    def _behind(self, progress: Progress, within: int) -> bool:
        share = min(1.0, self._frames / within)
        # A part behind all whose cost is known never ran so far: a step by which F_h is carried on.
        new = progress.done_ms >= progress.total_ms
        return share == 1.0 if new else progress.done_ms < share * progress.total_ms
