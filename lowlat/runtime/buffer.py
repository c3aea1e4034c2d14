"""`FrameBuffer`: a bounded buffer between a live source and the engine, with an explicit rule for overload."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple

from lowlat.runtime.ending import end_with
from lowlat.runtime.protocols import Clock, WallClock


class Overload(str, Enum):
    """What happens to a frame that finds the buffer full."""

    DROP_OLDEST = "drop-oldest"
    """The new frame takes the place of the one that has waited longest: the freshest picture. For cameras."""
    DROP_NEWEST = "drop-newest"
    """The new frame is dropped: what was captured first is answered first."""
    WAIT = "wait"
    """The source waits for room: no frame is lost. For files."""


class Captured(NamedTuple):
    """A frame with its index in the source (dropped frames count), the time at which it was available, in ms on the
    clock of the buffer, and its time in the source, in seconds, if that is known."""

    index: int
    available_ms: float
    frame: Any
    time_s: float | None = None


class FrameBuffer(AbstractContextManager):
    """Holds at most `capacity` frames between a capture thread and the engine; iterate over it to take them.

        with FrameBuffer("drop-oldest", clock=clock) as buffer:
            buffer.capture(camera)
            for result in engine.run(buffer):
                ...

    Every captured frame is delivered or counted as dropped: captured == delivered + dropped + waiting.

    Args:
        overload: what happens to a frame that finds the buffer full, an `Overload` or its word.
        capacity: the most frames held at a time; 1 gives the lowest latency.
        clock: the clock that stamps the frames; it should be the engine's.
        stall_s: seconds without a frame after which the consumer gets a TimeoutError; None waits for ever.
        first: the index of the first frame, for a video that was begun without the buffer.

    Attributes:
        captured, delivered: how many frames have come from the source, and how many the consumer has taken.
        dropped: how many frames were lost to overload, or were still in the buffer when it was closed.

    Raises:
        ValueError: an unknown rule, or a capacity below 1.
    """

    def __init__(
        self,
        overload: Overload | str = Overload.DROP_OLDEST,
        *,
        capacity: int = 1,
        clock: Clock | None = None,
        stall_s: float | None = None,
        first: int = 0,
    ) -> None:
        words = [rule.value for rule in Overload]
        if overload not in words:
            raise ValueError(f"FrameBuffer: expected overload to be one of {', '.join(words)}, got {overload!r}")
        if capacity < 1:
            raise ValueError(f"FrameBuffer: expected a capacity of at least 1 frame, got {capacity!r}; use 1 or more")
        self.overload, self.capacity = Overload(overload), capacity
        self._clock = clock if clock is not None else WallClock()
        self._process, self._stall_s, self._first = os.getpid(), stall_s, first
        self._frames: deque[Captured] = deque()
        self._changed = threading.Condition()
        self.captured = self.delivered = self.dropped = 0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many frames are in the buffer, or held by a source that waits for room."""
        with self._changed:
            return self.captured - self.delivered - self.dropped

    def __exit__(self, *_: object) -> None:
        self.close()

    def capture(self, source: Iterable[Any]) -> None:
        """Reads `source` on a thread of its own until it ends or raises, or the buffer is closed or collected.
        Raises RuntimeError if the buffer has a source already."""
        if self._thread is not None:
            raise RuntimeError("FrameBuffer.capture: expected no source yet, got a second one; use a buffer a source")
        # The thread refers to the buffer's state and not to the buffer, which can so be collected, and closed then.
        inner = object.__new__(type(self))
        inner.__dict__ = self.__dict__
        self._thread = threading.Thread(target=inner._read, args=(source,), name="capture", daemon=True)
        self._thread.start()
        end_with(self, inner.close)

    def put(self, frame: Any) -> bool:
        """Takes a frame from the source. Returns False once the buffer is closed: the source should stop then.

        A frame with a `time_s` and an `index`, as a `Timed` has, keeps both; others are numbered as they come.
        Blocks only under the rule `wait`, until there is room or the buffer is closed.
        """
        available_ms = self._clock.now()
        self._check_process("put")
        with self._changed:
            index, time_s = self._first + self.captured, None
            if hasattr(frame, "time_s"):
                index, time_s, frame = frame.index, frame.time_s, frame.frame
            captured = Captured(index, available_ms, frame, time_s)
            self.captured += 1
            if self.overload is Overload.WAIT:
                self._changed.wait_for(lambda: self._closed or len(self._frames) < self.capacity)
            if self._closed:
                self.dropped += 1
                return False
            if len(self._frames) == self.capacity:
                self.dropped += 1
                if self.overload is Overload.DROP_NEWEST:
                    return True
                self._frames.popleft()
            self._frames.append(captured)
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Takes note that the source has no more frames. The consumer gets `error`, if there is one, once it has taken
        the frames that are left, unless the buffer has been closed."""
        with self._changed:
            self._ended, self._error = True, None if self._closed else error
            self._changed.notify_all()

    def get(self) -> Captured | None:
        """Returns the frame that has waited longest, once there is one; None after the source's last frame.

        Raises:
            TimeoutError: no frame has come for `stall_s` seconds; the buffer goes on working.
            Exception: what the source raised, once, after its last frame.
            RuntimeError: this process is a fork of the one that made the buffer.
        """
        self._check_process("get")
        with self._changed:
            ready = self._changed.wait_for(lambda: self._frames or self._ended or self._closed, self._stall_s)
            if (taken := self.take_waiting()) is not None:
                return taken
            if not ready:
                raise TimeoutError(
                    f"FrameBuffer.get: expected a frame within {self._stall_s} s, got none; "
                    "the source has stalled: check it, or raise stall_s"
                )
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def take_waiting(self) -> Captured | None:
        """Returns the frame that has waited longest, or None if there is none; never blocks."""
        with self._changed:
            if not self._frames:
                return None
            self.delivered += 1
            self._changed.notify_all()
            return self._frames.popleft()

    def __iter__(self) -> Iterator[Captured]:
        return iter(self.get, None)

    def close(self, timeout_s: float = 2.0) -> bool:
        """Stops the source at its next frame, and ends the consumer's iteration. May be called again.
        Returns whether the capture thread has ended within `timeout_s` seconds. A source that hangs in a read keeps its
        thread, a daemon, until the read returns."""
        if os.getpid() != self._process:
            return True
        with self._changed:
            self._closed = True
            self.dropped += len(self._frames)
            self._frames.clear()
            self._error = None
            self._changed.notify_all()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _check_process(self, method: str) -> None:
        if os.getpid() != self._process:
            why = "the process that made the buffer, got a fork of it without its capture thread; make one in the child"
            raise RuntimeError(f"FrameBuffer.{method}: expected {why}")

    def _read(self, source: Iterable[Any]) -> None:
        error = None
        try:
            for frame in source:
                if not self.put(frame):
                    break
        except BaseException as raised:
            error = raised
        self.end(error)
