"""`Engine` carries out the schedule's actions for one video, with stages, a worker for S_h and a clock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

from lowlat.runtime.buffer import Captured
from lowlat.runtime.ending import end_with
from lowlat.runtime.look_ahead import LookAhead
from lowlat.runtime.protocols import Clock, Job, KeyFrame, Outcome, Pipelined, Stages, WallClock, Worker
from lowlat.runtime.result import FrameResult, Span
from lowlat.schedule import Mode, Phase, Schedule, VideoState, events

_TRACKS = {"lower": "S_l", "select": "propagation", "propagate": "propagation", "higher": "S_h", "classify": "S_h"}


class Engine(AbstractContextManager):
    """Labels the frames of one video, in order, from one thread.

    There are three ways to drive it, from plain to live:

    - `step(frame)` labels a frame and does all that follows; the latency in the result ends at the labels.
    - `run(frames)` yields each result as soon as its labels are out. What was deferred (decision, promotion, launch)
      happens when the next result is asked for.
    - `answer(frame)` and `settle()` are the two halves of a step.

    Args:
        schedule: says what to do with each frame.
        stages: the network's stages on one device.
        worker: runs S_h in the background; may be None in blocking mode. The engine closes it.
        clock: the time base of stages and worker, by default the machine's.

    Attributes:
        state: the schedule's state of this video, with its counts.
        clock: the time base of every time in the results.
        isolation: what keeps S_h out of the frames' way; empty if nothing runs beside them.
        notice: why the isolation is not the one asked for; empty if it is.
        classes: the `Classes` that every result gets.

    Raises:
        ValueError: low-latency mode without a worker.
    """

    isolation = notice = ""
    classes: Any = None

    def __init__(
        self, schedule: Schedule, stages: Stages, worker: Worker | None = None, clock: Clock | None = None
    ) -> None:
        if worker is None and schedule.mode is Mode.LOW_LATENCY:
            raise ValueError("Engine: expected a worker in low-latency mode, got None; pass one, or mode='blocking'")
        self.schedule, self._stages, self._worker = schedule, stages, worker
        self._pipelined = stages if isinstance(stages, Pipelined) else None
        self.clock = clock if clock is not None else WallClock()
        self.state = VideoState()
        self._key: KeyFrame | None = None
        self._landing: Outcome | None = None
        # The frame under way: input, F_l, F_h and the result in the making.
        self._drop_frame()
        self._scores: tuple[str, ...] = ()
        self._ahead = LookAhead(self._pipelined, ())
        self._closed, self._at_work = False, threading.RLock()

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, frame: Any, **options: Any) -> FrameResult:
        """Labels one frame and does what follows its labels: `answer`, with its options, then `settle`."""
        result = self.answer(frame, **options)
        self.settle()
        return result

    def run(self, frames: Iterable[Any], scores: str = "") -> Iterator[FrameResult]:
        """Labels frames as they come, each result handed out before its deferred work.

        Args:
            frames: yields frames, or frames with their index and time: `Captured`, or the `Timed` ones of a source.
            scores: as in `answer`.

        With pipelined stages and `frames` that have `take_waiting`, as a `FrameBuffer` has, S_l of a frame that waits
        overlaps the fast track of the frame before.
        """
        self._ahead = self._ahead.onto(frames)
        for frame in self._ahead:
            if isinstance(frame, Captured) or hasattr(frame, "time_s"):
                available_ms = getattr(frame, "available_ms", None)
                result = self.answer(frame.frame, index=frame.index, available_ms=available_ms, scores=scores)
                result.time_s = frame.time_s
            else:
                result = self.answer(frame, scores=scores)
            yield result
            self.settle()

    def answer(
        self, frame: Any, *, index: int | None = None, available_ms: float | None = None, scores: str = ""
    ) -> FrameResult:
        """Labels one frame, and leaves what may come after the labels to `settle` (which is called first if it is due).

        Args:
            frame: whatever `Stages.lower` takes.
            index: the frame's index, above the last one; by default one more. Skipped indices count as frames in ages
                and intervals.
            available_ms: when the frame was available on the host, on the engine's clock; by default the present.
            scores: "grid" or "frame" if the result is to have its scores too, at that size; empty for labels alone.

        Raises:
            RuntimeError: S_h failed on the first frame, so there is nothing to show and the next frame starts up again;
                or the engine is closed.
            Exception: what a stage of the fast track raised; the frame counts as never begun.
        """
        self._check_open()
        self.settle()
        started = self.clock.now()
        if index is None:
            index = 0 if self.state.index is None else self.state.index + 1
        available = started if available_ms is None else available_ms
        result = FrameResult(index, None, 0, available_ms=available, wait_ms=started - available, classes=self.classes)
        self._frame, self._result, self._scores = frame, result, (scores,) if scores else ()
        try:
            self._collect(index)
        except BaseException:
            # After Ctrl-C within a landing the schedule and the caches may disagree on which features are cached.
            self._drop_frame()
            self.restart()
            raise
        state, key = self.state, self._key
        try:
            self._carry_out(events.FrameBegun(index))
        except BaseException:
            replaced, self.state, self._key = self._key is not key, state, key
            self._drop_frame()
            if self._pipelined is not None:
                self._ahead.forget()
                self._pipelined.abandon()
                if replaced:
                    # The caches hold a newer key frame, and the one before it is gone: there is nothing to go back to.
                    self.restart()
            raise
        if self.state.phase is Phase.BETWEEN:
            self._drop_frame()
            if self._pipelined is not None:
                self._pipelined.abandon()
            raise RuntimeError(
                f"Engine.answer: S_h failed on frame {index}, with no key frame yet to propagate from: "
                f"{result.error!r}; the next frame starts up again"
            ) from result.error
        return result

    def settle(self) -> None:
        """Does what the last frame left for after its labels: deferred decision, promotion, launch of S_h.

        An error in keeping the frame or in a launch becomes the result's `error`; an error in a decision is raised.
        """
        result, before = self._result, self.state
        if result is None or self._closed:
            return
        lost = False
        try:
            if self._pipelined is not None:
                # Timers are read after the labels, since reading them takes time.
                result.spans.extend(self._pipelined.spans())
            self._carry_out(events.Emitted(result.index))
            result.settled = True
        except BaseException as error:
            # The caches may hold half a frame, and S_h may have been promised and not launched.
            lost = (self.state.key, self.state.base) != (before.key, before.base)
            if not (lost and isinstance(error, Exception)):
                raise
            # Memory did not suffice for keeping the frame.
            result.error = error
        finally:
            # An error in a decision loses that decision and not the video.
            self.state = replace(self.state, phase=Phase.BETWEEN)
            self._drop_frame()
            if lost:
                self._recover()

    def _recover(self) -> None:
        """Goes on after an error, when a frame may be kept in part or S_h may not have been launched."""
        flight = self.state.flight
        if flight is not None and self._key is not None and self._key.index == flight.index == self.state.base:
            # The frame is kept: only its pass has failed.
            self._worker.forget()
            self._carry_out(events.Failed(flight.launch))
        else:
            self.restart()

    def restart(self) -> None:
        """Forgets the key frame, and the pass under way, which counts as discarded. The next frame starts up again, as
        for a source that begins anew."""
        self.settle()
        counts = self.state.counts
        if self.state.flight is not None:
            self._worker.forget()
            counts = replace(counts, discarded=counts.discarded + 1)
        self.state = replace(VideoState(), index=self.state.index, counts=counts)
        self._key = None
        if self._pipelined is not None:
            self._ahead.forget()
            self._pipelined.restart()

    def close(self) -> None:
        """Ends the worker; a pass under way is lost. May be called again."""
        self._closed = True
        # Behind the stage that another thread is at, whose frame ends there.
        with self._at_work:
            if self._worker is not None:
                self._worker.close()

    def end_with_the_program(self) -> None:
        """Has the worker closed when the engine is dropped or the program ends. A daemon thread of the caller's that is
        at a stage then would abort the process: it is waited for, and stays before its next one."""
        end_with(self, partial(self._at_work.acquire, timeout=10.0), *([self._worker.close] if self._worker else []))

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Engine.answer: expected an open engine, got a closed one; make another for this video")

    def _collect(self, index: int) -> None:
        """Takes in a finished background pass; called before a frame begins, so that the frame already uses it."""
        outcome = self._worker.poll(index) if self._worker is not None else None
        if outcome is None:
            return
        launch = outcome.job.launch
        self._result.spans.append(Span("S_h", "higher", outcome.job.index, outcome.start_ms, outcome.end_ms))
        self._landing = outcome
        if outcome.error is None:
            self._carry_out(events.Landed(launch, outcome.steps))
        else:
            self._result.error = outcome.error
            self._carry_out(events.Failed(launch))
        self._landing = None

    def _carry_out(self, event: events.Event) -> None:
        """Feeds the schedule with an event and does the actions it answers with, until there are no more."""
        actions: deque[events.Action] = deque()
        while event is not None or actions:
            if event is not None:
                self.state, more = self.schedule.advance(self.state, event)
                actions.extend(more)
                event = None
            else:
                with self._at_work:
                    self._check_open()
                    event = self._do(actions.popleft())

    def _do(self, action: events.Action) -> events.Event | None:
        """Does one action, and returns the event that answers it, or None if no answer is due now."""
        result = self._result
        match action:
            case events.RunLower():
                self._low = self._lowered(result.index)
            case events.Decide(index, signal):
                value = self._timed("select", self._stages.measure, self._key, self._low, signal)
                result.value = float(value)
                return events.Measured(index, result.value)
            case events.Propagate():
                result.labels, self._high = self._timed(
                    "propagate", self._stages.propagate, self._key, self._low, *self._scores
                )
            case events.RunHigher(_, launch):
                try:
                    self._high = self._timed("higher", self._stages.higher, self._low)
                except Exception as error:
                    result.error = error
                    return events.Failed(launch)
                return events.Landed(launch)
            case events.StoreKey(index):
                self._hold(KeyFrame(index, index, self._low, self._high))
            case events.Classify():
                result.labels = self._timed("classify", self._stages.classify, self._high, *self._scores)
            case events.Emit(_, key, age, degraded, startup):
                result.key, result.age, result.degraded, result.startup = key, age, degraded, startup
                if self._pipelined is not None:
                    self._ahead.begin_waiting()
                    result.labels = self._timed("wait", self._pipelined.wait, result.labels)
                if self._scores:
                    result.labels, result.scores = result.labels
                result.emitted_ms = self.clock.now()
            case events.Promote(index):
                result.key = True
                self._hold(KeyFrame(index, self._key.source, self._low, self._high))
            case events.Rebase():
                if self.state.flight is not None:
                    self._key.path.append(self._low)
                self._hold(replace(self._key, high=self._high, base=self._low))
            case events.Launch(index, launch):
                try:
                    self._worker.submit(Job(launch, index, self._low, self._key.path))
                except Exception as error:
                    result.error = error
                    return events.Failed(launch)
                result.launched = True
            case events.ReplaceHigh(index, _, steps):
                base = (self._key.low, *self._key.path)[steps]
                self._hold(replace(self._key, source=index, high=self._landing.high, base=base, path=[]))
                result.landed = index
            case events.Degrade():
                result.degraded = True
        return None

    def _hold(self, key: KeyFrame) -> None:
        self._stages.hold(key)
        self._key = key

    def _lowered(self, index: int) -> Any:
        """Returns F_l of the current frame, which may have been begun ahead."""
        if self._pipelined is None:
            return self._timed("lower", self._stages.lower, self._frame)
        low = self._ahead.lowered(self._frame)
        return low if low is not None else self._timed("lower", self._pipelined.begin, self._frame, index)

    def _timed(self, stage: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start = self.clock.now()
        try:
            return function(*arguments)
        finally:
            end = self.clock.now()
            result = self._result
            times = result.deferred_ms if self.state.phase is Phase.DEFERRED else result.stages_ms
            times[stage] = times.get(stage, 0.0) + end - start
            track = _TRACKS[stage] if self._pipelined is None else "host"
            result.spans.append(Span(track, stage, result.index, start, end))

    def _drop_frame(self) -> None:
        self._frame = self._low = self._high = self._result = None
