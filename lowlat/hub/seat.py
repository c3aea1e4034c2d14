"""`Seat`: one video of a hub, with its engine and buffer, its start, its results and their account."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from lowlat.hub.beside import Beside, at_once
from lowlat.hub.passes import Pass, Passes
from lowlat.runtime import Captured, Clock, Engine, FrameBuffer, FrameResult
from lowlat.schedule import Schedule


class StartStages(Protocol):
    """Stages of one video whose first frame goes through S_l and S_h before the engine asks for it. So the engine waits
    for nothing, and frames of other videos go between the parts of that S_h."""

    def prepare(self, size: tuple[int, int]) -> None:
        """Makes what frames of that height and width need. It may run on any thread while the video has no frame under
        way."""

    def preparation(self, frame: Any) -> Callable[[], None] | None:
        """Returns the function that prepares for the size of this frame; None if everything is there."""

    def release(self) -> None:
        """Waits for the device's work for this video, and gives back its streams. It may run on any thread once the
        engine is closed."""

    def start(self, frame: Any, index: int) -> Any:
        """Runs S_l of a first frame and returns the `low` of its `Pass`."""

    def started(self, high: Any, error: BaseException | None) -> None:
        """Takes F_h of the frame that was started, or the error of S_h, and gives it to the engine when it asks."""


@dataclass(eq=False)
class _Start:
    captured: Captured
    done: bool = False


class Seat:
    """One video of a hub. Frames come in on any thread; everything else happens on the hub's.

    Args:
        name: the video's name, for messages.
        schedule: says what to do with each frame.
        passes: the hub's queue of passes.
        build: makes the engine and its stages.
        clock: the hub's clock; the engine may have another.
        beside: has memory and graphs made.
        hold: how many results are held for readers.
        settled: whether results are handed out after the work that follows their labels, rather than before.
        scores: "grid" or "frame" if results have scores too, at that size; empty for labels alone.
        on_result: a function that the hub's thread calls with each result, and waits for.

    Attributes:
        came_ms: when the frame in the buffer came.
        since_ms: since when the video has shown its present features, or has waited for its first.
    """

    def __init__(
        self,
        name: str,
        schedule: Schedule,
        passes: Passes,
        build: Callable[[Seat, Schedule], tuple[Engine, StartStages]],
        clock: Clock,
        beside: Beside = at_once,
        *,
        hold: int = 1,
        settled: bool = False,
        scores: str = "",
        on_result: Callable[[FrameResult], None] | None = None,
    ) -> None:
        self.name, self.schedule, self.passes = name, schedule, passes
        self.engine, self.stages = build(self, schedule)
        self.buffer = FrameBuffer("drop-oldest", clock=self.engine.clock)
        self.size: Any = None
        self.came_ms = self._taken_ms = 0.0
        self.since_ms = clock.now()
        self.labelled = self.failed = 0
        self.error: BaseException | None = None
        self.gone = False
        self._clock, self._settled, self._scores, self._on_result = clock, settled, scores, on_result
        self._start: _Start | None = None
        self._beside, self._making = beside, None
        self._results: deque[tuple[int, FrameResult]] = deque(maxlen=hold)
        self._changed = threading.Condition()
        self._ended = False

    def put(self, captured: Captured) -> bool:
        """Takes a frame; returns False once the seat is given up."""
        self.came_ms = self._clock.now()
        return self.buffer.put(captured)

    def prepare(self, size: tuple[int, int]) -> None:
        """Makes what frames of that size need, on the calling thread, which has called `claim` before."""
        try:
            self.stages.prepare(size)
        finally:
            self._making.set_result(None)

    def claim(self) -> None:
        """Holds back all frames until the end of `prepare`."""
        self._making = Future()

    def ready(self) -> bool:
        """Whether `serve` can do something: for a frame that waits, for a first frame whose memory is there, or for one
        whose S_h is complete."""
        if self._making is not None and not self._making.done():
            return False
        if self._start is None:
            return self.buffer.waiting > 0
        return self._start.done or self._making is not None

    def serve(self) -> bool:
        """Labels a frame, or begins a first one. Returns whether a frame was labelled, first ones not counted.

        An error of a stage is counted for its frame and kept as `error`.
        """
        start, self._start = self._start, None
        making, self._making = self._making, None
        captured = start.captured if start is not None else self.buffer.take_waiting()
        if captured is None:
            return False
        try:
            if start is None:
                self._taken_ms = self.came_ms
            elif not start.done:
                # This raises the error if there was no memory.
                making.result()
            if (start is None or not start.done) and self._must_start(captured):
                self._begin(captured)
                return False
            self._label(captured)
        except Exception as error:
            with self._changed:
                self.failed, self.error = self.failed + 1, error
                self._changed.notify_all()
            return False
        return start is None

    def ask(self, low: Any, ended: Callable[[Any, BaseException | None, float, float], None]) -> None:
        """Queues S_h for the frame that is being served; `Pass` says what ``low`` and ``ended`` are."""
        came_ms = self._taken_ms

        def over(high: Any, error: BaseException | None, start_ms: float, end_ms: float) -> None:
            # A video whose passes fail must not be the first in the queue for ever.
            self.since_ms = came_ms if error is None else end_ms
            ended(high, error, start_ms, end_ms)

        self.passes.add(Pass(self, self.since_ms, self.size, low, over))

    def restart(self) -> None:
        """Has the next frame start up again; a first frame under way counts as failed."""
        self._give_up_start()
        self.engine.restart()

    def leave(self) -> None:
        """Closes the engine. Readers get the results that are left, then the end. The caller calls `release`
        afterwards."""
        self.gone = True
        self.buffer.close()
        self._give_up_start()
        self.engine.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def release(self) -> None:
        """Waits for the device's work for this video, and gives back what it has. It may run on any thread."""
        if (making := self._making) is not None:
            making.exception()
        self.stages.release()

    def wait_for(self, frames: int) -> None:
        """Waits until ``frames`` frames have been labelled or have failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self.labelled + self.failed >= frames)

    def newest(self) -> FrameResult | None:
        """Return the result that was handed out last."""
        with self._changed:
            return self._results[-1][1] if self._results else None

    def results(self, stall_s: float | None = None) -> Iterator[FrameResult]:
        """Yields the results that are held and those to come, each once. A reader that doesn't keep up misses the
        oldest.

        Raises:
            TimeoutError: no result has come for ``stall_s`` seconds.
        """
        seen = 0

        def unseen() -> tuple[int, FrameResult] | None:
            return next((entry for entry in self._results if entry[0] > seen), None)

        while True:
            with self._changed:
                came = self._changed.wait_for(lambda: self._ended or unseen(), stall_s)
                found = unseen()
            if found is None:
                if came:
                    return
                raise TimeoutError(
                    f"Hub: expected a result of {self.name!r} within {stall_s} s, got none; its source has stalled, or "
                    "the device is overloaded: see `video.counts`"
                )
            seen = found[0]
            yield found[1]

    def _give_up_start(self) -> None:
        if self._start is not None:
            self.failed, self._start = self.failed + 1, None
            self.passes.forget(self)

    def _must_start(self, captured: Captured) -> bool:
        """Whether there is no key frame of this frame's size."""
        size = getattr(captured.frame, "shape", None)
        if size != self.size and self.engine.state.key is not None:
            self.engine.restart()
        self.size = size
        return self.engine.state.key is None

    def _begin(self, captured: Captured) -> None:
        start = _Start(captured)
        if (work := self.stages.preparation(captured.frame)) is not None:
            self._start, self._making = start, self._beside(work)
            return

        def ended(high: Any, error: BaseException | None, start_ms: float, end_ms: float) -> None:
            self.stages.started(high, error)
            start.done = True

        low = self.stages.start(captured.frame, captured.index)
        self._start = start
        self.ask(low, ended)

    def _label(self, captured: Captured) -> None:
        result = self.engine.answer(
            captured.frame, index=captured.index, available_ms=captured.available_ms, scores=self._scores
        )
        result.time_s = captured.time_s
        self.labelled += 1
        if not self._settled:
            self._hand_out(result)
        try:
            self.engine.settle()
        except Exception as error:
            # The frame has its labels; only the work that was to follow is lost.
            self.error = error
        if result.error is not None:
            self.error = result.error
        if self._settled:
            self._hand_out(result)

    def _hand_out(self, result: FrameResult) -> None:
        with self._changed:
            self._results.append((self.labelled, result))
            self._changed.notify_all()
        if self._on_result is not None:
            self._on_result(result)
