"""`Loop`: what a hub's thread does, one thing at a time, the frames of all videos first and parts of S_h between
them."""

from __future__ import annotations

import math
from collections.abc import Hashable

from lowlat.hub.costs import Costs
from lowlat.hub.passes import Passes
from lowlat.hub.seat import Seat
from lowlat.hub.turns import PartRule
from lowlat.runtime.protocols import Clock

POLL_MS = 0.2
"""How often a device is asked whether a part of S_h is complete."""


class Loop:
    """Takes turns among videos and S_h. It runs on one thread, or under a simulated clock.

    Once a frame is begun nothing else is done until it has its labels. Of the videos with a frame waiting, the one that
    was served longest ago comes first, so a frame waits for at most one frame of every other video.

    Args:
        clock: the hub's clock.
        passes: the queue of passes of S_h.
        costs: takes note of what frames cost.
        rule: says when the next part of S_h may begin.
    """

    def __init__(self, clock: Clock, passes: Passes, costs: Costs, rule: PartRule) -> None:
        self._clock, self.passes, self._costs, self._rule = clock, passes, costs, rule
        self._seats: list[Seat] = []

    def join(self, seat: Seat) -> None:
        """Takes a video in."""
        self._seats.append(seat)

    def leave(self, seat: Seat) -> None:
        """Gives a video up, with its pass of S_h and the frame that waits. The caller calls `Seat.release`
        afterwards."""
        if seat in self._seats:
            self._seats.remove(seat)
            self.passes.forget(seat)
            self._rule.forget(seat)
            seat.leave()
            self.passes.keep(self._sizes())

    def turn(self) -> float:
        """Does the next thing there is to do and returns 0; if there is nothing to do, returns for how many ms, unless
        a frame comes."""
        idle = self.passes.collect([seat for seat in self._seats if seat.ready()])
        # This is asked again, because a first frame goes on once its pass is complete.
        waiting = [seat for seat in self._seats if seat.ready()]
        progress = self.passes.progress() if idle else None
        if waiting and not (progress and self._rule.goes_first(progress, waiting)):
            self._serve(waiting[0])
            return 0.0
        if progress is None:
            return math.inf if idle else POLL_MS
        wait = 0.0 if waiting else self._rule.wait(progress, self._clock.now())
        if wait <= 0:
            self.passes.advance()
            return 0.0
        return wait

    def _serve(self, seat: Seat) -> None:
        self._seats.remove(seat)
        self._seats.append(seat)
        self._rule.frame_begun(seat, seat.came_ms)
        begun, size = self._clock.now(), seat.size
        if seat.serve():
            self._costs.frame_took(seat.size, self._clock.now() - begun)
        self._rule.frame_ended()
        if seat.size != size:
            self.passes.keep(self._sizes())

    def _sizes(self) -> set[Hashable]:
        return {seat.size for seat in self._seats}

    def close(self) -> None:
        """Gives every video up, then the machine that runs S_h."""
        for seat in list(self._seats):
            self.leave(seat)
            seat.release()
        self.passes.close()
