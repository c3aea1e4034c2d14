"""`Passes`: the passes of S_h of all videos in one queue, the oldest features first, run part by part and some in
batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lowlat.hub.costs import Costs
from lowlat.hub.turns import PartRule, Progress
from lowlat.runtime.protocols import Clock

Parts = Generator[None, None, Sequence[Any]]
"""A pass of S_h on one or several frames as a generator: each `next` runs or launches a part; at last it returns F_h of
each frame."""
TRIALS = 2
"""How many batches of one size are run to learn what they cost. The first batch is slow for being the first."""
WORTH = 1.25
"""The most that a batch's longest part may cost over that of a single pass. Beyond it a frame would wait longer than
without batches, and a device that one frame keeps so busy gains little from several."""


class Machine(Protocol):
    """Runs S_h on a device."""

    def parts(self, passes: Sequence[Pass]) -> Parts:
        """Starts S_h on the F_l of each of ``passes``, whose frames have one size. A pass that is `forgotten` meanwhile
        needs no F_h."""

    def ready(self, passes: Sequence[Pass]) -> bool:
        """Whether these passes can run as one batch. If they can't yet, the machine has it made possible. Never
        waits."""

    def keep(self, sizes: Collection[Hashable]) -> None:
        """Frees what the machine holds for frames of other sizes than these."""

    def idle(self) -> bool:
        """Whether the last part that was run or launched is complete. Never waits."""

    def close(self) -> None:
        """Ends the machine; it is called after all videos have ended."""


@dataclass(eq=False)
class Pass:
    """A pass of S_h that a video waits for."""

    video: Hashable
    since_ms: float
    """The time since which the video has shown its present features, or has waited for its first; the smallest goes
    first."""
    size: Hashable
    """The frame's size. All frames of a batch have one size."""
    low: Any
    """F_l, or what the machine finds F_l by."""
    ended: Callable[[Any, BaseException | None, float, float], None]
    """Called with F_h, or None and the error, and with the times in ms at which the pass began and ended."""
    forgotten: bool = False
    alone: bool = False
    """Whether it must not be in a batch, since a batch with it has failed; each of that batch then runs by itself."""


@dataclass(eq=False)
class _Batch:
    passes: list[Pass]
    parts: Parts
    start_ms: float
    part: int = 0
    asked_ms: float | None = None
    high: Sequence[Any] | None = field(default=None, repr=False)
    finished: bool = False
    error: Exception | None = None


