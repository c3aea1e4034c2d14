"""The passes of S_h of all videos: one queue, fair by age, some in batches, run part by part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lowlat.hub.costs import Costs
from lowlat.hub.turns import PartRule, Progress
from lowlat.runtime.protocols import Clock

Parts = Generator[None, None, Sequence[Any]]
"""A batch in parts: each `next` runs or launches one; gives F_h of each pass in the end."""
TRIALS = 2
"""Batches of one size that are run to learn what they cost: the first one is slow for being the first."""
WORTH = 1.25
"""A batch's longest part over that of a single pass, at most. Beyond that a frame would wait for longer than without
batches, and a device that is that busy with one frame gains little from several."""


class Machine(Protocol):
    """Runs S_h on a device."""

    def parts(self, passes: Sequence[Pass]) -> Parts:
        """One pass of S_h on the F_l of each of ``passes``, whose frames have one size. Those that are `forgotten`
        meanwhile need no F_h."""

    def ready(self, passes: Sequence[Pass]) -> bool:
        """Whether these passes can run as one. Where they can't so far, this has it made so, and never waits."""

    def keep(self, sizes: Collection[Hashable]) -> None:
        """Lets go of what it has for frames of other sizes than these."""

    def idle(self) -> bool:
        """Whether the part that was run or launched last is complete. Never waits."""

    def close(self) -> None:
        """Ends, after all videos."""


@dataclass(eq=False)
class Pass:
    """A pass of S_h that a video waits for."""

    video: Hashable
    since_ms: float
    """Since when the video has shown the features that it has, or has waited for its first; the smallest goes first."""
    size: Hashable
    """The frame's size: a batch is of frames of one size."""
    low: Any
    """F_l, or what the machine finds it by."""
    ended: Callable[[Any, BaseException | None, float, float], None]
    """Called with F_h, or None and what was raised, and when the pass was begun and ended."""
    forgotten: bool = False
    alone: bool = False
    """Not in a batch: one with it in has failed, and the others in there are not to blame."""


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
        clock: the hub's.
        costs: what parts have cost; learns from those that run.
        rule: is told of passes and parts.
        batch: passes in a batch at most, of frames of one size; 1 for no batches.
    """

    def __init__(self, machine: Machine, clock: Clock, costs: Costs, rule: PartRule, batch: int = 1) -> None:
        self._machine, self._clock, self._costs, self._rule, self._most = machine, clock, costs, rule, batch
        self._queue: list[Pass] = []
        self._batch: _Batch | None = None
        self.batches = 0
        """Passes of more than one frame so far."""

    def add(self, one: Pass) -> None:
        """Takes a pass on."""
        self._queue.append(one)

    def forget(self, video: Hashable) -> None:
        """Gives up the pass of a video, queued or under way: nobody hears of it again."""
        self._queue = [one for one in self._queue if one.video != video]
        if self._batch is not None:
            for one in self._batch.passes:
                one.forgotten |= one.video == video

    def keep(self, sizes: Collection[Hashable]) -> None:
        """Takes note that the frames of all videos have these sizes."""
        self._machine.keep(sizes)

    def longest_ms(self, size: Hashable) -> float:
        """The longest part of a pass on a frame of that size, or of a batch that is worth it."""
        batches = (self._costs.longest_ms(size, count) for count in self._counts() if self._worth(size, count))
        return max(self._costs.longest_ms(size), *batches, 0.0)

    def close(self) -> None:
        """Gives up the batch under way and ends the machine, after all videos."""
        if self._batch is not None:
            self._batch.parts.close()
        self._machine.close()

    def waiting(self) -> int:
        """Passes queued or under way."""
        return len(self._queue) + (len(self._batch.passes) if self._batch is not None else 0)

    def progress(self) -> Progress | None:
        """How far the batch under way is, or the next one would be; None where there is no part to run."""
        if self._batch is not None:
            return self._costs.progress(self._batch.passes[0].size, len(self._batch.passes), self._batch.part)
        chosen = self._choose()
        return self._costs.progress(chosen[0].size, len(chosen), 0) if chosen else None

    def advance(self) -> None:
        """Runs the next part, or launches it."""
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
        """Takes note of a part that is complete, while the frames of these videos wait, and of a pass with it; False
        where a part is not complete so far, and none may be run."""
        batch = self._batch
        if batch is None:
            return True
        if batch.asked_ms is not None:
            # Asked once: by the next time it might be complete, and not noted.
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
        """The pass whose features are oldest, with as many others as are worth a batch."""
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
        """Passes that may be in a batch, the most of them first."""
        count = self._most
        while count > 1:
            yield count
            count //= 2

    def _pays(self, size: Hashable, count: int) -> bool:
        """Whether a batch of so many is worth it, or has to be tried to find out."""
        if self._costs.passes(size, count) < TRIALS:
            return self._costs.passes(size, 1) >= TRIALS
        return self._worth(size, count)

    def _worth(self, size: Hashable, count: int) -> bool:
        """Whether a batch of so many has been tried, and is worth it."""
        if self._costs.passes(size, count) < TRIALS:
            return False
        return self._costs.longest_ms(size, count) <= WORTH * self._costs.longest_ms(size, 1)
