"""How S_h is launched on a GPU, to keep out of a frame's way (docs/live.md). Under the isolations `priority` and
`partition` all of it is launched at once, under `segment` one part at a time. Free of torch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from lowlat.runtime.ending import EngineThread
from lowlat.runtime.gpu.device import Device, Event, Stream

ISOLATIONS = ("priority", "partition", "segment")
SEGMENTS = 25
"""How many parts S_h has by default. Each part of `resnet101` is then one residual block, or half of the head."""


class Turns:
    """Launches the parts of S_h, here all at once. `submit` never waits. Frames are known by rising serial numbers."""

    segments = 1

    def submit(self, parts: Sequence[Callable[[], None]], stream: Stream, landed: Event) -> None:
        """Launches the parts on `stream` in order, then records `landed`."""
        try:
            for part in parts:
                part()
        finally:
            # If a part raises, the parts before it are under way all the same.
            stream.record(landed)

    def extend(self, part: Callable[[], None], stream: Stream, landed: Event) -> None:
        """Launches one more part after those of the pass under way, then records `landed` again."""
        self.submit([part], stream, landed)

    def frame_begun(self, serial: int) -> None:
        """Takes note that frame `serial` waits for its labels."""

    def frame_done(self, serial: int) -> None:
        """Takes note that the labels of frame `serial`, and of all frames before it, are out."""

    def done(self, landed: Event) -> bool:
        """Whether all parts have been launched and are complete."""
        return landed.done()

    def error(self) -> BaseException | None:
        """Returns the error that a part has raised after `submit`, once; None if none did."""
        return None

    def cancel(self) -> None:
        """Gives up the parts that have not been launched."""

    def close(self) -> None:
        """Stops launching for good. May be called again."""


class InTurns(Turns):
    """Launches one part at a time while no frame is pending. After each frame's labels it launches one part even if
    another frame is pending, so that S_h makes progress under full load.

    Args:
        device: makes the event that is recorded after each part.
        segments: how many parts S_h is wanted in.
        threaded: whether a thread launches them; without it `advance` does, for tests.
    """

    def __init__(self, device: Device, segments: int = SEGMENTS, *, threaded: bool = True) -> None:
        if segments < 1:
            raise ValueError(f"InTurns: expected at least 1 segment, got {segments}; the default is {SEGMENTS}")
        self.segments = segments
        self._turn = device.event("turn")
        self._changed = threading.Condition()
        self._parts: deque[Callable[[], None]] = deque()
        self._stream: Stream | None = None
        self._landed: Event | None = None
        self._begun = self._done = -1
        self._granted = self._launching = self._closed = False
        self._error: BaseException | None = None
        self._thread = EngineThread("S_h segments", self._work) if threaded else None

    def submit(self, parts: Sequence[Callable[[], None]], stream: Stream, landed: Event) -> None:
        with self._changed:
            self._parts.extend(parts)
            self._stream, self._landed = stream, landed
            self._changed.notify_all()

    def extend(self, part: Callable[[], None], stream: Stream, landed: Event) -> None:
        with self._changed:
            # After a part that has raised, there is no F_h to carry on.
            if self._error is None:
                self.submit([part], stream, landed)

    def frame_begun(self, serial: int) -> None:
        with self._changed:
            self._begun = serial

    def frame_done(self, serial: int) -> None:
        with self._changed:
            self._done, self._granted = max(self._done, serial), True
            self._changed.notify_all()

    def done(self, landed: Event) -> bool:
        with self._changed:
            return not self._parts and landed.done()

    def error(self) -> BaseException | None:
        with self._changed:
            error, self._error = self._error, None
            return error

    def cancel(self) -> None:
        with self._changed:
            # The part that is being launched gets onto the stream before anything that the caller enqueues next.
            self._changed.wait_for(lambda: not self._launching)
            self._drop()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._parts.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.wait("InTurns.close: a part of S_h")

    def may_launch(self) -> bool:
        """Whether a part is due: there is one, and either no frame is pending or a frame has just been answered."""
        return bool(self._parts) and not self._launching and (self._begun <= self._done or self._granted)

    def advance(self) -> bool:
        """Launches the next part if it is due and the part before it is complete; returns whether it did."""
        with self._changed:
            if self._closed or not self._turn.done() or not self.may_launch():
                return False
            self._granted, self._launching = False, True
            part = self._parts[0]
        error = None
        try:
            # The lock is free meanwhile, so that frames can begin and end.
            part()
            self._stream.record(self._turn)
        except BaseException as raised:
            error = raised
        with self._changed:
            self._launching = False
            self._changed.notify_all()
            if error is not None:
                self._error = error
                self._drop()
            elif self._parts:
                self._parts.popleft()
                if not self._parts:
                    self._stream.record(self._landed)
            return error is None

    def _drop(self) -> None:
        if self._parts:
            self._parts.clear()
            self._stream.record(self._landed)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self.may_launch())
                if self._closed:
                    return
            # The lock is free while this waits for the device, so that frames can begin and end.
            self._turn.wait()
            self.advance()