class Passes:
    """The queue of passes, and the batch under way.

    Args:
        machine: runs S_h.
        clock: the hub's clock.
        costs: what parts have cost; it is told of those that run.
        rule: is told of passes and parts.
        batch: the most passes in a batch, all on frames of one size; 1 for no batches.
    """

    def __init__(self, machine: Machine, clock: Clock, costs: Costs, rule: PartRule, batch: int = 1) -> None:
        self._machine, self._clock, self._costs, self._rule, self._most = machine, clock, costs, rule, batch
        self._queue: list[Pass] = []
        self._batch: _Batch | None = None
        self.batches = 0
        """How many passes of more than one frame there have been."""

    def add(self, one: Pass) -> None:
        """Adds a pass to the queue."""
        self._queue.append(one)

    def forget(self, video: Hashable) -> None:
        """Gives up the pass of a video, queued or under way, whose `ended` is then never called."""
        self._queue = [one for one in self._queue if one.video != video]
        if self._batch is not None:
            for one in self._batch.passes:
                one.forgotten |= one.video == video

    def keep(self, sizes: Collection[Hashable]) -> None:
        """Takes note that the frames of all videos have these sizes."""
        self._machine.keep(sizes)

    def longest_ms(self, size: Hashable) -> float:
        """Return the cost of the longest part of a pass on a frame of that size, or of a batch that is worth it."""
        batches = (self._costs.longest_ms(size, count) for count in self._counts() if self._worth(size, count))
        return max(self._costs.longest_ms(size), *batches, 0.0)

    def close(self) -> None:
        """Gives up the batch under way and ends the machine, after all videos."""
        if self._batch is not None:
            self._batch.parts.close()
        self._machine.close()

    def waiting(self) -> int:
        """Return how many passes are queued or under way."""
        return len(self._queue) + (len(self._batch.passes) if self._batch is not None else 0)

    def progress(self) -> Progress | None:
        """Return how far the batch under way is, or the next batch would be; None if there is no part to run."""
        if self._batch is not None:
            return self._costs.progress(self._batch.passes[0].size, len(self._batch.passes), self._batch.part)
        chosen = self._choose()
        return self._costs.progress(chosen[0].size, len(chosen), 0) if chosen else None

    def advance(self) -> None:
        """Runs or launches the next part."""
        batch = self._batch
        if batch is None:
            chosen = self._choose()
            self._queue = [one for one in self._queue if one not in chosen]
            self._batch = batch = _Batch(chosen, self._machine.parts(chosen), self._clock.now())
            self.batches += len(chosen) > 1
            self._rule.pass_begun()
        batch.asked_ms = self._clock.now()
        try:
            next(batch.parts)
        except StopIteration as last:
            batch.high, batch.finished = last.value, True
        except Exception as error:
            batch.error = error

    def collect(self, waiting: Iterable[Hashable]) -> bool:
        """Takes note of the last part if it is complete, and of the pass that it completes. ``waiting`` are the videos
        whose frames wait meanwhile. Returns False if the part is not complete, so that no other may be run."""
        batch = self._batch
        if batch is None:
            return True
        if batch.asked_ms is not None:
            # The machine is asked only once, since the part may become complete between two questions.
            if not self._machine.idle():
                return False
            self._note(batch, waiting)
        if self._batch is not None and all(one.forgotten for one in batch.passes):
            batch.parts.close()
            self._batch = None
        return True

    def _note(self, batch: _Batch, waiting: Iterable[Hashable]) -> None:
        size, count, now = batch.passes[0].size, len(batch.passes), self._clock.now()
        self._rule.part_ran(now - batch.asked_ms, waiting)
        if batch.error is not None:
            self._fail(batch, batch.error)
            return
        self._costs.part_took(size, count, batch.part, now - batch.asked_ms)
        batch.part, batch.asked_ms = batch.part + 1, None
        if not batch.finished:
            return
        self._batch = None
        self._costs.pass_ended(size, count)
        for one, high in zip(batch.passes, batch.high, strict=True):
            if not one.forgotten:
                one.ended(high, None, batch.start_ms, now)

    def _fail(self, batch: _Batch, error: Exception) -> None:
        self._batch = None
        passes = [one for one in batch.passes if not one.forgotten]
        if len(batch.passes) == 1:
            for one in passes:
                one.ended(None, error, batch.start_ms, self._clock.now())
            return
        for one in passes:
            one.alone = True
        self._queue.extend(passes)

    def _choose(self) -> list[Pass]:
        """Return the pass with the oldest features, with as many others as make a batch that is worth it."""
        if not self._queue:
            return []
        queue = sorted(self._queue, key=lambda one: one.since_ms)
        first = queue[0]
        alike = [] if first.alone else [one for one in queue if one.size == first.size and not one.alone]
        for count in self._counts():
            if len(alike) >= count and self._pays(first.size, count) and self._machine.ready(alike[:count]):
                return alike[:count]
        return [first]

    def _counts(self) -> Iterator[int]:
        """The sizes that a batch may have, the largest first."""
        count = self._most
        while count > 1:
            yield count
            count //= 2

    def _pays(self, size: Hashable, count: int) -> bool:
        """Whether a batch of ``count`` is worth it, or has to be tried to find out."""
        if self._costs.passes(size, count) < TRIALS:
            return self._costs.passes(size, 1) >= TRIALS
        return self._worth(size, count)

    def _worth(self, size: Hashable, count: int) -> bool:
        """Whether a batch of ``count`` has been tried and is worth it."""
        if self._costs.passes(size, count) < TRIALS:
            return False
        return self._costs.longest_ms(size, count) <= WORTH * self._costs.longest_ms(size, 1)
