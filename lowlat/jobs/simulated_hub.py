"""`SimulatedHub`: the hub's own loop, queue and rule on the simulated clock, with costs in place of work."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence

from lowlat.hub.costs import Costs as MeasuredCosts
from lowlat.hub.loop import Loop
from lowlat.hub.passes import Parts, Pass, Passes
from lowlat.hub.port import Port, Started
from lowlat.hub.seat import Seat
from lowlat.hub.turns import PartRule
from lowlat.jobs.simulated import Costs, SimulatedStages, VirtualClock
from lowlat.runtime import Captured, Engine, FrameResult
from lowlat.schedule import Schedule


class EventClock(VirtualClock):
    """Simulated milliseconds in which events happen at their times, even while work is under way."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, ms: float, happen: Callable[[], None]) -> None:
        """Call ``happen`` at the time ``ms``."""
        heapq.heappush(self._events, (ms, next(self._order), happen))

    def advance(self, ms: float) -> None:
        end = self.now() + ms
        while self._events and self._events[0][0] <= end:
            due, _, happen = heapq.heappop(self._events)
            super().advance(max(0.0, due - self.now()))
            happen()
        super().advance(max(0.0, end - self.now()))

    def idle(self, ms: float) -> bool:
        """Let ``ms`` pass, or less if an event happens before; return False if nothing will ever happen."""
        if self._events:
            ms = min(ms, max(0.0, self._events[0][0] - self.now()))
        if ms == math.inf:
            return False
        self.advance(ms)
        return True


class SimulatedMachine:
    """Runs S_h in parts that only cost their time.

    Args:
        clock: the clock of the simulation.
        parts: the cost of each part, in ms.
        more: the cost of each further frame of a batch, as a share of one alone.
        fails: whether a pass raises an error; it is asked when the parts are done.
    """

    def __init__(
        self,
        clock: VirtualClock,
        parts: Sequence[float],
        more: float = 1.0,
        fails: Callable[[Pass], bool] = lambda one: False,
    ) -> None:
        self._clock, self._parts, self._more, self._fails = clock, list(parts), more, fails
        self.busy_ms = 0.0
        self.ran: Callable[[float, float], None] | None = None
        """Called with the beginning and the end of every part."""

    def ready(self, passes: Sequence[Pass]) -> bool:
        return True

    def keep(self, sizes: Collection[Hashable]) -> None: ...

    def idle(self) -> bool:
        return True

    def close(self) -> None: ...

    def parts(self, passes: Sequence[Pass]) -> Parts:
        times = 1 + (len(passes) - 1) * self._more
        for number, ms in enumerate(self._parts):
            begun = self._clock.now()
            self._clock.advance(ms * times)
            self.busy_ms += ms * times
            if self.ran is not None:
                self.ran(begun, self._clock.now())
            if number < len(self._parts) - 1:
                yield
        if any(self._fails(one) for one in passes):
            raise ArithmeticError("a simulated S_h fails")
        return [one.low for one in passes]


class SimulatedHub:
    """Videos on one device in simulated time.

    Args:
        costs: the costs of the stages.
        parts: the cost of each part of S_h, in ms; together they are that of S_h.
        batch: the most passes in a batch.
        options: `more` and `fails` of `SimulatedMachine`.
    """

    def __init__(self, costs: Costs, parts: Sequence[float], *, batch: int = 1, **machine: object) -> None:
        self.clock, self._costs = EventClock(), costs
        self.machine = SimulatedMachine(self.clock, parts, **machine)
        rule, self.measured = PartRule(), MeasuredCosts()
        self.passes = Passes(self.machine, self.clock, self.measured, rule, batch)
        self.loop = Loop(self.clock, self.passes, self.measured, rule)

    def open(
        self,
        name: str,
        schedule: Schedule,
        frames_ms: Iterable[float],
        signal: Callable[[int, int], float] | None = None,
        on_result: Callable[[FrameResult], None] | None = None,
    ) -> Seat:
        """Take in a video whose frames come at the times ``frames_ms``, which rise."""

        def build(seat: Seat, schedule: Schedule) -> tuple[Engine, Started]:
            stages = Started(SimulatedStages(self.clock, self._costs, signal))
            return Engine(schedule, stages, Port(seat), self.clock), stages

        seat = Seat(name, schedule, self.passes, build, self.clock, on_result=on_result)
        self.loop.join(seat)
        self._let_come(seat, enumerate(frames_ms))
        return seat

    def play(self) -> None:
        """Go on until no frame is to come, none waits, and S_h has nothing to do."""
        while (wait := self.loop.turn()) == 0 or self.clock.idle(wait):
            pass

    def _let_come(self, seat: Seat, frames: Iterator[tuple[int, float]]) -> None:
        """Have the next frame come, and then the one after it."""
        if (frame := next(frames, None)) is None:
            return
        index, ms = frame

        def come() -> None:
            seat.put(Captured(index, 0.0, index))
            self._let_come(seat, frames)

        self.clock.at(ms, come)
