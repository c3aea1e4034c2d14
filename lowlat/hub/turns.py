"""The rule by which parts of S_h run among the frames of several videos. Free of torch and threads; times are given to
it, in ms.

The rule for one video is `lowlat.runtime.cpu.turns`. Here a part of S_h must stay out of the way of every video, and
the passes of all videos must make progress nevertheless.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from lowlat.runtime.cpu.turns import LANDS_WITHIN, PERIODS

LANDS_SOON = 5
"""How many frames, of all videos, are answered during a pass before it counts as late. The parts of a late pass no
longer wait for a gap that they fit into."""

SHORTEST_MS = 1e-3
"""The shortest wait that is worth it."""


class Progress(NamedTuple):
    """How far a pass is, by the costs of earlier passes in ms; 0 for what is unknown."""

    done_ms: float
    """The cost of the parts that have run."""
    next_ms: float
    """The cost of the next part."""
    total_ms: float
    """The cost of the whole pass."""
    longest_ms: float
    """The cost of the longest part."""


class Pace:
    """Says when the next frame of one video is due: the shortest of the last few periods after the last frame."""

    def __init__(self) -> None:
        self._came: float | None = None
        self._periods: deque[float] = deque(maxlen=PERIODS)

    def frame_came(self, now: float) -> None:
        """Takes note that a frame came at ``now``."""
        if self._came is not None and now > self._came:
            self._periods.append(now - self._came)
        self._came = now

    def wait(self, cost: float, now: float) -> float:
        """Return how many ms a part of that cost has to wait for this video: 0 if it will be done before the next frame
        is due, or if that frame is late by half a period, since its source has slowed down or stalled."""
        if not self._periods:
            return 0.0
        period = min(self._periods)
        due = self._came + period
        return 0.0 if now + cost <= due else max(0.0, due + period / 2 - now)


class PartRule:
    """Says when the next part of S_h may begin, judging by past frames and passes.

    A part never begins between a frame and its labels. While no frame waits, it begins if it will be done before the
    next frame of any video is due. If the pass is late (`LANDS_SOON`), it begins at once, and a frame that comes
    meanwhile waits for it. If there is always a frame waiting, a part goes before it only if the pass would otherwise
    not land within `LANDS_WITHIN` frames, and only as long as no waiting frame waits for more than one longest part.
    """

    def __init__(self) -> None:
        self._paces: dict[Hashable, Pace] = {}
        self._met: dict[Hashable, float] = {}
        self._frames = 0

    def frame_begun(self, video: Hashable, came_ms: float) -> None:
        """Takes note that a frame of ``video``, which came at ``came_ms``, is begun."""
        self._paces.setdefault(video, Pace()).frame_came(came_ms)
        self._met.pop(video, None)

    def frame_ended(self) -> None:
        """Takes note that a frame has its labels, or has failed."""
        self._frames += 1

    def pass_begun(self) -> None:
        """Takes note that a pass, or a batch of passes, is begun."""
        self._frames = 0

    def part_ran(self, cost: float, waiting: Iterable[Hashable]) -> None:
        """Takes note that a part took ``cost`` ms while frames of the videos ``waiting`` waited."""
        for video in waiting:
            self._met[video] = self._met.get(video, 0.0) + cost

    def forget(self, video: Hashable) -> None:
        """Forgets a video that has left."""
        self._paces.pop(video, None)
        self._met.pop(video, None)

    def goes_first(self, progress: Progress, waiting: Iterable[Hashable]) -> bool:
        """Whether the next part goes before the frames of the videos ``waiting``."""
        if not self._behind(progress, LANDS_WITHIN):
            return False
        return all(self._met.get(video, 0.0) + progress.next_ms <= progress.longest_ms for video in waiting)

    def wait(self, progress: Progress, now: float) -> float:
        """Return how many ms the next part has to wait while no frame waits."""
        if not self._paces or self._behind(progress, LANDS_SOON):
            return 0.0
        wait = max(pace.wait(progress.next_ms, now) for pace in self._paces.values())
        return wait if wait > SHORTEST_MS else 0.0

    def _behind(self, progress: Progress, within: int) -> bool:
        share = min(1.0, self._frames / within)
        # A part after all those of known cost never ran: it is a step that carries F_h on.
        new = progress.done_ms >= progress.total_ms
        return share == 1.0 if new else progress.done_ms < share * progress.total_ms
